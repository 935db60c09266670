//! A network in memory that behaves as the kernel's TCP does to a non-blocking, edge-triggered program: what is sent lies
//! in the receiver's buffer of limited size, an end of direction and a reset are different things, a short read or write
//! is followed by an event when there is more, and an event says all that is so when it is taken, not what changed.

mod end;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxy::machine::Event;

use crate::random::Dice;
use crate::trace::Trace;

/// Nanoseconds of simulated time.
pub type Nanos = u64;
pub const MICRO: Nanos = 1_000;
pub const MILLI: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000_000_000;

/// One end of a connection, by its number; numbers are not used again.
pub type EndId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Worker(usize),
    Actor(usize),
}

/// What the network does that a program must bear, beside what its peers do. Each is legal for a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// One in so many reads or writes takes less than it could; the event for the rest follows.
    pub short: u64,
    /// One in so many says it would block; the event follows.
    pub would_block: u64,
    /// Events are told in any order.
    pub shuffle: bool,
    /// One in so many connections to be made, or accepted, finds no descriptor left.
    pub no_descriptors: u64,
}

/// How an address answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    Accepts,
    Refuses,
    /// Nothing comes back, ever.
    Swallows,
}

struct Listener {
    owner: Owner,
    answers: Answers,
    token: Option<u64>,
    backlog: VecDeque<EndId>,
    signalled: bool,
    /// Buffers of connections made to it.
    room: usize,
}

struct End {
    owner: Option<Owner>,
    peer: EndId,
    local: SocketAddr,
    remote: SocketAddr,
    original: Option<SocketAddr>,
    connecting: bool,
    inbox: VecDeque<u8>,
    room: usize,
    /// The peer has ended its direction.
    fin: bool,
    /// We have.
    shut: bool,
    /// All of it is over (a reset).
    dead: bool,
    error: Option<io::ErrorKind>,
    closed: bool,
    reset_when_closed: bool,
    /// A write came short: there is an event when there is room.
    wants_room: bool,
    token: Option<u64>,
    signalled: bool,
    /// Bytes.
    pub read: u64,
    /// Reads, whatever came of them.
    asked: u64,
    pub written: u64,
    /// What the peer's system has got of what was written, and one for the SYN.
    pub acknowledged: u64,
}

enum Later {
    Made(EndId),
    Refused(EndId),
    Signal(EndId),
}

