//! One stream: the requests it reads, the responses it writes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::Sleep;
use xds::core;
use xds::delta_server::{Capabilities, Connection};
use xds::limits::BACKLOG;

use super::connections::Reserved;
use super::grpc::{code, status};
use super::lines::told;
use super::protocol::{Protocol, Request};
use super::{Server, Streams};
use crate::lock::lock;
use crate::node::{Node, NodeError};
use crate::push::peer::Peer;
use crate::translate::Profile;
use crate::translate::grpc::SERVER_LISTENER;

/// A stream as hyper polls it.
pub(super) struct AdsStream {
    server: Arc<Server>,
    streams: Arc<Streams>,
    incoming: Incoming,
    protocol: Protocol,
    /// Room for a large request that has come in part.
    reserved: Option<Reserved>,
    state: State,
    timer: Option<Pin<Box<Sleep>>>,
    /// It has been said that a gRPC server asks for its own listener.
    said_server: bool,
}

enum State {
    /// Nothing is known of the client yet.
    New,
    Open {
        peer: Arc<Peer>,
        /// What came before the first set.
        backlog: VecDeque<Request>,
    },
    Ending(u16, String),
    Ended,
}

impl AdsStream {
    pub(super) fn new(
        server: Arc<Server>,
        streams: Arc<Streams>,
        protocol: Protocol,
        incoming: Incoming,
    ) -> Self {
        streams.open.fetch_add(1, Ordering::Relaxed);
        streams.ever.fetch_add(1, Ordering::Relaxed);
        let timer = Some(Box::pin(tokio::time::sleep(server.connections.limits().first_word)));
        Self {
            server,
            streams,
            incoming,
            protocol,
            reserved: None,
            state: State::New,
            timer,
            said_server: false,
        }
    }

    /// One that is answered by its headers alone.
    pub(super) fn ended(server: Arc<Server>, streams: Arc<Streams>, incoming: Incoming) -> Self {
        let mut stream = Self::new(server, streams, Protocol::delta(), incoming);
        stream.state = State::Ended;
        stream
    }

    fn end(&mut self, code: u16, reason: impl Into<String>) {
        self.disconnect();
        self.state = State::Ending(code, reason.into());
    }

    fn disconnect(&mut self) {
        if let State::Open { peer, .. } = std::mem::replace(&mut self.state, State::Ended) {
            self.server.shared.disconnect(&peer);
        }
    }

    fn say(&self, line: &str) {
        self.server.lines.write(line, Instant::now());
    }

