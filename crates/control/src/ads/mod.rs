//! The gRPC service: ADS streams over HTTP/2, delta and state of the world.
//!
//! A stream is one body: when hyper can write, it polls the body, and the body answers with what is to be sent at that
//! moment. So a slow reader holds one response at most, and what is sent is the newest there is. Bytes are framed by
//! hand from entries that are encoded once (`xds::delta_server::frame`).
//!
//! What a peer may make the server hold is limited ([`xds::limits`]): connections, streams, requests in part, names, lines
//! of the log, and how long it may say nothing.
//!
//! | module | what |
//! |---|---|
//! | `connections` | how many there are |
//! | `stream` | one stream as an HTTP/2 body |
//! | `protocol` | the two methods |
//! | `grpc` | codes and trailers |
//! | `lines` | what of a peer is logged |

mod connections;
mod grpc;
mod lines;
mod protocol;
mod stream;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use xds::limits::{HEADER_BYTES, PING_EVERY, PING_TIMEOUT, STREAM_WINDOW, STREAMS_PER_CONNECTION};

use crate::push::Shared;
pub(crate) use connections::Limits;
use connections::{Admitted, Connections};
use grpc::code;
use lines::Lines;
use protocol::Protocol;
use stream::AdsStream;

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// What all connections share.
#[derive(Debug)]
struct Server {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    lines: Lines,
}

/// The streams of one connection.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    ever: AtomicUsize,
}

/// Accepts until dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    serve_within(listener, shared, Limits::default()).await;
}

async fn serve_within(listener: TcpListener, shared: Arc<Shared>, limits: Limits) {
    let log = shared.log;
    let lines = Lines::new(log, Instant::now());
    let server = Arc::new(Server { shared, connections: Connections::new(limits), lines });
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
            tokio::spawn(connection(stream, server.clone(), admitted));
        }
        Err(error) => server.lines.write(&format!("xDS refuses {peer}: {error}"), Instant::now()),
    }
}

/// Out of file descriptors is the likely reason: those who wait are served when others go.
pub(crate) async fn pause_after(error: &std::io::Error, role: &str, log: fn(&str)) {
    log(&format!("{role} cannot accept a connection: {error}"));
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(stream: TcpStream, server: Arc<Server>, _admitted: Admitted) {
    // A response is written at once; only the kernel could hold it back.
    let _ = stream.set_nodelay(true);
    let streams = Arc::new(Streams::default());
    let service = {
        let (server, streams) = (server.clone(), streams.clone());
        hyper::service::service_fn(move |request| {
            let answer = answer(request, &server, &streams);
            async move { Ok::<_, Infallible>(answer) }
        })
    };
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 2);
    let serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ends is seen by its streams.
        _ = serving => {}
        () = unused(&streams, server.connections.limits()) => {}
    }
}

/// Returns when nothing was asked on the connection for too long.
async fn unused(streams: &Streams, limits: &Limits) {
    tokio::time::sleep(limits.first_word).await;
    if streams.ever.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut before = None;
    loop {
        let ever = streams.ever.load(Ordering::Relaxed);
        let idle = streams.open.load(Ordering::Relaxed) == 0;
        if idle && before == Some(ever) {
            return;
        }
        before = idle.then_some(ever);
        tokio::time::sleep(limits.without_stream).await;
    }
}

fn answer(request: Request<Incoming>, server: &Arc<Server>, streams: &Arc<Streams>) -> Response<AdsStream> {
    let (head, body) = request.into_parts();
    let ended = |body| AdsStream::ended(server.clone(), streams.clone(), body);
    if head.method != Method::POST {
        let mut response = Response::new(ended(body));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let protocol = match head.uri.path() {
        DELTA => Protocol::delta(),
        STATE_OF_THE_WORLD => Protocol::state_of_the_world(),
        _ => {
            let mut response = grpc_response(ended(body));
            let reason = "no such method; this is an xDS server";
            response.headers_mut().extend(grpc::status(code::UNIMPLEMENTED, reason));
            return response;
        }
    };
    grpc_response(AdsStream::new(server.clone(), streams.clone(), protocol, body))
}

fn grpc_response(body: AdsStream) -> Response<AdsStream> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
