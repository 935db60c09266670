//! gRPC-Web made gRPC and back, as Envoy's `grpc_web` filter does (each rule here was seen at Envoy 1.40).
//!
//! | | the client | the host |
//! |---|---|---|
//! | request | `application/grpc-web[-text][+proto]` | `application/grpc`, `te: trailers`, `grpc-accept-encoding: identity` |
//! | its body | as it is, or in base64 | as it is, of no declared length |
//! | response | `application/grpc-web[-text]+proto`, as its `accept` asks | gRPC |
//! | its trailers | a last message of the body | trailers |
//! | a response that is no gRPC, with a body | the body as `grpc-message`, the status as it is | anything |
//! | a reply of our own | the same | |

use wire::grpc::{Base64Decoder, Base64Encoder, FrameCounter, Status, WebKind, is_grpc, push_message};
use wire::h1::{BodyReader, Head, HeadStorage, Version};
use wire::{BodyFraming, HeaderId};

use crate::exchange::framing::frame_chunk;
use crate::exchange::{Exchange, ExchangeId, Framing};
use crate::request::chain::HttpChain;
use crate::response::reply::Reply;
use crate::worker::Worker;
use telemetry::Flags;

/// Envoy keeps so much of a body that becomes a message.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// What a gRPC-Web exchange needs beside what every exchange has.
pub struct GrpcWeb {
    /// A request body in base64.
    request: Option<TextRequest>,
    /// How the client wants its answer.
    answer: WebKind,
    encoder: Base64Encoder,
    messages: FrameCounter,
    /// A response that is no gRPC: held back until its body is known.
    foreign: Option<Foreign>,
    /// For what is transformed; reused.
    out: Vec<u8>,
}

struct TextRequest {
    decoder: Base64Decoder,
    /// Takes the framing off an HTTP/1 client's body; the decoded one leaves in chunks.
    framed: Option<BodyReader>,
}

struct Foreign {
    head: Vec<u8>,
    storage: HeadStorage,
    body: Vec<u8>,
    whole: bool,
}

/// A text body that is no base64: Envoy's `response_code_details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64(&'static str);

impl NotBase64 {
    pub fn details(self) -> &'static str {
        self.0
    }
}

/// What its client is told.
pub(crate) const NOT_BASE64: &[u8] = b"Bad gRPC-web request, invalid base64 data.";

impl GrpcWeb {
    /// If the request is gRPC-Web.
    pub fn of(exchange: &Exchange, limits: &wire::h1::Limits) -> Option<GrpcWeb> {
        let head = exchange.head_view();
        let kind = kind_of(head.only(HeaderId::ContentType)?)?;
        if head.upgrade().is_some() || head.is_connect() {
            return None;
        }
        let has_body = !matches!(head.framing(), BodyFraming::None);
        let request = (kind == WebKind::Text && has_body).then(|| TextRequest {
            decoder: Base64Decoder::default(),
            framed: (!exchange.client_side.is_h2()).then(|| BodyReader::request(head.framing(), limits)),
        });
        Some(GrpcWeb {
            request,
            answer: head.known(HeaderId::Accept).and_then(kind_of).unwrap_or(WebKind::Binary),
            encoder: Base64Encoder::default(),
            messages: FrameCounter::default(),
            foreign: None,
            out: vec![],
        })
    }

    /// Whether the request's body leaves in another form than it came.
    pub fn decodes(&self) -> bool {
        self.request.is_some()
    }

