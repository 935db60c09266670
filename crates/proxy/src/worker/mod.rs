//! One thread of the data plane: a loop over events, nothing shared on the way of a request.
//!
//! A request's way, file by file:
//!
//! | step | file | what happens |
//! |---|---|---|
//! | 1 | `accept` | the connection is taken; its listener and original destination are found |
//! | 2 | `inspect` | its first bytes are looked at, the filter chain is picked |
//! | 3 | `downstream`, `downstream_h2` | its bytes are cut into messages |
//! | 4 | `request` | the head is checked; what the client says about itself is believed or not |
//! | 5 | `route`, `request_edits`, `route_timeouts` | filters, where to, what changes, how long it may take |
//! | 6 | `attempt`, `pool`, `send_request` | a host, a connection to it, the request on its way |
//! | 7 | `forward`, `upstream`, `upstream_h2` | bodies both ways under backpressure; the host's bytes cut into responses |
//! | 8 | `response`, `retry` | the response edited and passed on, or another attempt |
//! | 9 | `finish` | counted, logged; the connections are free for the next |
//!
//! Beside the way: `local_reply` (answers of our own), `grpc_web` (gRPC-Web made gRPC and back), `websocket` (between HTTP/1 and HTTP/2), `flush` (HTTP/2 connections sent once a turn), `memory` (what may be held), `timeout`, `tcp` (connections that are not HTTP), `exchange` and
//! `connection` (the state), `view` (the request as the model sees it), `chain` (a filter chain made ready), `command`
//! (what a worker is told from outside).

mod accept;
mod attempt;
pub mod chain;
pub mod command;
mod connection;
mod downstream;
mod downstream_h2;
pub mod exchange;
mod finish;
mod flush;
mod forward;
mod grpc_web;
mod inspect;
mod local_reply;
pub mod memory;
mod pool;
mod request;
mod request_edits;
mod response;
mod retry;
pub mod route;
mod route_timeouts;
mod send_request;
mod tcp;
mod tcp_report;
mod timeout;
mod upstream;
mod upstream_h2;
mod view;
mod websocket;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::{Events, Poll, Token};
use slab::Slab;
use wire::h1::{Edits, HeadStorage};
use wire::h2::Scratch;
use wire::id::Random;

use crate::clock::{Clock, Time};
use crate::net::sockets::{Key, Sockets, Writable};
use crate::options::Shared;
use crate::peer::Peers;
use crate::telemetry_sink::Telemetry;
use crate::upstream::{Clusters, HostRef};
use accept::Listening;
use chain::Chains;
use command::Command;
use connection::{Conn, Conns, Reading};
use exchange::{ExchangeId, Exchanges};

