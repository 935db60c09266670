//! What can go wrong, and how a peer is told.

/// RFC 9113 §7. Codes nobody registered are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    pub const CANCEL: ErrorCode = ErrorCode(8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(10);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
    pub const INADEQUATE_SECURITY: ErrorCode = ErrorCode(12);
    pub const HTTP_1_1_REQUIRED: ErrorCode = ErrorCode(13);

    /// The RFC's name; empty for a code it does not know.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("")
    }
}

impl std::fmt::Debug for ErrorCode {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, to)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            "" => write!(to, "error code {:#x}", self.0),
            name => to.write_str(name),
        }
    }
}

/// The connection is over: what is left of its output (a GOAWAY) is to be sent, then it is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {why}")]
pub struct ConnectionError {
    pub code: ErrorCode,
    /// What the peer did, for logs; also the debug data of the GOAWAY.
    pub why: &'static str,
}

impl ConnectionError {
    pub(super) const fn new(code: ErrorCode, why: &'static str) -> ConnectionError {
        ConnectionError { code, why }
    }

    pub(super) const fn protocol(why: &'static str) -> ConnectionError {
        ConnectionError::new(ErrorCode::PROTOCOL_ERROR, why)
    }

    pub(super) const fn size(why: &'static str) -> ConnectionError {
        ConnectionError::new(ErrorCode::FRAME_SIZE_ERROR, why)
    }

    /// A flood, however well-formed.
    pub(super) const fn flood(why: &'static str) -> ConnectionError {
        ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, why)
    }
}

/// Envoy's `response_code_details` for what an HTTP/2 codec refuses.
pub mod detail {
    pub const TOO_MANY_HEADERS: &str = "http2.too_many_headers";
    pub const HEADERS_TOO_LARGE: &str = "http2.headers_too_large";
    pub const UNEXPECTED_UNDERSCORE: &str = "http2.unexpected_underscore";
    pub const INVALID_SCHEME: &str = "http2.invalid_scheme";
    pub const MESSAGING: &str = "http2.violation.of.messaging.rule";
    /// Ours: an extended CONNECT for what HTTP/1 could not be asked for (bad-inputs U-03).
    pub const UNEXPECTED_UPGRADE: &str = "http2.unexpected_upgrade";
    pub(crate) const BOMB: &str = "field block decodes to several times the allowed size";
}
