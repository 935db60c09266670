//! Everything known at one moment, indexed for translation. A [`World`] is changed by what changed, and says which questions
//! to it answer differently then ([`Changes`]); it is asked through a [`View`] only, which notes what was asked.
//!
//! | module | holds |
//! |---|---|
//! | `reads`, `view` | what was asked, and the accessors that note it |
//! | `service`, `services` | what services say of themselves, whichever registry they come from; all of them, indexed |
//! | `endpoints` | where they are served |
//! | `kubernetes`, `service_entry` | make both |
//! | `addresses` | automatic addresses of services that have none |
//! | `instances` | what selectors choose from: Pods, WorkloadEntries, registered workloads |
//! | `served` | which services something changed behind |
//! | `targets` | which services a workload stands behind |
//! | `virtual_service`, `virtual_services`, `delegate` | rules with names completed and delegates merged |
//! | `destination_rules`, `policy_parts`, `peer_authentication` | policies and who they are for |
//! | `visibility`, `host_index`, `by_namespace`, `order`, `age`, `locality` | `exportTo`, hosts and wildcards, who was first, where |
//! | `note`, `reason` | what is not done as written, and why |

mod addresses;
mod age;
mod by_namespace;
mod delegate;
mod destination_rules;
mod endpoints;
mod host_index;
mod instances;
mod kubernetes;
mod locality;
mod note;
mod order;
mod peer_authentication;
mod policy_parts;
mod reads;
mod reason;
mod served;
pub mod service;
mod service_entry;
mod services;
mod targets;
mod view;
pub mod virtual_service;
pub mod virtual_services;
mod visibility;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{MeshConfig, Object, ObjectId, Spec};

pub use age::Age;
pub use destination_rules::DestinationRule;
pub use host_index::HostIndex;
pub use locality::Locality;
pub use note::Note;
pub use peer_authentication::MutualTls;
pub use policy_parts::{Connections, Hashing};
pub(crate) use reads::Topic;
pub use reads::{Changes, Read, Reads};
pub use reason::{Conflict, Missing, NotDone, Outcome, Reason};
pub use targets::{Asker, Target, targets};
pub use view::{Owners, View};
pub use virtual_service::{HttpRule, VirtualService};
pub use visibility::{Visibility, Visible};

use crate::workload::{Workload, WorkloadKey};
use by_namespace::ByNamespace;
use destination_rules::DestinationRules;
use endpoints::Endpoints;
use instances::Instances;
use order::Order;
use peer_authentication::PeerAuthentications;
use served::Served;
use services::Services;
use virtual_services::VirtualServices;

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

/// What changed of what a world is made from.
#[derive(Debug, Default)]
pub struct Delta {
    /// Objects that came, changed or (`None`) went.
    pub objects: Vec<(Arc<ObjectId>, Option<Arc<Object>>)>,
    /// Registered workloads that came, changed or went.
    pub workloads: Vec<(WorkloadKey, Option<Workload>)>,
    /// The mesh configuration, if it changed.
    pub mesh: Option<MeshConfig>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.workloads.is_empty() && self.mesh.is_none()
    }
}

pub struct World {
    mesh: MeshConfig,
    settings: Settings,
    /// Whatever it was made from.
    objects: BTreeMap<Arc<ObjectId>, Arc<Object>>,
    workloads: BTreeMap<WorkloadKey, Workload>,
    services: Services,
    endpoints: Endpoints,
    instances: Instances,
    served: Served,
    virtual_services: VirtualServices,
    destination_rules: DestinationRules,
    peer_authentications: PeerAuthentications,
    sidecars: ByNamespace,
    gateways: BTreeMap<Order, Arc<Object>>,
    /// Of objects that nothing is done about.
    not_acted_on: BTreeMap<Arc<ObjectId>, Note>,
}

impl World {
    /// The world of these objects and workloads; their order does not matter.
    pub fn build(
        objects: Vec<Arc<Object>>,
        workloads: Vec<Workload>,
        mesh: MeshConfig,
        settings: Settings,
    ) -> Self {
        let mut world = Self::empty(mesh, settings);
        world.change(Delta {
            objects: objects.into_iter().map(|object| (object.identity().clone(), Some(object))).collect(),
            workloads: workloads.into_iter().map(|workload| (workload.key(), Some(workload))).collect(),
            mesh: None,
        });
        world
    }

