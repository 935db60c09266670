//! One proxy of one worker in a simulation: the worker that is released, with what it is given.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use model::Snapshot;
use proxy::ProxyOptions;
use proxy::machine::{
    Acceptor, Clock, Command, Event, Listen, LogWriters, Mailbox, ManualTime, Piece, Shared, WAKER, Worker,
};

use crate::config::address;
use crate::net::{Answers, Nanos, Net, Owner};
use crate::stream::{GivenListener, Waker, WorkersNet};

/// Receive buffers of connections that clients make to a proxy.
const ROOM: usize = 256 * 1024;

/// What a worker is told when something lies in its mailbox.
pub const WOKEN: Event = Event { token: WAKER, readable: true, writable: false, hung_up: false };

pub struct Machine {
    pub index: usize,
    pub worker: Worker,
    pub shared: Arc<Shared>,
    pub queue: Mailbox,
    /// Where its access log comes out.
    pub log: Receiver<Piece>,
    /// When it wakes by itself, and when it will look at what happened meanwhile.
    pub sleeps_until: Option<Nanos>,
    pub looks_at: Option<Nanos>,
    /// Turns so far that no event began.
    pub idle_turns: u64,
    pub turns: u64,
    active: Option<Receiver<usize>>,
    pub stopped: bool,
}

impl Machine {
    pub fn new(index: usize, net: &Net, time: &Arc<ManualTime>, seed: u64, budget: usize) -> Machine {
        let (queue, commands): (Sender<Command>, _) = channel();
        let queue = Mailbox { queue, waker: Waker::of(net, index) };
        let options = ProxyOptions {
            clock: Clock::manual(time.clone()),
            memory_budget: Some(budget),
            ..ProxyOptions::default()
        };
        let mut shared = Shared::new(&options, vec![queue.clone()], 10_000, seed);
        // As long as the queue to a thread that writes, or shorter.
        let (lines, log) = sync_channel(if seed.is_multiple_of(4) { 1 } else { 8 });
        shared.writers = LogWriters::given(lines);
        let shared = Arc::new(shared);
        let network = Box::new(WorkersNet { net: net.clone(), worker: index });
        let worker = Worker::new(0, network, commands, shared.clone(), Arc::default());
        Machine {
            index,
            worker,
            shared,
            queue,
            log,
            sleeps_until: None,
            looks_at: None,
            idle_turns: 0,
            turns: 0,
            active: None,
            stopped: false,
        }
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
        self.looks_at = None;
        self.sleeps_until = None;
    }

    pub fn configure(&self, snapshot: &Arc<Snapshot>) {
        let (done, _) = channel();
        self.queue.send(Command::Configure(snapshot.clone(), done));
    }

    pub fn listen(&self, net: &Net, name: &str, at: &str) {
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
