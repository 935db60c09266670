//! What stands at the end of each socket of a worker.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::filter_chain::FilterChain;
use wire::h1::{BodyReader, PartialHead};

use crate::client::origin::Origin;
use crate::clock::Time;
use crate::exchange::ExchangeId;
use crate::net::sockets::{Key, high_water};
use crate::peer::Peer;
use crate::tcp::session::TcpSession;
use crate::telemetry_sink::Telemetry;
use crate::upstream::host::HostRef;
use crate::worker::h2_timers::H2Timers;
use crate::worker::inbox::Inbox;

/// The owner of a socket. An idle connection owns nothing but its box.
#[derive(Default)]
pub enum Conn {
    #[default]
    Vacant,
    /// Accepted; its first bytes decide which filter chain takes it.
    Inspecting(Box<Inspecting>),
    /// A client's connection whose handshake is not over.
    Securing(Box<Securing>),
    /// A client's HTTP/1 connection.
    Downstream(Box<Downstream>),
    /// A client's HTTP/2 connection.
    DownstreamH2(Box<DownstreamH2>),
    /// Our HTTP/1 connection to a host.
    Upstream(Box<Upstream>),
    /// Our HTTP/2 connection to a host.
    UpstreamH2(Box<UpstreamH2>),
    /// Our connection to a host that says which HTTP it speaks when the connection is made.
    Undecided(Box<Undecided>),
    /// A client's connection whose bytes are passed on unread.
    TcpDownstream(Box<TcpSession>),
    /// The other end of one.
    TcpUpstream(Key),
    /// Our connection to a host whose health is checked by TCP.
    Check(crate::call::state::CheckId),
    /// All is said; what the peer still sends is thrown away until it ends or a moment has passed.
    Lingering(Linger),
}

/// The owners of all sockets, in the places their sockets have. A key of a socket that is gone finds nothing.
#[derive(Default)]
pub struct Conns {
    places: Vec<(Key, Conn)>,
}

impl Conns {
    #[inline]
    pub fn get(&self, key: Key) -> Option<&Conn> {
        self.places.get(key.index()).filter(|(of, _)| *of == key).map(|(_, conn)| conn)
    }

    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Conn> {
        self.places.get_mut(key.index()).filter(|(of, _)| *of == key).map(|(_, conn)| conn)
    }

    /// The owner of a socket that exists.
    pub fn put(&mut self, key: Key, conn: Conn) {
        if self.places.len() <= key.index() {
            self.places.resize_with(key.index() + 1, Default::default);
        }
        if let Some(place) = self.places.get_mut(key.index()) {
            *place = (key, conn);
        }
    }

