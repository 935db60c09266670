//! HTTP/2 (RFC 9113, RFC 7541, RFC 8441), client and server, as strict as the RFCs and hard to abuse.
//!
//! A [`Connection`] takes bytes and gives [`Event`]s; answers gather in one output, sent once per turn. Heads are
//! decoded into the worker's [`Scratch`] as what they would be in HTTP/1, and seen through the same
//! [`RequestHead`](crate::h1::RequestHead) and [`ResponseHead`](crate::h1::ResponseHead), changed by the same
//! [`Edits`](crate::h1::Edits): so a request is routed, edited and forwarded by the same code whichever protocol it
//! came by and whichever it leaves by.
//!
//! | from | to HTTP/1 | to HTTP/2 |
//! |---|---|---|
//! | head | [`crate::h1::write_request`], [`crate::h1::write_response`] | [`Connection::open`], [`Connection::respond`] |
//! | body | [`crate::h1::push_chunk_header`] where [`BodyFraming::Chunked`](crate::BodyFraming) | [`Connection::data`] |
//! | trailers | [`Trailers::section`] after `0 CRLF` | [`Connection::trailers`] |
//! | upgrade | a 101 | extended CONNECT, seen as the GET with Upgrade that it stands for |
//!
//! | file | holds |
//! |---|---|
//! | `connection.rs` | both halves' state, timers, beginning and end |
//! | `receive.rs`, `blocks.rs`, `frames.rs` | frames to events, and every rule that refuses |
//! | `send.rs`, `pump.rs` | heads, bodies within windows, trailers, resets |
//! | `gather.rs`, `gather/whole.rs`, `write.rs` | fields to a head and back |
//! | `hop.rs`, `hop/` | HTTP/1 restored exactly between two proxies of ours |
//! | `event.rs`, `error.rs`, `trailers.rs` | what the owner sees |
//! | `hpack/` | the compression of fields |
//! | `streams.rs`, `closed.rs`, `flow.rs`, `settings.rs`, `frame.rs` | the parts |
//! | `abuse.rs`, `config.rs` | what a peer may do |

mod abuse;
mod base64url;
mod blocks;
mod closed;
mod config;
mod connection;
mod error;
mod event;
mod flow;
mod frame;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod gather;
pub mod hop;
pub(crate) mod hpack;
mod pump;
mod receive;
mod send;
mod settings;
mod streams;
mod trailers;
mod write;

pub use config::{AbuseLimits, Config};
pub use connection::Connection;
pub use error::{ConnectionError, ErrorCode, detail};
pub use event::{By, Event, Scratch};
pub use frame::PREFACE;
pub use send::{OpenError, RequestParts, SendError, SendState};
pub use settings::PeerSettings;
pub use streams::Stream;
pub use trailers::Trailers;
