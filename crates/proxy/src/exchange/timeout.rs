//! Deadlines. A connection has one timer, set to the earliest of what may end; what has ended is found out when it fires.

use std::time::Duration;

use model::retry::Outcome;
use telemetry::Flags;

use crate::clock::Time;
use crate::exchange::sides::ClientSide;
use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::response::reply::{Reply, Reset};
use crate::upstream::outlier::Fared;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Reading};

impl Worker {
    /// Sets the timer of a client's connection to the earliest thing that may end.
    pub(crate) fn arm_downstream(&mut self, key: Key) {
        let now = self.now;
        let Some(Conn::Downstream(down)) = self.conns.get(key) else { return };
        let timeouts = &down.client.http.settings.timeouts;
        let mut deadline = Time::NEVER;
        let mut earlier = |time: Time| deadline = deadline.min(time);
        match down.exchange.and_then(|id| self.exchanges.get(id)) {
            Some(exchange) => earlier(exchange.next_deadline()),
            None => match (down.head_began, shorter(timeouts.request_headers, timeouts.request)) {
                (Some(began), Some(timeout)) => earlier(began.after(timeout)),
                _ => {
                    if let Some(idle) = timeouts.idle {
                        earlier(now.after(idle));
                    }
                }
            },
        }
        // Once it is known that no request follows, the connection ends with what is under way.
        if let (Some(limit), false) = (down.client.age_limit(), down.client.last) {
            earlier(limit);
        }
        self.sockets.set_deadline(key, deadline);
    }

    /// Sets the timer for an exchange somebody holds.
    pub(crate) fn arm(&mut self, exchange: &mut Exchange) {
        let deadline = exchange.next_deadline();
        match exchange.client_side {
            ClientSide::H1(key) => self.sockets.set_deadline(key, deadline),
            ClientSide::H2(..) | ClientSide::Nobody => {
                self.exchanges.set_deadline(exchange.id, deadline);
            }
        }
    }

    /// Bytes moved: the stream is not idle.
    #[inline]
    pub(crate) fn touch(&mut self, exchange: &mut Exchange) {
        if let Some(idle) = exchange.times.idle_timeout {
            exchange.times.idle_deadline = Deadline(self.now.after(idle));
            // The timer is not set again, for that costs more than one firing too early, which sets it to the new deadline.
        }
        if let Some(idle) = exchange.times.per_try_idle_timeout
            && exchange.times.try_idle_deadline != Deadline::NEVER
        {
            exchange.times.try_idle_deadline = Deadline(self.now.after(idle));
        }
    }

    pub(crate) fn expire(&mut self) {
        self.count_memory();
        let mut expired = std::mem::take(&mut self.expired);
        self.sockets.expired(self.now, &mut expired);
        for key in expired.drain(..) {
            match self.conns.get(key) {
                Some(Conn::Downstream(_)) => self.downstream_timeout(key),
                Some(Conn::Upstream(_)) => self.upstream_timeout(key),
                Some(Conn::DownstreamH2(_)) => self.h2_client_timeout(key),
                Some(Conn::UpstreamH2(_)) => self.h2_host_timeout(key),
                Some(Conn::Undecided(_)) => self.undecided_timeout(key),
                Some(Conn::Inspecting(_)) => self.inspect_timeout(key),
                Some(Conn::Securing(_)) => self.client_not_secured(key),
                Some(Conn::TcpDownstream(_)) => self.tcp_timeout(key),
                Some(Conn::TcpUpstream(down)) => {
                    let down = *down;
                    self.tcp_connect_timeout(down, key);
                }
                Some(Conn::Check(id)) => {
                    let id = *id;
                    self.tcp_check_gone(key, id);
                }
                Some(Conn::Lingering(_)) => self.linger_timeout(key),
                Some(Conn::Vacant) | None => self.sockets.close(key),
            }
            self.settle();
        }
        self.expired = expired;
        let mut exchanges = std::mem::take(&mut self.expired_exchanges);
        self.exchanges.expired(self.now, &mut exchanges);
        for id in exchanges.drain(..) {
            self.exchange_timeout(id);
            self.settle();
        }
        self.expired_exchanges = exchanges;
    }

