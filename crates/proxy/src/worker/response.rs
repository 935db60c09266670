//! Step 8: the response on its way to the client.

use model::http_connection::ServerHeader;
use telemetry::Flags;
use wire::h1::{BodyFraming, BodyReader, Version};
use wire::text::http_date;
use wire::{HeaderId, Reject};

use super::Worker;
use super::client_side::ClientSide;
use super::connection::{Conn, Reading};
use super::exchange::{Deadline, Ending, Exchange, ExchangeId, Framing, Phase};
use super::filters::{Edit, filters_out};
use super::host_side::HostSide;
use super::local_reply::{Reply, Reset};
use super::request_edits::apply_set;
use super::view::TemplateValues;
use crate::net::sockets::Key;
use crate::upstream::outlier::Fared;

impl Worker {
    /// The final head of an HTTP/1 response has come (it lies in `self.response`, over `bytes`), and `rest` of its body.
    /// Returns how much of `rest` is used, and whether the response is complete.
    pub(super) fn start_response(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        bytes: &[u8],
        rest: &[u8],
    ) -> Result<(usize, bool), Reject> {
        let head = self.response.response(bytes);
        exchange.check_websocket(&head, &mut self.response_edits)?;
        let (framing, keep_alive) = (head.framing(), head.keep_alive());
        self.begin_response(exchange, bytes);
        let limits = self.shared.upstream_limits;
        let mut done = false;
        if let Some(up) = self.upstream(key) {
            up.body = BodyReader::response(framing, &limits);
            up.reading = Reading::Body;
            up.keep_alive = keep_alive;
            done = up.body.is_done();
        }
        if exchange.client_side.is_h2() || exchange.web.is_some() {
            self.send_response_head(exchange, bytes, done);
            if done {
                return Ok((0, true));
            }
            return self.take_body_h2(key, exchange, rest);
        }
        self.edit_response(exchange, bytes);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.print_head(exchange, bytes, &mut out);
        exchange.response.sent_head = out.len() as u64;
        if exchange.tunnel.is_open() {
            self.begin_tunnel(exchange);
        }
        let head_length = out.len();
        let walked = self.take_body(key, exchange, rest, &mut out);
        let result = match walked {
            Ok((used, forward, done)) => {
                if exchange.response.framing == Framing::Same && out.len() > head_length {
                    // Trailers follow the body, not the head.
                    let (head, tail) = out.split_at(head_length);
                    let body = rest.get(..forward).unwrap_or_default();
                    let whole = [head, body, tail].concat();
                    self.write_text(exchange, &whole, &[]);
                } else {
                    let body =
                        if exchange.response.framing == Framing::Same { rest.get(..forward) } else { None };
                    self.write_text(exchange, &out, body.unwrap_or_default());
                }
                Ok((used, done))
            }
            Err(reject) => {
                // The head alone is true.
                out.truncate(head_length);
                self.write_text(exchange, &out, &[]);
                Err(reject)
            }
        };
        self.out = out;
        self.touch(exchange);
        result
    }

