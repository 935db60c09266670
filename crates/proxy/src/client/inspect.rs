//! Step 2: the first bytes of a connection, and the filter chain that takes it.

use std::sync::Arc;

use model::filter_chain::{ChainDecision, FilterChain};
use model::http_connection::Codec;
use model::transport::DownstreamTransport;
use model::view::{ConnectionView, TransportProtocol};
use telemetry::Flags;
use wire::h1::Version;
use wire::sniff::{Sniff, Tls, inspect_http, inspect_tls};

use crate::client::origin::{Inspected, Origin};
use crate::net::sockets::Key;
use crate::request::chain::Handler;
use crate::worker::Worker;
use crate::worker::connection::{Client, Conn, Inspecting};

/// More than any hello or request line we look at.
const MOST_BYTES: usize = 64 * 1024;

/// What was seen of a connection.
pub(crate) struct Seen {
    transport: TransportProtocol,
    server_name: String,
    protocols: Vec<String>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { transport: TransportProtocol::RawBuffer, server_name: String::new(), protocols: vec![] }
    }
}

impl Worker {
    pub(crate) fn inspect_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(Conn::Inspecting(inspecting)) = self.conns.get_mut(key) else { return };
        inspecting.bytes.extend_from_slice(bytes);
        match look(inspecting) {
            Some(seen) => self.inspected(key, Some(seen)),
            None if inspecting.bytes.len() > MOST_BYTES => {
                let seen = undecided(inspecting);
                self.inspected(key, Some(seen));
            }
            None => {}
        }
    }

    /// The client said no more in time.
    pub(crate) fn inspect_timeout(&mut self, key: Key) {
        let Some(Conn::Inspecting(inspecting)) = self.conns.get(key) else { return };
        let stats = self.chains.listener(&inspecting.origin.listener);
        self.telemetry.shard.inc(stats.downstream_pre_cx_timeout);
        if inspecting.origin.listener.continue_on_sniff_timeout {
            let seen = undecided(inspecting);
            self.inspected(key, Some(seen));
        } else {
            self.inspect_ended(key);
        }
    }

    pub(crate) fn inspect_ended(&mut self, key: Key) {
        let Some(Conn::Inspecting(inspecting)) = self.conns.get(key) else { return };
        let stats = self.chains.listener(&inspecting.origin.listener);
        let shard = &self.telemetry.shard;
        shard.shift(stats.downstream_pre_cx_active, -1);
        shard.shift(stats.downstream_cx_active, -1);
        shard.inc(stats.downstream_cx_destroy);
        self.sockets.close(key);
    }

    fn inspected(&mut self, key: Key, seen: Option<Seen>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Conn::Inspecting(inspecting) = std::mem::take(conn) else { return };
        let Inspecting { origin, bytes, .. } = *inspecting;
        let stats = self.chains.listener(&origin.listener);
        self.telemetry.shard.shift(stats.downstream_pre_cx_active, -1);
        self.sockets.set_deadline(key, crate::clock::Time::NEVER);
        self.pick_chain(key, origin, seen, &bytes);
    }

    /// Picks the filter chain and hands the connection and the bytes read so far over to what the chain does.
    pub(crate) fn pick_chain(&mut self, key: Key, mut origin: Origin, seen: Option<Seen>, bytes: &[u8]) {
        let seen = seen.unwrap_or_default();
        let protocols: Vec<&str> = seen.protocols.iter().map(String::as_str).collect();
        if seen.transport == TransportProtocol::RawBuffer {
            origin.protocol = Inspected::ALL.into_iter().find(|known| protocols.contains(&known.name()));
        }
        let view = ConnectionView {
            destination: origin.local,
            source: origin.remote,
            direct_source: origin.remote,
            transport: seen.transport,
            server_name: &seen.server_name,
            application_protocols: &protocols,
        };
        let listener = origin.listener.clone();
        let chain = match listener.filter_chain(&view) {
            ChainDecision::Chain { chain, .. } | ChainDecision::Default { chain } => chain,
            ChainDecision::None => {
                origin.server_name = seen.server_name.into();
                self.no_chain(key, &origin, "filter_chain_not_found", Flags::NO_ROUTE_FOUND);
                return;
            }
        };
        origin.server_name = seen.server_name.into();
        match &chain.transport {
            DownstreamTransport::RawBuffer => self.hand_over(key, origin, chain, bytes),
            DownstreamTransport::Tls(tls) => self.secure_client(key, origin, chain, tls, bytes),
        }
    }

    /// The chain takes the connection, and the bytes read so far.
    pub(crate) fn hand_over(&mut self, key: Key, origin: Origin, chain: &Arc<FilterChain>, bytes: &[u8]) {
        let listener = origin.listener.clone();
        let http2 = origin.secure.as_ref().is_some_and(|agreed| agreed.is_http2());
        let handler = self.chains.handler(chain, &listener, &mut self.telemetry);
        match handler {
            Handler::Http(http) => {
                http.opened(&self.telemetry);
                let client = Client {
                    http,
                    origin,
                    generation: self.snapshot.generation,
                    requests: 0,
                    last: false,
                    peer: None,
                };
                let codec = client.http.settings.codec;
                if codec == Codec::Http2 || (codec == Codec::Auto && http2) {
                    self.start_h2(key, client);
                } else {
                    // What begins with the preface of HTTP/2 becomes a connection of that.
                    self.start_h1(key, client);
                }
                if !bytes.is_empty() {
                    self.bytes(key, bytes);
                }
            }
            Handler::Tcp(tcp) => self.start_tcp(key, origin, tcp, bytes),
            Handler::Close => self.no_chain(key, &origin, "", Flags::NONE),
        }
    }

    /// A kept-alive connection met another configuration: the chain that takes it now serves its further requests. If
    /// that is not one for HTTP, the connection ends with its next answer.
    pub(crate) fn pick_chain_anew(&mut self, key: Key) {
        let snapshot = self.snapshot.clone();
        let Some(client) = self.conns.get_mut(key).and_then(Conn::client_mut) else { return };
        client.generation = snapshot.generation;
        let entry = snapshot.listener(&client.origin.entry);
        let listener = entry.map(|entry| snapshot.listener_for(entry, client.origin.local));
        let same = listener.is_some_and(|listener| Arc::ptr_eq(listener, &client.origin.listener));
        if same {
            return;
        }
        if client.origin.secure.is_some() {
            // Under other rules its handshake might have gone otherwise.
            client.last = true;
            return;
        }
        let protocols: Vec<&str> = client.origin.protocol.iter().map(|found| found.name()).collect();
        let view = ConnectionView {
            destination: client.origin.local,
            source: client.origin.remote,
            direct_source: client.origin.remote,
            transport: TransportProtocol::RawBuffer,
            server_name: "",
            application_protocols: &protocols,
        };
        let chain = listener.and_then(|listener| listener.filter_chain(&view).chain());
        let Some((listener, chain)) = listener.zip(chain) else {
            client.last = true;
            return;
        };
        match self.chains.handler(chain, listener, &mut self.telemetry) {
            Handler::Http(http) if matches!(chain.transport, DownstreamTransport::RawBuffer) => {
                let old = std::mem::replace(&mut client.http, http.clone());
                client.origin.listener = listener.clone();
                let shard = &self.telemetry.shard;
                shard.shift(old.stats.downstream_cx_active, -1);
                shard.shift(http.stats.downstream_cx_active, 1);
            }
            _ => client.last = true,
        }
    }

    /// Nobody takes the connection: closed, counted, logged by the listener's own logs.
    pub(crate) fn no_chain(&mut self, key: Key, origin: &Origin, details: &'static str, flags: Flags) {
        let stats = self.chains.listener(&origin.listener);
        let shard = &self.telemetry.shard;
        if flags.contains(Flags::NO_ROUTE_FOUND) {
            shard.inc(stats.no_filter_chain_match);
        }
        shard.inc(stats.downstream_cx_destroy);
        shard.shift(stats.downstream_cx_active, -1);
        self.log_connection(origin, details, flags);
        self.put(key, Conn::Vacant);
        self.sockets.close(key);
    }
}

