//! The thread that turns changes into sets of resources.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use api::{MeshConfig, Object, ObjectId, Problem, Severity, Spec};
use xds::delta_server::ResourceSet;

use super::Shared;
use super::event::Event;
use super::peer::Peer;
use super::published::Published;
use crate::classes::{Classes, Layers};
use crate::mesh_file::MeshFile;
use crate::registrations::{Registrations, StreamId};
use crate::source::Reading;
use crate::sources_seen::SourcesSeen;
use crate::translate::Options;
use crate::world::{Delta, Note, Settings, World};

/// Events that are taken together with the first.
const TOGETHER: usize = 10_000;

/// The file of the mesh configuration is looked at so often.
const MESH_FILE: Duration = Duration::from_secs(1);

/// Everything a state is made from, and the newest one.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    inputs: Inputs,
    readings: u64,
    /// Nothing is served: what was configured before the restart cannot be read yet.
    waiting: bool,
    classes: Classes,
    generation: u64,
    /// In which generation each object came to say what it says.
    dates: Arc<HashMap<Arc<ObjectId>, (u64, u64)>>,
    /// Of the source, and what is not done as written.
    problems: Arc<Vec<Problem>>,
    notes: BTreeSet<Note>,
    /// Lines that were logged, so that each is logged once.
    told: BTreeSet<String>,
}

/// What a state is made from.
pub(crate) struct Inputs {
    pub(crate) registrations: Registrations,
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) reading: Reading,
    pub(crate) seen: SourcesSeen,
    pub(crate) mesh_file: Option<MeshFile>,
    pub(crate) settings: Settings,
    pub(crate) options: Options,
}

