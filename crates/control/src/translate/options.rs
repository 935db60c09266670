//! How resources are to be made.

use std::collections::BTreeMap;

use crate::proxy::Profile;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub profile: Profile,
    /// Whether workloads have certificates; without, every chain and cluster is plaintext.
    pub identity: bool,
    /// Istio's feature flags by their environment names.
    pub env: BTreeMap<String, String>,
}

impl Options {
    pub fn flag(&self, name: &str) -> bool {
        self.env.get(name).is_some_and(|value| matches!(value.as_str(), "true" | "1" | "TRUE" | "True" | "t"))
    }
}
