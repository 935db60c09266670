//! What a worker holds, counted anew, and whether all that names one another agrees: for tests that hold it to its bounds.

use crate::clock::Time;
use crate::exchange::sides::{ClientSide, HostSide};
use crate::exchange::{Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::upstream::host::HostPool;
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
    /// The tokens of those who have something to read and wait for their turn, in their order, and how many bytes of each
    /// were read and are not looked at yet.
    pub waiting: Vec<(u64, usize)>,
    /// Exchanges begun and ended so far, together, wrapping around.
    pub passed: usize,
    /// When the next timer of a connection or an exchange is due.
    pub next_due: Option<Time>,
    /// What names something that does not name it back, in words: between two turns there is nothing of the kind.
    pub loose: Vec<String>,
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
            next_due: self.sockets.next_due().into_iter().chain(self.exchanges.next_due()).min(),
            waiting: self.again.iter().map(|(key, _)| (key.word(), self.kept_of(*key))).collect(),
            passed: self.exchanges.passed(),
            loose: self.loose(),
        }
    }

    fn kept_of(&self, key: Key) -> usize {
        match self.conns.get(key) {
            Some(Conn::Downstream(down)) => down.inbox.len(),
            Some(Conn::DownstreamH2(down)) => down.held.len(),
            _ => 0,
        }
    }

    fn loose(&self) -> Vec<String> {
        let mut loose = vec![];
        for (id, exchange) in self.exchanges.all() {
            match exchange {
                Some(exchange) => self.loose_exchange(id, exchange, &mut loose),
                None => loose.push(format!("{id:?} was taken out and not put back")),
            }
        }
        for (key, conn) in self.conns.iter() {
            self.loose_connection(key, conn, &mut loose);
        }
        for cluster in self.clusters.all() {
            cluster.each_pool(|pool| self.loose_pool(pool, &mut loose));
        }
        loose
    }

    /// An exchange is known to its client's connection, to its host's, and to the queue it waits in.
    fn loose_exchange(&self, id: ExchangeId, exchange: &Exchange, loose: &mut Vec<String>) {
        let client = match exchange.client_side {
            ClientSide::Nobody => true,
            ClientSide::H1(key) => match self.conns.get(key) {
                Some(Conn::Downstream(down)) => down.exchange == Some(id),
                _ => false,
            },
            ClientSide::H2(key, stream) => match self.conns.get(key) {
                Some(Conn::DownstreamH2(down)) => down.codec.send_state(stream).is_some(),
                _ => false,
            },
        };
        let host = match exchange.host_side {
            HostSide::None => exchange.phase != Phase::Attempt,
            HostSide::H1(key) | HostSide::Raw(key) => match self.conns.get(key) {
                Some(Conn::Upstream(up)) => up.exchange == Some(id),
                _ => false,
            },
            HostSide::Unopened(key) => match self.conns.get(key) {
                Some(Conn::UpstreamH2(up)) => up.upgrades.contains(&id),
                _ => false,
            },
            HostSide::H2(key, stream) => match self.conns.get(key) {
                Some(Conn::UpstreamH2(up)) => up.codec.send_state(stream).is_some(),
                _ => false,
            },
        };
        let queued = exchange.phase != Phase::Queued
            || exchange.target.host.as_ref().is_some_and(|host| host.queue.borrow().contains(&id));
        if exchange.id != id || !client || !host || !queued {
            loose.push(format!(
                "{id:?} ({:?}) in phase {:?} of client {:?} ({client}), host {:?} ({host}), queued {queued}",
                exchange.id, exchange.phase, exchange.client_side, exchange.host_side
            ));
        }
    }

    /// A connection's exchange has it for a side; a connection to a host without one is kept by the host.
    fn loose_connection(&self, key: Key, conn: &Conn, loose: &mut Vec<String>) {
        let side = |id: ExchangeId| self.exchanges.get(id).map(|exchange| exchange.host_side);
        let agrees = match conn {
            Conn::Downstream(down) => down.exchange.is_none_or(|id| {
                self.exchanges.get(id).is_some_and(|exchange| exchange.client_side == ClientSide::H1(key))
            }),
            Conn::Upstream(up) => match up.exchange {
                Some(id) => [Some(HostSide::H1(key)), Some(HostSide::Raw(key))].contains(&side(id)),
                None => up.connecting || up.host.idle.borrow().contains(&key),
            },
            Conn::UpstreamH2(up) => {
                up.host.shared.borrow().contains(&key)
                    && up.upgrades.iter().all(|id| side(*id) == Some(HostSide::Unopened(key)))
            }
            Conn::Undecided(undecided) => undecided.host.undecided.borrow().contains(&key),
            _ => true,
        };
        if !agrees {
            let of = match conn {
                Conn::Downstream(down) => down.exchange,
                Conn::Upstream(up) => up.exchange,
                _ => None,
            };
            loose.push(format!("the connection {key:?} of {of:?} is nobody's"));
        }
    }

    /// What a host keeps is what it is kept for, and is kept once.
    fn loose_pool(&self, pool: &HostPool, loose: &mut Vec<String>) {
        let idle = |key: &Key| matches!(self.conns.get(*key), Some(Conn::Upstream(up)) if up.exchange.is_none() && !up.connecting);
        let shared = |key: &Key| matches!(self.conns.get(*key), Some(Conn::UpstreamH2(_)));
        let undecided = |key: &Key| matches!(self.conns.get(*key), Some(Conn::Undecided(_)));
        let waits =
            |id: &ExchangeId| self.exchanges.get(*id).is_some_and(|exchange| exchange.phase == Phase::Queued);
        let well = [
            all_and_once(pool.idle.borrow().iter(), idle),
            all_and_once(pool.shared.borrow().iter(), shared),
            all_and_once(pool.undecided.borrow().iter(), undecided),
            all_and_once(pool.queue.borrow().iter(), waits),
        ];
        if well.contains(&false) {
            loose.push(format!(
                "the host {} has of its idle, shared and undecided connections and its queue {well:?} in order",
                pool.address
            ));
        }
    }
}

fn all_and_once<'t, T: PartialEq + 't>(
    all: impl Iterator<Item = &'t T> + Clone,
    is: impl Fn(&T) -> bool,
) -> bool {
    let mut rest = all.clone();
    all.into_iter().all(|one| {
        rest.next();
        is(one) && rest.clone().all(|other| other != one)
    })
}
