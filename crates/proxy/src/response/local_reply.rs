//! Answers of the proxy's own, worded as Envoy words them.

use telemetry::Flags;
use wire::Reject;
use wire::text::push_u64;

use crate::exchange::{Ending, Exchange, ExchangeId, Tunnel};
use crate::filters::filters_out;
use crate::filters::step::Edit;
use crate::net::sockets::Key;
use crate::response::reply::Reply;
use crate::worker::Worker;
use crate::worker::connection::Reading;

impl Worker {
    /// Answers the request and ends the exchange. Not once a response has begun.
    pub(crate) fn reply(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, reply: &Reply<'_>) {
        let key = exchange.client_side.key();
        exchange.response.status = reply.status;
        exchange.response.flags.insert(reply.flags);
        exchange.response.details = reply.details.clone();
        let web = exchange.web.as_ref().map(|web| web.content_type());
        let grpc = exchange.is_grpc() && web.is_none();
        let head = exchange.has_head() && exchange.head_view().method() == b"HEAD";
        let no_body = head || matches!(reply.status, 204 | 304);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let mut body = reply.body;
        if grpc {
            // Envoy: what a gRPC client would not understand is said in its words, in a head that is the whole answer.
            body = b"";
            exchange.response.status = 200;
        }
        out.extend_from_slice(b"HTTP/1.1 ");
        push_u64(&mut out, exchange.response.status.into());
        out.push(b' ');
        out.extend_from_slice(reason(exchange.response.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        let lines = out.len();
        let said = |name: &str| reply.headers.iter().any(|(known, _)| *known == name);
        if grpc || web.is_some() {
            push_field(&mut out, b"content-type", web.unwrap_or("application/grpc").as_bytes());
            // To a gRPC-Web client Envoy keeps the HTTP status, and makes a status and a message of a body only.
            if !said("grpc-status") && (grpc || !reply.body.is_empty()) {
                let status = reply.grpc.unwrap_or_else(|| wire::grpc::Status::of_http(reply.status));
                exchange.response.grpc_status = u8::try_from(status.0).ok();
                out.extend_from_slice(b"grpc-status: ");
                push_u64(&mut out, status.0.into());
                out.extend_from_slice(b"\r\n");
                if !reply.body.is_empty() && !head {
                    out.extend_from_slice(b"grpc-message: ");
                    wire::grpc::push_message(&mut out, reply.body);
                    out.extend_from_slice(b"\r\n");
                }
            }
            body = b"";
        }
        for (name, value) in
            reply.headers.iter().filter(|(name, _)| !exchange.is_grpc() || *name != "content-type")
        {
            push_field(&mut out, name.as_bytes(), value);
        }
        let bare = grpc && exchange.client_side.is_h2();
        if !bare && !matches!(exchange.response.status, 204 | 304) {
            out.extend_from_slice(b"content-length: ");
            push_u64(&mut out, body.len() as u64);
            out.extend_from_slice(b"\r\n");
        }
        if !body.is_empty() && !reply.headers.iter().any(|(name, _)| *name == "content-type") {
            out.extend_from_slice(b"content-type: text/plain\r\n");
        }
        let date = self.date(self.clock.unix_nanos(self.now));
        push_field(&mut out, b"date", &date);
        if let Some(client) = self.client(key) {
            match &client.http.settings.server_header {
                model::http_connection::ServerHeader::Overwrite(name)
                | model::http_connection::ServerHeader::AppendIfAbsent(name) => {
                    push_field(&mut out, b"server", name.as_bytes());
                }
                model::http_connection::ServerHeader::PassThrough => {}
            }
        }
        filters_out(&exchange, self.shared.introduction.as_ref(), &mut |edit| match edit {
            Edit::Set(name, value) => push_field(&mut out, name.as_bytes(), value),
            Edit::Remove(_) => {}
        });
        let body = if no_body { b"" } else { body };
        exchange.response.sent = body.len() as u64;
        if exchange.ending != Ending::Broken {
            self.write_reply(&mut exchange, &mut out, lines, body);
        }
        self.out = out;
        self.abandon_attempt(id, &mut exchange);
        self.finish(id, exchange);
    }

    /// A reply without further headers.
    pub(crate) fn local_reply(
        &mut self,
        id: ExchangeId,
        exchange: Box<Exchange>,
        status: u16,
        body: &[u8],
        flags: Flags,
        details: &'static str,
    ) {
        self.reply(id, exchange, &Reply::new(status, body, flags, details));
    }

    /// A head that can not be understood: answered, and the connection closed, for nothing after it can be trusted.
    pub(crate) fn refuse_head(&mut self, key: Key, mut exchange: Box<Exchange>, reject: &Reject) {
        let id = self.exchanges.reserve(&mut exchange);
        exchange.head.clear();
        exchange.head_storage = wire::h1::HeadStorage::new();
        exchange.tunnel = Tunnel::No;
        let Some(down) = self.downstream(key) else {
            self.exchanges.retire(id, exchange);
            return;
        };
        down.exchange = Some(id);
        down.client.last = true;
        down.state = Reading::Waiting;
        let stats = down.client.http.stats.clone();
        let shard = &self.telemetry.shard;
        shard.inc(stats.downstream_rq_total);
        shard.shift(stats.downstream_rq_active, 1);
        let flags = Flags::from_short_names(reject.flag).unwrap_or(Flags::NONE);
        if flags.contains(Flags::DOWNSTREAM_PROTOCOL_ERROR) {
            shard.inc(stats.downstream_cx_protocol_error);
        }
        // Envoy's codec says what is wrong by the status; its connection manager says nothing.
        let body = if flags.is_empty() { "" } else { reason(reject.status) };
        self.local_reply(id, exchange, reject.status, body.as_bytes(), flags, reject.details);
    }

    /// A request's body that breaks its framing.
    pub(crate) fn request_body_refused(&mut self, key: Key, id: ExchangeId, reject: &Reject) {
        if let Some(down) = self.downstream(key) {
            down.client.last = true;
            down.state = Reading::Waiting;
            let stats = down.client.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_cx_protocol_error);
        }
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        let flags = Flags::from_short_names(reject.flag).unwrap_or(Flags::DOWNSTREAM_PROTOCOL_ERROR);
        if exchange.response_began() {
            exchange.response.flags.insert(flags);
            exchange.response.details = reject.details.into();
            self.abort_exchange(id, exchange);
        } else {
            self.local_reply(
                id,
                exchange,
                reject.status,
                reason(reject.status).as_bytes(),
                flags,
                reject.details,
            );
        }
    }
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status, as Envoy writes it.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}
