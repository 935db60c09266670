//! The thread that turns changes into sets of resources.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use api::{MeshConfig, Object, ObjectId, Problem, Severity, Spec};
use xds::delta_server::{Layer, ResourceSet};

use super::Shared;
use super::encode::Interner;
use super::event::Event;
use super::peer::Peer;
use super::published::Published;
use crate::mesh_file::MeshFile;
use crate::registrations::{Registrations, StreamId};
use crate::source::Reading;
use crate::sources_seen::SourcesSeen;
use crate::translate::{self, ClassKey, Options, Profile, Proxy, Resources};
use crate::world::{self, Moved, MovedEndpoints, Note, Settings, World};

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
    objects: Arc<HashMap<Arc<ObjectId>, (u64, u64)>>,
}

/// Proxies of a class share their resources.
type Class = (ClassKey, Profile);

/// What of a state has to be made anew, because of something noticed at the given time.
#[derive(Default)]
struct Changes {
    world: Option<Instant>,
    /// Of the world only where services are served, by workloads and EndpointSlices.
    endpoints: Option<Instant>,
    /// The objects, maybe.
    read: bool,
    /// Only what is shown.
    shown: bool,
    new_peers: Vec<Arc<Peer>>,
    stop: bool,
}

impl Changes {
    fn world(&mut self, since: Instant) {
        self.world = earlier(self.world, Some(since));
    }

    fn endpoints(&mut self, since: Instant) {
        self.endpoints = earlier(self.endpoints, Some(since));
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// How much of what was made before does not count any more.
enum Anew {
    Nothing,
    Moved(MovedEndpoints),
    Everything,
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
                changes.endpoints(now);
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
                } else if reading.differs_in_slices_only(&self.inputs.reading) {
                    changes.endpoints(reading.since);
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
                        changes.endpoints(since);
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
                    changes.endpoints(since);
                }
            }
            Event::Remove { namespace, name, answer, since } => {
                let removed = self.inputs.registrations.remove(&namespace, &name);
                if removed > 0 {
                    changes.endpoints(since);
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
        if let Some(since) = earlier(changes.world, changes.endpoints) {
            self.state.generation += 1;
            if changes.read {
                self.date_objects();
            }
            let anew = match changes.world {
                Some(_) => {
                    self.rebuild(since);
                    Anew::Everything
                }
                None => self.move_endpoints(since),
            };
            let peers = self.shared.peers();
            self.offer(&peers, anew);
            self.publish();
        } else {
            let before = self.state.notes.len();
            self.offer(&changes.new_peers, Anew::Nothing);
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

    /// Makes the world of the moment from the last one, when only workloads and EndpointSlices have changed.
    fn move_endpoints(&mut self, since: Instant) -> Anew {
        let start = Instant::now();
        let objects = self.inputs.reading.objects.iter().map(|loaded| &loaded.object);
        let slices: Vec<Arc<Object>> = objects.filter(|object| world::is_slice(object)).cloned().collect();
        let workloads = self.inputs.registrations.workloads();
        self.state.since = since;
        let moved = self.state.world.move_endpoints(slices, workloads);
        let anew = match moved {
            Moved::Endpoints(moved) => Anew::Moved(moved),
            Moved::Everything => {
                self.state.notes = self.state.world.notes().iter().cloned().collect();
                Anew::Everything
            }
        };
        self.shared.metrics.world_built(start.elapsed());
        anew
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
            let (key, hash) = (loaded.object.identity().clone(), loaded.object.content_hash());
            let since = match self.state.objects.get(&key) {
                Some((known, since)) if *known == hash => *since,
                _ => generation,
            };
            dated.insert(key, (hash, since));
        }
        self.state.objects = Arc::new(dated);
    }

    /// Gives these streams the resources of the newest state, class by class.
    fn offer(&mut self, peers: &[Arc<Peer>], anew: Anew) {
        if self.waiting {
            return;
        }
        let start = Instant::now();
        let older = match anew {
            Anew::Nothing => HashMap::new(),
            Anew::Moved(_) | Anew::Everything => std::mem::take(&mut self.state.classes),
        };
        for peer in peers {
            let proxy = self.proxy(peer);
            let options = peer.node.options(&self.inputs.options);
            let class = (translate::class_key(&self.state.world, &proxy, &options), peer.node.profile);
            let shared = match self.state.classes.get(&class) {
                Some(layer) => layer.clone(),
                None => {
                    let known = older.get(&class);
                    let layer = match (known, &anew) {
                        (Some(known), Anew::Moved(moved)) => self.moved(known, moved, &proxy, &options),
                        _ => None,
                    };
                    let layer = layer.unwrap_or_else(|| {
                        self.encode(translate::shared(&self.state.world, &proxy, &options))
                    });
                    let layer = reuse(layer, known);
                    self.state.classes.insert(class, layer.clone());
                    layer
                }
            };
            let known = self.state.own.get(&peer.id);
            let own = match (known, &anew) {
                // A sidecar's own side changes with its own workload only.
                (Some(known), Anew::Moved(moved)) if !concerns(moved, &proxy) => known.clone(),
                _ => {
                    let resources = translate::own(&self.state.world, &proxy, &options);
                    let layer = self.encode(resources);
                    let own = reuse(layer, self.state.own.get(&peer.id));
                    self.state.own.insert(peer.id, own.clone());
                    own
                }
            };
            let (generation, since) = (self.state.generation, self.state.since);
            peer.offer(Arc::new(ResourceSet { generation, since, shared, own }));
        }
        self.shared.metrics.classes_made(self.state.classes.len(), start.elapsed());
    }

    /// What the class had, with what has moved replaced.
    fn moved(
        &mut self,
        known: &Layer,
        moved: &MovedEndpoints,
        proxy: &Proxy,
        options: &Options,
    ) -> Option<Layer> {
        let resources = translate::shared_of_hosts(&self.state.world, proxy, options, &moved.hosts)?;
        Some(known.replacing(&self.encode(resources)))
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

/// Whether something was, or is, served at the proxy's address.
fn concerns(moved: &MovedEndpoints, proxy: &Proxy) -> bool {
    let addresses = std::iter::once(&proxy.ip).chain(&proxy.ips);
    addresses.into_iter().any(|address| moved.addresses.contains(address))
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