/// What came in and is not worked on yet.
#[derive(Default)]
struct Pending {
    delta: Delta,
    /// When the oldest of it was noticed.
    since: Option<Instant>,
    /// The source was read again.
    read: bool,
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
        let mesh = inputs.mesh(&inputs.reading);
        let world = World::empty(mesh, inputs.settings.clone());
        let objects = inputs.reading.objects.iter();
        let delta = Delta {
            objects: objects.map(|l| (l.object.identity().clone(), Some(l.object.clone()))).collect(),
            ..Delta::default()
        };
        let since = inputs.reading.since;
        let mut engine = Self {
            shared,
            classes: Classes::new(world, inputs.options.clone()),
            inputs,
            readings: 1,
            waiting: false,
            generation: 0,
            dates: Arc::default(),
            problems: Arc::default(),
            notes: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        engine.look_for_sources();
        engine.apply(Pending { delta, since: Some(since), read: true, ..Pending::default() });
        engine
    }

    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        let mut next_mesh_look = Instant::now() + MESH_FILE;
        loop {
            let mut pending = Pending::default();
            let now = Instant::now();
            let expiry = self.inputs.registrations.deadline(now);
            let mesh_look = self.inputs.mesh_file.as_ref().map(|_| next_mesh_look);
            let wake = [expiry, mesh_look].into_iter().flatten().min();
            let wait = wake.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now));
            match events.recv_timeout(wait) {
                Ok(event) => self.take(event, &mut pending),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for event in events.try_iter().take(TOGETHER) {
                self.take(event, &mut pending);
            }
            if pending.stop {
                self.inputs.registrations.persist(self.shared.log);
                return;
            }
            let now = Instant::now();
            if self.inputs.registrations.expire(now) {
                pending.since(now);
            }
            if now >= next_mesh_look {
                next_mesh_look = now + MESH_FILE;
                if self.inputs.mesh_file.as_mut().is_some_and(|file| file.look(self.shared.log)) {
                    pending.delta.mesh = Some(self.inputs.mesh(&self.inputs.reading));
                    pending.since(now);
                }
            }
            self.apply(pending);
            self.inputs.registrations.persist(self.shared.log);
        }
    }

    fn take(&mut self, event: Event, pending: &mut Pending) {
        match event {
            Event::Read(reading) => {
                self.readings += 1;
                pending.read = true;
                pending.shown = true;
                let changed = reading.since(&self.inputs.reading);
                if !changed.is_empty() {
                    pending.since(reading.since);
                    let is_mesh = |(id, _): &(Arc<ObjectId>, _)| id.kind == "ConfigMap";
                    if changed.iter().any(is_mesh) {
                        pending.delta.mesh = Some(self.inputs.mesh(&reading));
                    }
                    pending.delta.objects.extend(changed);
                }
                self.inputs.reading = *reading;
            }
            Event::Connected(peer, since) => {
                if let Some(workload) = &peer.node.workload {
                    pending.shown = true;
                    if self.inputs.registrations.connect(peer.id, workload.clone()) {
                        pending.since(since);
                    }
                }
                pending.new_peers.push(peer);
            }
            Event::Disconnected(stream) => {
                self.inputs.registrations.disconnect(stream, Instant::now());
                self.classes.leave(stream);
                pending.new_peers.retain(|p| p.id != stream);
                pending.shown = true;
            }
            Event::Left(stream, since) => {
                if self.inputs.registrations.leave(stream) {
                    pending.since(since);
                }
            }
            Event::Remove { namespace, name, answer, since } => {
                let removed = self.inputs.registrations.remove(&namespace, &name);
                if removed > 0 {
                    pending.since(since);
                }
                // Whoever asked may have gone.
                let _ = answer.send(removed);
            }
            Event::Stop => pending.stop = true,
        }
    }

    fn apply(&mut self, mut pending: Pending) {
        let back = pending.read && self.look_for_sources();
        pending.delta.workloads = self.inputs.registrations.take_changes();
        let changed = !pending.delta.is_empty() || pending.since.is_some();
        let now = Instant::now();
        let since = pending.since.unwrap_or(now);
        let mut concerned = BTreeSet::new();
        if changed {
            self.generation += 1;
            if pending.read {
                self.date_objects();
            }
            concerned = self.classes.change(pending.delta);
            self.shared.metrics.world_built(now.elapsed());
        }
        if !self.waiting {
            self.offer(pending.new_peers, concerned, back, since);
        }
        if changed || pending.shown || pending.read {
            self.publish(pending.read);
        }
    }

    /// Whether what was waited for is there.
    fn look_for_sources(&mut self) -> bool {
        let Inputs { seen, directories, reading, .. } = &mut self.inputs;
        let waiting = seen.is_waiting(directories, reading, self.shared.log);
        let back = std::mem::replace(&mut self.waiting, waiting) && !waiting;
        if back {
            (self.shared.log)("every directory that was read before is there again: serving");
        }
        back
    }

    /// Notes in which generation each object came to say what it says.
    fn date_objects(&mut self) {
        let generation = self.generation;
        let mut dated = HashMap::with_capacity(self.inputs.reading.objects.len());
        for loaded in &self.inputs.reading.objects {
            let (key, hash) = (loaded.object.identity().clone(), loaded.object.content_hash());
            let since = match self.dates.get(&key) {
                Some((known, since)) if *known == hash => *since,
                _ => generation,
            };
            dated.insert(key, (hash, since));
        }
        self.dates = Arc::new(dated);
    }

    /// Gives streams what they are to hold: those that are new, and those that something changed for. All others are told that
    /// nothing did.
    fn offer(&mut self, new: Vec<Arc<Peer>>, mut concerned: BTreeSet<StreamId>, back: bool, since: Instant) {
        let start = Instant::now();
        let new = if back { self.shared.peers() } else { new };
        for peer in new {
            self.classes.join(peer.id, Arc::new(peer.node.proxy.clone()), peer.node.profile);
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

    fn publish(&mut self, read: bool) {
        let notes = self.classes.take_notes();
        let noted = notes.as_ref().is_some_and(|notes| *notes != self.notes);
        if let Some(notes) = notes {
            self.notes = notes;
        }
        let published = self.shared.published.load();
        let objects = if read {
            self.shared.metrics.counted(&self.inputs.reading.objects);
            Arc::new(self.inputs.reading.objects.clone())
        } else {
            published.objects.clone()
        };
        if read || noted {
            self.problems = Arc::new(self.problems_now());
            self.tell();
        }
        self.shared.published.store(Arc::new(Published {
            generation: self.generation,
            waiting: self.waiting,
            readings: self.readings,
            objects,
            problems: self.problems.clone(),
            since: self.dates.clone(),
            workloads: self.inputs.registrations.status(),
        }));
        self.shared.progressed();
    }

    fn problems_now(&self) -> Vec<Problem> {
        let mut problems = self.inputs.reading.problems.clone();
        if !self.notes.is_empty() {
            let by_id: HashMap<String, &Arc<Object>> =
                self.inputs.reading.objects.iter().map(|l| (l.object.id(), &l.object)).collect();
            problems
                .extend(self.notes.iter().filter_map(|note| problem(note, by_id.get(&note.object).copied())));
        }
        problems
    }

    /// Logs what is new.
    fn tell(&mut self) {
        let lines: BTreeSet<String> = self.problems.iter().map(ToString::to_string).collect();
        for line in lines.difference(&self.told) {
            (self.shared.log)(line);
        }
        self.told = lines;
    }
}

impl Inputs {
    fn mesh(&self, reading: &Reading) -> MeshConfig {
        if let Some(file) = &self.mesh_file {
            return file.config().clone();
        }
        let in_objects = reading.objects.iter().find_map(|loaded| match &loaded.object.spec {
            Spec::MeshConfig(config) => Some((**config).clone()),
            _ => None,
        });
        in_objects.unwrap_or_else(MeshConfig::istio_default)
    }
}

/// A note with the place it is about. `None` for what the source has told already: kinds nothing acts on.
fn problem(note: &Note, object: Option<&Arc<Object>>) -> Option<Problem> {
    if object.is_some_and(|o| matches!(o.spec, Spec::Unsupported)) {
        return None;
    }
    let at = object.map(|o| o.position(&note.path));
    Some(Problem {
        severity: Severity::Warning,
        file: object.map_or_else(|| "".into(), |o| o.source.file.clone()),
        line: at.map_or(0, |at| at.line),
        column: at.map_or(0, |at| at.column),
        object: Some(note.object.clone()),
        path: note.path.clone(),
        message: note.message.clone(),
    })
}

/// Where the mesh configuration is read from.
pub(crate) fn open_mesh_file(path: Option<PathBuf>) -> Result<Option<MeshFile>, (PathBuf, String)> {
    match path {
        None => Ok(None),
        Some(path) => match MeshFile::open(path.clone()) {
            Ok(file) => Ok(Some(file)),
            Err(reason) => Err((path, reason)),
        },
    }
}
