//! What the engine and the status pages ask.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use api::{MeshConfig, Object, ObjectId, Problem, Spec};

use super::problems::losers;
use super::{Entry, ObjectStore, ROOT_NAMESPACE};
use crate::source::{Loaded, SourceId, Standing};

/// The winner of an identity.
#[derive(Debug, Clone, Copy)]
pub struct Held<'s> {
    pub loaded: &'s Loaded,
    pub source: SourceId,
    /// The generation since which it says what it says.
    pub since: u64,
    entry: &'s Entry,
}

/// An object that is not used because another one of its identity has precedence.
#[derive(Debug, Clone, Copy)]
pub struct Loser<'s> {
    pub loaded: &'s Loaded,
    pub source: SourceId,
    pub winner: &'s Loaded,
}

impl<'s> Held<'s> {
    fn of(entry: &'s Entry) -> Option<Self> {
        let winner = entry.candidates.first()?;
        Some(Self { loaded: &winner.loaded, source: winner.source, since: entry.since, entry })
    }

    /// Those that would take over, in order.
    pub fn losers(&self) -> impl Iterator<Item = Loser<'s>> + use<'s> {
        losers(&self.entry.candidates)
    }
}

impl ObjectStore {
    /// The winner of an identity.
    pub fn get(&self, id: &ObjectId) -> Option<Held<'_>> {
        Held::of(self.objects.get(id)?)
    }

    /// All winners, by group, kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = Held<'_>> {
        self.objects.values().filter_map(Held::of)
    }

    /// How many identities there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The winners of a kind, by namespace and name; of one namespace if it is given.
    pub fn of_kind<'s>(
        &'s self,
        group: &'s str,
        kind: &'s str,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = Held<'s>> {
        let from = ObjectId {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        self.objects
            .range::<ObjectId, _>((Included(&from), Unbounded))
            .take_while(move |(id, _)| {
                id.group == group
                    && id.kind == kind
                    && namespace.is_none_or(|namespace| id.namespace == namespace)
            })
            .filter_map(|(_, entry)| Held::of(entry))
    }

    /// The winners that people mean by a kind in any case, a namespace and a name: one for each group that has the kind.
    pub fn named<'s, 'n>(
        &'s self,
        kind: &'n str,
        namespace: &'n str,
        name: &'n str,
    ) -> impl Iterator<Item = Held<'s>> + use<'s, 'n> {
        let kinds = self.kinds().filter(move |(_, known)| known.eq_ignore_ascii_case(kind));
        kinds.filter_map(move |(group, kind)| {
            self.get(&ObjectId {
                group: group.to_owned(),
                kind: kind.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        })
    }

    /// The object `KIND/NAMESPACE/NAME`; the kind in any case. Istio's wins over others of the kind.
    pub fn meant(&self, id: &str) -> Option<Held<'_>> {
        let (kind, rest) = id.split_once('/')?;
        let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
        let mut found = self.named(kind, namespace, name).peekable();
        let first = found.peek().copied();
        found.find(|held| held.loaded.object.meta.api_version.contains("istio.io")).or(first)
    }

    /// The generation of the newest change of any object.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The groups and kinds of which there are objects, in order.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        let first = self.objects.keys().next();
        std::iter::successors(first, |last| {
            // The least identity that is of no kind up to this one.
            let after = ObjectId {
                group: last.group.clone(),
                kind: format!("{}\0", last.kind),
                ..ObjectId::default()
            };
            self.objects.range::<ObjectId, _>((Excluded(&after), Unbounded)).next().map(|(id, _)| id)
        })
        .map(|id| (id.group.as_str(), id.kind.as_str()))
    }

    /// The losers of all identities.
    pub fn conflicts(&self) -> impl Iterator<Item = Loser<'_>> {
        let entries = self.contested.iter().filter_map(|id| self.objects.get(id));
        entries.flat_map(|entry| losers(&entry.candidates))
    }

    /// The winners that are last good versions: what their source says now is refused.
    pub fn stale(&self) -> impl Iterator<Item = Held<'_>> {
        self.stale.iter().filter_map(|id| self.get(id))
    }

    /// Winners of kinds nothing acts on, and mesh configurations that are not the mesh's.
    pub fn not_acted_on(&self) -> impl Iterator<Item = &Arc<Object>> {
        let acting = self.mesh_object().map(|loaded| loaded.object.identity());
        let elsewhere = self.mesh.iter().filter(move |id| Some(*id) != acting);
        let ids = self.unsupported.values().flatten().chain(elsewhere);
        ids.filter_map(|id| self.get(id)).map(|held| &held.loaded.object)
    }

    /// The sources that had objects before the restart and are not there: nothing must be served without them. With what
    /// they say about themselves.
    pub fn waiting(&self) -> impl Iterator<Item = (SourceId, &Problem)> {
        let waiting = self.sources.iter().filter(|(_, source)| source.standing == Standing::Waiting);
        waiting.flat_map(|(id, source)| source.problems.values().flatten().map(|problem| (*id, problem)))
    }

    /// The namespace of the mesh configuration and of policies for the whole mesh.
    pub fn root_namespace(&self) -> &str {
        self.mesh_file().map_or(ROOT_NAMESPACE, |loaded| loaded.object.namespace())
    }

    /// The mesh configuration; `None`: nothing is configured, everything is Istio's default.
    pub fn mesh_config(&self) -> Option<&MeshConfig> {
        match &self.mesh_object()?.object.spec {
            Spec::MeshConfig(config) => Some(config),
            _ => None,
        }
    }

    /// The object that holds the mesh configuration: the ConfigMap `istio` of the root namespace.
    pub fn mesh_object(&self) -> Option<&Loaded> {
        let in_root = |id: &&Arc<ObjectId>| id.namespace == self.root_namespace();
        let id = self.mesh.iter().find(in_root)?;
        self.get(id).map(|held| held.loaded)
    }

    fn mesh_file(&self) -> Option<&Loaded> {
        let held = self.mesh.iter().filter_map(|id| self.get(id));
        held.filter(|held| held.source == SourceId::MeshFile).map(|held| held.loaded).next()
    }
}