    pub fn empty(mesh: MeshConfig, settings: Settings) -> Self {
        Self {
            mesh,
            settings,
            objects: BTreeMap::new(),
            workloads: BTreeMap::new(),
            services: Services::default(),
            endpoints: Endpoints::default(),
            instances: Instances::default(),
            served: Served::default(),
            virtual_services: VirtualServices::default(),
            destination_rules: DestinationRules::default(),
            peer_authentications: PeerAuthentications::default(),
            sidecars: ByNamespace::default(),
            gateways: BTreeMap::new(),
            not_acted_on: BTreeMap::new(),
        }
    }

    /// Takes a change in. What it costs depends on the change, not on how much there is, but where services come, go or say
    /// something else of themselves: those are indexed anew.
    pub fn change(&mut self, delta: Delta) -> Changes {
        let mut changes = Changes::default();
        let Delta { objects, workloads, mesh } = delta;
        if let Some(mesh) = mesh.filter(|mesh| *mesh != self.mesh) {
            // Defaults of visibility, the root namespace: all that is derived may depend on it.
            let settings = self.settings.clone();
            let older = std::mem::replace(self, Self::empty(mesh, settings));
            let workloads = older.workloads.into_iter().map(|(key, workload)| (key, Some(workload)));
            let objects = older.objects.into_iter().map(|(id, object)| (id, Some(object)));
            self.change(Delta { objects: objects.collect(), workloads: workloads.collect(), mesh: None });
            changes.everything();
        }
        for (id, object) in objects {
            let before = match &object {
                Some(object) => self.objects.insert(id.clone(), object.clone()),
                None => self.objects.remove(&id),
            };
            if before.is_some() || object.is_some() {
                self.write(&id, before.as_ref(), object.as_ref(), &mut changes);
            }
        }
        for (key, workload) in workloads {
            self.register(&key, workload, &mut changes);
        }
        self.imply_services();
        self.services.settle(&self.settings, &mut changes);
        self.serve(&mut changes);
        self.virtual_services.settle(&mut changes);
        changes
    }

    fn write(
        &mut self,
        id: &Arc<ObjectId>,
        before: Option<&Arc<Object>>,
        object: Option<&Arc<Object>>,
        changes: &mut Changes,
    ) {
        let Self { mesh, settings: Settings { domain, .. }, .. } = self;
        // An object of a kind is one always, but for a kind that is not read.
        let Some(spec) = object.or(before).map(|object| &object.spec) else { return };
        match spec {
            Spec::Service(_) | Spec::ServiceEntry(_) => {
                self.services.write(id, object, mesh, domain);
                self.served.written(id, before, object, domain);
            }
            Spec::EndpointSlice(_) => self.served.slice(before, object),
            Spec::Pod(_) | Spec::WorkloadEntry(_) => self.instance_of(id, object, changes),
            Spec::Deployment(_) => self.complete_workloads(id, changes),
            Spec::VirtualService(_) => {
                let export_to = &mesh.default_virtual_service_export_to;
                self.virtual_services.write(id, object, domain, export_to);
            }
            Spec::DestinationRule(_) => {
                self.destination_rules.write(id, object, mesh, domain, changes);
            }
            Spec::PeerAuthentication(_) => {
                self.peer_authentications.write(id, object);
                changes.of(Topic::PeerAuthentications, &[&id.namespace]);
            }
            Spec::Sidecar(_) => {
                self.sidecars.write(id, object);
                changes.of(Topic::Sidecars, &[&id.namespace]);
            }
            Spec::Gateway(_) => {
                before.iter().for_each(|before| drop(self.gateways.remove(&Order::of_istio(before))));
                object.iter().for_each(|object| {
                    self.gateways.insert(Order::of_istio(object), Arc::clone(object));
                });
                changes.of(Topic::Gateways, &[]);
            }
            Spec::Unsupported => {
                self.not_acted_on.remove(id);
                if let Some(object) = object.filter(|object| steers_traffic(object)) {
                    let reason = Reason::KindNotActedOn(object.meta.kind.clone());
                    let note = Note::on(object, "", reason);
                    self.not_acted_on.insert(id.clone(), note);
                }
            }
            Spec::WorkloadGroup(_) | Spec::Namespace(_) | Spec::MeshConfig(_) => {}
        }
    }

    /// All VirtualServices with hosts, delegates merged in.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<VirtualService>> {
        self.virtual_services.merged()
    }

    /// What is wrong or not honoured whichever proxy asks.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.not_acted_on.values().chain(self.virtual_services.notes())
    }
}

/// Whether a kind nothing is done about was meant for the mesh; a ServiceAccount or a ConfigMap was not.
fn steers_traffic(object: &Object) -> bool {
    let group = &object.identity().group;
    group.ends_with(".istio.io") || group == "gateway.networking.k8s.io" || object.meta.kind == "Ingress"
}
