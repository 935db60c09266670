//! The bodies of gRPC-Web made those of gRPC and back. What is done with them is in [`crate::filters::grpc_web_bodies`].

use wire::grpc::{Base64Decoder, Base64Encoder, FrameCounter, WebKind};
use wire::h1::{BodyReader, HeadStorage, RequestHead};
use wire::{BodyFraming, HeaderId};

use crate::exchange::framing::frame_chunk;

/// What a gRPC-Web exchange needs beside what every exchange has.
pub struct GrpcWeb {
    /// A request body in base64.
    request: Option<TextRequest>,
    /// How the client wants its answer.
    answer: WebKind,
    encoder: Base64Encoder,
    messages: FrameCounter,
    /// A response that is no gRPC: held back until its body is known.
    pub(super) foreign: Option<Foreign>,
    /// For what is transformed; reused.
    pub(super) out: Vec<u8>,
}

struct TextRequest {
    decoder: Base64Decoder,
    /// Takes the framing off an HTTP/1 client's body; the decoded one leaves in chunks.
    framed: Option<BodyReader>,
}

pub(super) struct Foreign {
    pub(super) head: Vec<u8>,
    pub(super) storage: HeadStorage,
    pub(super) body: Vec<u8>,
    pub(super) whole: bool,
}

/// A text body that is no base64: Envoy's `response_code_details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64(&'static str);

impl NotBase64 {
    pub fn details(self) -> &'static str {
        self.0
    }
}

impl GrpcWeb {
    /// If the request is gRPC-Web.
    pub fn of(head: &RequestHead<'_>, h2: bool, limits: &wire::h1::Limits) -> Option<GrpcWeb> {
        let kind = kind_of(head.only(HeaderId::ContentType)?)?;
        if head.upgrade().is_some() || head.is_connect() {
            return None;
        }
        let has_body = !matches!(head.framing(), BodyFraming::None);
        let request = (kind == WebKind::Text && has_body).then(|| TextRequest {
            decoder: Base64Decoder::default(),
            framed: (!h2).then(|| BodyReader::request(head.framing(), limits)),
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
    pub(super) fn decode(
        &mut self,
        parts: [&[u8]; 2],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), NotBase64> {
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
    pub(super) fn encode(&mut self, payload: &[u8], end: bool) {
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

    pub(super) fn encode_trailers(&mut self, section: &[u8]) {
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
pub(super) fn kind_of(value: &[u8]) -> Option<WebKind> {
    let plain = |kind: &[u8]| value.eq_ignore_ascii_case(kind);
    if plain(b"application/grpc-web") || plain(b"application/grpc-web+proto") {
        Some(WebKind::Binary)
    } else if plain(b"application/grpc-web-text") || plain(b"application/grpc-web-text+proto") {
        Some(WebKind::Text)
    } else {
        None
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
