//! One thread of the data plane: a loop over events, nothing shared on the way of a request.
//!
//! A request's way, file by file:
//!
//! | step | file | what happens |
//! |---|---|---|
//! | 1 | `accept` | the connection is taken; its listener and original destination are found |
//! | 2 | `inspect`, `handshake` | its first bytes are looked at, the filter chain is picked; a layer (TLS) shakes hands |
//! | 3 | `downstream`, `downstream_h2` | its bytes are cut into messages |
//! | 4 | `request` | the head is checked; what the client says about itself is believed or not |
//! | 5 | `route`, `request_edits`, `route_timeouts` | filters, where to, what changes, how long it may take |
//! | 6 | `attempt`, `pool`, `undecided`, `send_request` | a host, a connection to it, the request on its way |
//! | 7 | `forward`, `client_side`, `host_side`, `upstream`, `upstream_h2` | bodies both ways under backpressure; the host's bytes cut into responses |
//! | 8 | `response`, `response_body`, `response_end`, `retry` | the response edited and passed on, or another attempt |
//! | 9 | `finish` | counted, logged; the connections are free for the next |
//!
//! Beside the way: `local_reply` (answers of our own), `grpc_web` (gRPC-Web made gRPC and back), `websocket` (between HTTP/1 and HTTP/2), `flush` (HTTP/2 connections sent once a turn), `memory` (what may be held), `timeout`, `tcp` (connections that are not HTTP), `exchange` and
//! `connection` (the state), `view` (the request as the model sees it), `chain` (a filter chain made ready), `command`
//! (what a worker is told from outside).

pub mod accept;
mod attempt;
mod call;
pub mod census;
pub mod chain;
mod check_request;
mod client_certificate;
mod client_side;
pub mod command;
mod connection;
mod destination;
mod dispatch;
mod downstream;
mod downstream_h2;
pub mod exchange;
mod exchange_state;
mod exchanges;
mod filters;
mod finish;
mod flush;
mod forward;
mod grpc_web;
mod h2_timers;
mod handshake;
mod health_check;
mod host_side;
mod inbox;
mod inspect;
mod linger;
mod local_reply;
pub mod memory;
mod mirror;
mod pool;
mod request;
mod request_edits;
mod response;
mod response_body;
mod response_end;
mod retry;
pub mod route;
mod route_timeouts;
mod run;
mod send_request;
mod tcp;
mod tcp_check;
mod tcp_report;
mod timeout;
mod turn;
mod undecided;
mod upstream;
mod upstream_h2;
mod view;
mod websocket;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use slab::Slab;
use wire::h1::{Edits, HeadStorage};
use wire::h2::Scratch;
use wire::id::Random;

use crate::clock::{Clock, Time};
use crate::net::network::Network;
use crate::net::sockets::{Key, Sockets};
use crate::options::Shared;
use crate::peer::Peers;
use crate::telemetry_sink::Telemetry;
use crate::upstream::{Clusters, HostRef};
use accept::Listening;
use chain::Chains;
use command::Command;
use connection::{Conn, Conns};
use exchange::{ExchangeId, Exchanges};

/// The token of the waker; listening sockets follow. Those of connections are their keys' words, which are larger.
pub const WAKER: u64 = 0;
const FIRST_LISTENER: u64 = 1;
/// The configuration in use. Counted within the worker alone, so that no request touches a counter other threads write.
pub struct Current(Arc<model::Snapshot>);

impl std::ops::Deref for Current {
    type Target = model::Snapshot;

    fn deref(&self) -> &model::Snapshot {
        &self.0
    }
}

pub struct Worker {
    index: usize,
    clock: Clock,
    /// The time of this turn.
    now: Time,
    /// When the time of day is read again.
    look_at_wall_clock: Time,
    /// Bytes read in this turn, and exchanges begun before it.
    read_in_turn: usize,
    begun_before: usize,
    /// Steps of handshakes made in this turn.
    handshakes_in_turn: usize,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    snapshot: Rc<Current>,
    sockets: Sockets,
    conns: Conns,
    listening: Slab<Listening>,
    chains: Chains,
    clusters: Clusters,
    exchanges: Exchanges,
    telemetry: Telemetry,
    random: Random,
    /// Reused for every read, head and response.
    buffer: Vec<u8>,
    out: Vec<u8>,
    response: HeadStorage,
    response_edits: Edits,
    /// The head of a response that came by HTTP/2, as HTTP/1 spells it.
    response_text: Vec<u8>,
    /// The buffer HTTP/2 heads are decoded into; `None` while a connection's codec has borrowed it.
    scratch: Option<Box<Scratch>>,
    /// What a proxy of ours restores a message by.
    shape: Vec<u8>,
    /// HTTP/2 connections with something to send.
    to_flush: Vec<Key>,
    /// Connections whose reading was stopped before its end, for others' sake: first come, first served.
    again: VecDeque<Key>,
    /// Connections whose kept bytes can be read as the next request now.
    continued: Vec<Key>,
    /// Accepted connections that other workers shall take, and what each was given.
    deal: accept::Deal,
    /// Listening sockets with more to accept, and until when a lack of descriptors keeps us from it.
    accept_more: Vec<usize>,
    accept_pause: Option<Time>,
    expired: Vec<Key>,
    expired_exchanges: Vec<ExchangeId>,
    /// Hosts that can take a connection more while requests wait for one.
    roomy: Vec<HostRef>,
    /// Requests of our own.
    calls: call::Calls,
    /// Hosts whose health this worker checks for the process.
    checks: health_check::Checks,
    peers: Peers,
    budget: memory::Budget,
    /// The second, and the date it makes.
    date: (u64, [u8; 29]),
    draining: bool,
    stopping: bool,
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
            begun_before: 0,
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
            buffer: vec![0; turn::READ_BUFFER],
            out: Vec::with_capacity(4096),
            response: HeadStorage::new(),
            response_edits: Edits::new(),
            response_text: vec![],
            scratch: None,
            shape: vec![],
            to_flush: vec![],
            again: VecDeque::new(),
            continued: vec![],
            deal: accept::Deal::new(shared.workers.len()),
            accept_more: vec![],
            accept_pause: None,
            expired: vec![],
            expired_exchanges: vec![],
            roomy: vec![],
            calls: call::Calls::default(),
            checks: health_check::Checks::default(),
            peers: Peers::default(),
            budget: memory::Budget::new(shared.memory_budget),
            date: (0, wire::text::http_date(0)),
            draining: false,
            stopping: false,
            clock,
            shared,
        }
    }

    /// The owner of a downstream connection, if it is one.
    fn downstream(&mut self, key: Key) -> Option<&mut connection::Downstream> {
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(down)) => Some(down),
            _ => None,
        }
    }

    /// The client whose connection it is, whichever HTTP it speaks.
    fn client(&mut self, key: Key) -> Option<&mut connection::Client> {
        self.conns.get_mut(key)?.client_mut()
    }

    fn upstream(&mut self, key: Key) -> Option<&mut connection::Upstream> {
        match self.conns.get_mut(key) {
            Some(Conn::Upstream(up)) => Some(up),
            _ => None,
        }
    }

    fn put(&mut self, key: Key, conn: Conn) {
        if self.sockets.exists(key) {
            self.conns.put(key, conn);
        }
    }
}
