//! Mirrored requests (`request_mirror_policies`): copies sent to other clusters, whose answers are thrown away.
//!
//! As Envoy: a copy is of the request as it goes to its host, and is sent once the whole request has come. It never
//! stands in the way of the original: it begins after the event that completes the request, what is kept for it is
//! bounded, and so is the number of copies under way.

use std::time::Duration;

use model::route::{Forward, MirrorTarget};
use wire::h1::write_request;
use wire::{BodyFraming, HeaderId};

use crate::call::state::{CallEnd, CallRequest, CallTo, CopyHost, Destination, Mirroring};
use crate::exchange::Exchange;
use crate::exchange::framing::frame_chunk;
use crate::exchange::sides::ClientSide;
use crate::request::head::ip_text;
use crate::request::routed::Routed;
use crate::worker::Worker;

/// Copies under way in a worker. Each may hold a connection, which the originals need too.
const MOST_COPIES: usize = 1024;
/// How long a copy may take where the route sets no timeout.
const LONGEST: Duration = Duration::from_secs(60);
/// The body kept for copies, where the route does not say: Envoy's buffer of a connection.
const MOST_BODY: usize = 1 << 20;

impl Worker {
    /// The request is about to go to its host: are there to be copies? `body`: what has come of it and is not kept yet.
    pub(crate) fn begin_mirrors(&mut self, exchange: &mut Exchange, body: &[u8]) {
        let Some(routed) = &exchange.target.route else { return };
        let Some(forward) = routed.forward().filter(|forward| !forward.mirrors.is_empty()) else { return };
        if exchange.call.is_some() || exchange.asks_for_tunnel() {
            return;
        }
        let copies = destinations(forward, routed, exchange, self.random.next_u64());
        if copies.is_empty() {
            return;
        }
        let limit = routed.route().and_then(|route| route.body_buffer_limit);
        let limit = limit.map_or(MOST_BODY, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (kept, trailers) = (exchange.replay.clone(), exchange.trailers.clone());
        exchange.mirrors = Some(Box::new(Mirroring { copies, body: vec![], trailers, limit }));
        self.keep_for_mirrors(exchange, &kept, &[]);
        self.keep_for_mirrors(exchange, body, &[]);
        if exchange.request.progress.is_whole() {
            self.send_mirrors(exchange);
        }
    }

    /// More of the request's body.
    pub(crate) fn keep_for_mirrors(&mut self, exchange: &mut Exchange, body: &[u8], tail: &[u8]) {
        let Some(mirrors) = &mut exchange.mirrors else { return };
        if mirrors.body.len() + body.len() + tail.len() > mirrors.limit {
            exchange.mirrors = None;
            if let Some(routed) = &exchange.target.route
                && let Some(cluster) = routed.cluster()
                && let Some(cluster) = self.clusters.get(routed.snapshot(), cluster.id, self.now)
            {
                self.telemetry.shard.inc(cluster.stats.retry_or_shadow_abandoned);
            }
            return;
        }
        mirrors.body.extend_from_slice(body);
        match exchange.client_side {
            ClientSide::H2(..) => mirrors.trailers.extend_from_slice(tail),
            ClientSide::H1(_) | ClientSide::Nobody => mirrors.body.extend_from_slice(tail),
        }
    }

    /// The whole request has come: its copies are sent.
    pub(crate) fn send_mirrors(&mut self, exchange: &mut Exchange) {
        let Some(mirrors) = exchange.mirrors.take() else { return };
        let Some(routed) = &exchange.target.route else { return };
        let body = frame_body(exchange, &mirrors);
        for destination in &mirrors.copies {
            if self.calls.all() >= MOST_COPIES || self.is_out_of_memory() {
                let (snapshot, now) = (routed.snapshot().clone(), self.now);
                if let Some(cluster) = self.clusters.get(&snapshot, destination.cluster.id, now) {
                    self.telemetry.shard.inc(cluster.stats.upstream_rq_pending_overflow);
                }
                continue;
            }
            let call = CallRequest {
                to: CallTo::Cluster(Routed::call(routed, destination.cluster.clone())),
                head: copied_head(exchange, &destination.host, self.shared.local_address),
                body: body.clone(),
                timeout: exchange.times.route_timeout.unwrap_or(LONGEST),
                end: CallEnd::Nothing,
            };
            self.call_later(call);
        }
    }
}

/// Where copies of this request go. One dice decides on all policies, as in Envoy: two of 50 % have the same half of the
/// requests.
fn destinations(forward: &Forward, routed: &Routed, exchange: &Exchange, dice: u64) -> Vec<Destination> {
    let chosen = forward.mirrors.iter().filter(|mirror| mirror.fraction.hits(dice));
    let destinations = chosen.filter_map(|mirror| {
        let cluster = match &mirror.target {
            MirrorTarget::Cluster(cluster) => cluster.clone(),
            MirrorTarget::Header(name) => routed.cluster_named_by(exchange, name)?,
        };
        routed.snapshot().cluster(cluster.id)?;
        let host = match &mirror.host {
            Some(host) => CopyHost::Literal(host.clone()),
            None if mirror.shadow_suffix => CopyHost::Shadow,
            None => CopyHost::Same,
        };
        Some(Destination { cluster, host })
    });
    destinations.collect()
}

/// The head of a copy, as HTTP/1 has it.
fn copied_head(exchange: &Exchange, host: &CopyHost, own: Option<std::net::IpAddr>) -> Vec<u8> {
    let head = exchange.head_storage.request(&exchange.head);
    let mut edits = exchange.edits.clone();
    let authority = edits.replaced_host().unwrap_or(head.authority()).to_vec();
    match host {
        CopyHost::Same => {}
        CopyHost::Shadow => edits.host(&shadow_of(&authority)),
        CopyHost::Literal(host) => edits.host(host.as_bytes()),
    }
    // Envoy's `AsyncStreamImpl::sendHeaders`: a request of its own is internal, and comes from its own address.
    edits.set_known(&head, HeaderId::XEnvoyInternal, b"true");
    if let Some(own) = own {
        edits.append_to_list(&head, HeaderId::XForwardedFor, ip_text(own, &mut [0; 46]));
    }
    edits.remove_known(&head, HeaderId::Expect);
    if let Some(routed) = &exchange.target.route {
        if routed.virtual_host().is_some_and(|host| host.attempt_count_in_request) {
            edits.set_known(&head, HeaderId::XEnvoyAttemptCount, b"1");
        }
        if let (Some(timeout), false) =
            (exchange.times.route_timeout, routed.http.settings.router.suppress_envoy_headers)
        {
            edits.remove_known(&head, HeaderId::XEnvoyExpectedRqTimeoutMs);
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            edits.append_number(HeaderId::XEnvoyExpectedRqTimeoutMs, millis);
        }
    }
    if exchange.must_say_no_body() {
        edits.set_known(&head, HeaderId::ContentLength, b"0");
    }
    let mut text = Vec::with_capacity(exchange.head.len() + 128);
    write_request(&head, &edits, &mut text);
    text
}

/// The body as HTTP/1 frames it.
fn frame_body(exchange: &Exchange, mirrors: &Mirroring) -> Vec<u8> {
    if !exchange.client_side.is_h2() || exchange.body_framing() != BodyFraming::Chunked {
        return mirrors.body.clone();
    }
    let mut framed = Vec::with_capacity(mirrors.body.len() + mirrors.trailers.len() + 32);
    frame_chunk(&mirrors.body, &mirrors.trailers, true, &mut framed);
    framed
}

/// `reviews:80` becomes `reviews-shadow:80`. An IPv6 literal stays: nothing may stand behind its bracket but a port.
fn shadow_of(authority: &[u8]) -> Vec<u8> {
    if authority.first() == Some(&b'[') {
        return authority.to_vec();
    }
    let port = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
    let (name, port) = authority.split_at(port);
    [name, b"-shadow", port].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy: `ShadowWriterImpl`.
    #[test]
    fn a_shadow_has_its_suffix_before_the_port() {
        for (authority, shadow) in [("a", "a-shadow"), ("a.b:80", "a.b-shadow:80"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(shadow_of(authority.as_bytes()), shadow.as_bytes(), "{authority}");
        }
    }
}
