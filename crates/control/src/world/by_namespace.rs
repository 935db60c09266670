//! Objects of one kind by their namespace, oldest first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::{Object, ObjectId};

use super::order::Order;

#[derive(Debug, Default)]
pub(super) struct ByNamespace {
    all: HashMap<String, BTreeMap<Order, Arc<Object>>>,
    orders: HashMap<Arc<ObjectId>, Order>,
}

impl ByNamespace {
    /// Takes an object in the place of the one of this name.
    pub fn write(&mut self, id: &Arc<ObjectId>, object: Option<&Arc<Object>>) {
        if let Some(before) = self.orders.remove(id)
            && let Some(of_namespace) = self.all.get_mut(&id.namespace)
        {
            of_namespace.remove(&before);
            if of_namespace.is_empty() {
                self.all.remove(&id.namespace);
            }
        }
        if let Some(object) = object {
            let order = Order::of_istio(object);
            self.orders.insert(id.clone(), order.clone());
            self.all.entry(id.namespace.clone()).or_default().insert(order, object.clone());
        }
    }

    pub fn of<'s>(&'s self, namespace: &str) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.all.get(namespace).into_iter().flat_map(BTreeMap::values)
    }
}