    /// The socket is gone.
    pub fn vacate(&mut self, key: Key) {
        if let Some(place) = self.places.get_mut(key.index()).filter(|(of, _)| *of == key) {
            *place = (Key::NOBODY, Conn::Vacant);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, &Conn)> {
        self.places.iter().map(|(key, conn)| (*key, conn)).filter(|(key, _)| *key != Key::NOBODY)
    }

    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Places, used or not.
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

pub struct Inspecting {
    pub origin: Origin,
    pub inspectors: model::listener::Inspectors,
    pub bytes: Vec<u8>,
}

/// A client's connection on its way to the chain that was picked for it.
pub struct Securing {
    pub origin: Origin,
    pub chain: Arc<FilterChain>,
}

/// What a client's connection has whichever HTTP it speaks.
pub struct Client {
    pub origin: Origin,
    pub http: Rc<crate::request::chain::HttpChain>,
    /// The configuration under which `http` was picked.
    pub generation: u64,
    /// Requests so far.
    pub requests: u32,
    /// No request follows the one (HTTP/2: those) under way.
    pub last: bool,
    /// Who the other side says it is, by the first request that says so.
    pub peer: Option<Rc<Peer>>,
}

impl Conn {
    /// The client whose connection it is, if requests come by it.
    pub fn client(&self) -> Option<&Client> {
        match self {
            Conn::Downstream(down) => Some(&down.client),
            Conn::DownstreamH2(down) => Some(&down.client),
            _ => None,
        }
    }

    pub fn client_mut(&mut self) -> Option<&mut Client> {
        match self {
            Conn::Downstream(down) => Some(&mut down.client),
            Conn::DownstreamH2(down) => Some(&mut down.client),
            _ => None,
        }
    }
}

impl Client {
    /// Bytes that may wait for the client before nothing more is read for it.
    pub fn bound(&self) -> usize {
        high_water(self.origin.listener.buffer_limit)
    }

    /// Takes no request after the present one if the connection has lasted as long as it may (Envoy:
    /// `max_connection_duration`). True: that has just been found, and is counted.
    pub fn retire_if_old(&mut self, now: Time, telemetry: &Telemetry) -> bool {
        let old = !self.last && self.age_limit().is_some_and(|limit| limit <= now);
        if old {
            self.last = true;
            telemetry.shard.inc(self.http.stats.downstream_cx_max_duration_reached);
        }
        old
    }

    /// When it will be too old.
    pub fn age_limit(&self) -> Option<Time> {
        let longest = self.http.settings.timeouts.max_connection_duration;
        longest.map(|longest| self.origin.started.after(longest))
    }

    /// Counts a request; the last that is allowed ends the connection.
    pub fn begin_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
        let most = self.http.settings.limits.max_requests_per_connection;
        self.last |= most.is_some_and(|most| self.requests >= most);
    }
}

/// A client's HTTP/1 connection.
pub struct Downstream {
    pub client: Client,
    pub state: Reading,
    pub exchange: Option<ExchangeId>,
    /// The body of the request being read.
    pub body: BodyReader,
    /// Bytes of an unfinished head, or of requests sent ahead.
    pub inbox: Inbox,
    /// What was read of the inbox as a head that is not whole.
    pub partial: PartialHead,
    /// When the first byte of the head being read came.
    pub head_began: Option<Time>,
}

/// A client's HTTP/2 connection.
pub struct DownstreamH2 {
    pub client: Client,
    pub codec: wire::h2::Connection,
    pub timers: H2Timers,
    /// What came while too much waited for the client to read it ([`crate::http2::UNREAD_MARK`]). Nothing more is read, nor
    /// is this handled, until the client has read.
    pub held: Vec<u8>,
    /// It is among those to be flushed at the end of this turn.
    pub flush: bool,
    /// When the head being read was first seen to be incomplete.
    pub head_began: Option<Time>,
    /// All is said; it is closed when that has been sent.
    pub ending: bool,
}

/// Our HTTP/2 connection to a host.
pub struct UpstreamH2 {
    pub host: HostRef,
    pub codec: wire::h2::Connection,
    pub connecting: bool,
    /// When connecting is given up.
    pub connect_deadline: Time,
    /// Requests sent on it so far.
    pub requests: u32,
    pub local: Option<SocketAddr>,
    pub timers: H2Timers,
    /// When bytes last came.
    pub heard: Time,
    pub _slot: crate::upstream::counted::ConnectionSlot,
    /// Our metadata went out on it.
    pub introduced: bool,
    /// The other side is a filamesh proxy that restores HTTP/1 requests.
    pub hop: bool,
    /// It takes no more requests and ends with those under way.
    pub retiring: bool,
    /// Upgrades that wait for the host to say whether it takes them.
    pub upgrades: Vec<ExchangeId>,
    pub flush: bool,
}

/// Our connection to a host that has not said yet which HTTP it speaks. The requests for which it is made wait in the
/// queue of their host.
pub struct Undecided {
    pub host: HostRef,
    pub slot: crate::upstream::counted::ConnectionSlot,
}

/// Which part of a message a connection expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Head,
    Body,
    /// The message is complete, its answer is not.
    Waiting,
}

/// Our HTTP/1 connection to a host.
pub struct Upstream {
    pub host: HostRef,
    pub exchange: Option<ExchangeId>,
    pub reading: Reading,
    pub body: BodyReader,
    pub inbox: Vec<u8>,
    pub connecting: bool,
    /// Requests sent on it so far.
    pub requests: u32,
    /// Our address on it, known once connected.
    pub local: Option<SocketAddr>,
    /// Bytes of the current response have come.
    pub answered: bool,
    /// Bytes sent on it before the current request.
    pub sent_before: u64,
    /// Since when it has been without a request.
    pub idle_since: Time,
    /// When connecting is given up, or the idle connection is closed.
    pub deadline: Time,
    /// What was read of the inbox as a head that is not whole.
    pub partial: PartialHead,
    /// It may carry another request after this response.
    pub keep_alive: bool,
    pub opened: Time,
    /// What it counts for at its host and in its cluster.
    pub slot: crate::upstream::counted::ConnectionSlot,
    /// Our metadata went out on it.
    pub introduced: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Linger {
    pub(super) wait_millis: u32,
    /// What may yet be read.
    pub(super) left: u32,
}
