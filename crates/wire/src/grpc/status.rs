//! Statuses and their messages.

use crate::text::{hex_value, parse_decimal};

/// A gRPC status code. What is above 16 is kept as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    pub const OK: Status = Status(0);
    pub const CANCELLED: Status = Status(1);
    pub const UNKNOWN: Status = Status(2);
    pub const INVALID_ARGUMENT: Status = Status(3);
    pub const DEADLINE_EXCEEDED: Status = Status(4);
    pub const NOT_FOUND: Status = Status(5);
    pub const ALREADY_EXISTS: Status = Status(6);
    pub const PERMISSION_DENIED: Status = Status(7);
    pub const RESOURCE_EXHAUSTED: Status = Status(8);
    pub const FAILED_PRECONDITION: Status = Status(9);
    pub const ABORTED: Status = Status(10);
    pub const OUT_OF_RANGE: Status = Status(11);
    pub const UNIMPLEMENTED: Status = Status(12);
    pub const INTERNAL: Status = Status(13);
    pub const UNAVAILABLE: Status = Status(14);
    pub const DATA_LOSS: Status = Status(15);
    pub const UNAUTHENTICATED: Status = Status(16);

    /// The value of a grpc-status field.
    pub fn parse(value: &[u8]) -> Option<Status> {
        parse_decimal(value).and_then(|code| u32::try_from(code).ok()).map(Status)
    }

    /// What a reply made here with this HTTP status is to a gRPC client (bad-inputs G-02). A rate limit may say
    /// RESOURCE_EXHAUSTED for 429 instead, where it is configured to.
    pub fn of_http(status: u16) -> Status {
        match status {
            400 => Status::INTERNAL,
            401 => Status::UNAUTHENTICATED,
            403 => Status::PERMISSION_DENIED,
            404 => Status::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Status::UNAVAILABLE,
            _ => Status::UNKNOWN,
        }
    }

    /// The HTTP status that says the same, as Envoy maps it for retries, outlier detection and statistics.
    pub fn to_http(self) -> u16 {
        match self {
            Status::OK => 200,
            Status::CANCELLED => 499,
            Status::INVALID_ARGUMENT | Status::FAILED_PRECONDITION | Status::OUT_OF_RANGE => 400,
            Status::DEADLINE_EXCEEDED => 504,
            Status::NOT_FOUND => 404,
            Status::ALREADY_EXISTS | Status::ABORTED => 409,
            Status::PERMISSION_DENIED => 403,
            Status::RESOURCE_EXHAUSTED => 429,
            Status::UNIMPLEMENTED => 501,
            Status::UNAVAILABLE => 503,
            Status::UNAUTHENTICATED => 401,
            _ => 500,
        }
    }
}

/// Appends a grpc-message: visible ASCII but `%` as it is, all else percent-encoded.
pub fn push_message(out: &mut Vec<u8>, message: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in message {
        match byte {
            b'%' | ..0x20 | 0x7f.. => {
                out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
    }
}

/// The text of a grpc-message; what is no escape stands for itself.
pub fn decode_message(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    loop {
        match rest {
            [] => return out,
            [b'%', high, low, after @ ..] => {
                if let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low)) {
                    out.push(high << 4 | low);
                    rest = after;
                    continue;
                }
                out.push(b'%');
            }
            [byte, ..] => out.push(*byte),
        }
        rest = rest.get(1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_replies_made_here() {
        // bad-inputs G-02.
        for (http, grpc) in
            [(503, 14), (502, 14), (504, 14), (429, 14), (403, 7), (401, 16), (404, 12), (400, 13)]
        {
            assert_eq!(Status::of_http(http), Status(grpc), "{http}");
        }
        assert_eq!((Status::of_http(500), Status::of_http(200)), (Status::UNKNOWN, Status::UNKNOWN));
    }

    #[test]
    fn to_http() {
        let expected =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
        for (code, http) in expected.into_iter().enumerate() {
            assert_eq!(Status(code as u32).to_http(), http, "{code}");
        }
    }

    #[test]
    fn values() {
        assert_eq!(Status::parse(b"14"), Some(Status::UNAVAILABLE));
        assert_eq!(Status::parse(b"255"), Some(Status(255)));
        for bad in [&b""[..], b"-1", b"x", b"99999999999"] {
            assert_eq!(Status::parse(bad), None);
        }
    }

    #[test]
    fn messages() {
        for (text, coded) in [
            ("no healthy upstream", "no healthy upstream"),
            ("50% off\r\n", "50%25 off%0D%0A"),
            ("中", "%E4%B8%AD"),
        ] {
            let mut out = vec![];
            push_message(&mut out, text.as_bytes());
            assert_eq!(out, coded.as_bytes());
            assert_eq!(decode_message(&out), text.as_bytes());
        }
        assert_eq!(decode_message(b"100%"), b"100%");
        assert_eq!(decode_message(b"%zz%4"), b"%zz%4");
    }
}
