//! The proxies of a simulation: workers that are released, with what they are given.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use model::Snapshot;
use proxy::ProxyOptions;
use proxy::machine::{
    Acceptor, Clock, Command, Event, Listen, LogWriters, Mailbox, ManualTime, Piece, Shared, WAKER, Worker,
};

use crate::config::address;
use crate::history::History;
use crate::net::{Answers, Nanos, Net, Owner};
use crate::stream::{GivenListener, Waker, WorkersNet};

/// Receive buffers of connections that clients make to a proxy.
const ROOM: usize = 256 * 1024;

/// What a worker is told when something lies in its mailbox.
pub const WOKEN: Event = Event { token: WAKER, readable: true, writable: false, hung_up: false };

pub struct Machine {
    pub index: usize,
    /// The first worker of its proxy.
    pub first: usize,
    pub worker: Worker,
    pub shared: Arc<Shared>,
    pub queue: Mailbox,
    /// Where the access log of its proxy comes out, at the first worker.
    pub log: Option<Receiver<Piece>>,
    /// When it wakes by itself, and when it will look at what happened meanwhile.
    pub sleeps_until: Option<Nanos>,
    pub looks_at: Option<Nanos>,
    /// Turns so far that no event began.
    pub idle_turns: u64,
    pub turns: u64,
    /// Exchanges its worker has begun and ended.
    pub passed: usize,
    active: Option<Receiver<usize>>,
    /// Bytes of the heap its turns have taken and not given back.
    pub heap: isize,
    pub stopped: bool,
}

/// The workers of one proxy, under these numbers.
pub fn proxy(
    numbers: &[usize],
    net: &Net,
    time: &Arc<ManualTime>,
    history: &History,
    seed: u64,
) -> Vec<Machine> {
    let (queues, commands): (Vec<_>, Vec<_>) = numbers
        .iter()
        .map(|number| {
            let (queue, commands): (Sender<Command>, _) = channel();
            (Mailbox { queue, waker: Waker::of(net, *number) }, commands)
        })
        .unzip();
    let options = ProxyOptions {
        clock: Clock::manual(time.clone()),
        memory_budget: Some(history.budget),
        ..ProxyOptions::default()
    };
    let mut shared = Shared::new(&options, queues.clone(), 10_000, seed);
    let (lines, log) = sync_channel(history.log_queue);
    shared.writers = LogWriters::given(lines);
    let shared = Arc::new(shared);
    let mut log = Some(log);
    let each = numbers.iter().zip(queues).zip(commands).enumerate();
    each.map(|(at, ((number, queue), commands))| {
        let network = Box::new(WorkersNet { net: net.clone(), worker: *number });
        let before = crate::heap::live();
        let worker = Worker::new(at, network, commands, shared.clone(), Arc::default());
        Machine {
            index: *number,
            first: numbers[0],
            worker,
            shared: shared.clone(),
            queue,
            log: log.take(),
            sleeps_until: None,
            looks_at: None,
            idle_turns: 0,
            turns: 0,
            passed: 0,
            active: None,
            heap: crate::heap::live() - before,
            stopped: false,
        }
    })
    .collect()
}

impl Machine {
    /// One turn.
    pub fn turn(&mut self, events: Vec<Event>) {
        let before = crate::heap::live();
        // Whoever else is told something meanwhile keeps it for himself.
        self.worker.turn(events.iter().copied());
        self.heap += crate::heap::live() - before;
        self.turns += 1;
    }

    /// Asks what is still under way; the answer comes with the next turn.
    pub fn ask_active(&mut self) {
        let (answer, answers) = channel();
        self.queue.send(Command::Active(answer));
        self.active = Some(answers);
    }

    /// What was answered, if anything was.
    pub fn active(&mut self) -> Option<usize> {
        let count = self.active.as_ref()?.try_recv().ok()?;
        self.active = None;
        Some(count)
    }

    /// The worker ends: what it holds is closed. Another takes its place, which does nothing.
    pub fn stop(&mut self, net: &Net) {
        self.worker.end();
        let (queue, commands) = channel();
        self.queue = Mailbox { queue, waker: Waker::of(net, self.index) };
        let network = Box::new(WorkersNet { net: net.clone(), worker: self.index });
        self.worker = Worker::new(0, network, commands, self.shared.clone(), Arc::default());
        self.stopped = true;
        self.passed = 0;
        self.looks_at = None;
        self.sleeps_until = None;
    }

    /// A piece of the log that was written.
    pub fn piece(&self) -> Option<Piece> {
        self.log.as_ref()?.try_recv().ok()
    }

    pub fn configure(&self, snapshot: &Arc<Snapshot>) {
        let (done, _) = channel();
        self.queue.send(Command::Configure(snapshot.clone(), done));
    }

    pub fn listen(&self, net: &Net, name: &str, at: &'static str) {
        let at = address(at);
        net.lock().listen(at, Owner::Worker(self.index), Answers::Accepts, ROOM);
        let acceptor = GivenListener { net: net.clone(), worker: self.index, address: at };
        self.queue.send(Command::Listen(Listen {
            socket: Acceptor::Given(Box::new(acceptor)),
            listener: name.into(),
            redirected: false,
        }));
    }
}
