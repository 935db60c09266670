//! gRPC over HTTP/2, as far as a proxy needs to know it: message frames, statuses, deadlines; gRPC-Web.
//!
//! After gRPC's own "gRPC over HTTP2", "gRPC-Web" and "HTTP to gRPC Status Code Mapping", and Envoy's
//! `Grpc::Common` where those leave a choice.

mod frames;
mod status;
mod timeout;
mod web;

pub use frames::{FrameCounter, PREFIX, push_prefix};
pub use status::{Status, decode_message, push_message};
pub use timeout::{parse_timeout, push_timeout};
pub use web::{Base64Decoder, Base64Encoder, WebKind, push_web_trailers};

/// Whether a content-type is gRPC's: `application/grpc`, alone or with a `+codec` or parameters.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type.get(..TYPE.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(TYPE))
        && matches!(content_type.get(TYPE.len()), None | Some(b'+' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;x=y", "Application/GRPC"]
        {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["", "application/grp", "application/grpc-web", "application/grpcx", "text/plain"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }
}