    pub fn content_type(&self) -> &'static str {
        match self.answer {
            WebKind::Binary => "application/grpc-web+proto",
            WebKind::Text => "application/grpc-web-text+proto",
        }
    }

    /// Part of a request's body as its client sends it, decoded: in chunks for an HTTP/1 client's, payload for an
    /// HTTP/2 client's.
    fn decode(&mut self, parts: [&[u8]; 2], end: bool, out: &mut Vec<u8>) -> Result<(), NotBase64> {
        const BAD: NotBase64 = NotBase64("grpc_base_64_decode_failed");
        const SHORT: NotBase64 = NotBase64("grpc_base_64_decode_failed_bad_size");
        let Some(request) = &mut self.request else { return Ok(()) };
        let payload = &mut self.out;
        payload.clear();
        match &mut request.framed {
            None => parts.into_iter().try_for_each(|part| request.decoder.push(part, payload)).ok_or(BAD)?,
            Some(reader) => {
                for mut part in parts {
                    // Framing was checked when it came.
                    while let Ok(decoded) = reader.decode(part) {
                        request.decoder.push(decoded.payload, payload).ok_or(BAD)?;
                        part = part.get(decoded.consumed..).unwrap_or_default();
                        if decoded.done || decoded.consumed == 0 {
                            break;
                        }
                    }
                }
            }
        }
        if end && !request.decoder.is_whole() {
            return Err(SHORT);
        }
        match &request.framed {
            None => out.extend_from_slice(payload),
            Some(reader) => frame_chunk(payload, reader.tail(), end, out),
        }
        Ok(())
    }

    /// A response's body as its client wants it. Each run of messages is encoded by itself: what a client has got it
    /// can decode.
    fn encode(&mut self, payload: &[u8], end: bool) {
        match self.answer {
            WebKind::Binary => self.out.extend_from_slice(payload),
            WebKind::Text => {
                self.messages.advance(payload);
                self.encoder.push(payload, &mut self.out);
                if end || self.messages.is_whole() {
                    self.encoder.finish(&mut self.out);
                }
            }
        }
    }

    fn encode_trailers(&mut self, section: &[u8]) {
        let mut message = vec![];
        // Names in lower case, whichever HTTP they came by.
        let mut lower = Vec::with_capacity(section.len());
        for (name, value) in wire::h2::Trailers::from_section(section).fields() {
            lower.extend(name.iter().map(u8::to_ascii_lowercase));
            lower.extend_from_slice(b": ");
            lower.extend_from_slice(value);
            lower.extend_from_slice(b"\r\n");
        }
        lower.extend_from_slice(b"\r\n");
        wire::grpc::push_web_trailers(&mut message, &lower);
        match self.answer {
            WebKind::Binary => self.out.extend_from_slice(&message),
            WebKind::Text => {
                // What a host left unfinished stays apart.
                self.encoder.finish(&mut self.out);
                self.encoder.push(&message, &mut self.out);
                self.encoder.finish(&mut self.out);
            }
        }
    }
}

/// Envoy's four types; others, and those with another codec, pass unchanged.
fn kind_of(value: &[u8]) -> Option<WebKind> {
    let plain = |kind: &[u8]| value.eq_ignore_ascii_case(kind);
    if plain(b"application/grpc-web") || plain(b"application/grpc-web+proto") {
        Some(WebKind::Binary)
    } else if plain(b"application/grpc-web-text") || plain(b"application/grpc-web-text+proto") {
        Some(WebKind::Text)
    } else {
        None
    }
}

impl Exchange {
    /// Whether the host gets it as gRPC.
    pub fn is_grpc(&self) -> bool {
        self.web.is_some()
            || self.has_head() && self.head_view().only(HeaderId::ContentType).is_some_and(is_grpc)
    }

    /// The status of a gRPC response: as told, else what its HTTP status means, as Envoy logs it. `None` for what is no
    /// gRPC.
    pub fn grpc_status_told(&self) -> Option<u8> {
        if !self.is_grpc() {
            return None;
        }
        let meant = || (self.response.status != 0).then(|| Status::of_http(self.response.status));
        self.response.grpc_status.or_else(|| u8::try_from(meant()?.0).ok())
    }

    /// How the request's body is framed when it leaves.
    pub fn body_framing(&self) -> BodyFraming {
        match &self.web {
            Some(web) if web.decodes() => BodyFraming::Chunked,
            _ => self.head_view().framing(),
        }
    }

