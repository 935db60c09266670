//! An answer of ours, and why an attempt ended without a response, worded as Envoy words them.

use std::borrow::Cow;

use telemetry::Flags;

use crate::net::failure::failure_text;

/// An answer of ours.
pub struct Reply<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Beside content-length, content-type, date and server.
    pub headers: &'a [(&'a str, &'a [u8])],
    pub flags: Flags,
    pub details: Cow<'static, str>,
    /// What a gRPC client is told instead; `None`: what the status stands for.
    pub grpc: Option<wire::grpc::Status>,
}

impl<'a> Reply<'a> {
    pub fn new(status: u16, body: &'a [u8], flags: Flags, details: &'static str) -> Reply<'a> {
        Reply { status, body, headers: &[], flags, details: Cow::Borrowed(details), grpc: None }
    }

    /// What becomes of a request whose attempt ended before a response began: Envoy's
    /// `upstream_reset_before_response_started{reason}`.
    pub fn reset(reset: &Reset, buffer: &'a mut Vec<u8>) -> Reply<'a> {
        buffer
            .extend_from_slice(b"upstream connect error or disconnect/reset before headers. reset reason: ");
        buffer.extend_from_slice(reset.reason.as_bytes());
        if let Some(failure) = &reset.failure {
            buffer.extend_from_slice(b", transport failure reason: ");
            buffer.extend_from_slice(failure.as_bytes());
        }
        let underscored = |text: &str| text.replace(' ', "_");
        let mut details = format!("upstream_reset_before_response_started{{{}", underscored(reset.reason));
        if let Some(failure) = &reset.failure {
            details.push('|');
            details.push_str(&underscored(failure));
        }
        details.push('}');
        Reply {
            status: reset.status,
            body: buffer,
            headers: reset.headers(),
            flags: reset.flags,
            details: details.into(),
            grpc: None,
        }
    }
}

/// Why an attempt ended without a response.
#[derive(Clone, Debug)]
pub struct Reset {
    pub status: u16,
    pub reason: &'static str,
    pub failure: Option<String>,
    pub flags: Flags,
}

impl Reset {
    pub fn connection_failure(failure: Option<String>) -> Reset {
        Reset {
            status: 503,
            reason: "remote connection failure",
            failure,
            flags: Flags::UPSTREAM_CONNECTION_FAILURE,
        }
    }

    pub fn connection_timeout() -> Reset {
        Reset {
            status: 503,
            reason: "connection timeout",
            failure: None,
            flags: Flags::UPSTREAM_CONNECTION_FAILURE,
        }
    }

    pub fn termination() -> Reset {
        Reset {
            status: 503,
            reason: "connection termination",
            failure: None,
            flags: Flags::UPSTREAM_CONNECTION_TERMINATION,
        }
    }

    pub fn could_not_connect(error: Option<std::io::ErrorKind>) -> Reset {
        let failure = error.map(|kind| format!("delayed connect error: {}", failure_text(kind, None)));
        Reset::connection_failure(failure)
    }

    pub fn remote_reset() -> Reset {
        Reset { status: 503, reason: "remote reset", failure: None, flags: Flags::UPSTREAM_REMOTE_RESET }
    }

    pub fn refused_stream() -> Reset {
        Reset { reason: "remote refused stream reset", ..Reset::remote_reset() }
    }

    pub fn overflow() -> Reset {
        Reset { status: 503, reason: "overflow", failure: None, flags: Flags::UPSTREAM_OVERFLOW }
    }

    pub fn protocol_error() -> Reset {
        Reset { status: 502, reason: "protocol error", failure: None, flags: Flags::UPSTREAM_PROTOCOL_ERROR }
    }

    fn headers(&self) -> &'static [(&'static str, &'static [u8])] {
        if self.flags.contains(Flags::UPSTREAM_OVERFLOW) { &[("x-envoy-overloaded", b"true")] } else { &[] }
    }
}
