//! Step 8: the head of a response on its way to the client, step by step: [`Worker::judge_head`] says whether it is the answer,
//! [`Worker::note_head`] takes down what it says, [`Worker::edit_head`] makes its edits, and [`Worker::pass_head`] writes it.

use model::http_connection::ServerHeader;
use wire::HeaderId;
use wire::h1::{BodyFraming, BodyReader, Edits, ResponseHead, Version};
use wire::text::http_date;

use crate::client::origin::Origin;
use crate::clock::Time;
use crate::exchange::sides::ClientSide;
use crate::exchange::{Deadline, Exchange, ExchangeId, Framing, Phase};
use crate::filters::filters_out;
use crate::filters::step::Edit;
use crate::request::edits::apply_set;
use crate::request::routed::Routed;
use crate::request::view::TemplateValues;
use crate::worker::Worker;
use crate::worker::connection::{Client, Conn, Reading};

/// Interim responses (1xx) passed on for one request; more are an attack.
const INTERIM_LIMIT: u8 = 8;

/// What a response's head is.
pub(crate) enum Judged {
    /// An interim one (1xx), passed on; the final one follows.
    Interim,
    /// One interim head more than is passed on.
    TooMany,
    /// Thrown away: another attempt is made.
    Again,
    /// The head of the answer.
    Answer,
}

impl Worker {
    /// A response's head has come (it lies in `self.response`, over `bytes`). An interim one is passed on; a final one is the
    /// answer, unless another attempt is made.
    pub(crate) fn judge_head(&mut self, id: ExchangeId, exchange: &mut Exchange, bytes: &[u8]) -> Judged {
        if self.response.response(bytes).is_interim() {
            exchange.response.interim += 1;
            if exchange.response.interim > INTERIM_LIMIT {
                return Judged::TooMany;
            }
            self.pass_interim(exchange, bytes);
            return Judged::Interim;
        }
        if exchange.times.first_byte == Time::default() {
            exchange.times.first_byte = self.now;
        }
        match self.retry_response(exchange, bytes) {
            Some(wait) => {
                self.back_off(id, exchange, wait);
                Judged::Again
            }
            None => Judged::Answer,
        }
    }

    /// Notes what the final head of a response says. It lies in `self.response`, over `bytes`.
    pub(crate) fn note_head(&mut self, exchange: &mut Exchange, bytes: &[u8]) {
        let now = self.now;
        let head = self.response.response(bytes);
        let (status, framing) = (head.status(), head.framing());
        exchange.response.status = status;
        exchange.response.details = "via_upstream".into();
        exchange.response.failure = None;
        exchange.phase = Phase::Response;
        if framing == BodyFraming::Tunnel {
            exchange.tunnel.open();
        }
        exchange.times.try_deadline = Deadline::NEVER;
        if exchange.request.replayable {
            exchange.request.replayable = false;
            exchange.replay.clear();
        }
        let waited = now.since(exchange.times.attempt_started);
        // Envoy: counted from the end of the request, which a tunnel's is not.
        exchange.response.service_millis =
            exchange.request_whole().then(|| u64::try_from(waited.as_millis()).ok()).flatten();
        exchange.response.grpc_status = head
            .known(HeaderId::GrpcStatus)
            .and_then(wire::text::parse_decimal)
            .and_then(|status| u8::try_from(status).ok());
        if let Some(cluster) = &exchange.counted.cluster {
            let shard = &self.telemetry.shard;
            cluster.codes.response(shard, status);
            shard.observe(
                &cluster.stats.upstream_rq_time,
                u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
            );
            if exchange.target.attempts > 1 && status < 500 {
                shard.inc(cluster.stats.upstream_rq_retry_success);
            }
        }
        let client = match exchange.client_side {
            ClientSide::H2(..) => Version::Http2,
            ClientSide::H1(_) | ClientSide::Nobody => exchange.head_view().version(),
        };
        exchange.response.framing = match (framing, client) {
            (BodyFraming::Tunnel, _) => Framing::Same,
            (_, Version::Http2) => Framing::Unchunk,
            (BodyFraming::None, _) => Framing::Same,
            (BodyFraming::Chunked, Version::Http10) => Framing::Unchunk,
            // Of no length that could be told beforehand.
            (_, Version::Http10) if exchange.web.is_some() => Framing::Unchunk,
            (_, Version::Http11) if exchange.web.is_some() => Framing::Chunk,
            (BodyFraming::Chunked, Version::Http11) if exchange.host_side.is_h2() => Framing::Chunk,
            (BodyFraming::UntilClose, Version::Http11) => Framing::Chunk,
            _ => Framing::Same,
        };
        if exchange.target.route.as_ref().is_some_and(|routed| routed.http.logs_response) {
            exchange.response_head.clear();
            exchange.response_head.extend_from_slice(bytes.get(..head.wire_length()).unwrap_or_default());
            exchange.response_storage.clone_from(&self.response);
        }
    }