    fn downstream_timeout(&mut self, key: Key) {
        let now = self.now;
        let Some(Conn::Downstream(down)) = self.conns.get_mut(key) else { return };
        if let Some(id) = down.exchange {
            self.exchange_timeout(id);
            return;
        }
        if down.client.retire_if_old(now, &self.telemetry) {
            return match down.head_began {
                Some(_) => self.arm_downstream(key),
                None => self.end_downstream(key),
            };
        }
        let timeouts = down.client.http.settings.timeouts;
        let stats = down.client.http.stats.clone();
        let (limits, began) = (shorter(timeouts.request_headers, timeouts.request), down.head_began);
        if let (Some(timeout), Some(began)) = (limits, began) {
            if began.after(timeout) > now {
                self.arm_downstream(key);
                return;
            }
            let exchange = self.exchanges.blank(ClientSide::H1(key), began);
            let reject = if timeouts.request_headers == limits {
                self.telemetry.shard.inc(stats.downstream_rq_header_timeout);
                wire::Reject::unserved(408, "request_header_timeout")
            } else {
                self.telemetry.shard.inc(stats.downstream_rq_timeout);
                wire::Reject::unserved(408, "request_overall_timeout")
            };
            self.refuse_head(key, exchange, &reject);
            return;
        }
        self.telemetry.shard.inc(stats.downstream_cx_idle_timeout);
        self.close_downstream(key);
    }

    /// The timer of an exchange has fired: what is due is done, or the timer set anew.
    fn exchange_timeout(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        match exchange.due(self.now) {
            None => {
                self.arm(&mut exchange);
                self.exchanges.put_back(id, exchange);
            }
            Some(Due::Wake) => {
                exchange.times.wake = Deadline::NEVER;
                self.exchanges.put_back(id, exchange);
                self.wake(id);
            }
            Some(Due::Duration) => self.duration_reached(id, exchange),
            Some(Due::Request) => self.request_timeout(id, exchange),
            Some(Due::Route) => self.route_timeout(id, exchange),
            Some(Due::Try) => {
                exchange.times.try_deadline = Deadline::NEVER;
                self.count_timeout(&exchange, true);
                self.exchanges.put_back(id, exchange);
                self.per_try_timeout(id, Outcome::PerTryTimeout);
            }
            Some(Due::TryIdle) => self.try_idle_timeout(id, exchange),
            Some(Due::TryEnd) => self.try_end_reached(id, exchange),
            Some(Due::Idle) => self.stream_idle_timeout(id, exchange),
        }
    }

