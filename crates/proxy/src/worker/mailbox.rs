//! What workers are told from outside, by a queue each and a waker; and what they show of themselves to one another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;

use crate::net::network::{Acceptor, Stream, Wake};
use crate::net::sockets::Key;
use crate::upstream::host::HostReport;

pub enum Command {
    /// Another configuration; the answer says it is in use.
    Configure(Arc<model::Snapshot>, Sender<usize>),
    /// Take connections from a listening socket.
    Listen(Listen),
    /// Take no more of this listener's. `None`: of none.
    Unlisten(Option<Arc<str>>),
    /// Connections another worker accepted in one turn of its loop.
    Accepted(Vec<Accepted>),
    /// A name was resolved; clusters that wait for it may look.
    Resolved,
    /// Hosts have become healthy or unhealthy by their checks.
    HealthChanged,
    /// Another worker has taken this connection to a host, which was offered.
    Lent(Key),
    /// The host of this address in this cluster has said that it takes no more requests.
    Withdrawn(Arc<str>, SocketAddr),
    /// Finish what is under way, take no keep-alive further.
    Drain,
    /// What hosts this worker knows and how they fare.
    Report(Sender<Vec<HostReport>>),
    /// How many exchanges are under way.
    Active(Sender<usize>),
    /// Write what log lines wait.
    Flush(Sender<()>),
    Stop,
}

/// A connection, accepted and not looked at.
pub struct Accepted {
    pub stream: Stream,
    pub remote: SocketAddr,
    /// The name of the listener that accepted it.
    pub listener: Arc<str>,
    pub redirected: bool,
}

/// A listening socket for a worker.
pub struct Listen {
    pub socket: Acceptor,
    /// The name of the listener whose chains take the connections.
    pub listener: Arc<str>,
    /// Connections were redirected here: their destination is asked of the kernel.
    pub redirected: bool,
}

/// The way to a worker.
#[derive(Clone)]
pub struct Mailbox {
    pub queue: Sender<Command>,
    pub waker: Arc<dyn Wake>,
}

impl Mailbox {
    /// False if the worker has gone.
    pub fn send(&self, command: Command) -> bool {
        self.queue.send(command).is_ok() && self.waker.wake().is_ok()
    }
}

/// What a worker has to do, as others see it.
#[derive(Default)]
#[repr(align(64))]
pub struct Load {
    /// Clients' connections and exchanges.
    pub(crate) work: AtomicUsize,
    /// Clients' connections.
    pub(crate) clients: AtomicUsize,
    /// Connections that others accepted for it, and those of them it has taken over.
    pub(crate) given: AtomicUsize,
    pub(crate) received: AtomicUsize,
}
