//! DestinationRule: what applies to traffic once its destination is known.

use std::collections::BTreeMap;

use super::{TrafficPolicy, WorkloadSelector};
use crate::decode::message;
use crate::selector::LabelSelector;

message! {
    pub struct DestinationRule {
        host @required: String,
        traffic_policy: Option<TrafficPolicy>,
        subsets: Vec<Subset>,
        export_to: Vec<String>,
        /// Which clients the rule is for; every client if absent.
        workload_selector: Option<PolicySelector>,
    }
}

message! {
    pub struct Subset {
        name @required: String,
        labels: BTreeMap<String, String>,
        traffic_policy: Option<TrafficPolicy>,
    }
}

message! {
    /// A selector written as `matchLabels`, as policies have it.
    pub struct PolicySelector {
        match_labels: BTreeMap<String, String>,
    }
}

impl PolicySelector {
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        crate::selector::matches(&self.match_labels, labels)
    }
}

impl WorkloadSelector {
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        crate::selector::matches(&self.labels, labels)
    }
}

impl From<&PolicySelector> for LabelSelector {
    fn from(selector: &PolicySelector) -> Self {
        Self { match_labels: selector.match_labels.clone(), match_expressions: Vec::new() }
    }
}
