//! What goes out from a sidecar, or through a gateway: made in parts, of which only those are made again that depend on what
//! changed. Clusters and endpoints are a part for each service, everything else one for each type.

use std::collections::HashMap;
use std::sync::Arc;

use xds::delta_server::{Entry, Kind, Layer, TypeSet};

use super::encode::{Entries, Interner};
use super::part::{Maker, Part};
use crate::proxy::ProxyKind;
use crate::scope::Scope;
use crate::translate::{self, Clusters, Merged, Mode, Resources, Wanted};
use crate::world::service::Service;
use crate::world::{Changes, Note};

#[derive(Debug)]
pub(super) struct Outbound {
    scope: Part<Arc<Scope>>,
    /// By the host of the service, and how its clusters are named and secured.
    services: HashMap<(String, Mode), OfService>,
    standing: Part<Vec<Arc<Entry>>>,
    ways: Ways,
    pub layer: Arc<Layer>,
}

/// The clusters and endpoints of one service.
#[derive(Debug)]
struct OfService {
    service: Arc<Service>,
    made: Part<Entries>,
}

/// Listeners, routes and what belongs to them.
#[derive(Debug)]
enum Ways {
    Sidecar {
        listeners: Part<(Vec<Arc<Entry>>, Vec<Wanted>)>,
        routes: Part<Vec<Arc<Entry>>>,
        names: Part<Vec<Arc<Entry>>>,
    },
    Gateway(Part<GatewayWays>),
}

#[derive(Debug)]
struct GatewayWays {
    entries: Entries,
    /// Whether clusters for passing the mesh's own TLS through are needed.
    passes_through: bool,
}

impl Outbound {
    pub fn make(maker: Maker<'_>, interner: &mut Interner) -> Self {
        let scope = maker.part(|context| Arc::new(context.scope()));
        let standing = standing(maker, interner);
        let ways = Ways::make(maker, &scope.value, interner);
        let mut made = Self { scope, services: HashMap::new(), standing, ways, layer: Arc::default() };
        made.make_services(maker, &Changes::default(), interner, &mut Turnover::default());
        made.layer = Arc::new(made.whole());
        made
    }

