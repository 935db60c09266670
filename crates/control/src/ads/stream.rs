//! One stream: the requests it reads, the responses it writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use xds::core;
use xds::delta_server::frame::Frame;
use xds::delta_server::{Capabilities, Connection};
use xds::limits::BACKLOG;

use super::Server;
use super::connections::Reserved;
use super::grpc::code;
use super::lines::told;
use super::protocol::{Protocol, Request};
use crate::lock::lock;
use crate::node::{Node, NodeError};
use crate::proxy::Profile;
use crate::push::peer::Peer;
use crate::translate::grpc::SERVER_LISTENER;

/// A stream, polled by its connection.
pub(super) struct AdsStream {
    server: Arc<Server>,
    protocol: Protocol,
    /// Room for a large request that has come in part.
    reserved: Option<Reserved>,
    state: State,
    /// The client has said all it had to say.
    closed: bool,
    /// When something becomes due though nothing comes.
    due: Option<Instant>,
    /// It has been said that a gRPC server asks for its own listener.
    said_server: bool,
}

/// What is to be sent.
pub(super) enum Output {
    Response(Frame),
    /// gRPC's code and message: the last there is.
    End(u16, String),
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
    pub(super) fn new(server: Arc<Server>, protocol: Protocol) -> Self {
        let due = Some(Instant::now() + server.connections.limits().first_word);
        Self { server, protocol, reserved: None, state: State::New, closed: false, due, said_server: false }
    }

    /// Bytes of requests have come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::New | State::Open { .. }) {
            self.protocol.push(bytes);
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether more may come than has come: requests that wait for the first set are counted.
    pub(super) fn takes_more(&self) -> bool {
        !self.is_full()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes in what has come, and says the next thing there is to say now. `None`: the task is woken when there is one.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Option<Output> {
        self.read();
        if let Some(frame) = self.write(cx) {
            return Some(Output::Response(frame));
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ending(code, reason) => Some(Output::End(code, reason)),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn is_full(&self) -> bool {
        matches!(&self.state, State::Open { backlog, .. } if backlog.len() >= BACKLOG)
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

    /// Takes in the requests that have come whole.
    fn read(&mut self) {
        while matches!(self.state, State::New | State::Open { .. }) && !self.is_full() {
            match self.protocol.take() {
                Ok(Some(request)) => {
                    self.reserved = None;
                    self.request(request);
                }
                Ok(None) => {
                    if self.may_take_more() && self.closed {
                        // Nothing will be asked or acknowledged any more.
                        self.end(code::OK, "");
                    }
                    return;
                }
                Err(error) => return self.end(code::INVALID_ARGUMENT, error.to_string()),
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
            self.due = None;
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
    fn write(&mut self, cx: &Context<'_>) -> Option<Frame> {
        if matches!(self.state, State::New) {
            if self.due.is_some_and(|due| due <= Instant::now()) {
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
        self.due = deadline;
        let written = written?;
        if let Some((kind, resources)) = written.kind {
            self.server.shared.metrics.pushed(kind, resources, written.frame.len());
        }
        Some(written.frame)
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

impl Drop for AdsStream {
    fn drop(&mut self) {
        self.disconnect();
    }
}
