//! What lies between the bytes of a socket and those of its owner: TLS, once it is spoken.
//!
//! A layer begins with a handshake. Until that is over the socket counts as connecting: what is sent on it is kept. Then it is
//! known what the two sides have agreed on ([`Agreed`]): the protocol, which may be known only now, and who the peer is.
//! Reading through a layer, a short read says nothing: it may hold more than it has given, or the stream may. Writing
//! through one, what it took may not have left yet ([`Layer::held_back`]).

use std::io;

use model::transport::{DownstreamTls, UpstreamTls};

use crate::net::network::Stream;

/// The one layer of a socket.
pub trait Layer: Send {
    /// One step of the handshake: reads what has come, writes what is to be said next. `None`: it goes on when the stream can
    /// be read or written again, which means that what was tried last has met `WouldBlock`.
    fn handshake(&mut self, stream: &Stream) -> io::Result<Option<Agreed>>;
    /// Reads for the owner. `WouldBlock` only where neither the layer nor the stream has anything more; 0 when the peer has
    /// said that it sends no more. An end of the stream that nobody announced is for the layer to judge.
    fn read(&mut self, stream: &Stream, buffer: &mut [u8]) -> io::Result<usize>;
    /// Takes bytes of the owner, at least one, and sends what goes. While something of what it took before is held back, it
    /// takes nothing: `WouldBlock`, which it says for no other reason.
    fn write(&mut self, stream: &Stream, bytes: &[u8]) -> io::Result<usize>;
    /// Sends what is held back. `WouldBlock`: not all of it has gone.
    fn flush(&mut self, stream: &Stream) -> io::Result<()>;
    /// Bytes taken that have not left.
    fn held_back(&self) -> usize;
    /// Tells the peer that we send no more, once. `WouldBlock`: that has not gone yet; [`Layer::flush`] sends the rest.
    fn end(&mut self, stream: &Stream) -> io::Result<()>;
}

/// What a handshake has brought.
#[derive(Clone, Debug, Default)]
pub struct Agreed {
    /// The protocol the two sides picked, as ALPN names it.
    pub protocol: Option<Box<str>>,
    /// Who we are to the peer: the URI of our certificate.
    pub own: Box<str>,
    /// Who the peer is, where it had to say so.
    pub peer: Option<Identity>,
}

impl Agreed {
    pub fn is_http2(&self) -> bool {
        self.protocol.as_deref() == Some("h2")
    }
}

/// Who a peer has proved to be: what its certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT` in a mesh.
    pub uris: Vec<Box<str>>,
    pub dns: Vec<Box<str>>,
    pub subject: Box<str>,
    /// SHA-256, in hexadecimal.
    pub digest: Box<str>,
    /// PEM, percent-encoded: the certificate, and with those that vouch for it.
    pub certificate: Box<str>,
    pub chain: Box<str>,
}

impl Identity {
    pub fn principal(&self) -> &str {
        self.uris.first().map_or("", |uri| uri)
    }

    /// A number that stands for the principal, never 0.
    pub fn number(&self) -> u64 {
        let bytes = self.principal().bytes();
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }) | 1
    }
}

/// Makes layers, as a cluster or a filter chain asks for them.
pub trait Layers: Send + Sync {
    /// For a connection of ours to this host (its name; empty: it has none).
    fn for_host(&self, tls: &UpstreamTls, hostname: &str) -> io::Result<Box<dyn Layer>>;
    /// For a client's connection on which these bytes have come already.
    fn for_client(&self, tls: &DownstreamTls, early: &[u8]) -> io::Result<Box<dyn Layer>>;
}
