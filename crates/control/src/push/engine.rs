//! The thread that turns changes into sets of resources.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::{Duration, Instant};

use api::mesh_config::ConfigSource;
use api::{MeshConfig, Problem, Severity, Spec};
use xds::delta_server::ResourceSet;

use super::Shared;
use super::event::Event;
use super::peer::Peer;
use super::published::Published;
use crate::classes::{Classes, Layers};
use crate::registrations::{Registrations, StreamId};
use crate::source::{Update, config_source};
use crate::store::{self, ObjectStore};
use crate::translate::Options;
use crate::verdict::Verdicts;
use crate::world::{Delta, Note, Settings, World};

/// Events that are taken together with the first.
const TOGETHER: usize = 10_000;

/// Takes changes in, keeps what is made of them in step, and hands every stream what it is to hold.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    registrations: Registrations,
    config_sources: Sender<Vec<ConfigSource>>,
    classes: Classes,
    generation: u64,
    readings: u64,
    /// Nothing is served: what was configured before the restart cannot be read yet.
    waiting: bool,
    /// What is not done as written.
    notes: BTreeSet<Note>,
    /// Notes that were logged, so that each is logged once.
    told: BTreeSet<String>,
    /// What the status pages showed last.
    published: Published,
}

/// What an engine is started with.
pub(crate) struct Inputs {
    pub(crate) registrations: Registrations,
    /// All that the sources say at the start.
    pub(crate) first: Vec<Update>,
    /// Is told the list of config sources when the mesh configuration is another.
    pub(crate) config_sources: Sender<Vec<ConfigSource>>,
    pub(crate) settings: Settings,
    pub(crate) options: Options,
}

/// What came in and is not worked on yet.
#[derive(Default)]
struct Pending {
    updates: Vec<Update>,
    /// Sources said something.
    said: bool,
    /// When the oldest change of registrations was noticed.
    since: Option<Instant>,
    /// What is shown differs, if nothing else does.
    shown: bool,
    new_peers: Vec<Arc<Peer>>,
    stop: bool,
}

