//! Calls: requests of our own, which no client has sent.
//!
//! A call is an exchange whose client is nobody ([`Key::NOBODY`]: what is sent to that key is dropped, nothing is read
//! from it, and it never leaves), so that hosts, pools, breakers, outlier detection and timeouts serve calls as they serve
//! requests. Its request is given as HTTP/1 has it, head and body; what the host speaks is found out as for any other.
//! Its end is [`CallEnd`].

use std::time::Duration;

use super::Worker;
use super::exchange::{Deadline, Exchange, ExchangeId};
use super::route::Routed;
use crate::net::sockets::Key;

/// A call not begun yet.
pub struct CallRequest {
    pub route: Routed,
    /// An HTTP/1 head, and the whole body as that head frames it.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// How long it may take, answer and all.
    pub timeout: Duration,
    pub end: CallEnd,
}

/// What an exchange without a client has in place of one.
pub struct Call {
    end: CallEnd,
}

/// Who is told that a call has ended.
pub enum CallEnd {
    /// Nobody: a copy of a request, whose answer is thrown away.
    Nothing,
}

impl Worker {
    /// Begins a call when the event under way is done with, not from within somebody else's exchange.
    pub(super) fn call_later(&mut self, call: CallRequest) {
        self.calls.waiting.push_back(call);
    }

    /// Begins a call that waits, if one does.
    pub(super) fn begin_next_call(&mut self) -> bool {
        let Some(call) = self.calls.waiting.pop_front() else { return false };
        let now = self.now;
        let mut exchange = self.exchanges.blank(Key::NOBODY, now);
        exchange.head = call.head;
        let parsed =
            wire::h1::parse_request(&exchange.head, &mut exchange.request, &self.shared.upstream_limits);
        if !matches!(parsed, Ok(Some(length)) if length == exchange.head.len()) {
            // Made here of what was a head before. It holds too much at most: of that no copy is sent.
            self.exchanges.recycle(exchange);
            return true;
        }
        exchange.received_head = exchange.head.len() as u64;
        exchange.received = call.body.len() as u64;
        exchange.replay = call.body;
        exchange.replayable = true;
        exchange.request_done = true;
        exchange.request_ended = now;
        exchange.route = Some(call.route);
        exchange.route_deadline = Deadline(now.after(call.timeout));
        exchange.call = Some(Box::new(Call { end: call.end }));
        self.calls.active += 1;
        let id = self.exchanges.reserve(&mut exchange);
        self.attempt(id, exchange, &[]);
        true
    }

    /// A call is over, with an answer or without.
    pub(super) fn call_ended(&mut self, id: ExchangeId, exchange: Box<Exchange>, call: &Call) {
        self.calls.active = self.calls.active.saturating_sub(1);
        self.exchanges.retire(id, exchange);
        match call.end {
            CallEnd::Nothing => {}
        }
    }
}

/// The calls of a worker.
#[derive(Default)]
pub struct Calls {
    waiting: std::collections::VecDeque<CallRequest>,
    /// Begun and not ended.
    active: usize,
}

impl Calls {
    pub fn active(&self) -> usize {
        self.active
    }

    /// Begun or about to be.
    pub fn all(&self) -> usize {
        self.active + self.waiting.len()
    }
}
