//! Calls: requests of our own, which no client has sent.
//!
//! A call is an exchange whose client is [`ClientSide::Nobody`] (what is written to it is dropped, nothing is read from it, and
//! it never leaves), so that hosts, pools, breakers, outlier detection and timeouts serve calls as they serve
//! requests. Its request is given as HTTP/1 has it, head and body; what the host speaks is found out as for any other.
//! Its end is [`CallEnd`].

pub mod check_request;
pub mod health_check;
pub mod mirror;
mod tcp_check;

use std::time::Duration;

use model::cluster::UpstreamProtocol;
use model::route::Priority;

use crate::call::health_check::CheckId;
use crate::exchange::sides::ClientSide;
use crate::exchange::{Deadline, Ending, Exchange, ExchangeId, Progress};
use crate::request::routed::Routed;
use crate::upstream::breaker::Limited;
use crate::upstream::host::HostRef;
use crate::worker::Worker;

/// A call not begun yet.
pub struct CallRequest {
    pub to: CallTo,
    /// An HTTP/1 head, and the whole body as that head frames it.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// How long it may take, answer and all.
    pub timeout: Duration,
    pub end: CallEnd,
}

/// Where a call goes.
pub enum CallTo {
    /// To a host of a cluster, picked and admitted as for any request.
    Cluster(Routed),
    /// To this host, whatever breakers say.
    Host(HostRef),
}

/// What an exchange without a client has in place of one.
pub struct Call {
    end: CallEnd,
    /// The answer's body, where it is asked for.
    body: Vec<u8>,
    /// The host says in its answer that it takes no more requests.
    withdrawn: bool,
}

/// What a call brought.
pub struct Answer {
    /// `None`: no whole answer came.
    pub status: Option<u16>,
    pub grpc_status: Option<u8>,
    pub body: Vec<u8>,
    /// The host says in it that it takes no more requests.
    pub withdrawn: bool,
}

/// What is kept of an answer's body.
const MOST_BODY: usize = 64 * 1024;

/// Who is told that a call has ended.
pub enum CallEnd {
    /// Nobody: a copy of a request, whose answer is thrown away.
    Nothing,
    /// The health check of a host.
    Check(CheckId),
}

impl Call {
    /// More of the answer's body.
    pub fn keep(&mut self, bytes: &[u8]) {
        if matches!(self.end, CallEnd::Check(_)) && self.body.len() + bytes.len() <= MOST_BODY {
            self.body.extend_from_slice(bytes);
        }
    }
}

impl Worker {
    /// Begins a call when the event under way is done with, not from within somebody else's exchange.
    pub(crate) fn call_later(&mut self, call: CallRequest) {
        self.calls.waiting.push_back(call);
    }

    /// Begins a call that waits, if one does.
    pub(crate) fn begin_next_call(&mut self) -> bool {
        let Some(call) = self.calls.waiting.pop_front() else { return false };
        let now = self.now;
        let mut exchange = self.exchanges.blank(ClientSide::Nobody, now);
        exchange.head = call.head;
        let parsed =
            wire::h1::parse_request(&exchange.head, &mut exchange.head_storage, &self.shared.upstream_limits);
        if !matches!(parsed, Ok(Some(length)) if length == exchange.head.len()) {
            // Made here of what was a head before. It holds too much at most: of that no copy is sent.
            self.exchanges.recycle(exchange);
            return true;
        }
        exchange.request.received_head = exchange.head.len() as u64;
        exchange.request.received = call.body.len() as u64;
        exchange.replay = call.body;
        exchange.request.replayable = true;
        exchange.request.progress = Progress::Whole;
        exchange.times.request_ended = now;
        exchange.times.route_deadline = Deadline(now.after(call.timeout));
        exchange.call = Some(Box::new(Call { end: call.end, body: vec![], withdrawn: false }));
        self.calls.active += 1;
        let id = self.exchanges.reserve(&mut exchange);
        match call.to {
            CallTo::Cluster(route) => {
                exchange.target.route = Some(route);
                self.attempt(id, exchange, &[]);
            }
            CallTo::Host(host) => self.call_host(id, exchange, &host),
        }
        true
    }

    /// To one host: over a kept connection of its pool, or a new one.
    fn call_host(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, host: &HostRef) {
        let config = host.cluster.config.borrow().clone();
        let http2 = host.key.protocol == UpstreamProtocol::Http2;
        exchange.target.host = Some(host.clone());
        exchange.response.upstream_remote = Some(host.address);
        exchange.target.attempts = 1;
        let kept = match http2 {
            true => self.shared_connection(host, &config),
            false => self.kept_connection(host),
        };
        let slot = || host.cluster.counts.take_over(Priority::Default, Limited::Connections, u32::MAX);
        match kept.map_or_else(|| self.new_connection(&config, host, http2, slot()), Ok) {
            Ok(key) => {
                self.arm(&mut exchange);
                self.send_request(id, exchange, key, &[]);
            }
            Err(_) => self.finish(id, exchange),
        }
    }

    /// A call is over, with an answer or without.
    pub(crate) fn call_ended(&mut self, id: ExchangeId, exchange: Box<Exchange>, call: Call) {
        self.calls.active = self.calls.active.saturating_sub(1);
        let answer = Answer {
            status: (exchange.ending == Ending::Whole).then_some(exchange.response.status),
            grpc_status: exchange.response.grpc_status,
            body: call.body,
            withdrawn: call.withdrawn,
        };
        self.exchanges.retire(id, exchange);
        match call.end {
            CallEnd::Nothing => {}
            CallEnd::Check(check) => self.check_answered(check, &answer),
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