    /// Takes in whatever has come.
    fn read(&mut self, cx: &mut Context<'_>) {
        while matches!(self.state, State::New | State::Open { .. }) {
            if matches!(&self.state, State::Open { backlog, .. } if backlog.len() >= BACKLOG) {
                return;
            }
            match self.protocol.take() {
                Ok(Some(request)) => {
                    self.reserved = None;
                    self.request(request);
                    continue;
                }
                Ok(None) => {}
                Err(error) => return self.end(code::INVALID_ARGUMENT, error.to_string()),
            }
            if !self.may_take_more() {
                return;
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.protocol.push(&data);
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

    /// Judges who sends a large request before the rest of it is taken in, and finds room for it. `false`: the stream ends.
    fn may_take_more(&mut self) -> bool {
        if matches!(self.state, State::New) {
            match self.protocol.node() {
                Ok(None) => {}
                Ok(Some(node)) => match self.judge(&node) {
                    Some(_) => self.protocol.accept(),
                    None => return false,
                },
                Err(error) => {
                    self.end(code::INVALID_ARGUMENT, error.to_string());
                    return false;
                }
            }
        }
        let awaited = self.protocol.awaited();
        if awaited > 0 && self.reserved.is_none() {
            self.reserved = self.server.connections.reserve(awaited);
            if self.reserved.is_none() {
                self.end(code::RESOURCE_EXHAUSTED, "too many large requests at a time: come again");
                return false;
            }
        }
        true
    }

    /// The node as meant. `None`: it is not served, and the stream ends.
    fn judge(&mut self, node: &core::Node) -> Option<Node> {
        match Node::read(node) {
            Ok(node) => Some(node),
            Err(error) => {
                self.say(&format!("a proxy is refused: {}", told(&error.to_string())));
                self.end(refusal(&error), error.to_string());
                None
            }
        }
    }

    /// A gRPC server is told that it has no listener, as anybody is of what is not there. Said once: each request repeats it.
    fn say_server(&mut self, node: &Node, request: &Request) {
        if self.said_server || node.profile != Profile::Grpc {
            return;
        }
        if let Some(name) = request.names().iter().find(|name| name.starts_with(SERVER_LISTENER)) {
            self.said_server = true;
            let (proxy, name) = (&node.id, told(name));
            self.say(&format!(
                "{proxy}: listeners of gRPC servers are not served yet, so there is no {name}"
            ));
        }
    }

    fn request(&mut self, request: Request) {
        if let State::New = self.state {
            let Some(node) = request.node() else {
                return self.end(code::INVALID_ARGUMENT, NodeError::Missing.to_string());
            };
            let Some(mut node) = self.judge(node) else { return };
            if self.protocol.is_state_of_the_world() {
                node.able = Capabilities { takes_whole_types: true, ..node.able };
            }
            self.protocol.accept();
            self.say_server(&node, &request);
            self.timer = None;
            let peer = self.server.shared.connect(node);
            self.state = State::Open { peer, backlog: VecDeque::from([request]) };
            return;
        }
        if let State::Open { peer, .. } = &self.state {
            let peer = peer.clone();
            self.say_server(&peer.node, &request);
        }
        let leaving = match request.node() {
            Some(node) => match self.judge(node) {
                Some(node) => node.leaving,
                None => return,
            },
            None => false,
        };
        let State::Open { peer, backlog } = &mut self.state else { return };
        if leaving {
            self.server.shared.leave(peer);
            return self.end(code::OK, "");
        }
        let peer = peer.clone();
        let mut guard = lock(&peer.connection);
        let Some(connection) = guard.as_mut() else { return backlog.push_back(request) };
        if let Err(reason) = hear(&self.server, &mut self.protocol, &peer, connection, &request) {
            drop(guard);
            self.end(code::RESOURCE_EXHAUSTED, reason);
        }
    }

    /// What is to be sent now.
    fn write(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        if matches!(self.state, State::New) {
            let due = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
            if due {
                self.end(code::DEADLINE_EXCEEDED, "the stream's first request did not come");
            }
            return None;
        }
        let State::Open { peer, backlog } = &mut self.state else { return None };
        let peer = peer.clone();
        let now = Instant::now();
        let mut guard = lock(&peer.connection);
        while let Some(set) = peer.take(cx) {
            match guard.as_mut() {
                Some(connection) => connection.update(set),
                None => *guard = Some(Connection::new(peer.node.able, set, now)),
            }
        }
        let connection = guard.as_mut()?;
        for request in std::mem::take(backlog) {
            if let Err(reason) = hear(&self.server, &mut self.protocol, &peer, connection, &request) {
                drop(guard);
                self.end(code::RESOURCE_EXHAUSTED, reason);
                return None;
            }
        }
        let live = connection.live_generation();
        let written = self.protocol.next(connection, now);
        let deadline = self.protocol.deadline(connection);
        let moved = connection.live_generation() != live;
        drop(guard);
        if moved {
            self.server.shared.progressed();
        }
        let Some(written) = written else {
            self.wait(deadline, cx);
            return None;
        };
        if let Some((kind, resources)) = written.kind {
            self.server.shared.metrics.pushed(kind, resources, written.bytes.len());
        }
        Some(written.bytes)
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
    server: &Server,
    protocol: &mut Protocol,
    peer: &Peer,
    connection: &mut Connection,
    request: &Request,
) -> Result<(), String> {
    let (shared, now) = (&server.shared, Instant::now());
    let live = connection.live_generation();
    let heard = protocol.hear(connection, request, now).map_err(|error| error.to_string())?;
    if heard.expired {
        shared.metrics.nonce_expired();
    }
    if let (Some(kind), true) = (heard.kind, heard.rejected) {
        shared.metrics.rejected(kind);
    }
    let proxy = &peer.node.id;
    for refused in &heard.refused {
        let (kind, name, reason) = (refused.kind.short(), &refused.name, told(&refused.reason));
        server.lines.write(&format!("{proxy} refuses {kind} {name}: {reason}"), now);
    }
    if let (Some(kind), Some(error), [_, ..]) = (heard.kind, request.error(), heard.unknown.as_slice()) {
        let (kind, many, error) = (kind.short(), heard.unknown.len(), told(error));
        let line = format!("{proxy} refuses some of {many} {kind} resources, which is tried out: {error}");
        server.lines.write(&line, now);
    }
    for took in heard.converged {
        shared.metrics.converged(took);
    }
    if connection.live_generation() != live || !heard.refused.is_empty() {
        shared.progressed();
    }
    Ok(())
}

impl Body for AdsStream {
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

impl Drop for AdsStream {
    fn drop(&mut self) {
        self.disconnect();
        self.streams.open.fetch_sub(1, Ordering::Relaxed);
    }
}
