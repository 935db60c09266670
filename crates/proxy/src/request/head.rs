//! Step 4: a complete request head. What the client may say is checked and edited here, before anything is decided
//! by it.

use std::net::IpAddr;

use model::http_connection::{Forwarded, StripPort};
use model::view::ForwardedProto;
use wire::h1::{Edits, Head, RequestHead, Scheme};
use wire::path::canonicalize;
use wire::{HeaderId, Reject};

use crate::client::certificate;
use crate::exchange::Exchange;
use crate::exchange::sides::ClientSide;
use crate::exchange::state::Obeyed;
use crate::net::sockets::Key;
use crate::request::chain::HttpChain;
use crate::response::reply::Reply;
use crate::worker::Worker;
use crate::worker::connection::Conn;
use telemetry::Flags;

/// What asks something of the proxy: not believed of a request that is not internal (Envoy's
/// `ConnectionManagerUtility::mutateRequestHeaders`, each measured with 1.40).
const INTERNAL: &[HeaderId] = &[
    HeaderId::XEnvoyExpectedRqTimeoutMs,
    HeaderId::XEnvoyForceTrace,
    HeaderId::XEnvoyHedgeOnPerTryTimeout,
    HeaderId::XEnvoyIpTags,
    HeaderId::XEnvoyMaxRetries,
    HeaderId::XEnvoyRetriableHeaderNames,
    HeaderId::XEnvoyRetriableStatusCodes,
    HeaderId::XEnvoyRetryGrpcOn,
    HeaderId::XEnvoyRetryOn,
    HeaderId::XEnvoyUpstreamAltStatName,
    HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs,
    HeaderId::XEnvoyUpstreamRqTimeoutAltResponse,
    HeaderId::XEnvoyUpstreamRqTimeoutMs,
];

/// What one proxy of the mesh tells the next: not believed of a request that came over the edge.
const MESH: &[HeaderId] = &[
    HeaderId::XEnvoyDecoratorOperation,
    HeaderId::XEnvoyDownstreamServiceCluster,
    HeaderId::XEnvoyDownstreamServiceNode,
    HeaderId::XEnvoyOriginalHost,
    HeaderId::XEnvoyOriginalPath,
    // Not among those Envoy takes away: it names the host of a cluster of original destinations, which an outsider is not
    // to choose.
    HeaderId::XEnvoyOriginalDstHost,
];

/// Headers the router obeys and does not pass on.
const ROUTER: &[HeaderId] = &[
    HeaderId::XEnvoyMaxRetries,
    HeaderId::XEnvoyRetryOn,
    HeaderId::XEnvoyRetryGrpcOn,
    HeaderId::XEnvoyRetriableHeaderNames,
    HeaderId::XEnvoyRetriableStatusCodes,
    HeaderId::XEnvoyHedgeOnPerTryTimeout,
    HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs,
    HeaderId::XEnvoyUpstreamRqTimeoutAltResponse,
    HeaderId::XEnvoyUpstreamRqTimeoutMs,
    HeaderId::XEnvoyUpstreamStreamDurationMs,
];

impl Worker {
    /// A request head arrived, and with it the beginning of its body.
    pub(crate) fn request(&mut self, key: Key, mut exchange: Box<Exchange>, body: &[u8]) {
        let id = self.exchanges.reserve(&mut exchange);
        let now = self.now;
        let http = match self.conns.get_mut(key) {
            Some(Conn::Downstream(down)) => {
                down.exchange = Some(id);
                down.client.http.clone()
            }
            Some(Conn::DownstreamH2(down)) => {
                if let ClientSide::H2(_, stream) = exchange.client_side {
                    down.codec.set_token(stream, id.token());
                }
                down.client.http.clone()
            }
            _ => {
                self.exchanges.retire(id, exchange);
                return;
            }
        };
        if exchange.request.progress.is_whole() {
            exchange.times.request_ended = now;
        }
        exchange.request.replayable = true;
        // Until a route says otherwise: an answer given before there is one must not wait for ever for its client either.
        exchange.times.idle_timeout = http.settings.timeouts.stream_idle;
        let shard = &self.telemetry.shard;
        shard.inc(http.stats.downstream_rq_total);
        shard.inc(match exchange.client_side.is_h2() {
            false => http.stats.downstream_rq_http1_total,
            true => http.stats.downstream_rq_http2_total,
        });
        shard.shift(http.stats.downstream_rq_active, 1);
        if self.is_out_of_memory() {
            self.telemetry.shard.inc(http.stats.downstream_rq_overload_close);
            let headers: [(&str, &[u8]); 1] = [("x-envoy-local-overloaded", b"true")];
            let flags = Flags::OVERLOAD_MANAGER_TERMINATED;
            let reply = Reply::new(503, b"envoy overloaded", flags, "overload");
            // The client is not to fill memory with refusals.
            if let Some(client) = self.client(key) {
                client.last = true;
            }
            if exchange.client_side.is_h2() {
                // Nor with what its fields have left in the table of its connection.
                self.drain_h2(key);
            }
            self.reply(id, exchange, &Reply { headers: &headers, ..reply });
            return;
        }
        match self.admit(key, &http, &mut exchange) {
            Ok(()) => {
                self.keep_for_replay(&mut exchange, &[], &[]);
                self.route(key, id, exchange, &http, body);
            }
            Err(reject) => {
                let flags = Flags::from_short_names(reject.flag).unwrap_or(Flags::NONE);
                if reject.close
                    && !exchange.client_side.is_h2()
                    && let Some(client) = self.client(key)
                {
                    client.last = true;
                }
                self.local_reply(id, exchange, reject.status, b"", flags, reject.details);
            }
        }
    }

