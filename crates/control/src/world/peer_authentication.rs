//! Which mutual TLS a workload demands on each of its ports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::security::{MutualTlsMode, PeerAuthentication};
use api::{Object, Spec};

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
pub struct PeerAuthentications {
    root: String,
    by_namespace: HashMap<String, Vec<Arc<Object>>>,
}

impl PeerAuthentications {
    /// `policies` must be oldest first.
    pub(super) fn new(root: &str, policies: impl IntoIterator<Item = Arc<Object>>) -> Self {
        let mut all = Self { root: root.to_owned(), by_namespace: HashMap::new() };
        for object in policies {
            all.by_namespace.entry(object.namespace().to_owned()).or_default().push(object);
        }
        all
    }

    /// Workload over namespace over root; what is unset is inherited; the oldest of a scope decides
    /// (`istio-behaviour` §1.4). A selector in the root namespace is no mesh policy and selects nothing.
    pub fn of_workload(&self, namespace: &str, labels: &BTreeMap<String, String>) -> MutualTls {
        let mut result =
            MutualTls { mode: MutualTlsMode::Permissive, ports: BTreeMap::new(), policies: Vec::new() };
        let wide = |namespace: &str| self.first(namespace, |policy| selector_of(policy).is_none());
        let mesh = wide(&self.root);
        let own = if namespace == self.root { None } else { wide(namespace) };
        for object in [mesh, own].into_iter().flatten() {
            if let Some(mode) = spec_of(object).and_then(mode_of) {
                result.mode = mode;
                result.policies.push(object.clone());
            }
        }
        if namespace == self.root {
            return result;
        }
        let narrow = self.first(namespace, |policy| {
            selector_of(policy).is_some_and(|selector| api::selector::matches(selector, labels))
        });
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
        let policies = self.by_namespace.get(namespace)?;
        policies.iter().find(|object| spec_of(object).is_some_and(&wanted))
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
