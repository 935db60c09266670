//! gRPC's answers, written by hand.

use http::{HeaderMap, HeaderValue};

/// gRPC's codes.
pub(super) mod code {
    pub(in crate::ads) const OK: u16 = 0;
    pub(in crate::ads) const INVALID_ARGUMENT: u16 = 3;
    pub(in crate::ads) const DEADLINE_EXCEEDED: u16 = 4;
    pub(in crate::ads) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(in crate::ads) const UNIMPLEMENTED: u16 = 12;
}

pub(super) fn status(code: u16, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// As gRPC wants messages: printable ASCII but `%`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gRPC over HTTP/2, "Responses": percent-encoding of `grpc-message`.
    #[test]
    fn messages_are_percent_encoded() {
        let trailers = status(code::INVALID_ARGUMENT, "50 % of é\n");
        assert_eq!(trailers["grpc-status"], "3");
        assert_eq!(trailers["grpc-message"], "50 %25 of %C3%A9%0A");
    }
}