    /// Checks and edits.
    fn admit(&mut self, key: Key, http: &HttpChain, exchange: &mut Exchange) -> Result<(), Reject> {
        let head = exchange.head_storage.request(&exchange.head);
        // CONNECT has no path.
        if !head.is_connect() {
            let canonical = canonicalize(head.path(), http.path_mode)?;
            if canonical.redirect {
                exchange.path.redirect_to(&canonical.target);
            } else if *canonical.target != *head.path() {
                exchange.path.set(&canonical.target, &mut exchange.edits);
            }
        }
        if head.expect_continue() && !http.settings.proxy_100_continue {
            exchange.edits.remove_known(&head, HeaderId::Expect);
            if !exchange.request.progress.is_whole() {
                self.write_continue(exchange.client_side);
            }
        }
        self.strip_port(key, http, exchange);
        self.sanitize(key, http, exchange);
        Ok(())
    }

    fn strip_port(&mut self, key: Key, http: &HttpChain, exchange: &mut Exchange) {
        if http.settings.strip_port == StripPort::No && !http.settings.strip_trailing_host_dot {
            return;
        }
        let Some(down) = self.client(key) else { return };
        let listener_port = down.origin.listener.address.port();
        let head = exchange.head_storage.request(&exchange.head);
        if head.is_connect() {
            // RFC 9110 §9.3.6: a port belongs to it.
            return;
        }
        let parts = head.authority_parts();
        let strip = match http.settings.strip_port {
            StripPort::No => false,
            StripPort::Any => parts.port.is_some(),
            StripPort::Matching => parts.port == Some(listener_port),
        };
        let mut host = if strip { parts.host } else { head.authority() };
        if http.settings.strip_trailing_host_dot {
            host = host.strip_suffix(b".").unwrap_or(host);
        }
        if host.len() != head.authority().len() {
            exchange.edits.host(host);
        }
    }

    /// Who sent it, and what of what it says about itself is believed (Envoy's
    /// `ConnectionManagerUtility::mutateRequestHeaders`).
    fn sanitize(&mut self, key: Key, http: &HttpChain, exchange: &mut Exchange) {
        let Some(down) = self.client(key) else { return };
        let remote = down.origin.remote.ip();
        let local_port = down.origin.local.port();
        let (scheme, secure) = (down.origin.scheme(), down.origin.secure.clone());
        let forwarded = &http.settings.forwarded;
        let head = exchange.head_storage.request(&exchange.head);
        let edits = &mut exchange.edits;
        judge_scheme(
            forwarded,
            &head,
            scheme,
            &mut exchange.request.scheme,
            &mut exchange.request.forwarded_proto,
        );
        let (client, alone) = client_address(forwarded, &head, remote);
        // Nothing is internal without a list of what is.
        let internal = alone && forwarded.is_internal(client);
        let edge = forwarded.use_remote_address && !internal;
        if forwarded.use_remote_address {
            if !forwarded.skip_append {
                let mut text = [0u8; 46];
                edits.append_to_list(&head, HeaderId::XForwardedFor, ip_text(remote, &mut text));
            }
            if forwarded.append_port {
                edits.remove_known(&head, HeaderId::XForwardedPort);
                edits.append_number(HeaderId::XForwardedPort, local_port.into());
            }
        }
        // Behind trusted proxies the first of them knows.
        if !forwarded.trusts_proto() {
            edits.set_known(&head, HeaderId::XForwardedProto, scheme.name().as_bytes());
        } else if head.known(HeaderId::XForwardedProto).is_none() {
            edits.append_known(HeaderId::XForwardedProto, scheme.name().as_bytes());
        }
        edits.remove_known(&head, HeaderId::XEnvoyInternal);
        if internal {
            edits.append_known(HeaderId::XEnvoyInternal, b"true");
        } else {
            remove_sent(edits, &head, INTERNAL);
        }
        if edge {
            remove_sent(edits, &head, MESH);
            let mut text = [0u8; 46];
            edits.remove_known(&head, HeaderId::XEnvoyExternalAddress);
            edits.append_known(HeaderId::XEnvoyExternalAddress, ip_text(client, &mut text));
        }
        certificate::tell(forwarded, secure.as_deref(), &head, edits);
        let request_id = &http.settings.request_id;
        let keep = head.known(HeaderId::XRequestId).is_some_and(|id| !id.is_empty())
            && (!edge || request_id.preserve_external);
        if request_id.generate && !keep {
            let id = self.random.uuid();
            exchange.request.id = Some(id);
            edits.set_known(&head, HeaderId::XRequestId, &id);
        }
        if let Some(via) = &forwarded.via {
            edits.append_to_list(&head, HeaderId::Via, via.as_bytes());
        }
        exchange.request.obeyed = Obeyed::read(exchange);
        let head = exchange.head_storage.request(&exchange.head);
        remove_sent(&mut exchange.edits, &head, ROUTER);
        exchange.request.edge = edge;
    }
}

