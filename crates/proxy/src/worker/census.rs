//! What a worker holds, counted anew: for tests that hold it to its bounds.

use crate::worker::Worker;
use crate::worker::connection::Conn;

/// What a worker holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub sockets: usize,
    pub clients: usize,
    pub exchanges: usize,
    /// Bytes kept for all peers together, as the memory budget counts them.
    pub held: usize,
    /// The most that is kept on account of one connection.
    pub largest: usize,
    /// The tokens of those who have something to read and wait for their turn, in their order.
    pub waiting: Vec<u64>,
}

impl Worker {
    pub fn census(&self) -> Census {
        let of_conn = |conn: &Conn| match conn {
            Conn::Downstream(down) => down.inbox.capacity(),
            Conn::Upstream(up) => up.inbox.capacity(),
            Conn::DownstreamH2(down) => down.codec.output().len() + down.held.capacity(),
            Conn::UpstreamH2(up) => up.codec.output().len(),
            Conn::Inspecting(inspecting) => inspecting.bytes.capacity(),
            Conn::TcpDownstream(session) => session.early.capacity(),
            Conn::Securing(_)
            | Conn::Undecided(_)
            | Conn::TcpUpstream(_)
            | Conn::Check(_)
            | Conn::Lingering(_)
            | Conn::Vacant => 0,
        };
        let each = self.conns.iter().map(|(key, conn)| of_conn(conn) + self.sockets.backlog(key));
        Census {
            sockets: self.sockets.count(),
            clients: self.sockets.clients(),
            exchanges: self.exchanges.active(),
            held: self.count_held(),
            largest: each.max().unwrap_or(0),
            waiting: self.again.iter().map(|key| key.word()).collect(),
        }
    }
}
