//! From a change to what every stream is to hold.
//!
//! One thread takes changes in (objects, registrations, streams that come and go), has [`crate::classes`] make what depends on
//! them, and hands the streams concerned their sets. A stream takes the newest when it can
//! be written to; nothing waits for a debounce, changes that came meanwhile are taken together.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | the thread |
//! | `event` | what it is told |
//! | [`peer`] | one stream: what it is to hold, how far it is |
//! | [`published`] | what the status pages show |

pub(crate) mod engine;
mod event;
pub(crate) mod peer;
pub(crate) mod published;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use api::ObjectId;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use xds::delta_server::Kind;

use crate::lock::lock;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::registrations::StreamId;
use crate::source::{Loaded, Update};
use crate::store::ObjectStore;
use event::Event;
use peer::Peer;
use published::Published;

/// What the threads of a control plane share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) published: ArcSwap<Published>,
    pub(crate) metrics: Metrics,
    pub(crate) log: fn(&str),
    peers: Mutex<BTreeMap<StreamId, Arc<Peer>>>,
    events: Mutex<Sender<Event>>,
    /// Counts whatever may end a wait: a set that went live, a stream that came or went, a new state.
    progress: watch::Sender<u64>,
    next_stream: AtomicU64,
    /// The objects of all sources. The engine writes, for moments; pages read.
    pub(crate) store: Arc<RwLock<ObjectStore>>,
    /// How often sources said something.
    said: AtomicU64,
    /// What they said and is not part of the configuration yet: which of all it was, and when it was noticed.
    unread: Mutex<VecDeque<(u64, Instant)>>,
    /// Of the newest state whose sets were all offered.
    generation: AtomicU64,
}

impl Shared {
    pub(crate) fn new(published: Published, events: Sender<Event>, log: fn(&str)) -> Self {
        Self {
            published: ArcSwap::from_pointee(published),
            metrics: Metrics::default(),
            log,
            peers: Mutex::default(),
            events: Mutex::new(events),
            progress: watch::Sender::new(0),
            next_stream: AtomicU64::new(1),
            store: Arc::default(),
            said: AtomicU64::new(0),
            unread: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// A stream whose first request has come.
    pub(crate) fn connect(&self, node: Node) -> Arc<Peer> {
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer::new(id, node));
        lock(&self.peers).insert(id, peer.clone());
        self.send(Event::Connected(peer.clone(), Instant::now()));
        peer
    }

    pub(crate) fn disconnect(&self, peer: &Peer) {
        lock(&self.peers).remove(&peer.id);
        self.send(Event::Disconnected(peer.id));
        self.progressed();
    }

    pub(crate) fn leave(&self, peer: &Peer) {
        self.send(Event::Left(peer.id, Instant::now()));
    }

    /// Sources say something: together one change. Returns which of all that was said this was: [`Published::readings`] counts
    /// up to it when it is part of the configuration.
    pub(crate) fn update(&self, updates: Vec<Update>) -> u64 {
        let events = lock(&self.events);
        let said = self.said.fetch_add(1, Ordering::Relaxed) + 1;
        let since = updates.iter().map(|update| update.since).min();
        {
            let mut unread = lock(&self.unread);
            self.forget_read(&mut unread);
            unread.extend(since.map(|since| (said, since)));
        }
        // Fails only when the engine has stopped, and then nobody waits for what follows from it.
        let _ = events.send(Event::Updates(updates, said));
        said
    }

    /// When the oldest change was noticed that is not part of the configuration yet.
    pub(crate) fn unread_since(&self) -> Option<Instant> {
        let mut unread = lock(&self.unread);
        self.forget_read(&mut unread);
        unread.front().map(|(_, since)| *since)
    }

    fn forget_read(&self, unread: &mut VecDeque<(u64, Instant)>) {
        let readings = self.published.load().readings;
        while unread.front().is_some_and(|(said, _)| *said <= readings) {
            unread.pop_front();
        }
    }

    /// The oldest change of each type of resource that a stream has not answered yet.
    pub(crate) fn behind(&self) -> [Option<Instant>; Kind::COUNT] {
        let mut oldest = [None; Kind::COUNT];
        for peer in self.peers() {
            for (oldest, behind) in oldest.iter_mut().zip(peer.behind()) {
                *oldest = [*oldest, behind].into_iter().flatten().min();
            }
        }
        oldest
    }

    /// Removes workloads by name; how many there were is sent back.
    pub(crate) fn remove(&self, namespace: &str, name: &str, answer: tokio::sync::oneshot::Sender<usize>) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.send(Event::Remove { namespace, name, answer, since: Instant::now() });
    }

    /// The objects of now, which may be newer than what is published. The engine waits for whoever keeps this.
    pub(crate) fn objects(&self) -> RwLockReadGuard<'_, ObjectStore> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The objects that are wanted, each with the generation since which it says what it says: for whoever makes a page of them,
    /// which takes longer than the engine may wait.
    pub(crate) fn copied(&self, wanted: impl Fn(&ObjectId) -> bool) -> Vec<(Loaded, u64)> {
        let store = self.objects();
        let held = store.iter().filter(|held| wanted(held.loaded.object.identity()));
        held.map(|held| (held.loaded.clone(), held.since)).collect()
    }

    pub(crate) fn stop(&self) {
        self.send(Event::Stop);
    }

    /// The streams, oldest first.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).values().cloned().collect()
    }

    pub(crate) fn peer(&self, id: StreamId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(&id).cloned()
    }

    /// The newest state whose sets were all offered to those they are for.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn all_offered(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    pub(crate) fn progressed(&self) {
        self.progress.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn watch_progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn send(&self, event: Event) {
        // Fails only when the engine has stopped, and then nobody waits for what follows from it.
        let _ = lock(&self.events).send(event);
    }
}