/// Which scheme the request is of, wherever that is asked: matched, redirected to, sent on, logged. `own`: that of the
/// connection.
fn judge_scheme(
    forwarded: &Forwarded,
    head: &RequestHead<'_>,
    own: Scheme,
    scheme: &mut Scheme,
    proto: &mut ForwardedProto,
) {
    let tls = own == Scheme::Https;
    let (told, said) = match head.known(HeaderId::XForwardedProto) {
        None => forwarded.proto(&[], tls),
        Some(one) if !head.repeats(HeaderId::XForwardedProto) => forwarded.proto(&[one], tls),
        Some(one) => forwarded.proto(&[one, one], tls),
    };
    *scheme = head.scheme().or(Scheme::parse(told)).unwrap_or(own);
    *proto = said;
}

fn remove_sent(edits: &mut Edits, head: &Head<'_>, names: &[HeaderId]) {
    for id in names {
        if head.known(*id).is_some() {
            edits.remove_known(head, *id);
        }
    }
}

/// Whom the request is from as far as is trusted, and whether nobody stands between (Envoy's `getLastAddressFromXFF`):
/// only then can a request be internal. The peer, unless configuration trusts proxies before it to have named theirs.
fn client_address(forwarded: &Forwarded, head: &Head<'_>, remote: IpAddr) -> (IpAddr, bool) {
    let told = head.known(HeaderId::XForwardedFor);
    let skip = match (forwarded.use_remote_address, forwarded.trusted_hops) {
        (true, 0) => return (remote, told.is_none()),
        (true, hops) => hops - 1,
        (false, _) if !forwarded.may_be_internal() => return (remote, false),
        (false, hops) => hops,
    };
    if told.is_none() {
        return (remote, forwarded.use_remote_address);
    }
    let values: Vec<&[u8]> = head.all(HeaderId::XForwardedFor.name().as_bytes()).collect();
    let mut from_last = values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    let named = from_last
        .nth(skip as usize)
        .and_then(|text| std::str::from_utf8(wire::text::trim(text)).ok()?.parse::<IpAddr>().ok());
    match named {
        // Who appends the peer trusts nobody before it to be alone.
        Some(client) if forwarded.use_remote_address => (client, false),
        Some(client) => (client, skip == 0 && from_last.next().is_none()),
        None => (remote, false),
    }
}

impl Obeyed {
    fn read(exchange: &Exchange) -> Obeyed {
        let head = exchange.head_view();
        let value = |id: HeaderId| {
            // Removed, unless the request is internal, before it is asked for.
            let sent = head.only(id).is_some();
            sent.then(|| exchange.edits.value(&head, id.name().as_bytes())).flatten()
        };
        let number = |id| value(id).and_then(wire::text::parse_decimal);
        Obeyed {
            timeout_millis: number(HeaderId::XEnvoyUpstreamRqTimeoutMs),
            per_try_timeout_millis: number(HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs),
            max_retries: number(HeaderId::XEnvoyMaxRetries)
                .map(|retries| u32::try_from(retries).unwrap_or(u32::MAX)),
            timeout_alt_response: value(HeaderId::XEnvoyUpstreamRqTimeoutAltResponse) == Some(b"1"),
        }
    }
}

/// The address as text, without allocating.
pub fn ip_text(ip: IpAddr, text: &mut [u8; 46]) -> &[u8] {
    use std::io::Write;
    let mut rest = &mut text[..];
    // 46 bytes hold any address.
    let _ = write!(rest, "{ip}");
    let length = 46 - rest.len();
    text.get(..length).unwrap_or_default()
}