/// What a connection is taken for whose bytes are too many, or come too late, to be waited for: what they can still become.
/// Otherwise whoever is slow on purpose would pass by the chain, and the policies, that are for his protocol. Without any
/// bytes it is nothing: in some protocols the server speaks first.
fn undecided(inspecting: &Inspecting) -> Seen {
    let bytes = &inspecting.bytes;
    let mut seen = Seen::default();
    if bytes.is_empty() {
        return seen;
    }
    if inspecting.inspectors.tls && inspect_tls(bytes) == Tls::NeedMore {
        seen.transport = TransportProtocol::Tls;
    } else if inspecting.inspectors.http && bytes.contains(&b' ') && inspect_http(bytes) == Sniff::NeedMore {
        // A method is whole.
        let protocol = if bytes.starts_with(b"PRI ") { "h2c" } else { "http/1.1" };
        seen.protocols.push(protocol.to_owned());
    }
    seen
}

/// What the bytes so far show; `None` while that is undecided.
fn look(inspecting: &Inspecting) -> Option<Seen> {
    let bytes = &inspecting.bytes;
    let mut seen = Seen::default();
    if inspecting.inspectors.tls {
        match inspect_tls(bytes) {
            Tls::NeedMore => return None,
            Tls::Hello(hello) => {
                seen.transport = TransportProtocol::Tls;
                seen.server_name = hello.server_name.unwrap_or_default().to_ascii_lowercase();
                seen.protocols =
                    hello.alpn.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                return Some(seen);
            }
            Tls::NotTls | Tls::TooLarge => {}
        }
    }
    if inspecting.inspectors.http {
        let found = match inspect_http(bytes) {
            Sniff::NeedMore => return None,
            Sniff::Http1(Version::Http10) => Some("http/1.0"),
            // What is too long for HTTP is answered so by the chain for HTTP, with all its policies before it.
            Sniff::Http1(Version::Http11) | Sniff::HttpTooLong => Some("http/1.1"),
            Sniff::Http2Preface | Sniff::Http1(Version::Http2) => Some("h2c"),
            Sniff::Tls(_) | Sniff::Unknown => None,
        };
        seen.protocols.extend(found.map(str::to_owned));
    }
    Some(seen)
}
