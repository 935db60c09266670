//! Everything known at one moment, indexed for translation. A [`World`] never changes; a new state is a new world.
//!
//! | module | holds |
//! |---|---|
//! | `service` | a service, its ports and endpoints, whichever registry it comes from |
//! | `registry` | all services, indexed; `kubernetes` and `service_entry` make them, `addresses` gives automatic ones |
//! | `instances` | what selectors choose from: Pods, WorkloadEntries, registered workloads |
//! | `targets` | which services a workload stands behind |
//! | `virtual_service`, `virtual_services`, `delegate` | rules with names completed and delegates merged |
//! | `destination_rules`, `peer_authentication` | policies and who they are for |
//! | `hop` | which ports of workloads take the multiplexed hop |
//! | `visibility`, `host_index`, `age`, `locality` | `exportTo`, hosts and wildcards, who was first, where |
//! | `moves` | the next world when only endpoints have changed |
//! | `note` | what is not done as written |

mod addresses;
mod age;
mod delegate;
mod destination_rules;
mod hop;
mod host_index;
mod instances;
mod kubernetes;
mod locality;
mod moves;
mod note;
mod peer_authentication;
mod registry;
pub mod service;
mod service_entry;
mod targets;
pub mod virtual_service;
pub mod virtual_services;
mod visibility;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{MeshConfig, Object, Spec};

pub use age::Age;
pub use destination_rules::{DestinationRule, DestinationRules};
pub use host_index::HostIndex;
pub use locality::Locality;
pub use moves::{Moved, MovedEndpoints};
pub use note::Note;
pub use peer_authentication::{MutualTls, PeerAuthentications};
pub use registry::Services;
pub use targets::{Asker, Target};
pub use virtual_service::{HttpRule, VirtualService};
pub use virtual_services::VirtualServices;
pub use visibility::{Visibility, Visible};

use crate::workload::Workload;

/// What a world is built under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `cluster.local`.
    pub domain: String,
    /// Whether Kubernetes Services without an address get an automatic one, because no API server gives them any.
    pub assign_addresses: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { domain: "cluster.local".into(), assign_addresses: false }
    }
}

pub struct World {
    pub mesh: Arc<MeshConfig>,
    pub settings: Settings,
    pub services: Services,
    pub virtual_services: VirtualServices,
    pub destination_rules: DestinationRules,
    pub peer_authentications: PeerAuthentications,
    /// Oldest first.
    pub gateways: Vec<Arc<Object>>,
    /// Oldest first, by namespace.
    pub sidecars: HashMap<String, Vec<Arc<Object>>>,
    /// Every label key some rule asks proxies about.
    pub selecting_labels: BTreeSet<String>,
    instances: instances::Instances,
    notes: Vec<Note>,
    /// What it was built from but for EndpointSlices, oldest first.
    objects: Vec<Arc<Object>>,
    slices: Vec<Arc<Object>>,
    workloads: Vec<Workload>,
}

