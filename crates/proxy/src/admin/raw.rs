//! The resources a proxy was given, as they came.

use std::collections::BTreeMap;

use xds::bootstrap::Bootstrap;
use xds::{Any, type_url};

/// The resources a proxy was given, undecoded.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    pub bootstrap: Option<Bootstrap>,
    /// By type URL, then name.
    pub resources: BTreeMap<String, BTreeMap<String, RawResource>>,
}

/// One resource: where it came from and what became of it.
#[derive(Clone, Debug)]
pub struct RawResource {
    pub version: String,
    pub body: Any,
    /// Out of the bootstrap, not from a control plane.
    pub is_static: bool,
    /// Why its latest version was refused; the one shown is in use.
    pub error: Option<String>,
}

impl Raw {
    /// A bootstrap's own resources.
    pub fn of_bootstrap(bootstrap: &Bootstrap) -> Raw {
        let mut raw = Raw { bootstrap: Some(bootstrap.clone()), resources: BTreeMap::new() };
        let resources = bootstrap.static_resources.clone().unwrap_or_default();
        for (index, listener) in resources.listeners.iter().enumerate() {
            let name =
                if listener.name.is_empty() { format!("listener_{index}") } else { listener.name.clone() };
            raw.add_static(type_url::LISTENER, name, xds::pack(listener));
        }
        for cluster in &resources.clusters {
            raw.add_static(type_url::CLUSTER, cluster.name.clone(), xds::pack(cluster));
        }
        raw
    }

    fn add_static(&mut self, type_url: &str, name: String, body: Any) {
        let resource = RawResource { version: String::new(), body, is_static: true, error: None };
        self.resources.entry(type_url.to_owned()).or_default().insert(name, resource);
    }

    /// Takes over a batch of a type as it was applied.
    pub fn apply(
        &mut self,
        type_url: &str,
        resources: &[model::config::Resource],
        removed: &[String],
        refused: &[model::Rejection],
    ) {
        let of_type = self.resources.entry(type_url.to_owned()).or_default();
        for resource in resources {
            match refused.iter().find(|rejection| rejection.resource == resource.name) {
                None => {
                    let raw = RawResource {
                        version: resource.version.clone(),
                        body: resource.body.clone(),
                        is_static: false,
                        error: None,
                    };
                    of_type.insert(resource.name.clone(), raw);
                }
                Some(rejection) => {
                    if let Some(raw) = of_type.get_mut(&resource.name) {
                        raw.error = Some(rejection.reason.clone());
                    }
                }
            }
        }
        for name in removed {
            of_type.remove(name);
        }
    }
}