/// The token of the waker; listening sockets follow. Those of connections are their keys' words, which are larger.
pub const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;
/// Read at once. Big enough that a 64 KiB body takes one call; the pages nobody needs are never touched.
const READ_BUFFER: usize = 128 * 1024;
/// How long a peer may take to read our last words: Envoy's delayed_close_timeout.
const LINGER: Duration = Duration::from_secs(1);
/// Reads of one connection before others get their turn.
const READS_PER_TURN: usize = 8;
/// After a sleep of at least this long there is no load.
const REST_AFTER: Duration = Duration::from_millis(200);
/// Read at once of an HTTP/2 connection, which may hold hundreds of requests: then others get their turn.
const SHARED_READ: usize = 64 * 1024;

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
    poll: Option<Poll>,
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
    /// Where HTTP/2 heads are decoded. `None` while somebody does.
    scratch: Option<Box<Scratch>>,
    /// What a proxy of ours restores a message by.
    shape: Vec<u8>,
    /// HTTP/2 connections with something to send.
    to_flush: Vec<Key>,
    /// Connections to look at again before this turn ends.
    again: Vec<Key>,
    /// Connections whose kept bytes can be read as the next request now.
    continued: Vec<Key>,
    /// Where the next accepted connection goes, when this worker accepts for all.
    next_worker: usize,
    /// Listening sockets with more to accept, and until when a lack of descriptors keeps us from it.
    accept_more: Vec<usize>,
    accept_pause: Option<Time>,
    expired: Vec<Key>,
    expired_exchanges: Vec<ExchangeId>,
    /// Hosts that can take a connection more while requests wait for one.
    roomy: Vec<HostRef>,
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
        poll: Poll,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
        snapshot: Arc<model::Snapshot>,
    ) -> io::Result<Worker> {
        let clock = shared.clock.clone();
        let now = clock.now();
        let seed = shared.seed.wrapping_add(index as u64);
        Ok(Worker {
            index,
            now,
            sockets: Sockets::new(poll.registry().try_clone()?, now),
            poll: Some(poll),
            commands,
            clusters: Clusters::new(&shared),
            chains: Chains::new(&shared),
            telemetry: Telemetry::new(&shared),
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
            again: vec![],
            continued: vec![],
            next_worker: 0,
            accept_more: vec![],
            accept_pause: None,
            expired: vec![],
            expired_exchanges: vec![],
            roomy: vec![],
            peers: Peers::default(),
            budget: memory::Budget::new(shared.memory_budget),
            date: (0, wire::text::http_date(0)),
            draining: false,
            stopping: false,
            clock,
            shared,
        })
    }

    /// Runs until told to stop.
    pub fn run(mut self) -> io::Result<()> {
        let Some(mut poll) = self.poll.take() else { return Ok(()) };
        let mut events = Events::with_capacity(1024);
        while !self.stopping {
            let sleep = match self.sleep() {
                // Somebody has to wake up to give back what a burst has left.
                sleep if self.exchanges.could_rest() => Some(sleep.unwrap_or(REST_AFTER).min(REST_AFTER)),
                sleep => sleep,
            };
            match poll.poll(&mut events, sleep) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let now = self.clock.now();
            if now.since(self.now) >= REST_AFTER {
                self.exchanges.rest();
            }
            self.now = now;
            self.turn(&events);
        }
        self.telemetry.flush();
        Ok(())
    }

    fn sleep(&self) -> Option<Duration> {
        let now = self.clock.now();
        let timers = self.sockets.sleep(now);
        let exchanges = self.exchanges.sleep(now);
        if !self.again.is_empty() || (!self.accept_more.is_empty() && self.accept_pause.is_none()) {
            return Some(Duration::ZERO);
        }
        let pause = self.accept_pause.map(|until| until.0.saturating_sub(now.0));
        let log = self.telemetry.flush_due().map(|due| due.0.saturating_sub(now.0));
        let nanos = [timers, exchanges, log, pause].into_iter().flatten().min()?;
        // epoll counts in milliseconds: rounded up, so that no turn comes before its time.
        Some(Duration::from_millis(nanos.div_ceil(1_000_000)))
    }

    fn turn(&mut self, events: &Events) {
        for event in events {
            let token = event.token();
            match self.sockets.key(token) {
                Some(key) => {
                    if event.is_writable() {
                        self.writable(key);
                    }
                    let hung_up = event.is_read_closed() || event.is_write_closed() || event.is_error();
                    if (event.is_readable() || hung_up) && self.sockets.may_read(key, hung_up) {
                        self.readable(key);
                    }
                }
                None if token == WAKER => self.take_commands(),
                None => self.accept(token.0 - FIRST_LISTENER),
            }
            self.settle();
        }
        self.expire();
        self.accept_on();
        for _ in 0..self.again.len() {
            if let Some(key) = self.again.pop()
                && self.sockets.may_read(key, false)
            {
                self.readable(key);
                self.settle();
            }
        }
        self.flush_all();
        self.sockets.uncork();
        self.telemetry.turn_ended(self.now);
        let conns = &mut self.conns;
        self.sockets.end_turn(|key| conns.vacate(key));
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Configure(snapshot, done) => {
                    self.configure(snapshot);
                    let _ = done.send(self.index);
                }
                Command::Listen(listen) => {
                    if let Err(error) = self.listen(listen) {
                        eprintln!("filamesh: can not watch a listening socket: {error}");
                    }
                }
                Command::Unlisten(name) => self.unlisten(name.as_deref()),
                Command::Accepted { socket, remote, listener, redirected } => {
                    self.accepted(socket, remote, &listener, redirected);
                }
                // Clusters look at the resolver's version when they are used.
                Command::Resolved => {}
                Command::Drain => self.drain(),
                Command::Report(answer) => {
                    let reports = self.clusters.all().flat_map(|cluster| {
                        let hosts = cluster.hosts();
                        hosts.into_iter().map(|host| host.report(&cluster.name, self.now)).collect::<Vec<_>>()
                    });
                    let _ = answer.send(reports.collect());
                }
                Command::Active(answer) => {
                    let tcp =
                        self.conns.iter().filter(|(_, conn)| matches!(conn, Conn::TcpDownstream(_))).count();
                    let _ = answer.send(self.exchanges.active() + tcp);
                }
                Command::Flush(answer) => {
                    self.telemetry.flush();
                    let _ = answer.send(());
                }
                Command::Stop => self.stopping = true,
            }
        }
    }

    /// Uses another configuration from now on. Exchanges under way keep the one they began with.
    fn configure(&mut self, snapshot: Arc<model::Snapshot>) {
        self.snapshot = Rc::new(Current(snapshot));
        self.chains.sweep();
        self.telemetry.forget_series();
        let snapshot = self.snapshot.clone();
        for key in self.clusters.take_up(&snapshot, self.now) {
            match self.conns.get_mut(key) {
                Some(Conn::UpstreamH2(up)) => {
                    up.retiring = true;
                    self.flush(key);
                }
                _ => self.discard_upstream(key),
            }
        }
        self.close_failed_sessions();
    }

    /// Kept-alive connections without a request are closed; the others end with their answer.
    fn drain(&mut self) {
        self.draining = true;
        for key in self.conns.keys() {
            let idle = match self.conns.get(key) {
                Some(Conn::Downstream(down)) => {
                    down.exchange.is_none() && down.state == Reading::Head && down.head_began.is_none()
                }
                Some(Conn::DownstreamH2(_)) => {
                    self.drain_h2(key);
                    continue;
                }
                _ => false,
            };
            if idle {
                if let Some(client) = self.client(key) {
                    let stats = client.http.stats.clone();
                    self.telemetry.shard.inc(stats.downstream_cx_drain_close);
                }
                self.close_downstream(key);
            }
        }
    }

    /// Listening sockets that were left with connections waiting.
    fn accept_on(&mut self) {
        if self.accept_more.is_empty() || self.accept_pause.is_some_and(|until| until > self.now) {
            return;
        }
        self.accept_pause = None;
        for key in std::mem::take(&mut self.accept_more) {
            self.accept(key);
        }
    }

    /// Handles what one event left for later: sockets that broke under a send, requests sent ahead whose turn came.
    fn settle(&mut self) {
        loop {
            if let Some((key, error)) = self.sockets.next_broken() {
                self.broken(key, error);
            } else if let Some(key) = self.continued.pop() {
                self.downstream_bytes(key, &[]);
            } else if let Some(host) = self.roomy.pop() {
                self.serve_queue(&host);
            } else {
                return;
            }
        }
    }

    /// Reads until a short read says that nothing is left.
    fn readable(&mut self, key: Key) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut done = false;
        let (reads, length) = match self.conns.get(key) {
            Some(Conn::DownstreamH2(_) | Conn::UpstreamH2(_)) => (1, SHARED_READ),
            _ => (READS_PER_TURN, READ_BUFFER),
        };
        for _ in 0..reads {
            if !self.sockets.may_read(key, false) {
                break;
            }
            let buffer = buffer.get_mut(..length).unwrap_or_default();
            match self.sockets.receive(key, buffer) {
                Ok(0) => {
                    self.ended(key);
                    break;
                }
                Ok(length) => {
                    self.bytes(key, buffer.get(..length).unwrap_or_default());
                    if length < buffer.len() && !self.sockets.hung_up(key) {
                        done = true;
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    done = true;
                    break;
                }
                Err(error) => {
                    self.broken(key, error.kind());
                    break;
                }
            }
        }
        self.buffer = buffer;
        if !done && self.sockets.is_open(key) {
            // Stopped before the end: paused, or others' turn.
            if self.sockets.is_paused(key) {
                self.sockets.note_readable(key);
            } else {
                self.again.push(key);
            }
        }
    }

    fn bytes(&mut self, key: Key, bytes: &[u8]) {
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(_)) => self.downstream_bytes(key, bytes),
            Some(Conn::Upstream(_)) => self.upstream_bytes(key, bytes),
            Some(Conn::DownstreamH2(_)) => self.h2_client_bytes(key, bytes),
            Some(Conn::UpstreamH2(_)) => self.h2_host_bytes(key, bytes),
            Some(Conn::Inspecting(_)) => self.inspect_bytes(key, bytes),
            Some(Conn::TcpDownstream(_)) => self.tcp_from_client(key, bytes),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_from_host(down, key, bytes);
            }
            Some(Conn::Lingering | Conn::Vacant) | None => {}
        }
    }

    /// The peer has ended its direction.
    fn ended(&mut self, key: Key) {
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(_)) => self.downstream_ended(key),
            Some(Conn::Upstream(_)) => self.upstream_ended(key, None),
            Some(Conn::DownstreamH2(_)) => self.h2_client_gone(key),
            Some(Conn::UpstreamH2(_)) => self.h2_host_gone(key, None),
            Some(Conn::TcpDownstream(_)) => self.tcp_client_ended(key),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_host_ended(down, key);
            }
            Some(Conn::Inspecting(_)) => self.inspect_ended(key),
            Some(Conn::Lingering | Conn::Vacant) | None => self.sockets.close(key),
        }
    }

    /// The socket is of no use any more.
    fn broken(&mut self, key: Key, error: io::ErrorKind) {
        if matches!(self.conns.get(key), Some(Conn::Upstream(_) | Conn::UpstreamH2(_))) {
            self.last_words(key);
        }
        match self.conns.get_mut(key) {
            Some(Conn::Downstream(_)) => self.downstream_gone(key),
            Some(Conn::Upstream(_)) => self.upstream_ended(key, Some(error)),
            Some(Conn::DownstreamH2(_)) => self.h2_client_gone(key),
            Some(Conn::UpstreamH2(_)) => self.h2_host_gone(key, Some(error)),
            Some(Conn::TcpDownstream(_)) => self.tcp_broken(key),
            Some(Conn::TcpUpstream(down)) => {
                let down = *down;
                self.tcp_host_broken(down, key, error);
            }
            Some(Conn::Inspecting(_)) => self.inspect_ended(key),
            Some(Conn::Lingering | Conn::Vacant) | None => self.sockets.close(key),
        }
    }

    fn writable(&mut self, key: Key) {
        match self.sockets.writable(key) {
            Writable::Nothing => self.flush(key),
            Writable::Failed => {}
            Writable::Connected => match self.conns.get_mut(key) {
                Some(Conn::Upstream(_)) => self.upstream_connected(key),
                Some(Conn::UpstreamH2(_)) => self.h2_host_connected(key),
                Some(Conn::TcpUpstream(down)) => {
                    let down = *down;
                    self.tcp_connected(down, key);
                }
                _ => {}
            },
            Writable::Drained => self.drained(key),
            Writable::Finished => self.sockets.close(key),
        }
    }

    /// A host that closed while it was still being sent to may have answered before: that is what its client should see.
    #[cold]
    fn last_words(&mut self, key: Key) {
        let mut buffer = vec![0; SHARED_READ];
        while let Ok(length @ 1..) = self.sockets.receive(key, &mut buffer) {
            self.bytes(key, buffer.get(..length).unwrap_or_default());
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

    /// Says the last words and waits a moment for the peer to have read them.
    fn linger(&mut self, key: Key) {
        self.sockets.shutdown_write(key);
        self.put(key, Conn::Lingering);
        self.sockets.set_deadline(key, self.now.after(LINGER));
        if self.sockets.resume(key) {
            self.again.push(key);
        }
    }
}
