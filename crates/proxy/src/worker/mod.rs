//! One thread of the data plane: a loop over events, nothing shared on the way of a request.
//!
//! This file holds the worker itself, which owns all that its verbs work on. The verbs stand in `impl Worker`, each in the room of
//! the crate it belongs to; the types they work on stand below, in files that know no worker. A request's way, room by room:
//!
//! | step | file | what happens |
//! |---|---|---|
//! | 1 | `client/accept` | the connection is taken; its listener and original destination are found |
//! | 2 | `client/inspect`, `handshake` | its first bytes are looked at, the filter chain is picked; a layer (TLS) shakes hands |
//! | 3 | `client/http1`, `client/http2` | its bytes are cut into messages |
//! | 4 | `request/head` | the head is checked; what the client says about itself is believed or not |
//! | 5 | `request/route`, `filters`, `request/edits`, `request/timeouts` | filters, where to, what changes, how long it may take |
//! | 6 | `host/attempt`, `host/pool`, `host/undecided`, `host/send_request` | a host, a connection to it, the request on its way |
//! | 7 | `exchange/forward`, `client/side`, `host/side`, `host/http1`, `host/http2` | bodies both ways under backpressure; the host's bytes cut into responses |
//! | 8 | `response/head`, `response/body`, `response/end`, `response/retry` | the response edited and passed on, or another attempt |
//! | 9 | `exchange/finish` | counted, logged; the connections are free for the next |
//!
//! Beside the way, here: `turn` and `run` (the loop), `dispatch` (which event is whose), `connection` (the state of each
//! socket), `flush` (HTTP/2 connections sent once a turn), `memory` (what may be held), `linger` (connections that only
//! deliver), `command` (what it does when told something from outside), `mailbox` (how it is told), `budget` (memory in numbers),
//! `room` (whether the kernel gives any more), `rest` (what is given back when nothing is to do), `share` (how much of one
//! connection is read in a turn), `inbox` (bytes before their turn), `h2_timers` (what a connection of HTTP/2 waits for),
//! `census` (all of it counted, for simulations).

pub mod budget;
pub mod census;
pub mod command;
pub mod connection;
mod dispatch;
mod flush;
pub mod h2_timers;
pub mod handshake;
pub mod inbox;
pub mod linger;
pub mod mailbox;
pub mod memory;
mod rest;
mod room;
mod run;
mod share;
pub mod turn;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use slab::Slab;
use wire::h1::{Edits, HeadStorage};
use wire::h2::Scratch;
use wire::id::Random;

use crate::call::checks::Checks;
use crate::call::state::Calls;
use crate::client::listening::{Deal, Listening};
use crate::clock::{Clock, Time};
use crate::exchange::ExchangeId;
use crate::exchange::all::Exchanges;
use crate::net::network::Network;
use crate::net::sockets::{Key, Sockets};
use crate::options::Shared;
use crate::peer::Peers;
use crate::request::chain::Chains;
use crate::snapshot::Current;
use crate::telemetry_sink::Telemetry;
use crate::upstream::clusters::Clusters;
use crate::upstream::host::HostRef;
use crate::worker::budget::{Budget, Stirred};
use crate::worker::connection::{Client, Conn, Conns, Downstream, Upstream};
use crate::worker::mailbox::Command;

/// The token of the waker; listening sockets follow. Those of connections are their keys' words, which are larger.
pub const WAKER: u64 = 0;
pub const FIRST_LISTENER: u64 = 1;
/// Read at once. Big enough that a 64 KiB body takes one call; the pages nobody needs are never touched.
pub(crate) const READ_BUFFER: usize = 128 * 1024;

