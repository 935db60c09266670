//! Handshakes of layers, each turn a few, and which layer a connection gets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::filter_chain::FilterChain;
use model::transport::{DownstreamTls, UpstreamTls};
use telemetry::Flags;

use crate::client::origin::Origin;
use crate::clock::Time;
use crate::net::layer::Layer;
use crate::net::sockets::Key;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::host::HostRef;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Securing};

/// Steps of handshakes in one turn: signatures cost milliseconds, and whoever has shaken hands already waits meanwhile.
pub(crate) const MOST_STEPS: usize = 16;

/// How long a client may take for its handshake where `transport_socket_connect_timeout` does not say: as long as for the
/// first bytes that listener filters wait for. (Envoy would wait for ever.)
const CLIENT_HANDSHAKE: Duration = Duration::from_secs(15);

impl Worker {
    /// The layer of a connection to a host. An error where there is none for its transport.
    pub(crate) fn layer_to(
        &self,
        tls: &UpstreamTls,
        config: &ClusterConfig,
        host: &HostRef,
    ) -> io::Result<Box<dyn Layer>> {
        match &self.shared.layers {
            Some(layers) => layers.for_host(tls, &host.hostname),
            None => {
                let what = "TLS to upstreams is not spoken yet; their connections fail";
                self.shared.warn_once(what, &config.name);
                Err(io::Error::new(io::ErrorKind::Unsupported, "TLS is not supported"))
            }
        }
    }

    /// A client's connection whose chain ends its TLS. `early`: what it has sent so far.
    pub(crate) fn secure_client(
        &mut self,
        key: Key,
        origin: Origin,
        chain: &Arc<FilterChain>,
        tls: &DownstreamTls,
        early: &[u8],
    ) {
        let Some(layers) = &self.shared.layers else {
            self.shared.warn_once(
                "a filter chain terminates TLS, which this version does not: its connections are closed",
                &origin.listener.name,
            );
            return self.no_chain(key, &origin, "tls_not_supported", Flags::NONE);
        };
        let Ok(layer) = layers.for_client(tls, early) else {
            return self.no_chain(key, &origin, "tls_not_ready", Flags::NONE);
        };
        let longest = chain.transport_connect_timeout.unwrap_or(CLIENT_HANDSHAKE);
        self.put(key, Conn::Securing(Box::new(Securing { origin, chain: chain.clone() })));
        self.sockets.put_layer(key, layer);
        self.sockets.set_deadline(key, self.now.after(longest));
        self.read_later(key);
    }

    /// The client has shaken hands: the chain takes the connection.
    pub(crate) fn client_secured(&mut self, key: Key) {
        let Some(Securing { mut origin, chain }) = self.take_securing(key) else { return };
        origin.secure = self.sockets.agreed(key).map(|agreed| Arc::new(agreed.clone()));
        self.sockets.set_deadline(key, Time::NEVER);
        self.hand_over(key, origin, &chain, &[]);
    }

    /// It has not, or not in time.
    pub(crate) fn client_not_secured(&mut self, key: Key) {
        if let Some(Securing { origin, .. }) = self.take_securing(key) {
            self.no_chain(key, &origin, "tls_handshake_failed", Flags::NONE);
        }
    }

    fn take_securing(&mut self, key: Key) -> Option<Securing> {
        let conn = self.conns.get_mut(key).filter(|conn| matches!(conn, Conn::Securing(_)))?;
        let Conn::Securing(securing) = std::mem::take(conn) else { return None };
        Some(*securing)
    }

    /// A step of a handshake, now or in a later turn. True: it is over, and reading goes on.
    #[cold]
    pub(crate) fn handshake_on(&mut self, key: Key) -> bool {
        if self.handshakes_in_turn >= MOST_STEPS {
            self.read_later(key);
            return false;
        }
        self.handshakes_in_turn += 1;
        let over = self.sockets.handshake(key);
        if over {
            self.writable(key, false);
        }
        over
    }
}
