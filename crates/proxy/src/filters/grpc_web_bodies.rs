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

use wire::grpc::{Status, is_grpc, push_message};
use wire::h1::{Head, Version};
use wire::{BodyFraming, HeaderId};

use crate::exchange::{Exchange, ExchangeId, Framing};
use crate::filters::grpc_web_codec::{Foreign, GrpcWeb, NotBase64, kind_of};
use crate::request::chain::HttpChain;
use crate::response::reply::Reply;
use crate::worker::Worker;
use telemetry::Flags;

/// Envoy keeps so much of a body that becomes a message.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// What its client is told.
pub(crate) const NOT_BASE64: &[u8] = b"Bad gRPC-web request, invalid base64 data.";

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
        exchange.web =
            GrpcWeb::of(&exchange.head_view(), exchange.client_side.is_h2(), &http.limits).map(Box::new);
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
            exchange.response.details = bad.details().into();
            return self.abort_exchange(id, exchange);
        }
        self.reply(id, exchange, &Reply::new(400, NOT_BASE64, Flags::NONE, bad.details()));
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
