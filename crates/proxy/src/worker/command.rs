//! What workers are told from outside: by a queue each, and a waker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use mio::Waker;
use socket2::Socket;

use crate::upstream::HostReport;

pub enum Command {
    /// Another configuration; the answer says it is in use.
    Configure(Arc<model::Snapshot>, Sender<usize>),
    /// Take connections from a listening socket.
    Listen(Listen),
    /// Take no more of this listener's. `None`: of none.
    Unlisten(Option<Arc<str>>),
    /// A connection another worker accepted.
    Accepted {
        socket: Socket,
        remote: SocketAddr,
        listener: Arc<str>,
        redirected: bool,
    },
    /// A name was resolved; clusters that wait for it may look.
    Resolved,
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

/// A listening socket for a worker.
pub struct Listen {
    pub socket: Socket,
    /// The name of the listener whose chains take the connections.
    pub listener: Arc<str>,
    /// Connections were redirected here: their destination is asked of the kernel.
    pub redirected: bool,
    /// Deal accepted connections out over all workers in turn.
    pub share: bool,
}

/// The way to a worker.
#[derive(Clone)]
pub struct Mailbox {
    pub queue: Sender<Command>,
    pub waker: Arc<Waker>,
}

impl Mailbox {
    /// False if the worker has gone.
    pub fn send(&self, command: Command) -> bool {
        self.queue.send(command).is_ok() && self.waker.wake().is_ok()
    }
}
