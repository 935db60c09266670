//! HTTP/1.0 and 1.1 (RFC 9112), parsed in place and forwarded as runs of untouched bytes.
//!
//! A head is scanned once ([`parse_request`], [`parse_response`]) into a reusable [`HeadStorage`] of indices; the
//! views [`RequestHead`] and [`ResponseHead`] read the caller's buffer through it. A body is walked by a
//! [`BodyReader`], which says how many bytes pass through. The outgoing head is the incoming one with lines cut
//! and lines added, as recorded in [`Edits`], written by [`write_request`] and [`write_response`].
//!
//! | file | holds |
//! |---|---|
//! | `head.rs`, `head_view.rs` | storage and views of a parsed head |
//! | `request.rs`, `response.rs` | parsing and the rules that refuse |
//! | `partial.rs` | heads that come in parts, refused as soon as nothing can mend them |
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
pub(crate) mod head_view;
mod limits;
pub(crate) mod method;
mod partial;
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
pub use head::HeadStorage;
pub use head_view::{Field, Fields, Head, RequestHead, ResponseHead, Scheme, Version};
pub use limits::{Limits, MAX_HEADERS, Underscores};
pub use partial::PartialHead;
pub use reason::{push_status_line, reason};
pub use request::parse_request;
pub use response::{ResponseTo, parse_response};
pub use target::TargetForm;
pub use write::{write_request, write_response};
