/// The most header fields a head may ever have, whatever [`Limits::max_headers`] says.
pub const MAX_HEADERS: usize = 250;

/// What a peer may send, and the few choices left to configuration. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Head, from the first byte of its start line through the empty line. Envoy: 60 KiB, then 431.
    pub max_head: usize,
    /// Header fields in a head, at most [`MAX_HEADERS`]. Envoy: 100, then 431.
    pub max_headers: usize,
    /// Trailer section of a chunked body.
    pub max_trailers: usize,
    /// All chunk extensions of one body together; they mean nothing and cost CPU.
    pub max_chunk_extensions: usize,
    /// Serve HTTP/1.0 requests instead of answering 426 (Envoy's `accept_http_10`, Istio's `PILOT_HTTP10`).
    pub allow_http10: bool,
    /// Serve requests of any method that is a token, not only of those Envoy knows (its `allow_custom_methods`).
    pub allow_custom_methods: bool,
    /// Field names with an underscore, which some servers confuse with `-`.
    pub underscores: Underscores,
    /// A target may say `https://`: the connection is TLS, or somebody trusted before us has ended it.
    pub secure: bool,
}

/// Envoy's `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    Allow,
    /// 400 `http1.unexpected_underscore`; Istio's edge advice.
    Reject,
    /// The field is not forwarded and not found.
    Drop,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_head: 60 * 1024,
            max_headers: 100,
            max_trailers: 60 * 1024,
            max_chunk_extensions: 16 * 1024,
            allow_http10: false,
            allow_custom_methods: false,
            underscores: Underscores::Allow,
            secure: false,
        }
    }
}
