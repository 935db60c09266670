//! Where a client's connection came from, and whom it is for.

use std::net::SocketAddr;
use std::sync::Arc;

use wire::h1::Scheme;

use crate::clock::Time;
use crate::net::layer::{Agreed, Identity};

/// What the HTTP inspector finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspected {
    Http10,
    Http11,
    H2c,
}

impl Inspected {
    pub const ALL: [Inspected; 3] = [Inspected::Http10, Inspected::Http11, Inspected::H2c];

    /// As filter chains match it (Envoy: `application_protocols`).
    pub fn name(self) -> &'static str {
        match self {
            Inspected::Http10 => "http/1.0",
            Inspected::Http11 => "http/1.1",
            Inspected::H2c => "h2c",
        }
    }
}

/// Where a connection came from and whom it is for.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name of the listener that accepted it, which may have handed it on.
    pub entry: Arc<str>,
    pub listener: Arc<model::Listener>,
    /// The original destination where there is one, else the socket's own address.
    pub local: SocketAddr,
    /// `local` is this very listener (an explicit proxy, a gateway).
    pub leads_back: bool,
    pub remote: SocketAddr,
    /// As sniffed from a TLS hello, lower case; empty if none.
    pub server_name: Box<str>,
    /// What the HTTP inspector found.
    pub protocol: Option<Inspected>,
    pub started: Time,
    /// What the handshake of its TLS has brought; `None`: the connection is plaintext.
    pub secure: Option<Arc<Agreed>>,
}

impl Origin {
    /// The scheme of the connection.
    pub fn scheme(&self) -> Scheme {
        if self.secure.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Where a cluster of original destinations may connect: not where the connection would come back for ever.
    pub fn destination(&self) -> Option<SocketAddr> {
        (!self.leads_back).then_some(self.local)
    }

    /// Who the client has proved to be.
    pub fn identity(&self) -> Option<&Identity> {
        self.secure.as_ref()?.peer.as_ref()
    }
}