    /// Makes again what depends on what changed. Whether what the class gets is other than before.
    pub fn update(&mut self, maker: Maker<'_>, changes: &Changes, interner: &mut Interner) -> bool {
        let mut scope_changed = Differs::default();
        if self.scope.is_stale(changes) {
            let mut scope = maker.part(|context| context.scope());
            scope_changed = Differs::between(&self.scope.value, &mut scope.value);
            if scope_changed.any() {
                self.scope = scope.map(Arc::new);
            } else {
                let known = self.scope.value.clone();
                self.scope = scope.map(|_| known);
            }
        }
        let passed_through = self.ways.passes_through();
        let ways_changed = self.ways.update(maker, &self.scope.value, changes, &scope_changed, interner);
        let mut turnover = Turnover::default();
        if self.standing.is_stale(changes) {
            let made = standing(maker, interner);
            let before = std::mem::replace(&mut self.standing, made);
            turnover.gone.extend(before.value);
            turnover.come[Kind::Cluster.index()].extend(self.standing.value.iter().cloned());
        }
        if scope_changed.services || passed_through != self.ways.passes_through() {
            self.make_services(maker, changes, interner, &mut turnover);
        } else {
            self.make_stale_services(maker, changes, interner, &mut turnover);
        }
        let mut types = self.layer.types().clone();
        for kind in [Kind::Cluster, Kind::Endpoint] {
            let at = kind.index();
            let come = std::mem::take(&mut turnover.come[at]);
            types[at] = types[at].replacing(&turnover.gone_of(kind), come);
        }
        if ways_changed {
            let entries = self.ways.entries();
            for kind in [Kind::Listener, Kind::Route, Kind::NameTable] {
                let made = TypeSet::new(entries[kind.index()].clone());
                types[kind.index()] = types[kind.index()].reusing(made);
            }
        }
        let layer = Layer::new(types);
        let differs = !layer.is(&self.layer);
        if differs {
            self.layer = Arc::new(layer);
        }
        differs
    }

    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let of_services = self.services.values().flat_map(|of| &of.made.notes);
        let ways = self.ways.notes();
        self.scope.notes.iter().chain(&self.standing.notes).chain(of_services).chain(ways)
    }

    fn modes(&self) -> &'static [Mode] {
        if self.ways.passes_through() { &[Mode::Default, Mode::SniPassthrough] } else { &[Mode::Default] }
    }

    /// Makes clusters and endpoints of the services in scope, but for those that are known and depend on nothing that changed.
    fn make_services(
        &mut self,
        maker: Maker<'_>,
        changes: &Changes,
        interner: &mut Interner,
        turnover: &mut Turnover,
    ) {
        let scope = self.scope.value.clone();
        let mut older = std::mem::take(&mut self.services);
        for mode in self.modes() {
            for service in &scope.services {
                let key = (service.host.clone(), *mode);
                let known = older.remove(&key);
                if let Some(known) = known {
                    if Arc::ptr_eq(&known.service, service) && !known.made.is_stale(changes) {
                        self.services.insert(key, known);
                        continue;
                    }
                    turnover.gone.extend(known.made.value.into_iter().flatten());
                }
                let made = OfService::make(maker, &scope, service, *mode, interner);
                turnover.comes(&made);
                self.services.insert(key, made);
            }
        }
        turnover.gone.extend(older.into_values().flat_map(|of| of.made.value.into_iter().flatten()));
    }

    /// The same where the services are the same.
    fn make_stale_services(
        &mut self,
        maker: Maker<'_>,
        changes: &Changes,
        interner: &mut Interner,
        turnover: &mut Turnover,
    ) {
        let scope = &self.scope.value;
        for ((_, mode), known) in self.services.iter_mut().filter(|(_, of)| of.made.is_stale(changes)) {
            let made = OfService::make(maker, scope, &known.service, *mode, interner);
            turnover.comes(&made);
            let before = std::mem::replace(known, made);
            turnover.gone.extend(before.made.value.into_iter().flatten());
        }
    }

    fn whole(&self) -> Layer {
        let mut entries = self.ways.entries();
        entries[Kind::Cluster.index()].extend(self.standing.value.iter().cloned());
        for of in self.services.values() {
            for (all, own) in entries.iter_mut().zip(&of.made.value) {
                all.extend(own.iter().cloned());
            }
        }
        Layer::new(entries.map(|of_kind| Arc::new(TypeSet::new(of_kind))))
    }
}

fn standing(maker: Maker<'_>, interner: &mut Interner) -> Part<Vec<Arc<Entry>>> {
    let made = maker
        .part(|context| Clusters { clusters: translate::standing_clusters(context), endpoints: Vec::new() });
    made.map(|clusters| interner.clusters(&clusters).into_iter().flatten().collect())
}

impl OfService {
    fn make(
        maker: Maker<'_>,
        scope: &Scope,
        service: &Arc<Service>,
        mode: Mode,
        interner: &mut Interner,
    ) -> Self {
        let made = maker.part(|context| {
            let mut clusters = Clusters::default();
            translate::clusters_of_service(context, scope, service, mode, &mut clusters);
            clusters
        });
        Self { service: service.clone(), made: made.map(|clusters| interner.clusters(&clusters)) }
    }
}

/// Entries of services that were there, and those that are.
#[derive(Default)]
struct Turnover {
    gone: Vec<Arc<Entry>>,
    come: Entries,
}

impl Turnover {
    fn comes(&mut self, made: &OfService) {
        for (come, made) in self.come.iter_mut().zip(&made.made.value) {
            come.extend(made.iter().cloned());
        }
    }

    fn gone_of(&self, kind: Kind) -> Vec<&str> {
        self.gone.iter().filter(|entry| entry.kind == kind).map(|entry| entry.name.as_ref()).collect()
    }
}

impl Ways {
    fn make(maker: Maker<'_>, scope: &Scope, interner: &mut Interner) -> Self {
        match maker.facts.kind() {
            ProxyKind::Sidecar => {
                let listeners = listeners(maker, scope, interner);
                let routes = routes(maker, scope, &listeners.value.1, interner);
                Self::Sidecar { listeners, routes, names: names(maker, scope, interner) }
            }
            ProxyKind::Gateway => Self::Gateway(gateway(maker, scope, interner)),
        }
    }

