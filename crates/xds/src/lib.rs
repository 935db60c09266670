//! The ADS protocol, both ends, and the Envoy v3 messages we speak.
//!
//! Holds: the messages (`proto/`, our own pruned definitions of Envoy's public API), packing into and out
//! of `Any`, proto3 JSON with every `Any` expanded. Holds not: what Istio's kinds mean (`control`), what the
//! configuration does (`model`).
//!
//! | module | what |
//! |---|---|
//! | [`messages`] | all generated messages by package; the short aliases below are what code uses |
//! | [`any`] | `pack`, `unpack` by type URL |
//! | [`json`] | proto3 JSON both ways; an unknown field is refused by name |
//! | [`type_url`] | the type URLs of the resources we exchange |
//! | [`node`] | the node metadata our two ends agree on |
//! | [`delta_client`] | the client end, as our proxy uses it |
//! | [`state_client`] | the client end of a state-of-the-world stream, as a control plane listens to another one |
//! | `channel`, `backoff` | what both clients connect by, and when again |
//! | [`delta_server`] | the server end of one delta stream, without I/O |
//! | [`state_server`] | the same as a state-of-the-world stream |
//! | [`limits`] | what a peer may ask of the server |
#![warn(
    clippy::print_stderr,
    reason = "`eprintln!` ends a process that nobody reads, or whose log is on a full disk"
)]

pub mod any;
mod backoff;
mod channel;
pub mod delta_client;
pub mod delta_server;
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
pub mod limits;
pub mod node;
pub mod state_client;
pub mod state_server;
pub mod type_url;

/// The generated messages, by package.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

pub use any::{UnpackError, pack, unpack};
pub use prost::{Message, Name};
pub use prost_types::{Any, Duration, ListValue, Struct, Timestamp, Value, value};

pub use messages::envoy::admin::v3 as admin;
pub use messages::envoy::config::accesslog::v3 as accesslog;
pub use messages::envoy::config::bootstrap::v3 as bootstrap;
pub use messages::envoy::config::cluster::v3 as cluster;
pub use messages::envoy::config::core::v3 as core;
pub use messages::envoy::config::endpoint::v3 as endpoint;
pub use messages::envoy::config::listener::v3 as listener;
pub use messages::envoy::config::route::v3 as route;
pub use messages::envoy::extensions::access_loggers::file::v3 as file_access_log;
pub use messages::envoy::extensions::access_loggers::stream::v3 as stream_access_log;
pub use messages::envoy::extensions::filters::common::fault::v3 as fault_common;
pub use messages::envoy::extensions::filters::http as http_filters;
pub use messages::envoy::extensions::filters::listener as listener_filters;
pub use messages::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
pub use messages::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
pub use messages::envoy::extensions::http::header_formatters;
pub use messages::envoy::extensions::request_id::uuid::v3 as uuid_request_id;
pub use messages::envoy::extensions::retry;
pub use messages::envoy::extensions::transport_sockets::raw_buffer::v3 as raw_buffer;
pub use messages::envoy::extensions::transport_sockets::tls::v3 as tls;
pub use messages::envoy::extensions::upstreams::http::v3 as upstream_http;
pub use messages::envoy::service::discovery::v3 as discovery;
pub use messages::envoy::tcp::metadataexchange::config as tcp_metadata_exchange;
pub use messages::envoy::r#type::matcher::v3 as matcher;
pub use messages::envoy::r#type::v3 as types;
pub use messages::google::rpc;
pub use messages::io::istio::http::peer_metadata;
pub use messages::istio::envoy::config::filter::http::alpn::v2alpha1 as alpn;
pub use messages::istio::networking::nds::v1 as nds;
pub use messages::stats;
