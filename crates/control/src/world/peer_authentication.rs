//! Which mutual TLS a workload demands on each of its ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::security::{MutualTlsMode, PeerAuthentication};
use api::{Object, ObjectId, Spec};

use super::by_namespace::ByNamespace;

/// Never `Unset`.
#[derive(Debug, Clone)]
pub struct MutualTls {
    pub mode: MutualTlsMode,
    /// By workload port, for the ports that were written.
    pub ports: BTreeMap<u32, MutualTlsMode>,
    /// The policies that decided, widest first.
    pub policies: Vec<Arc<Object>>,
}

impl MutualTls {
    pub fn of_port(&self, port: u32) -> MutualTlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

/// Policies by namespace, oldest first.
#[derive(Debug, Default)]
pub(super) struct PeerAuthentications {
    by_namespace: ByNamespace,
}

impl PeerAuthentications {
    /// Takes what an object says in the place of what the object of this name said.
    pub fn write(&mut self, id: &Arc<ObjectId>, object: Option<&Arc<Object>>) {
        self.by_namespace.write(id, object);
    }

    /// Workload over namespace over root; what is unset is inherited; the oldest of a scope decides
    /// (`istio-behaviour` §1.4). A selector in the root namespace is no mesh policy and selects nothing.
    pub fn of_workload(
        &self,
        root: &str,
        namespace: &str,
        has_labels: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> MutualTls {
        let mut result =
            MutualTls { mode: MutualTlsMode::Permissive, ports: BTreeMap::new(), policies: Vec::new() };
        let wide = |namespace: &str| self.first(namespace, |policy| selector_of(policy).is_none());
        let mesh = wide(root);
        let own = if namespace == root { None } else { wide(namespace) };
        for object in [mesh, own].into_iter().flatten() {
            if let Some(mode) = spec_of(object).and_then(mode_of) {
                result.mode = mode;
                result.policies.push(object.clone());
            }
        }
        if namespace == root {
            return result;
        }
        let narrow = self.first(namespace, |policy| selector_of(policy).is_some_and(&has_labels));
        let Some(object) = narrow else { return result };
        let Some(policy) = spec_of(object) else { return result };
        if let Some(mode) = mode_of(policy) {
            result.mode = mode;
        }
        for (port, mtls) in &policy.port_level_mtls {
            let mode = if mtls.mode == MutualTlsMode::Unset { result.mode } else { mtls.mode };
            result.ports.insert((*port).into(), mode);
        }
        result.policies.push(object.clone());
        result
    }

    fn first(&self, namespace: &str, wanted: impl Fn(&PeerAuthentication) -> bool) -> Option<&Arc<Object>> {
        self.by_namespace.of(namespace).find(|object| spec_of(object).is_some_and(&wanted))
    }
}

fn spec_of(object: &Arc<Object>) -> Option<&PeerAuthentication> {
    match &object.spec {
        Spec::PeerAuthentication(policy) => Some(policy),
        _ => None,
    }
}

fn selector_of(policy: &PeerAuthentication) -> Option<&BTreeMap<String, String>> {
    policy.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty())
}

fn mode_of(policy: &PeerAuthentication) -> Option<MutualTlsMode> {
    policy.mtls.as_ref().map(|mtls| mtls.mode).filter(|mode| *mode != MutualTlsMode::Unset)
}
