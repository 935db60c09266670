//! Bytes: the HTTP/1 and HTTP/2 codecs, protocol sniffing and the canonical path. Sans-I/O: bytes in, events and bytes out.
//!
//! Holds what turns bytes into messages and back, as strictly as Envoy does (a message two parsers could read
//! differently is refused) and without allocating per message. Knows no sockets, no runtime, no configuration:
//! limits come in as plain values, a refusal leaves as a [`Reject`] naming its status and its detail.
//!
//! | module | holds |
//! |---|---|
//! | [`h1`] | HTTP/1 heads, bodies and the rewriting of heads; the views of a head, whichever protocol it came by |
//! | [`h2`] | HTTP/2 connections, client and server, and HPACK |
//! | [`grpc`] | gRPC's messages, statuses and deadlines; gRPC-Web |
//! | [`websocket`] | what a WebSocket's handshake lacks when it changes protocols on the way |
//! | [`header`] | the field names this mesh has a meaning for |
//! | [`authority`] | `host[:port]` |
//! | [`path`] | the canonical request path, in Istio's four modes |
//! | [`sniff`] | TLS, HTTP/2 or HTTP/1 by the first bytes; SNI and ALPN |
//! | [`reject`] | why a message is refused, in Envoy's words |
//! | [`text`] | numbers, dates, lists, comparison |
//! | [`id`] | request ids from a fast generator |

pub mod authority;
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod header;
pub mod id;
pub mod path;
pub mod reject;
pub mod sniff;
pub mod text;
pub mod websocket;

pub use h1::BodyFraming;
pub use header::HeaderId;
pub use reject::Reject;
