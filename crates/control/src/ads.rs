//! The gRPC service: delta ADS streams over HTTP/2.
//!
//! A stream is one body: when hyper can write, it polls the body, and the body answers with what is to be sent at that
//! moment. So a slow reader holds one response at most, and what is sent is the newest there is. Bytes are framed by
//! hand from entries that are encoded once (`xds::delta_server::frame`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use xds::delta_server::frame::{self, Requests};
use xds::delta_server::{Connection, Kind};
use xds::discovery::DeltaDiscoveryRequest;

use crate::lock::lock;
use crate::node::{Node, NodeError};
use crate::push::Shared;
use crate::push::peer::Peer;

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// What the server calls itself in every response.
const IDENTIFIER: &str = concat!("filamesh ", env!("CARGO_PKG_VERSION"));

/// A proxy whose machine is gone without a word is given up after these two.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that wait for the first set of resources.
const BACKLOG: usize = 64;

/// gRPC's codes.
mod code {
    pub(super) const OK: u16 = 0;
    pub(super) const INVALID_ARGUMENT: u16 = 3;
    pub(super) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(super) const UNIMPLEMENTED: u16 = 12;
}

/// Accepts until dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, shared.clone()));
            }
            Err(error) => pause_after(&error, "xDS", shared.log).await,
        }
    }
}

/// Out of file descriptors is the likely reason: those who wait are served when others go.
pub(crate) async fn pause_after(error: &std::io::Error, role: &str, log: fn(&str)) {
    log(&format!("{role} cannot accept a connection: {error}"));
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A response is written at once; only the kernel could hold it back.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let answer = answer(request, &shared);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIMEOUT);
    // How a connection ends is seen by its streams.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Response<DeltaStream> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        let mut response = Response::new(DeltaStream::ended(shared.clone(), body));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    match head.uri.path() {
        DELTA => grpc(DeltaStream::new(shared.clone(), body), None),
        STATE_OF_THE_WORLD => {
            let reason = "state-of-the-world ADS is not served; use delta (api_type DELTA_GRPC)";
            grpc(DeltaStream::ended(shared.clone(), body), Some((code::UNIMPLEMENTED, reason)))
        }
        _ => {
            let reason = "no such method; this is an xDS server";
            grpc(DeltaStream::ended(shared.clone(), body), Some((code::UNIMPLEMENTED, reason)))
        }
    }
}

fn grpc(body: DeltaStream, refused: Option<(u16, &str)>) -> Response<DeltaStream> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some((code, reason)) = refused {
        headers.extend(status(code, reason));
    }
    response
}