    /// The request did not come whole in time.
    fn request_timeout(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        if let Some(client) = self.client(exchange.client_side.key()) {
            let stats = client.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_rq_timeout);
        }
        self.local_reply(id, exchange, 408, b"request timeout", Flags::NONE, "request_overall_timeout");
    }

    /// The answer did not come in time (Envoy: `Filter::onResponseTimeout`).
    fn route_timeout(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        exchange.response.flags.insert(Flags::UPSTREAM_REQUEST_TIMEOUT);
        self.count_timeout(&exchange, false);
        if exchange.phase == Phase::Attempt {
            self.observe(&exchange, Fared::TimedOut);
        }
        if exchange.response_began() {
            exchange.response.details = "upstream_response_timeout".into();
            self.abort_exchange(id, exchange);
            return;
        }
        let status = if exchange.request.obeyed.timeout_alt_response { 204 } else { 504 };
        // Envoy says UNAVAILABLE here too. A client that has set the deadline itself is told what it would have told itself a
        // moment later, whichever of the two is first.
        let grpc = exchange.times.client_deadline.then_some(wire::grpc::Status::DEADLINE_EXCEEDED);
        let details = "upstream_response_timeout";
        let reply = Reply { grpc, ..Reply::new(status, b"upstream request timeout", Flags::NONE, details) };
        self.reply(id, exchange, &reply);
    }

    /// The host of the try was silent for too long.
    fn try_idle_timeout(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        exchange.times.try_idle_deadline = Deadline::NEVER;
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_rq_per_try_idle_timeout);
        }
        if exchange.response_began() {
            exchange.response.flags.insert(Flags::UPSTREAM_REQUEST_TIMEOUT);
            exchange.response.details = "upstream_per_try_idle_timeout".into();
            self.abort_exchange(id, exchange);
            return;
        }
        self.exchanges.put_back(id, exchange);
        self.per_try_timeout(id, Outcome::PerTryIdleTimeout);
    }

    /// The try has lasted as long as its cluster lets it.
    fn try_end_reached(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        exchange.times.try_end = Deadline::NEVER;
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_rq_max_duration_reached);
        }
        if exchange.response_began() {
            exchange.response.details = "upstream_max_stream_duration_reached".into();
            self.abort_exchange(id, exchange);
            return;
        }
        self.exchanges.put_back(id, exchange);
        self.try_took_too_long(id);
    }

    /// Nothing moved for too long.
    fn stream_idle_timeout(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        exchange.response.flags.insert(Flags::STREAM_IDLE_TIMEOUT);
        if let Some(down) = self.client(exchange.client_side.key()) {
            let stats = down.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_rq_idle_timeout);
        }
        if exchange.response_began() {
            exchange.response.details = "stream_idle_timeout".into();
            self.abort_exchange(id, exchange);
            return;
        }
        // 504 exactly when the request was whole.
        let status = if exchange.request_whole() { 504 } else { 408 };
        self.local_reply(id, exchange, status, b"stream timeout", Flags::NONE, "stream_idle_timeout");
    }

    /// The stream has lasted as long as it may (Envoy: `onStreamMaxDurationReached`).
    fn duration_reached(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        if let Some(client) = self.client(exchange.client_side.key()) {
            let stats = client.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_rq_max_duration_reached);
        }
        if exchange.response_began() {
            exchange.response.details = "max_duration_timeout".into();
            self.abort_exchange(id, exchange);
            return;
        }
        let status = if exchange.request_whole() { 504 } else { 408 };
        let reply = Reply {
            grpc: Some(wire::grpc::Status::DEADLINE_EXCEEDED),
            ..Reply::new(status, b"downstream duration timeout", Flags::NONE, "max_duration_timeout")
        };
        self.reply(id, exchange, &reply);
    }

    fn upstream_timeout(&mut self, key: Key) {
        let now = self.now;
        let Some(up) = self.upstream(key) else { return };
        if up.deadline > now {
            let deadline = up.deadline;
            self.sockets.set_deadline(key, deadline);
            return self.offer_upstream(key);
        }
        if !self.take_back(key) {
            return self.discard_upstream(key);
        }
        let Some(up) = self.upstream(key) else { return };
        let (connecting, exchange, host) = (up.connecting, up.exchange, up.host.clone());
        let stats = &host.cluster.stats;
        if connecting {
            self.telemetry.shard.inc(stats.upstream_cx_connect_timeout);
            self.telemetry.shard.inc(stats.upstream_cx_connect_fail);
            match exchange {
                Some(id) => {
                    self.attempt_failed(key, id, Reset::connection_timeout(), Outcome::ConnectFailure)
                }
                None => self.discard_upstream(key),
            }
        } else if exchange.is_none() && up.reading == Reading::Head {
            self.telemetry.shard.inc(stats.upstream_cx_idle_timeout);
            self.discard_upstream(key);
        }
    }
}

/// A deadline of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Wake,
    Duration,
    Request,
    Route,
    Try,
    TryIdle,
    TryEnd,
    Idle,
}

impl Exchange {
    /// The deadlines that count in the phase it is in, in the order in which they are acted on.
    #[inline(always)]
    fn deadlines(&self) -> [(Due, Deadline); 8] {
        let times = &self.times;
        let when = |counts: bool, deadline| if counts { deadline } else { Deadline::NEVER };
        let waits = matches!(self.phase, Phase::Attempt | Phase::Queued);
        let tries = matches!(self.phase, Phase::Attempt | Phase::Response);
        let comes = !self.request.progress.is_whole() && !self.response_began();
        [
            (Due::Wake, times.wake),
            (Due::Duration, times.duration_deadline),
            (Due::Request, when(comes, times.request_deadline)),
            (Due::Route, times.route_deadline),
            (Due::Try, when(waits, times.try_deadline)),
            (Due::TryIdle, when(tries, times.try_idle_deadline)),
            (Due::TryEnd, when(tries, times.try_end)),
            (Due::Idle, times.idle_deadline),
        ]
    }

    fn next_deadline(&self) -> Time {
        // By reference, so that the compiler makes a row of comparisons of it and no table in memory.
        self.deadlines().iter().fold(Time::NEVER, |next, (_, deadline)| next.min(deadline.0))
    }

    fn due(&self, now: Time) -> Option<Due> {
        self.deadlines().into_iter().find(|(_, deadline)| deadline.passed(now)).map(|(due, _)| due)
    }
}

/// The one that ends first, of two that may not be set.
pub(crate) fn shorter(left: Option<Duration>, right: Option<Duration>) -> Option<Duration> {
    left.into_iter().chain(right).min()
}