    /// The head of a gRPC-Web request as its host gets it. Where it goes was decided by what the client sent.
    pub fn edit_web_request(&mut self) {
        let Some(web) = &self.web else { return };
        let head = self.head_storage.request(&self.head);
        let edits = &mut self.edits;
        edits.set_known(&head, HeaderId::ContentType, b"application/grpc");
        let said = head.known(HeaderId::Te).is_some_and(|te| {
            te.split(|byte| *byte == b',')
                .any(|coding| wire::text::trim(coding).eq_ignore_ascii_case(b"trailers"))
        });
        if !said {
            edits.set_known(&head, HeaderId::Te, b"trailers");
        }
        edits.set(&head, b"grpc-accept-encoding", b"identity");
        // A body that stays as it is keeps its length, by which an HTTP/1 host finds its end.
        if web.decodes() && head.known(HeaderId::ContentLength).is_some() {
            edits.remove_known(&head, HeaderId::ContentLength);
            if head.framing() != BodyFraming::Chunked {
                edits.append_known(HeaderId::TransferEncoding, b"chunked");
            }
        }
    }

    /// The head of a response that has not ended with it. One that announces a body of no byte has trailers still to come,
    /// which are a gRPC-Web client's body.
    pub fn await_web_trailers(&mut self, head: &wire::h1::ResponseHead<'_>) {
        let bodiless = matches!(head.status(), 204 | 304) || self.head_view().method() == b"HEAD";
        if self.web.is_none() || self.client_side.is_h2() || head.framing() != BodyFraming::None || bodiless {
            return;
        }
        self.response.framing = match self.head_view().version() {
            Version::Http10 => Framing::Unchunk,
            Version::Http11 | Version::Http2 => Framing::Chunk,
        };
    }

    /// What a gRPC-Web client's response says in its head.
    pub fn edit_web_response(&self, head: &Head<'_>, edits: &mut wire::h1::Edits) {
        let Some(web) = &self.web else { return };
        edits.set_known(head, HeaderId::ContentType, web.content_type().as_bytes());
        match &web.foreign {
            None if self.response.framing == Framing::Same => {}
            None => edits.remove_known(head, HeaderId::ContentLength),
            Some(foreign) => {
                edits.remove_known(head, HeaderId::ContentLength);
                edits.remove_known(head, HeaderId::TransferEncoding);
                if !frames_itself(head) {
                    edits.append_number(HeaderId::ContentLength, 0);
                }
                if !foreign.body.is_empty() {
                    let message = |out: &mut Vec<u8>| push_message(out, &foreign.body);
                    edits.remove_known(head, HeaderId::GrpcMessage);
                    edits.append_known_with(HeaderId::GrpcMessage, message);
                    edits.remove_known(head, HeaderId::GrpcStatus);
                    edits.append_number(HeaderId::GrpcStatus, Status::of_http(self.response.status).0.into());
                }
            }
        }
    }
}

/// A head that came by HTTP/2 without a length: it is written with chunks to an HTTP/1 client.
fn frames_itself(head: &Head<'_>) -> bool {
    head.version() == Version::Http2 && head.framing() == BodyFraming::Chunked
}

