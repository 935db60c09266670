//! Why a message is refused: the one error type of this crate.

/// A refused message, as the proxy answers, counts and logs it.
///
/// `details` is Envoy's `response_code_details`, `flag` its short response flag (`"DPE"`, `"UPE"`, or `"-"`
/// where Envoy sets none). `status` is what the downstream is told: for a refused *request* the answer itself,
/// for a refused *response* always 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{details} ({status}, {flag})")]
pub struct Reject {
    pub status: u16,
    pub details: &'static str,
    /// The connection the message came on must not be reused: its framing can no longer be trusted.
    pub close: bool,
    pub flag: &'static str,
}

/// Which way the refused message was going; decides status and flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From a client: its fault, 4xx, `DPE`.
    Request,
    /// From an upstream: 502, `UPE`.
    Response,
}

impl Reject {
    /// A malformed message: 400 `DPE` for a request, 502 `UPE` for a response.
    pub const fn malformed(side: Side, details: &'static str) -> Reject {
        Reject::with_status(side, 400, details)
    }

    /// As [`Reject::malformed`] with another status; a response is answered 502 whatever `status` says.
    pub const fn with_status(side: Side, status: u16, details: &'static str) -> Reject {
        match side {
            Side::Request => Reject { status, details, close: true, flag: "DPE" },
            Side::Response => Reject { status: 502, details, close: true, flag: "UPE" },
        }
    }

    /// A well-formed request this proxy will not serve (Envoy's connection manager, not its codec, refuses
    /// these, and sets no flag).
    pub const fn unserved(status: u16, details: &'static str) -> Reject {
        Reject { status, details, close: true, flag: "-" }
    }
}

/// Envoy's `response_code_details` for what a codec or the connection manager's first checks refuse.
pub mod details {
    pub const TOO_MANY_HEADERS: &str = "http1.too_many_headers";
    pub const HEADERS_TOO_LARGE: &str = "http1.headers_too_large";
    pub const TRAILERS_TOO_LARGE: &str = "http1.trailers_too_large";
    pub const CODEC_ERROR: &str = "http1.codec_error";
    pub const INVALID_CHARACTERS: &str = "http1.invalid_characters";
    pub const CONNECTION_HEADER_REJECTED: &str = "http1.connection_header_rejected";
    pub const INVALID_URL: &str = "http1.invalid_url";
    pub const INVALID_SCHEME: &str = "http1.invalid_scheme";
    pub const HTTPS_ON_PLAINTEXT: &str = "http1.https_url_on_plaintext_connection";
    pub const INVALID_TRANSFER_ENCODING: &str = "http1.invalid_transfer_encoding";
    pub const TRANSFER_ENCODING_NOT_ALLOWED: &str = "http1.transfer_encoding_not_allowed";
    pub const CONTENT_LENGTH_NOT_ALLOWED: &str = "http1.content_length_not_allowed";
    pub const CONTENT_LENGTH_AND_CHUNKED: &str = "http1.content_length_and_chunked_not_allowed";
    pub const UNEXPECTED_UNDERSCORE: &str = "http1.unexpected_underscore";
    pub const MISSING_HOST: &str = "missing_host_header";
    pub const INVALID_AUTHORITY: &str = "http.invalid_authority";
    pub const LOW_VERSION: &str = "low_version";
    pub const PATH_NORMALIZATION_FAILED: &str = "path_normalization_failed";
    /// Ours: an `Expect` other than `100-continue` (Envoy forwards it).
    pub const EXPECTATION_FAILED: &str = "expectation_failed";
    /// Ours: a 101 nobody asked for.
    pub const UNEXPECTED_UPGRADE: &str = "http1.unexpected_upgrade";
    /// Ours: the connection ended inside a body whose end was announced.
    pub const PREMATURE_END: &str = "http1.premature_end_of_body";
}