    fn update(
        &mut self,
        maker: Maker<'_>,
        scope: &Scope,
        changes: &Changes,
        differs: &Differs,
        interner: &mut Interner,
    ) -> bool {
        match self {
            Self::Sidecar { listeners: of_listeners, routes: of_routes, names: of_names } => {
                let mut any = false;
                let mut wanted_differ = false;
                if differs.any() || of_listeners.is_stale(changes) {
                    let made = listeners(maker, scope, interner);
                    wanted_differ = made.value.1 != of_listeners.value.1;
                    *of_listeners = made;
                    any = true;
                }
                if differs.any() || wanted_differ || of_routes.is_stale(changes) {
                    *of_routes = routes(maker, scope, &of_listeners.value.1, interner);
                    any = true;
                }
                if differs.services || of_names.is_stale(changes) {
                    *of_names = names(maker, scope, interner);
                    any = true;
                }
                any
            }
            Self::Gateway(known) => {
                let stale = differs.any() || known.is_stale(changes);
                if stale {
                    *known = gateway(maker, scope, interner);
                }
                stale
            }
        }
    }

    fn passes_through(&self) -> bool {
        match self {
            Self::Sidecar { .. } => false,
            Self::Gateway(made) => made.value.passes_through,
        }
    }

    fn entries(&self) -> Entries {
        match self {
            Self::Sidecar { listeners, routes, names } => {
                let mut entries = Entries::default();
                entries[Kind::Listener.index()].clone_from(&listeners.value.0);
                entries[Kind::Route.index()].clone_from(&routes.value);
                entries[Kind::NameTable.index()].clone_from(&names.value);
                entries
            }
            Self::Gateway(made) => made.value.entries.clone(),
        }
    }

    fn notes(&self) -> Box<dyn Iterator<Item = &Note> + '_> {
        match self {
            Self::Sidecar { listeners, routes, names } => {
                Box::new(listeners.notes.iter().chain(&routes.notes).chain(&names.notes))
            }
            Self::Gateway(made) => Box::new(made.notes.iter()),
        }
    }
}

fn listeners(
    maker: Maker<'_>,
    scope: &Scope,
    interner: &mut Interner,
) -> Part<(Vec<Arc<Entry>>, Vec<Wanted>)> {
    let made = maker.part(|context| {
        let (listeners, wanted) = translate::listeners(context, scope);
        (Resources { listeners, ..Default::default() }, wanted)
    });
    made.map(|(resources, wanted)| (flat(interner.resources(&resources)), wanted))
}

fn routes(
    maker: Maker<'_>,
    scope: &Scope,
    wanted: &[Wanted],
    interner: &mut Interner,
) -> Part<Vec<Arc<Entry>>> {
    let made = maker.part(|context| Resources {
        routes: translate::routes(context, scope, wanted),
        ..Default::default()
    });
    made.map(|resources| flat(interner.resources(&resources)))
}

fn names(maker: Maker<'_>, scope: &Scope, interner: &mut Interner) -> Part<Vec<Arc<Entry>>> {
    let made = maker.part(|context| Resources {
        name_table: translate::name_table(context, scope),
        ..Default::default()
    });
    made.map(|resources| flat(interner.resources(&resources)))
}

fn gateway(maker: Maker<'_>, scope: &Scope, interner: &mut Interner) -> Part<GatewayWays> {
    let made = maker.part(|context| {
        let merged = Merged::of(context);
        let passes_through = translate::passes_through(context, &merged);
        let (listeners, routes) = translate::gateway(context, scope, &merged);
        (Resources { listeners, routes, ..Default::default() }, passes_through)
    });
    made.map(|(resources, passes_through)| GatewayWays {
        entries: interner.resources(&resources),
        passes_through,
    })
}

fn flat(entries: Entries) -> Vec<Arc<Entry>> {
    entries.into_iter().flatten().collect()
}

/// In what a scope differs from the one before.
#[derive(Debug, Default)]
struct Differs {
    services: bool,
    /// Anything else: rules, listeners, what happens to other traffic.
    others: bool,
}

impl Differs {
    fn any(&self) -> bool {
        self.services || self.others
    }

    /// Services that say the same are taken over from before, so that what was made of them is known again.
    fn between(before: &Scope, now: &mut Scope) -> Self {
        let known: HashMap<&str, &Arc<Service>> =
            before.services.iter().map(|service| (service.host.as_str(), service)).collect();
        now.take_over(|service| known.get(service.host.as_str()).copied());
        Self { services: !now.has_services_of(before), others: !now.is_otherwise(before) }
    }
}
