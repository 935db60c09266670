//! Answers of the proxy's own, worded as Envoy words them.

use std::borrow::Cow;

use telemetry::Flags;
use wire::Reject;
use wire::text::push_u64;

use crate::exchange::{Ending, Exchange, ExchangeId, Tunnel};
use crate::filters::{Edit, filters_out};
use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::Reading;

/// An answer of ours.
pub struct Reply<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Beside content-length, content-type, date and server.
    pub headers: &'a [(&'a str, &'a [u8])],
    pub flags: Flags,
    pub details: Cow<'static, str>,
    /// What a gRPC client is told instead; `None`: what the status stands for.
    pub grpc: Option<wire::grpc::Status>,
}

impl<'a> Reply<'a> {
    pub fn new(status: u16, body: &'a [u8], flags: Flags, details: &'static str) -> Reply<'a> {
        Reply { status, body, headers: &[], flags, details: Cow::Borrowed(details), grpc: None }
    }

    /// What becomes of a request whose attempt ended before a response began: Envoy's
    /// `upstream_reset_before_response_started{reason}`.
    pub fn reset(reset: &Reset, buffer: &'a mut Vec<u8>) -> Reply<'a> {
        buffer
            .extend_from_slice(b"upstream connect error or disconnect/reset before headers. reset reason: ");
        buffer.extend_from_slice(reset.reason.as_bytes());
        if let Some(failure) = &reset.failure {
            buffer.extend_from_slice(b", transport failure reason: ");
            buffer.extend_from_slice(failure.as_bytes());
        }
        let underscored = |text: &str| text.replace(' ', "_");
        let mut details = format!("upstream_reset_before_response_started{{{}", underscored(reset.reason));
        if let Some(failure) = &reset.failure {
            details.push('|');
            details.push_str(&underscored(failure));
        }
        details.push('}');
        Reply {
            status: reset.status,
            body: buffer,
            headers: reset.headers(),
            flags: reset.flags,
            details: details.into(),
            grpc: None,
        }
    }
}

/// Why an attempt ended without a response.
#[derive(Clone, Debug)]
pub struct Reset {
    pub status: u16,
    pub reason: &'static str,
    pub failure: Option<String>,
    pub flags: Flags,
}

impl Reset {
    pub fn connection_failure(failure: Option<String>) -> Reset {
        Reset {
            status: 503,
            reason: "remote connection failure",
            failure,
            flags: Flags::UPSTREAM_CONNECTION_FAILURE,
        }
    }

    pub fn connection_timeout() -> Reset {
        Reset {
            status: 503,
            reason: "connection timeout",
            failure: None,
            flags: Flags::UPSTREAM_CONNECTION_FAILURE,
        }
    }

    pub fn termination() -> Reset {
        Reset {
            status: 503,
            reason: "connection termination",
            failure: None,
            flags: Flags::UPSTREAM_CONNECTION_TERMINATION,
        }
    }

    pub fn could_not_connect(error: Option<std::io::ErrorKind>) -> Reset {
        let failure = error
            .map(|kind| format!("delayed connect error: {}", crate::host::attempt::failure_text(kind, None)));
        Reset::connection_failure(failure)
    }

    pub fn remote_reset() -> Reset {
        Reset { status: 503, reason: "remote reset", failure: None, flags: Flags::UPSTREAM_REMOTE_RESET }
    }

    pub fn refused_stream() -> Reset {
        Reset { reason: "remote refused stream reset", ..Reset::remote_reset() }
    }

    pub fn overflow() -> Reset {
        Reset { status: 503, reason: "overflow", failure: None, flags: Flags::UPSTREAM_OVERFLOW }
    }

    pub fn protocol_error() -> Reset {
        Reset { status: 502, reason: "protocol error", failure: None, flags: Flags::UPSTREAM_PROTOCOL_ERROR }
    }

    fn headers(&self) -> &'static [(&'static str, &'static [u8])] {
        if self.flags.contains(Flags::UPSTREAM_OVERFLOW) { &[("x-envoy-overloaded", b"true")] } else { &[] }
    }
}

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