    /// Sends the final head (it lies in `self.response`, over `bytes`) to the client. `end`: there is no body.
    pub(crate) fn pass_head(&mut self, exchange: &mut Exchange, bytes: &[u8], end: bool) {
        if exchange.web.is_some() && self.hold_web_head(exchange, bytes, end) {
            return;
        }
        self.edit_head(exchange, bytes);
        exchange.response.sent_head = self.write_head(exchange, bytes, end);
        if exchange.tunnel.is_open() {
            self.begin_tunnel(exchange);
        }
        self.touch(exchange);
    }

    /// Makes the edits of the final head: those of the route, of the filters, our own, and what the client's connection
    /// needs.
    pub(crate) fn edit_head(&mut self, exchange: &Exchange, bytes: &[u8]) {
        let unix_nanos = self.clock.unix_nanos(self.now);
        let draining = self.draining;
        let date = self.date(unix_nanos);
        let head = self.response.response(bytes);
        let edits = &mut self.response_edits;
        edits.clear();
        let Some(client) = self.conns.get_mut(exchange.client_side.key()).and_then(Conn::client_mut) else {
            return;
        };
        let Some(routed) = &exchange.target.route else { return };
        edit_as_routed(exchange, routed, &client.origin, unix_nanos, &head, edits);
        exchange.edit_web_response(&head, edits);
        exchange.edit_websocket(&head, edits);
        filters_out(exchange, self.shared.introduction.as_ref(), &mut |edit| match edit {
            Edit::Set(name, value) => edits.set(&head, name.as_bytes(), value),
            Edit::Remove(id) if head.known(id).is_some() => edits.remove_known(&head, id),
            Edit::Remove(_) => {}
        });
        add_own_fields(exchange, routed, &date, &head, edits);
        if exchange.client_side.is_h2() {
            return;
        }
        client.retire_if_old(self.now, &self.telemetry);
        frame_for_h1(exchange, client, draining, &head, edits);
    }

    /// The date as text, made once a second.
    pub(crate) fn date(&mut self, unix_nanos: u64) -> [u8; 29] {
        let second = unix_nanos / 1_000_000_000;
        if self.date.0 != second {
            self.date = (second, http_date(second));
        }
        self.date.1
    }

    /// From here on both connections (or streams of them) are one pipe.
    pub(crate) fn begin_tunnel(&mut self, exchange: &mut Exchange) {
        exchange.times.route_deadline = Deadline::NEVER;
        let limits = self.shared.upstream_limits;
        if exchange.client_side.is_h2() {
            let early = std::mem::take(&mut exchange.early);
            let end = exchange.tunnel.client_ended();
            if !early.is_empty() || end {
                self.send_body(exchange, &early, &[], end);
            }
            self.pace_client(exchange, 0);
            if end {
                self.end_to_host(exchange.host_side);
            }
            return;
        }
        if let Some(down) = self.downstream(exchange.client_side.key()) {
            down.body = BodyReader::request(BodyFraming::Tunnel, &limits);
            down.state = Reading::Body;
            down.client.last = true;
            self.read_client_next(exchange.client_side.key());
        }
    }

    /// An interim response (it lies in `self.response`, over `bytes`): passed on if the client can understand it.
    pub(crate) fn pass_interim(&mut self, exchange: &mut Exchange, bytes: &[u8]) {
        let head = self.response.response(bytes);
        let old_client = !exchange.client_side.is_h2() && exchange.head_view().version() == Version::Http10;
        // Passed on to whoever asked for it, also for a request without a body (RFC 9110 §15.2).
        let asked = head.status() != 100
            || exchange.head_view().known(HeaderId::Expect).is_some()
                && exchange
                    .target
                    .route
                    .as_ref()
                    .is_some_and(|routed| routed.http.settings.proxy_100_continue);
        if old_client || !asked {
            return;
        }
        self.response_edits.clear();
        self.write_head(exchange, bytes, false);
    }
}