impl Pending {
    fn since(&mut self, since: Instant) {
        self.since = Some(self.since.map_or(since, |known| known.min(since)));
    }
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>, inputs: Inputs) -> Self {
        let Inputs { registrations, first, config_sources, settings, options } = inputs;
        let world = World::empty(MeshConfig::istio_default(), settings);
        let mut engine = Self {
            shared,
            registrations,
            config_sources,
            classes: Classes::new(world, options),
            generation: 0,
            readings: 0,
            waiting: false,
            notes: BTreeSet::new(),
            told: BTreeSet::new(),
            published: Published::default(),
        };
        engine.apply(Pending { updates: first, said: true, shown: true, ..Pending::default() });
        engine
    }

    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        loop {
            let mut pending = Pending::default();
            let now = Instant::now();
            let expiry = self.registrations.deadline(now);
            let wait = expiry.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now));
            match events.recv_timeout(wait) {
                Ok(event) => self.take(event, &mut pending),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for event in events.try_iter().take(TOGETHER) {
                self.take(event, &mut pending);
            }
            if pending.stop {
                self.registrations.persist(self.shared.log);
                return;
            }
            let now = Instant::now();
            if self.registrations.expire(now) {
                pending.since(now);
            }
            self.apply(pending);
            self.registrations.persist(self.shared.log);
        }
    }

    fn take(&mut self, event: Event, pending: &mut Pending) {
        match event {
            Event::Updates(updates, said) => {
                pending.updates.extend(updates);
                self.readings = said;
                pending.said = true;
            }
            Event::Connected(peer, since) => {
                if let Some(workload) = &peer.node.workload {
                    pending.shown = true;
                    if self.registrations.connect(peer.id, workload.clone()) {
                        pending.since(since);
                    }
                }
                pending.new_peers.push(peer);
            }
            Event::Disconnected(stream) => {
                self.registrations.disconnect(stream, Instant::now());
                self.classes.leave(stream);
                pending.new_peers.retain(|p| p.id != stream);
                pending.shown = true;
            }
            Event::Left(stream, since) => {
                if self.registrations.leave(stream) {
                    pending.since(since);
                }
            }
            Event::Remove { namespace, name, answer, since } => {
                let removed = self.registrations.remove(&namespace, &name);
                if removed > 0 {
                    pending.since(since);
                }
                // Whoever asked may have gone.
                let _ = answer.send(removed);
            }
            Event::Stop => pending.stop = true,
        }
    }

    fn apply(&mut self, pending: Pending) {
        let start = Instant::now();
        let read = pending.said;
        let said = self.store_mut().apply_all(pending.updates, self.generation + 1);
        let back = read && self.look_for_sources();
        let mut delta = Delta { workloads: self.registrations.take_changes(), ..Delta::default() };
        let mut since = pending.since;
        let (mut told, mut shown) = (Vec::new(), pending.shown);
        if let Some(store::Delta { changed, shown: said_shown, mesh, told: said_told, since: said_since }) =
            said
        {
            if mesh {
                let mesh = self.shared.objects().mesh_config().cloned();
                // Fails only when the control plane stops.
                let _ = self.config_sources.send(config_source::listed(mesh.as_ref()));
                delta.mesh = Some(mesh.unwrap_or_else(MeshConfig::istio_default));
            }
            if !changed.is_empty() || mesh {
                since = Some(since.map_or(said_since, |known| known.min(said_since)));
            }
            delta.objects = changed.into_iter().map(|change| (change.id, change.after)).collect();
            (told, shown) = (said_told, shown || said_shown);
        }
        let changed = !delta.is_empty() || self.generation == 0;
        let mut concerned = BTreeSet::new();
        if changed {
            self.generation += 1;
            concerned = self.classes.change(delta);
            self.shared.metrics.world_built(start.elapsed());
        }
        if back {
            // Who is in step again finds a control plane that says so.
            self.publish(false, Vec::new());
        }
        if !self.waiting {
            self.offer(pending.new_peers, concerned, back, since.unwrap_or(start));
        }
        if changed || shown || read {
            self.publish(shown || changed, told);
        }
    }

    /// Whether what was waited for is there.
    fn look_for_sources(&mut self) -> bool {
        let waiting = self.shared.objects().waiting().next().is_some();
        let back = std::mem::replace(&mut self.waiting, waiting) && !waiting;
        if back {
            (self.shared.log)("every directory that was read before is there again: serving");
        }
        back
    }

    /// Gives streams what they are to hold: those that are new, and those that something changed for. All others are told that
    /// nothing did.
    fn offer(&mut self, new: Vec<Arc<Peer>>, mut concerned: BTreeSet<StreamId>, back: bool, since: Instant) {
        let start = Instant::now();
        let new = if back { self.shared.peers() } else { new };
        for peer in new {
            self.classes.join(peer.id, peer.node.proxy.clone(), peer.node.profile);
            concerned.insert(peer.id);
        }
        for id in concerned {
            let (Some(peer), Some(layers)) = (self.shared.peer(id), self.classes.layers(id)) else {
                continue;
            };
            let Layers { outbound: shared, inbound: own } = layers;
            peer.offer(Arc::new(ResourceSet { generation: self.generation, since, shared, own }));
        }
        self.shared.all_offered(self.generation);
        self.shared.metrics.classes_made(self.classes.len(), start.elapsed());
    }

    /// `shown`: objects or what is wrong with them may be others. `told`: what is wrong that was not before.
    fn publish(&mut self, shown: bool, told: Vec<Problem>) {
        told.iter().for_each(|problem| (self.shared.log)(&problem.to_string()));
        let notes = self.classes.take_notes().filter(|notes| *notes != self.notes);
        let noted = notes.is_some();
        if let Some(notes) = notes {
            self.notes = notes;
        }
        if shown || noted {
            let store = self.shared.objects();
            let noted: Vec<Problem> = self.notes.iter().filter_map(|note| problem(note, &store)).collect();
            let mut problems = store.problems();
            let verdicts = Verdicts::new(&store, &self.notes, &problems);
            drop(store);
            self.published.verdicts = Arc::new(verdicts);
            self.tell(&noted);
            problems.extend(noted);
            self.published.problems = Arc::new(problems);
        }
        self.published.generation = self.generation;
        self.published.waiting = self.waiting;
        self.published.readings = self.readings;
        self.published.workloads = self.registrations.status();
        self.shared.published.store(Arc::new(self.published.clone()));
        self.shared.progressed();
    }

    fn store_mut(&self) -> RwLockWriteGuard<'_, ObjectStore> {
        self.shared.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs what is new among what is not done as written.
    fn tell(&mut self, noted: &[Problem]) {
        let lines: BTreeSet<String> = noted.iter().map(ToString::to_string).collect();
        for line in lines.difference(&self.told) {
            (self.shared.log)(line);
        }
        self.told = lines;
    }
}

/// A note with the place it is about. `None` for what the store has told already: kinds nothing acts on.
fn problem(note: &Note, store: &ObjectStore) -> Option<Problem> {
    let object = note.object.as_ref().and_then(|id| store.get(id)).map(|held| &held.loaded.object);
    if object.is_some_and(|object| matches!(object.spec, Spec::Unsupported)) {
        return None;
    }
    let at = object.map(|object| object.position(&note.path));
    Some(Problem {
        severity: Severity::Warning,
        file: object.map_or_else(|| "".into(), |object| object.source.file.clone()),
        line: at.map_or(0, |at| at.line),
        column: at.map_or(0, |at| at.column),
        object: Some(note.subject()),
        path: note.path.clone(),
        message: note.reason.to_string(),
    })
}
