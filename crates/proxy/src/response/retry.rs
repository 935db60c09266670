//! Trying again: what the model says of an attempt that failed, done.

use std::io;
use std::time::Duration;

use model::retry::{NoRetry, Outcome, Retry, decide};
use model::view::any_of;
use telemetry::Flags;
use wire::HeaderId;

use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::request::routed::Routed;
use crate::response::reply::{Reply, Reset};
use crate::upstream::breaker::Limited;
use crate::upstream::host::bump;
use crate::upstream::outlier::Fared;
use crate::worker::Worker;
use crate::worker::connection::Conn;

/// How sure it is that a host has done nothing for a request whose connection or stream it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unprocessed {
    /// No byte of it has reached the host.
    Unseen,
    /// It says so itself (RFC 9113 §8.7).
    Surely,
    /// It closed an idle connection at the moment the request went out on it.
    Maybe,
}

/// How often a request of which its host has surely seen nothing goes to another connection beside all retries.
const MOST_REPLACED: u8 = 3;

/// Methods that may be sent twice (RFC 9110 §9.2.2).
const IDEMPOTENT: &[&[u8]] = &[b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"];

impl Worker {
    /// A connection could not be made.
    pub(crate) fn connect_failed(&mut self, key: Key, id: ExchangeId, error: Option<io::ErrorKind>) {
        if let Some(up) = self.upstream(key) {
            let host = up.host.clone();
            bump(&host.failed_connects, 1);
            self.telemetry.shard.inc(host.cluster.stats.upstream_cx_connect_fail);
        }
        self.attempt_failed(key, id, Reset::could_not_connect(error), Outcome::ConnectFailure);
    }

    /// The host closed the connection before it began to answer.
    pub(crate) fn attempt_reset(&mut self, key: Key, id: ExchangeId, error: Option<io::ErrorKind>) {
        let Some(up) = self.upstream(key) else { return };
        let (kept_alive, answered) = (up.requests > 1, up.answered);
        let host = up.host.clone();
        self.telemetry.shard.inc(host.cluster.stats.upstream_cx_destroy_remote_with_active_rq);
        // A host may close a kept-alive connection at any moment (RFC 9112 §9.3.1): the request met a closed door.
        let unprocessed =
            if self.took_nothing(key, error) { Unprocessed::Unseen } else { Unprocessed::Maybe };
        let closed_door = !answered && (kept_alive || unprocessed == Unprocessed::Unseen);
        if closed_door && self.may_send_elsewhere(id, unprocessed) {
            // The others kept for this host may be just as dead: they go first, so that the next is fresh.
            let idle = std::mem::take(&mut *host.idle.borrow_mut());
            for key in idle {
                self.discard_upstream(key);
            }
            self.send_elsewhere(id, unprocessed);
            return;
        }
        self.attempt_failed(key, id, Reset::termination(), Outcome::Reset { request_sent: true });
    }

    /// Whether it is sure that the host has not got a byte of the request on this connection, which has ended: none was
    /// sent, or the host's FIN was on its way before any arrived. An end without error is a FIN, and so is EPIPE (how
    /// Linux reports a reset that came behind one); it acknowledges all that its host had got. A reset without a FIN says
    /// nothing of the kind: a host may have read a part.
    fn took_nothing(&self, key: Key, error: Option<io::ErrorKind>) -> bool {
        let Some(Conn::Upstream(up)) = self.conns.get(key) else { return false };
        if self.sockets.written(key) == up.sent_before {
            return true;
        }
        let fin = matches!(error, None | Some(io::ErrorKind::BrokenPipe));
        // One more than the bytes: the SYN is acknowledged too.
        fin && self.sockets.acknowledged(key).is_some_and(|taken| taken <= up.sent_before + 1)
    }

    fn may_send_elsewhere(&self, id: ExchangeId, unprocessed: Unprocessed) -> bool {
        self.exchanges.get(id).is_some_and(|exchange| {
            let safe = match unprocessed {
                Unprocessed::Unseen => exchange.target.replaced < MOST_REPLACED,
                Unprocessed::Surely => exchange.target.replaced == 0,
                Unprocessed::Maybe => {
                    exchange.target.replaced == 0 && IDEMPOTENT.contains(&exchange.head_view().method())
                }
            };
            safe && exchange.request.replayable
        })
    }

    /// A request that its host has not seen, or that may be sent twice, is sent once more on another connection. False:
    /// it may not be.
    pub(crate) fn send_elsewhere(&mut self, id: ExchangeId, unprocessed: Unprocessed) -> bool {
        if !self.may_send_elsewhere(id, unprocessed) {
            return false;
        }
        let Some(mut exchange) = self.exchanges.take(id) else { return false };
        exchange.target.replaced += 1;
        self.abandon_attempt(id, &mut exchange);
        exchange.target.attempts = exchange.target.attempts.saturating_sub(1);
        self.attempt(id, exchange, &[]);
        true
    }

    /// The attempt on this connection failed.
    pub(crate) fn attempt_failed(&mut self, key: Key, id: ExchangeId, reset: Reset, outcome: Outcome) {
        if let Some(mut exchange) = self.exchanges.take(id) {
            self.abandon_attempt(id, &mut exchange);
            self.exchanges.put_back(id, exchange);
        }
        self.discard_upstream_if_open(key);
        self.attempt_over(id, reset, outcome);
    }

    fn discard_upstream_if_open(&mut self, key: Key) {
        if self.upstream(key).is_some() {
            self.discard_upstream(key);
        }
    }

    /// The attempt took too long, or its host said nothing for too long.
    pub(crate) fn per_try_timeout(&mut self, id: ExchangeId, outcome: Outcome) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        self.abandon_attempt(id, &mut exchange);
        self.observe(&exchange, Fared::TimedOut);
        match self.retry(id, &mut exchange, outcome, None) {
            true => self.exchanges.put_back(id, exchange),
            false => {
                let flags = Flags::UPSTREAM_REQUEST_TIMEOUT;
                let details = match outcome {
                    Outcome::PerTryIdleTimeout => "upstream_per_try_idle_timeout",
                    _ => "upstream_per_try_timeout",
                };
                self.local_reply(id, exchange, 504, b"upstream request timeout", flags, details);
            }
        }
    }

    /// The try has lasted as long as the cluster lets a stream last (Envoy: `Filter::onStreamMaxDurationReached`).
    pub(crate) fn try_took_too_long(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        self.abandon_attempt(id, &mut exchange);
        if self.retry(id, &mut exchange, Outcome::Reset { request_sent: true }, None) {
            self.exchanges.put_back(id, exchange);
            return;
        }
        let flags = Flags::UPSTREAM_MAX_STREAM_DURATION_REACHED;
        let body = b"upstream max stream duration reached";
        self.local_reply(id, exchange, 408, body, flags, "upstream_max_stream_duration_reached");
    }

    /// An attempt ended without a response: again, or the client is told.
    pub(crate) fn attempt_over(&mut self, id: ExchangeId, reset: Reset, outcome: Outcome) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        self.observe(&exchange, Fared::Failed);
        exchange.response.failure.clone_from(&reset.failure);
        if self.retry(id, &mut exchange, outcome, None) {
            self.exchanges.put_back(id, exchange);
            return;
        }
        let mut text = vec![];
        let reply = Reply::reset(&reset, &mut text);
        self.reply(id, exchange, &reply);
    }

    /// A response came whose status may ask for another attempt. True: it is thrown away. `bytes`: as received.
    pub(crate) fn retry_response(&mut self, exchange: &mut Exchange, bytes: &[u8]) -> Option<Duration> {
        let head = self.response.response(bytes);
        let status = head.status();
        let grpc_status = head
            .known(HeaderId::GrpcStatus)
            .and_then(wire::text::parse_decimal)
            .and_then(|status| u16::try_from(status).ok());
        self.observe(exchange, Fared::Answered(counted_status(status, grpc_status, exchange)));
        self.note_withdrawal(exchange, bytes);
        let head = self.response.response(bytes);
        let forward = exchange.target.route.as_ref().and_then(Routed::forward);
        let policy = forward.and_then(|forward| forward.retry.as_ref())?;
        // Nearly every response: nothing to decide.
        if status < 400 && head.known(HeaderId::GrpcStatus).is_none() && !policy.may_retry_success() {
            return None;
        }
        let outcome = Outcome::Response {
            status,
            grpc_status,
            rate_limited: head.known(HeaderId::XEnvoyRatelimited).is_some(),
            overloaded: head.known(HeaderId::XEnvoyOverloaded).is_some(),
        };
        let response = std::mem::take(&mut self.response);
        let wait = self.decide_retry(exchange, outcome, Some((&response, bytes)));
        self.response = response;
        wait
    }

    /// Decides and, if so, arranges another attempt.
    fn retry(
        &mut self,
        id: ExchangeId,
        exchange: &mut Exchange,
        outcome: Outcome,
        response: Option<(&wire::h1::HeadStorage, &[u8])>,
    ) -> bool {
        let Some(wait) = self.decide_retry(exchange, outcome, response) else { return false };
        self.back_off(id, exchange, wait);
        true
    }

    /// How long to wait before another attempt; `None`: there is none. Takes a retry from the breaker if so.
    fn decide_retry(
        &mut self,
        exchange: &mut Exchange,
        outcome: Outcome,
        response: Option<(&wire::h1::HeadStorage, &[u8])>,
    ) -> Option<Duration> {
        if exchange.response_began() || !exchange.request.replayable {
            return None;
        }
        let dice = self.random.next_u64();
        let routed = exchange.target.route.as_ref()?;
        let forward = routed.forward()?;
        let policy = forward.retry.as_ref()?;
        if !policy.allows(&*exchange) {
            return None;
        }
        let attempts = exchange.target.attempts;
        if let Some(most) = exchange.request.obeyed.max_retries
            && attempts > most
        {
            exchange.response.flags.insert(Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
            return None;
        }
        let headers = |name: &str, test: &mut dyn FnMut(&[u8]) -> bool| {
            let (storage, bytes) = response?;
            any_of(name, storage.response(bytes).all(name.as_bytes()), test)
        };
        let cluster = exchange.counted.cluster.clone()?;
        let shard = &self.telemetry.shard;
        match decide(policy, attempts, outcome, &headers, dice) {
            Retry::No(NoRetry::Exhausted) => {
                shard.inc(cluster.stats.upstream_rq_retry_limit_exceeded);
                exchange.response.flags.insert(Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                None
            }
            Retry::No(_) => None,
            Retry::After(wait) => {
                let (counts, priority) = (&cluster.counts, exchange.counted.priority);
                let limits = *cluster.config.borrow().breakers(priority);
                // The former retry of this very request ends first: it is not beside this one.
                exchange.counted.retry = None;
                let budget = limits.retry_budget.is_some();
                let under_way = counts.count(priority, Limited::Retries);
                if !limits.allows_retry(under_way, cluster.active.get()) {
                    shard.inc(cluster.stats.upstream_rq_retry_overflow);
                    exchange.response.flags.insert(Flags::UPSTREAM_OVERFLOW);
                    return None;
                }
                let limit = if budget { 0 } else { limits.max_retries };
                exchange.counted.retry = Some(counts.take_over(priority, Limited::Retries, limit));
                shard.inc(cluster.stats.upstream_rq_retry);
                Some(wait)
            }
        }
    }

    /// Waits for the next attempt.
    pub(crate) fn back_off(&mut self, id: ExchangeId, exchange: &mut Exchange, wait: Duration) {
        self.abandon_attempt(id, exchange);
        exchange.response.failure = None;
        exchange.times.first_byte = crate::clock::Time::default();
        exchange.times.try_deadline = Deadline::NEVER;
        exchange.times.try_idle_deadline = Deadline::NEVER;
        exchange.times.try_end = Deadline::NEVER;
        if let Some(host) = exchange.target.host.take() {
            exchange.target.tried.push(host);
        }
        exchange.phase = Phase::BackOff;
        exchange.times.wake = Deadline(self.now.after(wait));
        self.arm(exchange);
    }

    /// A wait is over.
    pub(crate) fn wake(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.take(id) else { return };
        match exchange.phase {
            Phase::Filters => self.filters_in(id, exchange, &[]),
            Phase::Unended => self.send_on(id, exchange, &[]),
            Phase::BackOff => self.attempt(id, exchange, &[]),
            _ => self.exchanges.put_back(id, exchange),
        }
    }

    /// Tells outlier detection how an attempt ended.
    pub(crate) fn observe(&mut self, exchange: &Exchange, fared: Fared) {
        let (Some(host), Some(cluster)) = (&exchange.target.host, &exchange.counted.cluster) else { return };
        if matches!(fared, Fared::Answered(500..) | Fared::Failed | Fared::TimedOut) {
            bump(&host.errors, 1);
        }
        let ejected = self.clusters.observe(cluster, host, fared, self.now);
        if ejected && cluster.config.borrow().close_connections_on_host_health_failure {
            self.close_failed_sessions();
        }
    }

    pub(crate) fn count_timeout(&mut self, exchange: &Exchange, per_try: bool) {
        let Some(cluster) = &exchange.counted.cluster else { return };
        let stats = &cluster.stats;
        self.telemetry.shard.inc(if per_try {
            stats.upstream_rq_per_try_timeout
        } else {
            stats.upstream_rq_timeout
        });
    }
}

/// The status an answer counts as for outlier detection: of gRPC, what its own status means in HTTP (Envoy:
/// `Filter::onUpstreamHeaders`, `Grpc::Utility::grpcToHttpStatus`).
fn counted_status(status: u16, grpc_status: Option<u16>, exchange: &Exchange) -> u16 {
    match grpc_status {
        Some(grpc) if exchange.is_grpc() => match grpc {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        },
        _ => status,
    }
}
