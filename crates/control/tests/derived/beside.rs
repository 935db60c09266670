//! A control plane that takes changes in, beside ones that are started fresh with all that it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{MeshConfig, Object, ObjectId};
use control::classes::{Classes, Layers};
use control::proxy::Profile;
use control::translate::Options;
use control::workload::{Workload, WorkloadKey};
use control::world::{Delta, Settings, World};

use crate::objects::{PROXIES, proxy};

#[derive(Debug, Clone)]
pub enum Step {
    Object(Arc<Object>),
    Gone(Arc<ObjectId>),
    Workload(Workload),
    Left(WorkloadKey),
    Mesh { root: bool },
    Joins { proxy: usize },
    Leaves { proxy: usize },
}

/// All that a control plane was told.
#[derive(Default)]
pub struct Known {
    objects: BTreeMap<Arc<ObjectId>, Arc<Object>>,
    workloads: BTreeMap<WorkloadKey, Workload>,
    mesh: Option<MeshConfig>,
    pub proxies: BTreeSet<usize>,
}

impl Known {
    /// With all proxies.
    pub fn of(
        objects: impl IntoIterator<Item = Arc<Object>>,
        workloads: impl IntoIterator<Item = Workload>,
    ) -> Self {
        Self {
            objects: objects.into_iter().map(|object| (object.identity().clone(), object)).collect(),
            workloads: workloads.into_iter().map(|workload| (workload.key(), workload)).collect(),
            mesh: None,
            proxies: (0..PROXIES).collect(),
        }
    }

    pub fn fresh(&self, options: &Options, settings: &Settings) -> Classes {
        let objects = self.objects.values().cloned().collect();
        let workloads = self.workloads.values().cloned().collect();
        let mesh = self.mesh.clone().unwrap_or_else(MeshConfig::istio_default);
        let mut classes =
            Classes::new(World::build(objects, workloads, mesh, settings.clone()), options.clone());
        self.proxies.iter().for_each(|at| classes.join(*at as u64, Arc::new(proxy(*at)), options.profile));
        classes
    }

    /// Takes a step; what it changes goes into the delta, who comes and goes at once into the classes.
    fn take(&mut self, step: &Step, delta: &mut Delta, classes: &mut Classes, profile: Profile) {
        match step {
            Step::Object(object) => {
                delta.objects.push((object.identity().clone(), Some(object.clone())));
                self.objects.insert(object.identity().clone(), object.clone());
            }
            Step::Gone(id) => {
                delta.objects.extend(self.objects.remove(id).map(|_| (id.clone(), None)));
            }
            Step::Workload(workload) => {
                delta.workloads.push((workload.key(), Some(workload.clone())));
                self.workloads.insert(workload.key(), workload.clone());
            }
            Step::Left(key) => {
                delta.workloads.extend(self.workloads.remove(key).map(|gone| (gone.key(), None)));
            }
            Step::Mesh { root } => {
                let mut mesh = MeshConfig::istio_default();
                mesh.root_namespace = if *root { "istio-system" } else { "default" }.into();
                self.mesh = Some(mesh.clone());
                delta.mesh = Some(mesh);
            }
            Step::Joins { proxy: at } => {
                if self.proxies.insert(*at) {
                    classes.join(*at as u64, Arc::new(proxy(*at)), profile);
                }
            }
            Step::Leaves { proxy: at } => {
                if self.proxies.remove(at) {
                    classes.leave(*at as u64);
                }
            }
        }
    }
}

pub struct Beside {
    known: Known,
    classes: Classes,
    options: Options,
    settings: Settings,
}

impl Beside {
    pub fn new(known: Known, options: Options, settings: Settings) -> Self {
        let classes = known.fresh(&options, &settings);
        Self { known, classes, options, settings }
    }

    /// Takes these in as one change. All hold then what they would hold if they had connected afterwards, and who is told is who
    /// holds something else than before: these are returned.
    pub fn take(&mut self, steps: &[Step]) -> BTreeSet<usize> {
        let before: BTreeMap<usize, Layers> =
            (0..PROXIES).filter_map(|id| Some((id, self.classes.layers(id as u64)?))).collect();
        let mut delta = Delta::default();
        for step in steps {
            self.known.take(step, &mut delta, &mut self.classes, self.options.profile);
        }
        let concerned = self.classes.change(delta);
        self.classes.assert_same(&self.known.fresh(&self.options, &self.settings));
        let mut differing = BTreeSet::new();
        for (id, before) in before {
            let Some(now) = self.classes.layers(id as u64) else { continue };
            let sides = [(&before.outbound, &now.outbound), (&before.inbound, &now.inbound)];
            let differs = sides.iter().any(|(before, now)| {
                before.types().iter().zip(now.types()).any(|(a, b)| !a.changed_names(b).is_empty())
            });
            assert_eq!(differs, concerned.contains(&(id as u64)), "proxy {id} is told");
            differing.extend(differs.then_some(id));
        }
        differing
    }
}
