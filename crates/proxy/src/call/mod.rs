//! Calls: requests of our own, which no client has sent.
//!
//! A call is an exchange whose client is [`ClientSide::Nobody`] (what is written to it is dropped, nothing is read from it, and
//! it never leaves), so that hosts, pools, breakers, outlier detection and timeouts serve calls as they serve
//! requests. Its request is given as HTTP/1 has it, head and body; what the host speaks is found out as for any other.
//! Its end is [`CallEnd`]. The types are in `state.rs`. Who makes calls: `mirror.rs` (copies of requests) and
//! `health_check.rs` (with `checks.rs`, whose health and when; `check_request.rs`, what is said and heard; `tcp_check.rs`, by a
//! connection alone).

pub mod check_request;
pub mod checks;
pub mod health_check;
pub mod mirror;
pub mod state;
mod tcp_check;

use model::cluster::UpstreamProtocol;
use model::route::Priority;

use crate::call::state::{Answer, Call, CallEnd, CallRequest, CallTo};
use crate::exchange::sides::ClientSide;
use crate::exchange::{Deadline, Ending, Exchange, ExchangeId, Progress};
use crate::upstream::breaker::Limited;
use crate::upstream::host::HostRef;
use crate::worker::Worker;

impl Worker {
    /// Puts a call on the list that [`Worker::settle`] works off after the event under way: the caller may stand in the
    /// middle of another exchange's end.
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
        exchange.call = Some(Box::new(Call { end: call.end, body: vec![] }));
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
        };
        self.exchanges.retire(id, exchange);
        match call.end {
            CallEnd::Nothing => {}
            CallEnd::Check(check) => self.check_answered(check, &answer),
        }
    }
}