impl World {
    /// Indexes the objects and workloads of one moment; their order does not matter.
    pub fn build(
        mut objects: Vec<Arc<Object>>,
        workloads: Vec<Workload>,
        mesh: MeshConfig,
        settings: Settings,
    ) -> Self {
        let mut notes = Vec::new();
        // By creation, then name: the order every rule of precedence wants.
        let slices: Vec<Arc<Object>> = objects.extract_if(.., |object| is_slice(object)).collect();
        age::sort_istio(&mut objects);
        let instances = registry::instances(&objects, &workloads);
        let services = registry::services(&objects, &slices, &workloads, &instances, &mesh, &settings);
        let domain = settings.domain.as_str();
        let virtual_services =
            VirtualServices::new(domain, &mesh.default_virtual_service_export_to, &objects, &mut notes);
        let destination_rules = DestinationRules::new(
            &mesh.root_namespace,
            domain,
            &mesh.default_destination_rule_export_to,
            &objects,
        );
        let policies = objects.iter().filter(|object| matches!(object.spec, Spec::PeerAuthentication(_)));
        let peer_authentications = PeerAuthentications::new(&mesh.root_namespace, policies.cloned());
        let mut sidecars: HashMap<String, Vec<Arc<Object>>> = HashMap::new();
        let mut gateways = Vec::new();
        for object in &objects {
            match &object.spec {
                Spec::Sidecar(_) => {
                    sidecars.entry(object.namespace().to_owned()).or_default().push(object.clone());
                }
                Spec::Gateway(_) => gateways.push(object.clone()),
                Spec::Unsupported if steers_traffic(object) => {
                    notes.push(Note::on(object, "", format!("{} is not acted on yet", object.meta.kind)));
                }
                _ => {}
            }
        }
        let selecting_labels = selecting_labels(&objects, &mesh);
        notes.sort();
        notes.dedup();
        Self {
            mesh: Arc::new(mesh),
            settings,
            services,
            virtual_services,
            destination_rules,
            peer_authentications,
            gateways,
            sidecars,
            selecting_labels,
            instances,
            notes,
            objects,
            slices,
            workloads,
        }
    }

    /// What is wrong or not honoured whichever proxy asks.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The labels of the workload at this address: as registered, completed by its Deployment; `None` if nobody
    /// registered from there.
    pub fn registered_labels(&self, namespace: &str, address: &str) -> Option<&BTreeMap<String, String>> {
        let mut candidates = self.instances.at_address(address);
        let found =
            candidates.find(|instance| instance.is_registered() && instance.namespace == namespace)?;
        Some(&found.labels)
    }
}

/// Whether an object only says where a service is served.
pub fn is_slice(object: &Object) -> bool {
    matches!(object.spec, Spec::EndpointSlice(_))
}

/// Whether a kind nothing is done about was meant for the mesh; a ServiceAccount or a ConfigMap was not.
fn steers_traffic(object: &Object) -> bool {
    let group = object.meta.api_version.split('/').next().unwrap_or_default();
    group.ends_with(".istio.io") || group == "gateway.networking.k8s.io" || object.meta.kind == "Ingress"
}

fn selecting_labels(objects: &[Arc<Object>], mesh: &MeshConfig) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut failover: Vec<_> = mesh.locality_lb_setting.iter().collect();
    let mut add = |labels: &BTreeMap<String, String>| keys.extend(labels.keys().cloned());
    for object in objects {
        match &object.spec {
            Spec::VirtualService(spec) => {
                let http = spec.http.iter().flat_map(|rule| &rule.matches);
                http.for_each(|matched| add(&matched.source_labels));
                let tls = spec.tls.iter().flat_map(|rule| &rule.matches);
                tls.for_each(|matched| add(&matched.source_labels));
                let tcp = spec.tcp.iter().flat_map(|rule| &rule.matches);
                tcp.for_each(|matched| add(&matched.source_labels));
            }
            Spec::DestinationRule(spec) => {
                spec.workload_selector.iter().for_each(|selector| add(&selector.match_labels));
                let policies = spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
                for policy in spec.traffic_policy.iter().chain(policies) {
                    let of_ports = policy.port_level_settings.iter().map(|port| &port.load_balancer);
                    let settings = std::iter::once(&policy.load_balancer).chain(of_ports).flatten();
                    failover.extend(settings.filter_map(|one| one.locality_lb_setting.as_ref()));
                }
            }
            Spec::Sidecar(spec) => {
                spec.workload_selector.iter().for_each(|selector| add(&selector.labels));
            }
            Spec::Gateway(spec) => add(&spec.selector),
            _ => {}
        }
    }
    // `key` compares the client's own label, `key=value` asks about none of the client's.
    let asked = failover.iter().flat_map(|setting| &setting.failover_priority);
    keys.extend(asked.filter(|label| !label.contains('=')).cloned());
    keys
}
