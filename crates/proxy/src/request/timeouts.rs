//! How long a route lets a request take.

use std::time::Duration;

use wire::HeaderId;
use wire::grpc::{parse_timeout, push_timeout};

use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::request::chain::HttpChain;
use crate::request::routed::Routed;
use crate::worker::Worker;

impl Worker {
    /// The limits of the stream as a whole: they run while filters have the request, too.
    pub(crate) fn limit_stream(&mut self, exchange: &mut Exchange, http: &HttpChain) {
        let timeouts = &http.settings.timeouts;
        let forward = exchange.target.route.as_ref().and_then(Routed::forward);
        let grpc = exchange.head_view().only(HeaderId::GrpcTimeout).and_then(parse_timeout);
        let duration = match forward {
            Some(forward) => forward.stream_duration(timeouts.max_stream_duration, grpc),
            None => timeouts.max_stream_duration,
        };
        exchange.times.idle_timeout = match forward.and_then(|forward| forward.idle_timeout) {
            Some(idle) => Some(idle).filter(|idle| !idle.is_zero()),
            None => timeouts.stream_idle,
        };
        if let Some(duration) = duration {
            exchange.times.duration_deadline = Deadline(exchange.times.started.after(duration));
        }
        if let Some(timeout) = timeouts.request {
            exchange.times.request_deadline = Deadline(exchange.times.started.after(timeout));
        }
        if let Some(idle) = exchange.times.idle_timeout {
            exchange.times.idle_deadline = Deadline(self.now.after(idle));
        }
    }

    /// The route's timeouts, which run from when the filters have let the request pass.
    pub(crate) fn limit_time(&mut self, exchange: &mut Exchange) {
        let Some(forward) = exchange.target.route.as_ref().and_then(Routed::forward) else { return };
        let mut timeout = forward.timeout;
        let grpc = exchange.head_view().only(HeaderId::GrpcTimeout).and_then(parse_timeout);
        if let Some(longest) = forward.grpc_timeout_max
            && let Some(asked) = grpc
        {
            timeout = Some(if longest.is_zero() { asked } else { asked.min(longest) });
        }
        let from_client = grpc.is_some() && timeout == grpc;
        match exchange.request.obeyed.timeout_millis {
            Some(0) => timeout = None,
            Some(millis) => timeout = Some(Duration::from_millis(millis)),
            None => exchange.times.client_deadline = from_client,
        }
        let per_try = match exchange.request.obeyed.per_try_timeout_millis {
            Some(millis) => Some(Duration::from_millis(millis)).filter(|timeout| !timeout.is_zero()),
            None => forward.retry.as_ref().and_then(|policy| policy.per_try_timeout),
        };
        // Envoy: a try may not take longer than all of it.
        exchange.times.per_try_timeout =
            per_try.filter(|per_try| timeout.is_none_or(|timeout| *per_try < timeout));
        exchange.times.per_try_idle_timeout =
            forward.retry.as_ref().and_then(|policy| policy.per_try_idle_timeout);
        exchange.times.route_timeout = timeout;
        if exchange.request.progress.is_whole() {
            self.start_route_timeout(exchange);
        }
    }

    /// Tells the host how long it has for this attempt: the time of a try, or what is left of the route's (Envoy:
    /// `FilterUtility::setTimeoutHeaders`).
    pub(crate) fn tell_time_left(&mut self, exchange: &mut Exchange) {
        let Some(routed) = &exchange.target.route else { return };
        let Some(forward) = routed.forward() else { return };
        let suppress = routed.http.settings.router.suppress_envoy_headers;
        let now = self.now;
        let left = |deadline: Deadline| (deadline != Deadline::NEVER).then(|| deadline.0.since(now));
        // Nothing would be taken for no limit.
        let least = Duration::from_millis(1);
        let expected = exchange.times.per_try_timeout.or(exchange.times.route_timeout).map(|expected| {
            let left = left(exchange.times.route_deadline).unwrap_or(expected);
            expected.min(left).max(least)
        });
        let has_grpc = exchange.head_view().only(HeaderId::GrpcTimeout).and_then(parse_timeout).is_some();
        let told = match (forward.grpc_timeout_max, expected) {
            (Some(_), Some(expected)) if exchange.is_grpc() => Some(expected),
            _ if has_grpc => left(exchange.times.duration_deadline).map(|left| left.max(least)),
            _ => None,
        };
        let head = exchange.head_storage.request(&exchange.head);
        if let Some(told) = told {
            // Not how long the client had asked for.
            let mut text = vec![];
            push_timeout(&mut text, told);
            exchange.edits.set_known(&head, HeaderId::GrpcTimeout, &text);
        }
        if let (false, Some(expected)) = (suppress, expected) {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyExpectedRqTimeoutMs);
            let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
            exchange.edits.append_number(HeaderId::XEnvoyExpectedRqTimeoutMs, millis);
        }
    }

    /// The timeout runs from the moment the whole request has come.
    pub(crate) fn start_route_timeout(&mut self, exchange: &mut Exchange) {
        if let Some(timeout) = exchange.times.route_timeout {
            exchange.times.route_deadline = Deadline(self.now.after(timeout));
        }
    }

    /// The whole request has come.
    pub(crate) fn request_complete(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        self.send_mirrors(&mut exchange);
        if !exchange.response_began() {
            exchange.times.request_deadline = Deadline::NEVER;
            self.start_route_timeout(&mut exchange);
            if exchange.phase == Phase::Attempt {
                self.start_try_timeout(&mut exchange);
            }
            self.arm(&mut exchange);
        }
        self.exchanges.put_back(id, exchange);
    }

    pub(crate) fn start_try_timeout(&mut self, exchange: &mut Exchange) {
        if let Some(timeout) = exchange.times.per_try_timeout
            && exchange.request.progress.is_whole()
        {
            exchange.times.try_deadline = Deadline(self.now.after(timeout));
        }
        if let Some(idle) = exchange.times.per_try_idle_timeout
            && exchange.request_whole()
        {
            exchange.times.try_idle_deadline = Deadline(self.now.after(idle));
        }
    }
}