    /// Notes what the final head of a response says. It lies in `self.response`, over `bytes`.
    pub(super) fn begin_response(&mut self, exchange: &mut Exchange, bytes: &[u8]) {
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
    pub(super) fn send_response_head(&mut self, exchange: &mut Exchange, bytes: &[u8], end: bool) {
        if exchange.web.is_some() && self.hold_web_head(exchange, bytes, end) {
            return;
        }
        self.edit_response(exchange, bytes);
        exchange.response.sent_head = self.write_head(exchange, bytes, end);
        if exchange.tunnel.is_open() {
            self.begin_tunnel(exchange);
        }
        self.touch(exchange);
    }

    /// As [`Worker::take_body`] for a client that speaks HTTP/2: how much is used, whether the body is complete.
    pub(super) fn take_body_h2(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        bytes: &[u8],
    ) -> Result<(usize, bool), Reject> {
        let mut at = 0;
        loop {
            let Some(up) = self.upstream(key) else { return Ok((bytes.len(), false)) };
            let decoded = up.body.decode(bytes.get(at..).unwrap_or_default())?;
            at += decoded.consumed;
            let tail = if decoded.done { up.body.tail().to_vec() } else { vec![] };
            exchange.response.sent = up.body.payload();
            let end = decoded.done && tail.is_empty();
            if !decoded.payload.is_empty() || end {
                self.pass_payload(exchange, decoded.payload, end);
            }
            if !tail.is_empty() {
                self.send_trailers(exchange, &tail);
            }
            if decoded.done || decoded.consumed == 0 {
                return Ok((at, decoded.done));
            }
        }
    }

    /// The trailers that end a response whose body the client gets without its host's framing.
    pub(super) fn send_trailers(&mut self, exchange: &mut Exchange, section: &[u8]) {
        Worker::note_trailers(exchange, section);
        if exchange.web.is_some() {
            return self.end_web(exchange, section);
        }
        self.write_trailers(exchange, section);
    }

    fn edit_response(&mut self, exchange: &Exchange, bytes: &[u8]) {
        let unix_nanos = self.clock.unix_nanos(self.now);
        let draining = self.draining;
        let date = self.date(unix_nanos);
        let head = self.response.response(bytes);
        let edits = &mut self.response_edits;
        edits.clear();
        let Some(down) = self.conns.get_mut(exchange.client_side.key()).and_then(Conn::client_mut) else {
            return;
        };
        let Some(routed) = &exchange.target.route else { return };
        let settings = &routed.http.settings;
        if let Some(plans) = routed.response_headers().filter(|plans| !plans.is_empty()) {
            let mut value = vec![];
            for plan in plans.iter() {
                for name in &plan.remove {
                    edits.remove(&head, name.as_bytes());
                }
                for set in &plan.set {
                    value.clear();
                    let values = TemplateValues {
                        exchange,
                        origin: &down.origin,
                        cluster: routed.cluster_name(),
                        response: Some(head),
                        unix_nanos,
                    };
                    set.value.append(&values, &mut value);
                    if !value.is_empty() || set.keep_empty {
                        apply_set(edits, &head, set.name.as_bytes(), &value, set.how);
                    }
                }
            }
        }
        exchange.edit_web_response(&head, edits);
        exchange.edit_websocket(&head, edits);
        filters_out(exchange, self.shared.introduction.as_ref(), &mut |edit| match edit {
            Edit::Set(name, value) => edits.set(&head, name.as_bytes(), value),
            Edit::Remove(id) if head.known(id).is_some() => edits.remove_known(&head, id),
            Edit::Remove(_) => {}
        });
        if !settings.router.suppress_envoy_headers
            && let Some(millis) = exchange.response.service_millis
        {
            edits.remove_known(&head, HeaderId::XEnvoyUpstreamServiceTime);
            edits.append_number(HeaderId::XEnvoyUpstreamServiceTime, millis);
        }
        if routed.virtual_host().is_some_and(|host| host.attempt_count_in_response) {
            edits.remove_known(&head, HeaderId::XEnvoyAttemptCount);
            edits.append_number(HeaderId::XEnvoyAttemptCount, exchange.target.attempts.into());
        }
        if settings.request_id.in_response
            && let Some(id) = exchange.edits.value(&exchange.head_view(), b"x-request-id")
        {
            edits.set_known(&head, HeaderId::XRequestId, id);
        }
        match &settings.server_header {
            ServerHeader::Overwrite(name) => edits.set_known(&head, HeaderId::Server, name.as_bytes()),
            ServerHeader::AppendIfAbsent(name) if head.known(HeaderId::Server).is_none() => {
                edits.append_known(HeaderId::Server, name.as_bytes());
            }
            ServerHeader::AppendIfAbsent(_) | ServerHeader::PassThrough => {}
        }
        if head.known(HeaderId::Date).is_none() {
            edits.append_known(HeaderId::Date, &date);
        }
        let from_h2 = head.version() == Version::Http2;
        if from_h2
            && !exchange.client_side.is_h2()
            && head.framing() == BodyFraming::None
            && !matches!(head.status(), 100..=199 | 204 | 304)
            && exchange.head_view().method() != b"HEAD"
            && head.known(HeaderId::ContentLength).is_none()
        {
            // HTTP/2 says by itself that there is no body.
            edits.append_known(HeaderId::ContentLength, b"0");
        }
        if exchange.client_side.is_h2() {
            return;
        }
        // The client's connection ends here: because it asked, because its request is not even whole, or because the
        // end of the body can be told in no other way.
        down.retire_if_old(self.now, &self.telemetry);
        let until_close =
            head.framing() == BodyFraming::UntilClose || exchange.response.framing == Framing::Unchunk;
        // As Envoy: a 1.0 connection goes on only after an answer that says how long it is.
        let old_client = exchange.head_view().version() == Version::Http10;
        let ends = old_client && head.known(HeaderId::ContentLength).is_none()
            || (until_close && exchange.response.framing != Framing::Chunk);
        down.last |= draining || ends;
        // A head that is framed as chunked says so by itself, whichever way it came: said here as well it would stand twice.
        if exchange.response.framing == Framing::Chunk && head.framing() != BodyFraming::Chunked {
            edits.append_known(HeaderId::TransferEncoding, b"chunked");
        }
        if exchange.response.framing == Framing::Unchunk {
            edits.remove_known(&head, HeaderId::TransferEncoding);
        }
        if down.last && !exchange.tunnel.is_open() {
            edits.append_known(HeaderId::Connection, b"close");
        } else if old_client {
            edits.append_known(HeaderId::Connection, b"keep-alive");
        }
    }

    /// The date as text, made once a second.
    pub(super) fn date(&mut self, unix_nanos: u64) -> [u8; 29] {
        let second = unix_nanos / 1_000_000_000;
        if self.date.0 != second {
            self.date = (second, http_date(second));
        }
        self.date.1
    }

    /// From here on both connections (or streams of them) are one pipe.
    fn begin_tunnel(&mut self, exchange: &mut Exchange) {
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
    pub(super) fn pass_interim(&mut self, exchange: &mut Exchange, bytes: &[u8]) {
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

    /// The response is complete.
    pub(super) fn response_complete(&mut self, key: Key, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.ending = Ending::Whole;
        self.count_upstream(&exchange);
        exchange.counted.host = None;
        let request_done = exchange.request.progress.is_whole();
        let asked_for_tunnel = exchange.asks_for_tunnel();
        if let HostSide::H2(key, stream) = std::mem::take(&mut exchange.host_side) {
            self.forget_stream(key, stream, true);
        } else {
            // Kept or closed by `response_over`, once all that was read of it is used up.
            if let Some(up) = self.upstream(key) {
                up.exchange = None;
                up.reading = Reading::Head;
                // A host that did not switch protocols may not have read what followed the request that asked for it.
                up.keep_alive &= request_done && !asked_for_tunnel;
            }
        }
        // A request not yet whole when it is answered: the rest of it has nowhere to go.
        self.finish(id, exchange);
    }

    fn count_upstream(&mut self, exchange: &Exchange) {
        if let Some(cluster) = &exchange.counted.cluster {
            let shard = &self.telemetry.shard;
            shard.add(
                cluster.stats.upstream_cx_rx_bytes_total,
                exchange.response.sent_head + exchange.response.sent,
            );
            shard.add(
                cluster.stats.upstream_cx_tx_bytes_total,
                exchange.request.received_head + exchange.request.received,
            );
        }
    }

    /// A body that ends with its connection has ended.
    pub(super) fn response_ended_by_close(&mut self, key: Key, id: ExchangeId) {
        if let Some(mut exchange) = self.exchanges.take(id) {
            self.pass_payload(&mut exchange, b"", true);
            self.exchanges.put_back(id, exchange);
        }
        self.response_complete(key, id);
        self.discard_upstream(key);
    }

    /// The connection (`reset`: or the stream alone) ended in the middle of the response: the client must not take what
    /// it has for whole.
    pub(super) fn response_cut_short(&mut self, id: ExchangeId, reset: bool) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_rq_rx_reset);
        }
        self.observe(&exchange, Fared::Failed);
        if reset {
            exchange.response.flags.insert(Flags::UPSTREAM_REMOTE_RESET);
            exchange.response.details = "upstream_reset_after_response_started{remote_reset}".into();
        } else {
            exchange.response.flags.insert(Flags::UPSTREAM_CONNECTION_TERMINATION);
            exchange.response.details =
                "upstream_reset_after_response_started{connection_termination}".into();
        }
        self.abort_exchange(id, exchange);
    }

    /// The host does not speak HTTP as it must.
    pub(super) fn response_refused(&mut self, key: Key, id: ExchangeId, _reject: &Reject) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_cx_protocol_error);
        }
        self.observe(&exchange, Fared::Failed);
        if exchange.response_began() {
            exchange.response.flags.insert(Flags::UPSTREAM_PROTOCOL_ERROR);
            exchange.response.details = "upstream_reset_after_response_started{protocol_error}".into();
            self.abort_exchange(id, exchange);
        } else {
            self.abandon_attempt(id, &mut exchange);
            let mut text = vec![];
            let reply = Reply::reset(&Reset::protocol_error(), &mut text);
            self.reply(id, exchange, &reply);
        }
        if self.upstream(key).is_some() {
            self.discard_upstream(key);
        }
    }
}