struct Due {
    at: Nanos,
    order: u64,
    what: Later,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub struct State {
    pub now: Nanos,
    pub faults: Faults,
    pub dice: Dice,
    pub trace: Trace,
    ends: Vec<End>,
    /// The end of each token of each worker.
    watched: BTreeMap<(usize, u64), EndId>,
    listeners: BTreeMap<SocketAddr, Listener>,
    due: BinaryHeap<Reverse<Due>>,
    order: u64,
    /// Per worker, what is to be told.
    ready: Vec<VecDeque<Ready>>,
    woken: VecDeque<usize>,
    is_woken: Vec<bool>,
    /// Calls that moved bytes, made or ended something: what counts as having done anything.
    pub moves: u64,
    /// Per worker, the tokens of those it has read of since this was emptied.
    pub read_now: Vec<BTreeSet<u64>>,
    /// What is worth counting.
    pub met: Vec<&'static str>,
    ports: u16,
}

#[derive(Clone, Copy)]
enum Ready {
    End(EndId),
    Listener(SocketAddr),
    Waker,
}

#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

impl Net {
    pub fn new(workers: usize, faults: Faults, dice: Dice, trace: Trace) -> Net {
        Net(Arc::new(Mutex::new(State {
            now: 0,
            faults,
            dice,
            trace,
            ends: vec![],
            watched: BTreeMap::new(),
            listeners: BTreeMap::new(),
            due: BinaryHeap::new(),
            order: 0,
            ready: (0..workers).map(|_| VecDeque::new()).collect(),
            woken: VecDeque::new(),
            is_woken: vec![],
            moves: 0,
            read_now: vec![BTreeSet::new(); workers],
            met: vec![],
            ports: 20_000,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As a worker asks the system: what the network keeps in memory is not the worker's.
    pub fn ask<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        crate::heap::uncounted(|| what(&mut self.lock()))
    }
}

impl State {
    fn later(&mut self, after: Nanos, what: Later) {
        self.order += 1;
        self.due.push(Reverse(Due { at: self.now + after, order: self.order, what }));
    }

    /// When something happens here by itself.
    pub fn next_due(&self) -> Option<Nanos> {
        self.due.peek().map(|due| due.0.at)
    }

    /// Does what is due.
    pub fn advance(&mut self, now: Nanos) {
        self.now = now;
        while self.due.peek().is_some_and(|due| due.0.at <= now) {
            let Some(Reverse(due)) = self.due.pop() else { return };
            match due.what {
                Later::Made(end) => self.made(end),
                Later::Refused(end) => {
                    if !self.ends[end].closed {
                        self.break_end(end, io::ErrorKind::ConnectionRefused);
                    }
                }
                Later::Signal(end) => self.signal(end),
            }
        }
    }

    fn made(&mut self, end: EndId) {
        if self.ends[end].closed || self.ends[end].dead {
            return;
        }
        let (peer, to) = (self.ends[end].peer, self.ends[end].remote);
        let Some(listener) = self.listeners.get_mut(&to).filter(|l| l.answers == Answers::Accepts) else {
            // Closed meanwhile.
            return self.break_end(end, io::ErrorKind::ConnectionRefused);
        };
        listener.backlog.push_back(peer);
        self.ends[end].connecting = false;
        self.ends[peer].connecting = false;
        self.moves += 1;
        self.signal(end);
        self.signal_listener(to);
    }

    /// Once, however much happens to its connections before it looks.
    fn wake_actor(&mut self, actor: usize) {
        if self.is_woken.len() <= actor {
            self.is_woken.resize(actor + 1, false);
        }
        if !std::mem::replace(&mut self.is_woken[actor], true) {
            self.woken.push_back(actor);
        }
    }

    fn signal_listener(&mut self, address: SocketAddr) {
        let Some(listener) = self.listeners.get_mut(&address) else { return };
        match listener.owner {
            Owner::Actor(actor) => self.wake_actor(actor),
            Owner::Worker(worker) if listener.token.is_some() && !listener.signalled => {
                listener.signalled = true;
                self.ready[worker].push_back(Ready::Listener(address));
            }
            Owner::Worker(_) => {}
        }
    }

    /// Something about the end has changed.
    fn signal(&mut self, end: EndId) {
        let e = &mut self.ends[end];
        if e.closed {
            return;
        }
        match e.owner {
            Some(Owner::Actor(actor)) => self.wake_actor(actor),
            Some(Owner::Worker(worker)) if e.token.is_some() && !e.signalled => {
                e.signalled = true;
                self.ready[worker].push_back(Ready::End(end));
            }
            _ => {}
        }
    }

    pub fn wake_worker(&mut self, worker: usize) {
        self.ready[worker].push_back(Ready::Waker);
    }

    pub fn take_woken(&mut self) -> Option<usize> {
        let actor = self.woken.pop_front()?;
        self.is_woken[actor] = false;
        Some(actor)
    }

    pub fn has_events(&self, worker: usize) -> bool {
        !self.ready[worker].is_empty()
    }

    /// What a worker is told now.
    pub fn events(&mut self, worker: usize, most: usize) -> Vec<Event> {
        let mut all: Vec<Ready> = vec![];
        while all.len() < most
            && let Some(ready) = self.ready[worker].pop_front()
        {
            all.push(ready);
        }
        if self.faults.shuffle {
            self.dice.shuffle(&mut all);
        }
        let mut events = vec![];
        for ready in all {
            let none = Event { token: 0, readable: false, writable: false, hung_up: false };
            let event = match ready {
                Ready::Waker => Event { token: proxy::machine::WAKER, readable: true, ..none },
                Ready::Listener(address) => {
                    let Some(listener) = self.listeners.get_mut(&address) else { continue };
                    listener.signalled = false;
                    let (Some(token), false) = (listener.token, listener.backlog.is_empty()) else {
                        continue;
                    };
                    Event { token, readable: true, ..none }
                }
                Ready::End(end) => {
                    self.ends[end].signalled = false;
                    let Some(event) = self.event(end) else { continue };
                    event
                }
            };
            self.trace.note(
                "event",
                event.token,
                u64::from(event.readable) | u64::from(event.writable) << 1 | u64::from(event.hung_up) << 2,
            );
            events.push(event);
        }
        events
    }

    /// As epoll_wait and mio put it; `None`: nothing is so any more.
    fn event(&self, end: EndId) -> Option<Event> {
        let e = &self.ends[end];
        if e.closed {
            return None;
        }
        let token = e.token?;
        let readable = !e.inbox.is_empty() || e.fin || e.dead;
        let writable = !e.connecting && (e.dead || e.shut || self.free(end) > 0) || e.dead;
        let hung_up = e.dead || e.fin;
        (readable || writable || hung_up).then_some(Event { token, readable, writable, hung_up })
    }

    /// Room for what this end writes.
    fn free(&self, end: EndId) -> usize {
        let peer = &self.ends[self.ends[end].peer];
        if peer.closed { usize::MAX } else { peer.room.saturating_sub(peer.inbox.len()) }
    }

    fn break_end(&mut self, end: EndId, error: io::ErrorKind) {
        let e = &mut self.ends[end];
        if e.dead {
            return;
        }
        e.dead = true;
        e.connecting = false;
        e.error = Some(if e.fin && error == io::ErrorKind::ConnectionReset {
            io::ErrorKind::BrokenPipe
        } else {
            error
        });
        self.moves += 1;
        self.signal(end);
    }

    // Addresses.

    pub fn listen(&mut self, address: SocketAddr, owner: Owner, answers: Answers, room: usize) {
        let listener =
            Listener { owner, answers, token: None, backlog: VecDeque::new(), signalled: false, room };
        self.listeners.insert(address, listener);
    }

    pub fn listening(&self, worker: usize, port: u64) -> Option<SocketAddr> {
        let of_worker = |listener: &Listener| listener.owner == Owner::Worker(worker);
        let mut all = self.listeners.iter().filter(|(_, listener)| of_worker(listener));
        all.find(|(address, _)| u64::from(address.port()) == port).map(|(address, _)| *address)
    }

    pub fn watch_listener(&mut self, address: SocketAddr, token: u64) {
        if let Some(listener) = self.listeners.get_mut(&address) {
            listener.token = Some(token);
        }
        self.signal_listener(address);
    }

    /// The listening socket is closed: who waits in its queue is reset.
    pub fn unlisten(&mut self, address: SocketAddr) {
        let Some(listener) = self.listeners.remove(&address) else { return };
        for end in listener.backlog {
            self.close(end);
        }
    }

    pub fn accept(&mut self, address: SocketAddr, owner: Owner) -> io::Result<EndId> {
        if matches!(owner, Owner::Worker(_)) && self.dice.one_in(self.faults.no_descriptors) {
            // Whoever has none left asks again by itself: no event tells when there are some.
            self.met.push("no descriptors to accept");
            return Err(io::Error::from_raw_os_error(24));
        }
        let listener = self.listeners.get_mut(&address).ok_or(io::ErrorKind::InvalidInput)?;
        let end = listener.backlog.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        self.ends[end].owner = Some(owner);
        self.moves += 1;
        self.trace.note("accept", end as u64, 0);
        Ok(end)
    }

    /// Begins a connection; true: it is not made yet. `room`: the receive buffer of this side.
    pub fn connect(
        &mut self,
        owner: Owner,
        to: SocketAddr,
        source: Option<SocketAddr>,
        original: Option<SocketAddr>,
        room: usize,
    ) -> io::Result<(EndId, bool)> {
        let worker = matches!(owner, Owner::Worker(_));
        if worker && self.dice.one_in(self.faults.no_descriptors) {
            self.met.push("no descriptors to connect");
            return Err(io::Error::from_raw_os_error(24));
        }
        self.ports = self.ports.wrapping_add(1).max(20_000);
        let ip = source.map_or(SocketAddr::from(([10, 9, 9, 9], 0)), |source| source).ip();
        let from = SocketAddr::new(ip, self.ports);
        let (answers, their_room) = self
            .listeners
            .get(&to)
            .map_or((Answers::Refuses, 1), |listener| (listener.answers, listener.room));
        let id = self.ends.len();
        let end = |owner, peer, local, remote, original, room| End {
            owner,
            peer,
            local,
            remote,
            original,
            connecting: true,
            inbox: VecDeque::new(),
            room,
            fin: false,
            shut: false,
            dead: false,
            error: None,
            closed: false,
            reset_when_closed: false,
            wants_room: false,
            token: None,
            signalled: false,
            read: 0,
            asked: 0,
            written: 0,
            acknowledged: 1,
        };
        self.ends.push(end(Some(owner), id + 1, from, to, None, room));
        self.ends.push(end(None, id, to, from, original, their_room));
        self.trace.note("connect", id as u64, answers as u64);
        let latency = 20 * MICRO + self.dice.below(200 * MICRO);
        if worker {
            match answers {
                Answers::Swallows => self.met.push("a connect is swallowed"),
                Answers::Refuses => self.met.push("a connect is refused"),
                Answers::Accepts => {}
            }
        }
        match answers {
            Answers::Swallows => {}
            Answers::Refuses if worker && self.dice.one_in(4) => {
                self.ends[id].closed = true;
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Answers::Refuses => self.later(latency, Later::Refused(id)),
            // Over the loopback a connection can be made at once.
            Answers::Accepts if self.dice.one_in(4) => {
                self.made(id);
                return Ok((id, false));
            }
            Answers::Accepts => self.later(latency, Later::Made(id)),
        }
        Ok((id, true))
    }
}
