//! The thread that turns changes into sets of resources.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use api::{MeshConfig, Object, Problem, Severity, Spec};
use tokio::sync::oneshot;
use xds::delta_server::{Layer, ResourceSet};

use super::Shared;
use super::encode::Interner;
use super::peer::Peer;
use super::published::{ObjectKey, Published, object_key};
use crate::mesh_file::MeshFile;
use crate::registrations::{Registrations, StreamId};
use crate::source::Reading;
use crate::sources_seen::SourcesSeen;
use crate::translate::{self, ClassKey, Options, Profile, Proxy, Resources};
use crate::world::{Note, Settings, World};

/// Events that are taken together with the first.
const TOGETHER: usize = 10_000;

/// The file of the mesh configuration is looked at so often.
const MESH_FILE: Duration = Duration::from_secs(1);

/// What changes the state.
#[derive(Debug)]
pub(crate) enum Event {
    Read(Box<Reading>),
    Connected(Arc<Peer>, Instant),
    Disconnected(StreamId),
    Left(StreamId, Instant),
    Remove { namespace: String, name: String, answer: oneshot::Sender<usize>, since: Instant },
    Stop,
}

/// Everything a state is made from, and the newest one.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    inputs: Inputs,
    readings: u64,
    /// Nothing is served: what was configured before the restart cannot be read yet.
    waiting: bool,
    state: State,
    interner: Interner,
    buffer: Vec<u8>,
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

/// The newest state.
struct State {
    generation: u64,
    /// When the oldest change that led to it was made.
    since: Instant,
    world: World,
    classes: HashMap<Class, Arc<Layer>>,
    own: HashMap<StreamId, Arc<Layer>>,
    notes: BTreeSet<Note>,
    objects: Arc<HashMap<ObjectKey, (u64, u64)>>,
}

/// Proxies of a class share their resources.
type Class = (ClassKey, Profile);

/// What of a state has to be made anew.
#[derive(Default)]
struct Changes {
    /// The world, because of something noticed at this time.
    world: Option<Instant>,
    /// The objects, maybe.
    read: bool,
    /// Only what is shown.
    shown: bool,
    new_peers: Vec<Arc<Peer>>,
    stop: bool,
}