pub struct Worker {
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    /// The time of this turn.
    pub(crate) now: Time,
    /// When the time of day is read again.
    pub(crate) look_at_wall_clock: Time,
    /// Bytes read in this turn, and exchanges that began or ended before it.
    pub(crate) read_in_turn: usize,
    pace: share::Pace,
    /// A turn was used up before all those left over from an earlier one were read on.
    behind: bool,
    pub(crate) passed_before: usize,
    /// Steps of handshakes made in this turn.
    pub(crate) handshakes_in_turn: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) snapshot: Rc<Current>,
    pub(crate) sockets: Sockets,
    pub(crate) conns: Conns,
    pub(crate) listening: Slab<Listening>,
    pub(crate) chains: Chains,
    pub(crate) clusters: Clusters,
    pub(crate) exchanges: Exchanges,
    pub(crate) telemetry: Telemetry,
    pub(crate) random: Random,
    /// Reused for every read, head and response.
    pub(crate) buffer: Vec<u8>,
    pub(crate) out: Vec<u8>,
    pub(crate) response: HeadStorage,
    pub(crate) response_edits: Edits,
    /// The head of a response that came by HTTP/2, as HTTP/1 spells it.
    pub(crate) response_text: Vec<u8>,
    /// The buffer HTTP/2 heads are decoded into; `None` while a connection's codec has borrowed it.
    pub(crate) scratch: Option<Box<Scratch>>,
    /// What a proxy of ours restores a message by.
    pub(crate) shape: Vec<u8>,
    /// HTTP/2 connections with something to send.
    pub(crate) to_flush: Vec<Key>,
    /// Connections whose reading was stopped before its end, for others' sake: first come, first served.
    pub(crate) again: VecDeque<(Key, share::Stops)>,
    /// Connections whose kept bytes can be read as the next request now.
    pub(crate) continued: Vec<Key>,
    /// Accepted connections that other workers shall take, and what each was given.
    pub(crate) deal: Deal,
    /// Listening sockets with more to accept, and until when a lack of descriptors keeps us from it.
    pub(crate) accept_more: Vec<usize>,
    pub(crate) accept_pause: Option<Time>,
    pub(crate) expired: Vec<Key>,
    pub(crate) expired_exchanges: Vec<ExchangeId>,
    /// Hosts that can take a connection more while requests wait for one.
    pub(crate) roomy: Vec<HostRef>,
    /// Requests of our own.
    pub(crate) calls: Calls,
    /// Hosts whose health this worker checks for the process.
    pub(crate) checks: Checks,
    pub(crate) peers: Peers,
    pub(crate) stirred: Stirred,
    pub(crate) budget: Budget,
    /// The second, and the date it makes.
    pub(crate) date: (u64, [u8; 29]),
    pub(crate) draining: bool,
    pub(crate) stopping: bool,
}

impl Worker {
    pub fn new(
        index: usize,
        network: Box<dyn Network>,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
        snapshot: Arc<model::Snapshot>,
    ) -> Worker {
        let clock = shared.clock.clone();
        let now = clock.now();
        let seed = shared.seed.wrapping_add(index as u64);
        let telemetry = Telemetry::new(&shared);
        Worker {
            index,
            now,
            sockets: Sockets::new(network, now),
            look_at_wall_clock: now,
            read_in_turn: 0,
            pace: share::Pace::default(),
            behind: false,
            passed_before: 0,
            handshakes_in_turn: 0,
            commands,
            clusters: Clusters::new(&shared, &telemetry.shard, seed.rotate_left(32)),
            chains: Chains::new(&shared),
            telemetry,
            snapshot: Rc::new(Current(snapshot)),
            conns: Conns::default(),
            listening: Slab::new(),
            exchanges: Exchanges::new(now),
            random: Random::from_seed(seed),
            buffer: vec![0; READ_BUFFER],
            out: Vec::with_capacity(4096),
            response: HeadStorage::new(),
            response_edits: Edits::new(),
            response_text: vec![],
            scratch: None,
            shape: vec![],
            to_flush: vec![],
            again: VecDeque::new(),
            continued: vec![],
            deal: Deal::new(shared.workers.len()),
            accept_more: vec![],
            accept_pause: None,
            expired: vec![],
            expired_exchanges: vec![],
            roomy: vec![],
            calls: Calls::default(),
            checks: Checks::default(),
            peers: Peers::default(),
            stirred: Stirred::default(),
            budget: Budget::new(shared.memory_budget),
            date: (0, wire::text::http_date(0)),
            draining: false,
            stopping: false,
            clock,
            shared,
        }
    }

    /// The owner of a downstream connection, if it is one.
    pub(crate) fn downstream(&mut self, key: Key) -> Option<&mut Downstream> {
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(down)) => Some(down),
            _ => None,
        }
    }

    /// The client whose connection it is, whichever HTTP it speaks.
    pub(crate) fn client(&mut self, key: Key) -> Option<&mut Client> {
        self.conns.get_mut(key)?.client_mut()
    }

    pub(crate) fn upstream(&mut self, key: Key) -> Option<&mut Upstream> {
        match self.conns.get_mut(key) {
            Some(Conn::Upstream(up)) => Some(up),
            _ => None,
        }
    }

    pub(crate) fn put(&mut self, key: Key, conn: Conn) {
        if self.sockets.exists(key) {
            self.conns.put(key, conn);
        }
    }
}