/// What the configuration of the route adds and removes.
fn edit_as_routed(
    exchange: &Exchange,
    routed: &Routed,
    origin: &Origin,
    unix_nanos: u64,
    head: &ResponseHead<'_>,
    edits: &mut Edits,
) {
    if let Some(plans) = routed.response_headers().filter(|plans| !plans.is_empty()) {
        let mut value = vec![];
        for plan in plans.iter() {
            for name in &plan.remove {
                edits.remove(head, name.as_bytes());
            }
            for set in &plan.set {
                value.clear();
                let values = TemplateValues {
                    exchange,
                    origin,
                    cluster: routed.cluster_name(),
                    response: Some(*head),
                    unix_nanos,
                };
                set.value.append(&values, &mut value);
                if !value.is_empty() || set.keep_empty {
                    apply_set(edits, head, set.name.as_bytes(), &value, set.how);
                }
            }
        }
    }
}

/// What a proxy says of itself and of the attempt.
fn add_own_fields(
    exchange: &Exchange,
    routed: &Routed,
    date: &[u8],
    head: &ResponseHead<'_>,
    edits: &mut Edits,
) {
    let settings = &routed.http.settings;
    if !settings.router.suppress_envoy_headers
        && let Some(millis) = exchange.response.service_millis
    {
        edits.remove_known(head, HeaderId::XEnvoyUpstreamServiceTime);
        edits.append_number(HeaderId::XEnvoyUpstreamServiceTime, millis);
    }
    if routed.virtual_host().is_some_and(|host| host.attempt_count_in_response) {
        edits.remove_known(head, HeaderId::XEnvoyAttemptCount);
        edits.append_number(HeaderId::XEnvoyAttemptCount, exchange.target.attempts.into());
    }
    if settings.request_id.in_response
        && let Some(id) = exchange.edits.value(&exchange.head_view(), b"x-request-id")
    {
        edits.set_known(head, HeaderId::XRequestId, id);
    }
    match &settings.server_header {
        ServerHeader::Overwrite(name) => edits.set_known(head, HeaderId::Server, name.as_bytes()),
        ServerHeader::AppendIfAbsent(name) if head.known(HeaderId::Server).is_none() => {
            edits.append_known(HeaderId::Server, name.as_bytes());
        }
        ServerHeader::AppendIfAbsent(_) | ServerHeader::PassThrough => {}
    }
    if head.known(HeaderId::Date).is_none() {
        edits.append_known(HeaderId::Date, date);
    }
}

/// How the body is framed for an HTTP/1 client, and whether its connection goes on behind it.
fn frame_for_h1(
    exchange: &Exchange,
    client: &mut Client,
    draining: bool,
    head: &ResponseHead<'_>,
    edits: &mut Edits,
) {
    let from_h2 = head.version() == Version::Http2;
    if from_h2
        && head.framing() == BodyFraming::None
        && !matches!(head.status(), 100..=199 | 204 | 304)
        && exchange.head_view().method() != b"HEAD"
        && head.known(HeaderId::ContentLength).is_none()
    {
        // HTTP/2 says by itself that there is no body.
        edits.append_known(HeaderId::ContentLength, b"0");
    }
    // The client's connection ends here: because it asked, because its request is not even whole, or because the
    // end of the body can be told in no other way.
    let until_close =
        head.framing() == BodyFraming::UntilClose || exchange.response.framing == Framing::Unchunk;
    // As Envoy: a 1.0 connection goes on only after an answer that says how long it is.
    let old_client = exchange.head_view().version() == Version::Http10;
    let ends = old_client && head.known(HeaderId::ContentLength).is_none()
        || (until_close && exchange.response.framing != Framing::Chunk);
    client.last |= draining || ends;
    // A head that is framed as chunked says so by itself, whichever way it came: said here as well it would stand twice.
    if exchange.response.framing == Framing::Chunk && head.framing() != BodyFraming::Chunked {
        edits.append_known(HeaderId::TransferEncoding, b"chunked");
    }
    if exchange.response.framing == Framing::Unchunk {
        edits.remove_known(head, HeaderId::TransferEncoding);
    }
    if client.last && !exchange.tunnel.is_open() {
        edits.append_known(HeaderId::Connection, b"close");
    } else if old_client {
        edits.append_known(HeaderId::Connection, b"keep-alive");
    }
}