fn status(code: u16, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// As gRPC wants messages: printable ASCII but `%`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// One stream: the requests it reads, the responses it writes.
struct DeltaStream {
    shared: Arc<Shared>,
    incoming: Incoming,
    requests: Requests,
    state: State,
    timer: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// Nothing is known of the client yet.
    New,
    Open {
        peer: Arc<Peer>,
        /// What came before the first set.
        backlog: VecDeque<DeltaDiscoveryRequest>,
    },
    Ending(u16, String),
    Ended,
}

impl DeltaStream {
    fn new(shared: Arc<Shared>, incoming: Incoming) -> Self {
        Self { shared, incoming, requests: Requests::default(), state: State::New, timer: None }
    }

    fn ended(shared: Arc<Shared>, incoming: Incoming) -> Self {
        let mut stream = Self::new(shared, incoming);
        stream.state = State::Ended;
        stream
    }

    fn end(&mut self, code: u16, reason: impl Into<String>) {
        self.disconnect();
        self.state = State::Ending(code, reason.into());
    }

    fn disconnect(&mut self) {
        if let State::Open { peer, .. } = std::mem::replace(&mut self.state, State::Ended) {
            self.shared.disconnect(&peer);
        }
    }

    /// Takes in whatever has come.
    fn read(&mut self, cx: &mut Context<'_>) {
        while matches!(self.state, State::New | State::Open { .. }) {
            if matches!(&self.state, State::Open { backlog, .. } if backlog.len() >= BACKLOG) {
                return;
            }
            match self.requests.take() {
                Ok(Some(request)) => {
                    self.request(request);
                    continue;
                }
                Ok(None) => {}
                Err(error) => return self.end(code::INVALID_ARGUMENT, error.to_string()),
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.requests.push(&data);
                    }
                }
                // Nothing will be asked or acknowledged any more.
                Poll::Ready(None) => return self.end(code::OK, ""),
                Poll::Ready(Some(Err(_))) => {
                    self.disconnect();
                    return;
                }
            }
        }
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) {
        let node = request.node.as_ref().map(Node::read).transpose();
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                (self.shared.log)(&format!("a proxy is refused: {error}"));
                return self.end(refusal(&error), error.to_string());
            }
        };
        if let State::New = self.state {
            let Some(node) = node else {
                return self.end(code::INVALID_ARGUMENT, NodeError::Missing.to_string());
            };
            let peer = self.shared.connect(node);
            self.state = State::Open { peer, backlog: VecDeque::from([request]) };
            return;
        }
        let State::Open { peer, backlog } = &mut self.state else { return };
        if node.is_some_and(|n| n.leaving) {
            self.shared.leave(peer);
            return self.end(code::OK, "");
        }
        let peer = peer.clone();
        match lock(&peer.connection).as_mut() {
            None => backlog.push_back(request),
            Some(connection) => {
                if let Err(reason) = hear(&self.shared, &peer, connection, &request) {
                    self.end(code::RESOURCE_EXHAUSTED, reason);
                }
            }
        }
    }

    /// What is to be sent now.
    fn write(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let State::Open { peer, backlog } = &mut self.state else { return None };
        let peer = peer.clone();
        let now = Instant::now();
        let mut guard = lock(&peer.connection);
        while let Some(set) = peer.take(cx) {
            match guard.as_mut() {
                Some(connection) => connection.update(set),
                None => *guard = Some(Connection::new(peer.dialect(), set, now)),
            }
        }
        let connection = guard.as_mut()?;
        for request in std::mem::take(backlog) {
            if let Err(reason) = hear(&self.shared, &peer, connection, &request) {
                drop(guard);
                self.end(code::RESOURCE_EXHAUSTED, reason);
                return None;
            }
        }
        let live = connection.live_generation();
        let response = connection.next(now);
        let deadline = connection.deadline();
        let moved = connection.live_generation() != live;
        drop(guard);
        if moved {
            self.shared.progressed();
        }
        let Some(response) = response else {
            self.wait(deadline, cx);
            return None;
        };
        let bytes = frame::encode(&response, IDENTIFIER);
        if let Some(kind) = Kind::of(&response.type_url) {
            self.shared.metrics.pushed(kind, response.resources.len(), bytes.len());
        }
        Some(bytes)
    }

    /// Has the task woken when something becomes due.
    fn wait(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) {
        self.timer = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }
}

fn refusal(error: &NodeError) -> u16 {
    match error {
        NodeError::Kind(_) | NodeError::Generator(_) => code::UNIMPLEMENTED,
        NodeError::Missing | NodeError::Id(_) | NodeError::Metadata { .. } => code::INVALID_ARGUMENT,
    }
}

/// Takes a request in, and tells of what it brought to light.
fn hear(
    shared: &Shared,
    peer: &Peer,
    connection: &mut Connection,
    request: &DeltaDiscoveryRequest,
) -> Result<(), String> {
    let live = connection.live_generation();
    let heard = connection.request(request, Instant::now()).map_err(|error| error.to_string())?;
    if heard.expired {
        shared.metrics.nonce_expired();
    }
    if let (Some(kind), false) = (heard.kind, heard.refused.is_empty()) {
        shared.metrics.rejected(kind);
    }
    for refused in &heard.refused {
        let (proxy, kind) = (&peer.node.id, refused.kind.short());
        (shared.log)(&format!("{proxy} refuses {kind} {}: {}", refused.name, refused.reason));
    }
    for took in heard.converged {
        shared.metrics.converged(took);
    }
    if connection.live_generation() != live || !heard.refused.is_empty() {
        shared.progressed();
    }
    Ok(())
}

impl Body for DeltaStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        stream.read(cx);
        if let Some(bytes) = stream.write(cx) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match std::mem::replace(&mut stream.state, State::Ended) {
            State::Ending(code, reason) => Poll::Ready(Some(Ok(Frame::trailers(status(code, &reason))))),
            State::Ended => Poll::Ready(None),
            open => {
                stream.state = open;
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

impl Drop for DeltaStream {
    fn drop(&mut self) {
        self.disconnect();
    }
}
