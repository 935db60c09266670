//! HTTP/1.0 and 1.1 (RFC 9112), parsed in place and forwarded as runs of untouched bytes.
//!
//! A head is scanned once ([`parse_request`], [`parse_response`]) into a reusable [`HeadStorage`] of indices; the
//! views [`RequestHead`] and [`ResponseHead`] read the caller's buffer through it. A body is walked by a
//! [`BodyReader`], which says how many bytes pass through. The outgoing head is the incoming one with lines cut
//! and lines added, as recorded in [`Edits`], written by [`write_request`] and [`write_response`].
//!
//! | file | holds |
//! |---|---|
//! | `head.rs` | storage and views of a parsed head |
//! | `request.rs`, `response.rs` | parsing and the rules that refuse |
//! | `method.rs` | the methods that are served |
//! | `framing.rs` | where a body ends |
//! | `connection.rs` | Connection, TE and Upgrade: what is for this hop alone |
//! | `target.rs` | the four forms of a request target |
//! | `body.rs`, `chunked.rs`, `trailers.rs` | bodies under arbitrary splits |
//! | `edits.rs`, `write.rs`, `reason.rs` | the outgoing head |

mod body;
mod chunked;
pub(crate) mod connection;
pub(crate) mod edits;
mod framing;
pub(crate) mod head;
mod limits;
pub(crate) mod method;
mod reason;
mod request;
mod response;
mod target;
mod trailers;
mod write;

pub use body::{Advance, BodyReader, Decoded};
pub use chunked::{LAST_CHUNK, push_chunk_header};
pub use edits::Edits;
pub use framing::BodyFraming;
pub use head::{Field, Fields, Head, HeadStorage, RequestHead, ResponseHead, Scheme, Version};
pub use limits::{Limits, MAX_HEADERS, Underscores};
pub use reason::{push_status_line, reason};
pub use request::parse_request;
pub use response::{ResponseTo, parse_response};
pub use target::TargetForm;
pub use write::{write_request, write_response};

/// Whether it is worth parsing `buffer` (anew), whose first `seen` bytes were looked at before: a blank line has
/// come. Beyond [`Limits::max_head`] the caller parses in any case, to have the head refused.
///
/// A peer that sends a head byte by byte would otherwise have it parsed anew for each byte, at a cost growing with
/// the square of its length. Costs one search of the new bytes. Of a head not yet tried at all it says yes, so
/// that what is no HTTP is refused at once.
pub fn may_complete_head(buffer: &[u8], seen: usize) -> bool {
    // The blank line that ends a head may have begun in the bytes seen before.
    let fresh = buffer.get(seen.saturating_sub(3)..).unwrap_or_default();
    seen == 0
        || memchr::memchr_iter(b'\n', fresh)
            .any(|at| matches!(fresh.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}
