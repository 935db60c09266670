//! gRPC's answers, written by hand.

/// Fields of every response that is no error by itself.
pub(super) const HEAD: &str = "content-type: application/grpc\r\n";

/// gRPC's codes.
pub(super) mod code {
    pub(in crate::ads) const OK: u16 = 0;
    pub(in crate::ads) const INVALID_ARGUMENT: u16 = 3;
    pub(in crate::ads) const DEADLINE_EXCEEDED: u16 = 4;
    pub(in crate::ads) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(in crate::ads) const UNIMPLEMENTED: u16 = 12;
}

/// The fields that end a stream.
pub(super) fn status(code: u16, message: &str) -> String {
    format!("grpc-status: {code}\r\ngrpc-message: {}\r\n", percent_encoded(message))
}

/// The fields of a response that is its own end.
pub(super) fn ended(code: u16, message: &str) -> String {
    format!("{HEAD}{}", status(code, message))
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
        let fields = status(code::INVALID_ARGUMENT, "50 % of é\n");
        assert_eq!(fields, "grpc-status: 3\r\ngrpc-message: 50 %25 of %C3%A9%0A\r\n");
    }
}
