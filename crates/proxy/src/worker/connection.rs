//! What stands at the end of each socket of a worker.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use wire::h1::BodyReader;

use super::exchange::ExchangeId;
use super::tcp::TcpSession;
use crate::clock::Time;
use crate::net::sockets::Key;
use crate::peer::Peer;
use crate::upstream::HostRef;

/// The owner of a socket. An idle connection owns nothing but its box.
#[derive(Default)]
pub enum Conn {
    #[default]
    Vacant,
    /// Accepted; its first bytes decide which filter chain takes it.
    Inspecting(Box<Inspecting>),
    /// A client's HTTP/1 connection.
    Downstream(Box<Downstream>),
    /// Our HTTP/1 connection to a host.
    Upstream(Box<Upstream>),
    /// A client's connection whose bytes are passed on unread.
    TcpDownstream(Box<TcpSession>),
    /// The other end of one.
    TcpUpstream(Key),
    /// All is said; what the peer still sends is thrown away until it ends or a moment has passed, so that our last
    /// words are not lost to a reset.
    Lingering,
}

/// Where a connection came from and whom it is for.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name of the listener that accepted it, which may have handed it on.
    pub entry: Arc<str>,
    pub listener: Arc<model::Listener>,
    /// The original destination where there is one, else the socket's own address.
    pub local: SocketAddr,
    /// Where a cluster of original destinations may connect: `local`, unless that is this very listener (an explicit
    /// proxy, a gateway), to which a connection would come back for ever.
    pub destination: Option<SocketAddr>,
    pub remote: SocketAddr,
    /// As sniffed from a TLS hello, lower case; empty if none.
    pub server_name: Box<str>,
    /// What the HTTP inspector found, in its words.
    pub protocol: Option<&'static str>,
    pub started: Time,
}

pub struct Inspecting {
    pub origin: Origin,
    pub inspectors: model::listener::Inspectors,
    pub bytes: Vec<u8>,
}

/// A client's HTTP/1 connection.
pub struct Downstream {
    pub origin: Origin,
    pub http: Rc<super::chain::HttpChain>,
    pub state: Reading,
    pub exchange: Option<ExchangeId>,
    /// The body of the request being read.
    pub body: BodyReader,
    /// Bytes of an unfinished head, or of requests sent ahead.
    pub inbox: Vec<u8>,
    /// How much of the inbox was tried as a head in vain.
    pub tried: usize,
    /// When the first byte of the head being read came.
    pub head_began: Option<Time>,
    /// The configuration under which `http` was picked.
    pub generation: u64,
    /// Requests so far.
    pub requests: u32,
    /// No request follows this one.
    pub last: bool,
    /// Who the other side says it is, by the first request that says so.
    pub peer: Option<Rc<Peer>>,
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
    /// Interim responses passed on for this request.
    pub interim: u8,
    /// When connecting is given up, or the idle connection is closed.
    pub deadline: Time,
    /// How much of the inbox was tried as a head in vain.
    pub tried: usize,
    /// It may carry another request after this response.
    pub keep_alive: bool,
    pub opened: Time,
    /// Its place in the cluster's breaker.
    pub taken: crate::upstream::breaker::Taken,
    /// Our metadata went out on it.
    pub introduced: bool,
}
