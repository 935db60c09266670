//! Step 8: the response on its way to the client.

use model::http_connection::ServerHeader;
use telemetry::Flags;
use wire::h1::{BodyFraming, BodyReader, LAST_CHUNK, Version, write_response};
use wire::text::http_date;
use wire::{HeaderId, Reject};

use super::Worker;
use super::connection::Reading;
use super::exchange::{Deadline, Exchange, ExchangeId, Framing, Phase};
use super::local_reply::{Reply, Reset};
use super::request_edits::apply_set;
use super::view::TemplateValues;
use crate::net::sockets::Key;
use crate::upstream::bump;

impl Worker {
    /// The final head of the response has come (it lies in `self.response`, over `bytes`), and `rest` of its body.
    /// Returns how much of `rest` is used, and whether the response is complete.
    pub(super) fn start_response(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        bytes: &[u8],
        rest: &[u8],
    ) -> Result<(usize, bool), Reject> {
        let now = self.now;
        let head = self.response.response(bytes);
        let (status, framing, keep_alive) = (head.status(), head.framing(), head.keep_alive());
        exchange.status = status;
        exchange.details = "via_upstream".into();
        exchange.failure = None;
        exchange.phase = Phase::Response;
        exchange.response_started = true;
        exchange.tunnel = framing == BodyFraming::Tunnel;
        exchange.try_deadline = Deadline::NEVER;
        if exchange.replayable {
            exchange.replayable = false;
            exchange.replay.clear();
        }
        let waited = now.since(exchange.attempt_started);
        exchange.service_millis = u64::try_from(waited.as_millis()).ok();
        exchange.grpc_status = head
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
            if exchange.attempts > 1 && status < 500 {
                shard.inc(cluster.stats.upstream_rq_retry_success);
            }
        }
        exchange.response_framing = match framing {
            BodyFraming::UntilClose if exchange.head_view().version() == Version::Http11 => Framing::Chunk,
            BodyFraming::Chunked if exchange.head_view().version() == Version::Http10 => Framing::Unchunk,
            _ => Framing::Same,
        };
        let limits = self.shared.upstream_limits;
        if let Some(up) = self.upstream(key) {
            up.body = BodyReader::response(framing, &limits);
            up.reading = Reading::Body;
            up.keep_alive = keep_alive;
        }
        self.edit_response(exchange, bytes);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        write_response(&self.response.response(bytes), &self.response_edits, &mut out);
        exchange.sent_head = out.len() as u64;
        if exchange.route.as_ref().is_some_and(|routed| routed.http.logs_response) {
            let head = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
            exchange.response_head.clear();
            exchange.response_head.extend_from_slice(head);
            exchange.response_storage.clone_from(&self.response);
        }
        if exchange.tunnel {
            self.begin_tunnel(exchange);
        }
        let head_length = out.len();
        let walked = self.take_body(key, exchange, rest, &mut out);
        let result = match walked {
            Ok((used, forward, done)) => {
                if exchange.response_framing == Framing::Same && out.len() > head_length {
                    // Trailers follow the body, not the head.
                    let (head, tail) = out.split_at(head_length);
                    let body = rest.get(..forward).unwrap_or_default();
                    let whole = [head, body, tail].concat();
                    self.forward_response(exchange, &whole, &[]);
                } else {
                    let body =
                        if exchange.response_framing == Framing::Same { rest.get(..forward) } else { None };
                    self.forward_response(exchange, &out, body.unwrap_or_default());
                }
                Ok((used, done))
            }
            Err(reject) => {
                // The head alone is true.
                out.truncate(head_length);
                self.forward_response(exchange, &out, &[]);
                Err(reject)
            }
        };
        self.out = out;
        if exchange.idle_timeout.is_some() {
            self.touch(exchange);
        }
        result
    }

    fn edit_response(&mut self, exchange: &Exchange, bytes: &[u8]) {
        let unix_nanos = self.clock.unix_nanos(self.now);
        let draining = self.draining;
        let date = self.date(unix_nanos);
        let head = self.response.response(bytes);
        let edits = &mut self.response_edits;
        edits.clear();
        let Some(super::connection::Conn::Downstream(down)) = self.conns.get_mut(exchange.down) else {
            return;
        };
        let Some(routed) = &exchange.route else { return };
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
        if let Some(cors) = &exchange.cors {
            cors.each(|name, value| edits.set(&head, name, value));
        }
        if head.known(HeaderId::XEnvoyPeerMetadata).is_some()
            || head.known(HeaderId::XEnvoyPeerMetadataId).is_some()
        {
            edits.remove_known(&head, HeaderId::XEnvoyPeerMetadata);
            edits.remove_known(&head, HeaderId::XEnvoyPeerMetadataId);
        }
        if !settings.router.suppress_envoy_headers
            && let Some(millis) = exchange.service_millis
        {
            edits.remove_known(&head, HeaderId::XEnvoyUpstreamServiceTime);
            edits.append_number(HeaderId::XEnvoyUpstreamServiceTime, millis);
        }
        if routed.virtual_host().is_some_and(|host| host.attempt_count_in_response) {
            edits.remove_known(&head, HeaderId::XEnvoyAttemptCount);
            edits.append_number(HeaderId::XEnvoyAttemptCount, exchange.attempts.into());
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
        // The client's connection ends here: because it asked, because its request is not even whole, or because the
        // end of the body can be told in no other way.
        let until_close =
            head.framing() == BodyFraming::UntilClose || exchange.response_framing == Framing::Unchunk;
        let ends = exchange.head_view().version() == Version::Http10
            || (until_close && exchange.response_framing != Framing::Chunk);
        down.last |= draining || ends;
        if exchange.response_framing == Framing::Chunk {
            edits.append_known(HeaderId::TransferEncoding, b"chunked");
        }
        if exchange.response_framing == Framing::Unchunk {
            edits.remove_known(&head, HeaderId::TransferEncoding);
        }
        if down.last && !exchange.tunnel {
            edits.append_known(HeaderId::Connection, b"close");
        }
    }

    /// The date as text, made once a second.
    fn date(&mut self, unix_nanos: u64) -> [u8; 29] {
        let second = unix_nanos / 1_000_000_000;
        if self.date.0 != second {
            self.date = (second, http_date(second));
        }
        self.date.1
    }

    /// From here on both connections are one pipe.
    fn begin_tunnel(&mut self, exchange: &mut Exchange) {
        exchange.request_done = false;
        exchange.route_deadline = Deadline::NEVER;
        let limits = self.shared.upstream_limits;
        if let Some(down) = self.downstream(exchange.down) {
            down.body = BodyReader::request(BodyFraming::Tunnel, &limits);
            down.state = Reading::Body;
            down.last = true;
            if !down.inbox.is_empty() {
                self.continued.push(exchange.down);
            }
        }
    }

    /// An interim response: passed on if the client can understand it.
    pub(super) fn pass_interim(&mut self, exchange: &mut Exchange, status: u16, head: &[u8]) {
        let old_client = exchange.head_view().version() == Version::Http10;
        let asked = status != 100
            || exchange.head_view().expect_continue()
                && exchange.route.as_ref().is_some_and(|routed| routed.http.settings.proxy_100_continue);
        if !old_client && asked {
            self.forward_response(exchange, head, &[]);
        }
    }

    /// The response is complete.
    pub(super) fn response_complete(&mut self, key: Key, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.response_done = true;
        self.count_upstream(&exchange);
        self.release_host(&mut exchange);
        exchange.up = None;
        let request_done = exchange.request_done;
        let reusable = match self.upstream(key) {
            Some(up) => {
                up.exchange = None;
                up.reading = Reading::Head;
                up.keep_alive && request_done
            }
            None => false,
        };
        if reusable {
            self.pool_upstream(key);
        } else {
            self.discard_upstream(key);
        }
        // A request not yet whole when it is answered: the rest of it has nowhere to go.
        self.finish(id, exchange);
    }

    fn count_upstream(&mut self, exchange: &Exchange) {
        if let Some(cluster) = &exchange.counted.cluster {
            let shard = &self.telemetry.shard;
            shard.add(cluster.stats.upstream_cx_rx_bytes_total, exchange.sent_head + exchange.sent);
            shard.add(cluster.stats.upstream_cx_tx_bytes_total, exchange.received_head + exchange.received);
        }
    }

    /// A body that ends with its connection has ended.
    pub(super) fn response_ended_by_close(&mut self, key: Key, id: ExchangeId) {
        if let Some(mut exchange) = self.exchanges.take(id) {
            if exchange.response_framing == Framing::Chunk {
                self.forward_response(&mut exchange, LAST_CHUNK, &[]);
            }
            self.exchanges.put_back(id, exchange);
        }
        if let Some(up) = self.upstream(key) {
            up.keep_alive = false;
        }
        self.response_complete(key, id);
    }

    /// The connection ended in the middle of the response: the client must not take what it has for whole.
    pub(super) fn response_cut_short(&mut self, key: Key, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_rq_rx_reset);
        }
        if let Some(up) = self.upstream(key) {
            let host = up.host.clone();
            bump(&host.errors, 1);
        }
        exchange.flags.insert(Flags::UPSTREAM_CONNECTION_TERMINATION);
        exchange.details = "upstream_reset_after_response_started{connection_termination}".into();
        self.abort_exchange(id, exchange);
    }

    /// The host does not speak HTTP as it must.
    pub(super) fn response_refused(&mut self, key: Key, id: ExchangeId, _reject: &Reject) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_cx_protocol_error);
        }
        if exchange.response_started {
            exchange.flags.insert(Flags::UPSTREAM_PROTOCOL_ERROR);
            exchange.details = "upstream_reset_after_response_started{protocol_error}".into();
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
