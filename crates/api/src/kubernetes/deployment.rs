//! Deployment (and StatefulSet, DaemonSet, ReplicaSet): the pods it would make.

use std::collections::BTreeMap;

use super::PodSpec;
use crate::decode::partial;
use crate::selector::LabelSelector;

partial! {
    pub struct Deployment {
        /// 1 if absent.
        replicas: Option<u32>,
        selector: LabelSelector,
        template: PodTemplate,
        /// Only StatefulSets have one.
        service_name: String,
    }
}

partial! {
    pub struct PodTemplate {
        metadata: PodTemplateMetadata,
        spec: PodSpec,
    }
}

partial! {
    pub struct PodTemplateMetadata {
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    }
}
