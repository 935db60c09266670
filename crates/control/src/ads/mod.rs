//! The gRPC service: ADS streams over HTTP/2, delta and state of the world.
//!
//! A connection is one task. When it can write, it asks its streams what is to be sent at that moment: so a slow reader
//! holds one response at most, and what is sent is the newest there is. Bytes are framed by hand from entries that are
//! encoded once (`xds::delta_server::frame`).
//!
//! What a peer may make the server hold is limited ([`xds::limits`]): connections, streams, requests in part, names, lines
//! of the log, and how long it may say nothing.
//!
//! | module | what |
//! |---|---|
//! | `connections` | how many there are |
//! | `connection` | one of them: a socket, HTTP/2, its streams |
//! | `stream` | one stream |
//! | `protocol` | the two methods |
//! | `grpc` | codes and trailers |
//! | `lines` | what of a peer is logged |

mod connection;
mod connections;
mod grpc;
mod lines;
mod protocol;
mod stream;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use crate::push::Shared;
use connection::Connection;
use connections::Connections;
pub(crate) use connections::Limits;
use lines::Lines;

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// What all connections share.
#[derive(Debug)]
struct Server {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    lines: Lines,
    http2: Arc<wire::h2::Config>,
    /// The moment from which connections count time.
    began: Instant,
}

/// Accepts until dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    serve_within(listener, shared, Limits::default()).await;
}

async fn serve_within(listener: TcpListener, shared: Arc<Shared>, limits: Limits) {
    let log = shared.log;
    let (began, http2) = (Instant::now(), connection::http2(&limits));
    let lines = Lines::new(log, began);
    let server = Arc::new(Server { shared, connections: Connections::new(limits), lines, http2, began });
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&server, stream, peer),
            Err(error) => pause_after(&error, "xDS", log).await,
        }
    }
}

fn admit(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    match server.connections.admit(peer.ip().to_canonical()) {
        Ok(admitted) => {
            // A response is written at once; only the kernel could hold it back.
            let _ = stream.set_nodelay(true);
            tokio::spawn(Connection::new(stream, server.clone(), admitted));
        }
        Err(error) => server.lines.write(&format!("xDS refuses {peer}: {error}"), Instant::now()),
    }
}

/// Out of file descriptors is the likely reason: those who wait are served when others go.
pub(crate) async fn pause_after(error: &std::io::Error, role: &str, log: fn(&str)) {
    log(&format!("{role} cannot accept a connection: {error}"));
    tokio::time::sleep(Duration::from_millis(100)).await;
}