impl Changes {
    fn world(&mut self, since: Instant) {
        self.world = Some(self.world.map_or(since, |known| known.min(since)));
    }
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>, inputs: Inputs) -> Self {
        let since = inputs.reading.since;
        let mesh = MeshConfig::istio_default();
        let world = World::build(Vec::new(), Vec::new(), mesh, inputs.settings.clone());
        let state = State {
            generation: 0,
            since,
            world,
            classes: HashMap::new(),
            own: HashMap::new(),
            notes: BTreeSet::new(),
            objects: Arc::default(),
        };
        let mut engine = Self {
            shared,
            inputs,
            readings: 1,
            waiting: false,
            state,
            interner: Interner::default(),
            buffer: Vec::new(),
            told: BTreeSet::new(),
        };
        engine.look_for_sources();
        engine.state.generation += 1;
        engine.date_objects();
        engine.rebuild(since);
        engine.publish();
        engine
    }

    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        let mut next_mesh_look = Instant::now() + MESH_FILE;
        loop {
            let mut changes = Changes::default();
            let now = Instant::now();
            let expiry = self.inputs.registrations.deadline(now);
            let mesh_look = self.inputs.mesh_file.as_ref().map(|_| next_mesh_look);
            let wake = [expiry, mesh_look].into_iter().flatten().min();
            let wait = wake.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now));
            match events.recv_timeout(wait) {
                Ok(event) => self.take(event, &mut changes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for event in events.try_iter().take(TOGETHER) {
                self.take(event, &mut changes);
            }
            if changes.stop {
                self.inputs.registrations.persist(self.shared.log);
                return;
            }
            let now = Instant::now();
            if self.inputs.registrations.expire(now) {
                changes.world(now);
            }
            if now >= next_mesh_look {
                next_mesh_look = now + MESH_FILE;
                if self.inputs.mesh_file.as_mut().is_some_and(|file| file.look(self.shared.log)) {
                    changes.world(now);
                }
            }
            self.apply(changes);
            self.inputs.registrations.persist(self.shared.log);
        }
    }

    fn take(&mut self, event: Event, changes: &mut Changes) {
        match event {
            Event::Read(reading) => {
                self.readings += 1;
                if reading.says_the_same(&self.inputs.reading) {
                    changes.shown = true;
                } else {
                    changes.world(reading.since);
                }
                self.inputs.reading = *reading;
                changes.read = true;
            }
            Event::Connected(peer, since) => {
                if let Some(workload) = &peer.node.workload {
                    changes.shown = true;
                    if self.inputs.registrations.connect(peer.id, workload.clone()) {
                        changes.world(since);
                    }
                }
                changes.new_peers.push(peer);
            }
            Event::Disconnected(stream) => {
                self.inputs.registrations.disconnect(stream, Instant::now());
                self.state.own.remove(&stream);
                changes.new_peers.retain(|p| p.id != stream);
                changes.shown = true;
            }
            Event::Left(stream, since) => {
                if self.inputs.registrations.leave(stream) {
                    changes.world(since);
                }
            }
            Event::Remove { namespace, name, answer, since } => {
                let removed = self.inputs.registrations.remove(&namespace, &name);
                if removed > 0 {
                    changes.world(since);
                }
                // Whoever asked may have gone.
                let _ = answer.send(removed);
            }
            Event::Stop => changes.stop = true,
        }
    }

    fn apply(&mut self, mut changes: Changes) {
        if changes.read && self.look_for_sources() {
            changes.world(self.inputs.reading.since);
        }
        if let Some(since) = changes.world {
            self.state.generation += 1;
            if changes.read {
                self.date_objects();
            }
            self.rebuild(since);
            let peers = self.shared.peers();
            self.offer(&peers, true);
            self.publish();
        } else {
            let before = self.state.notes.len();
            self.offer(&changes.new_peers, false);
            if changes.shown || self.state.notes.len() != before {
                self.publish();
            }
        }
        self.interner.sweep();
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

    /// Makes the world of the moment.
    fn rebuild(&mut self, since: Instant) {
        let start = Instant::now();
        let objects: Vec<Arc<Object>> =
            self.inputs.reading.objects.iter().map(|l| l.object.clone()).collect();
        let mesh = self.mesh(&objects);
        self.state.since = since;
        self.state.world =
            World::build(objects, self.inputs.registrations.workloads(), mesh, self.inputs.settings.clone());
        self.state.notes = self.state.world.notes().iter().cloned().collect();
        self.shared.metrics.world_built(start.elapsed());
    }

    fn mesh(&self, objects: &[Arc<Object>]) -> MeshConfig {
        if let Some(file) = &self.inputs.mesh_file {
            return file.config().clone();
        }
        let in_objects = objects.iter().find_map(|o| match &o.spec {
            Spec::MeshConfig(config) => Some((**config).clone()),
            _ => None,
        });
        in_objects.unwrap_or_else(MeshConfig::istio_default)
    }

    /// Notes in which generation each object came to say what it says.
    fn date_objects(&mut self) {
        let generation = self.state.generation;
        let mut dated = HashMap::with_capacity(self.inputs.reading.objects.len());
        for loaded in &self.inputs.reading.objects {
            let (key, hash) = (object_key(&loaded.object), loaded.object.content_hash());
            let since = match self.state.objects.get(&key) {
                Some((known, since)) if *known == hash => *since,
                _ => generation,
            };
            dated.insert(key, (hash, since));
        }
        self.state.objects = Arc::new(dated);
    }

    /// Gives these streams the resources of the newest state, class by class. With `anew` nothing that was made
    /// before is taken for granted.
    fn offer(&mut self, peers: &[Arc<Peer>], anew: bool) {
        if self.waiting {
            return;
        }
        let start = Instant::now();
        let older = if anew { std::mem::take(&mut self.state.classes) } else { HashMap::new() };
        for peer in peers {
            let proxy = self.proxy(peer);
            let options = peer.node.options(&self.inputs.options);
            let class = (translate::class_key(&self.state.world, &proxy, &options), peer.node.profile);
            let shared = match self.state.classes.get(&class) {
                Some(layer) => layer.clone(),
                None => {
                    let resources = translate::shared(&self.state.world, &proxy, &options);
                    let layer = reuse(self.encode(resources), older.get(&class));
                    self.state.classes.insert(class, layer.clone());
                    layer
                }
            };
            let resources = translate::own(&self.state.world, &proxy, &options);
            let layer = self.encode(resources);
            let own = reuse(layer, self.state.own.get(&peer.id));
            self.state.own.insert(peer.id, own.clone());
            let (generation, since) = (self.state.generation, self.state.since);
            peer.offer(Arc::new(ResourceSet { generation, since, shared, own }));
        }
        self.shared.metrics.classes_made(self.state.classes.len(), start.elapsed());
    }

    fn encode(&mut self, resources: Resources) -> Layer {
        let layer = self.interner.layer(&resources, &mut self.buffer);
        self.state.notes.extend(resources.notes);
        layer
    }

    /// The proxy with the labels its Deployment gives it.
    fn proxy(&self, peer: &Peer) -> Proxy {
        peer.node.proxy.clone()
    }

    fn publish(&mut self) {
        let mut problems = self.inputs.reading.problems.clone();
        let notes: Vec<Problem> = self.state.notes.iter().filter_map(|n| self.problem(n)).collect();
        problems.extend(notes);
        self.tell(&problems);
        let objects = Arc::new(self.inputs.reading.objects.clone());
        self.shared.metrics.counted(&self.inputs.reading.objects);
        self.shared.published.store(Arc::new(Published {
            generation: self.state.generation,
            waiting: self.waiting,
            readings: self.readings,
            objects,
            problems: Arc::new(problems),
            since: self.state.objects.clone(),
            workloads: self.inputs.registrations.status(),
        }));
        self.shared.progressed();
    }

    /// A note with the place it is about. `None` for what the source has told already: kinds nothing acts on.
    fn problem(&self, note: &Note) -> Option<Problem> {
        let object = self.inputs.reading.objects.iter().map(|l| &l.object).find(|o| o.id() == note.object);
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

    /// Logs what is new.
    fn tell(&mut self, problems: &[Problem]) {
        let lines: BTreeSet<String> = problems.iter().map(ToString::to_string).collect();
        for line in lines.difference(&self.told) {
            (self.shared.log)(line);
        }
        self.told = lines;
    }
}

/// The known layer if it says the same.
fn reuse(layer: Layer, known: Option<&Arc<Layer>>) -> Arc<Layer> {
    match known {
        Some(known) => {
            let layer = layer.reusing(known);
            if layer.is(known) { known.clone() } else { Arc::new(layer) }
        }
        None => Arc::new(layer),
    }
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