impl Worker {
    /// A request may be gRPC-Web. What has come of its body, as the host is to get it, if that is something else.
    pub(crate) fn begin_web(
        &mut self,
        exchange: &mut Exchange,
        http: &HttpChain,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NotBase64> {
        exchange.web = GrpcWeb::of(exchange, &http.limits).map(Box::new);
        self.decode_web(exchange, body, &[])
    }

    /// Part of a request's body, if it leaves in another form than it came.
    pub(crate) fn decode_web(
        &mut self,
        exchange: &mut Exchange,
        body: &[u8],
        tail: &[u8],
    ) -> Result<Option<Vec<u8>>, NotBase64> {
        let end = exchange.request.progress.is_whole();
        let Some(web) = exchange.web.as_mut().filter(|web| web.decodes()) else { return Ok(None) };
        let mut out = vec![];
        // The trailers of an HTTP/2 request go their own way.
        let tail = if exchange.client_side.is_h2() { &[] } else { tail };
        web.decode([body, tail], end, &mut out)?;
        Ok(Some(out))
    }

    /// A text body that is no base64.
    pub(crate) fn refuse_web(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, bad: NotBase64) {
        if exchange.response_began() {
            exchange.response.details = bad.0.into();
            return self.abort_exchange(id, exchange);
        }
        self.reply(id, exchange, &Reply::new(400, NOT_BASE64, Flags::NONE, bad.0));
    }

    /// The head of a gRPC-Web response (it lies in `self.response`, over `bytes`) that has to wait for its body: true if
    /// it does.
    pub(crate) fn hold_web_head(&mut self, exchange: &mut Exchange, bytes: &[u8], end: bool) -> bool {
        let head = self.response.response(bytes);
        let Some(web) = &mut exchange.web else { return false };
        let is_ours =
            head.known(HeaderId::ContentType).is_some_and(|kind| is_grpc(kind) || kind_of(kind).is_some());
        if end || is_ours || exchange.tunnel.is_open() || web.foreign.is_some() {
            return false;
        }
        web.foreign = Some(Foreign {
            head: bytes.get(..head.wire_length()).unwrap_or_default().to_vec(),
            storage: self.response.clone(),
            body: vec![],
            whole: false,
        });
        true
    }

    /// Part of a response's body, without framing, for a gRPC-Web client.
    pub(crate) fn encode_web(&mut self, exchange: &mut Exchange, payload: &[u8], end: bool) {
        let Some(mut web) = exchange.web.take() else { return };
        match &mut web.foreign {
            Some(foreign) => {
                let room = LONGEST_MESSAGE.saturating_sub(foreign.body.len()).min(payload.len());
                foreign.body.extend_from_slice(payload.get(..room).unwrap_or_default());
                if end && !std::mem::replace(&mut foreign.whole, true) {
                    let head = std::mem::take(&mut foreign.head);
                    std::mem::swap(&mut self.response, &mut foreign.storage);
                    exchange.response.sent = 0;
                    let chunked = frames_itself(&self.response.response(&head));
                    if !chunked {
                        exchange.response.framing = Framing::Same;
                    }
                    exchange.web = Some(web);
                    self.pass_head(exchange, &head, true);
                    if chunked && !exchange.client_side.is_h2() {
                        self.write_payload(exchange, b"", true);
                    }
                    return;
                }
            }
            None => {
                web.out.clear();
                web.encode(payload, end);
                let out = std::mem::take(&mut web.out);
                self.write_payload(exchange, &out, end);
                web.out = out;
            }
        }
        exchange.web = Some(web);
    }

    /// The trailers of the response become the end of its body.
    pub(crate) fn end_web(&mut self, exchange: &mut Exchange, section: &[u8]) {
        let Some(mut web) = exchange.web.take() else { return };
        if web.foreign.is_some() {
            exchange.web = Some(web);
            return self.encode_web(exchange, b"", true);
        }
        web.out.clear();
        web.encode_trailers(section);
        self.write_payload(exchange, &web.out, true);
        exchange.web = Some(web);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_types_and_no_other() {
        // Envoy 1.40: `application/grpc-web+json` reaches the host as it is.
        for (value, kind) in [
            ("application/grpc-web", Some(WebKind::Binary)),
            ("application/grpc-web+proto", Some(WebKind::Binary)),
            ("Application/gRPC-Web-Text", Some(WebKind::Text)),
            ("application/grpc-web-text+proto", Some(WebKind::Text)),
            ("application/grpc-web+json", None),
            ("application/grpc", None),
            ("", None),
        ] {
            assert_eq!(kind_of(value.as_bytes()), kind, "{value}");
        }
    }
}
