//! The compiled, immutable data-plane configuration and all matching and deciding code.
//!
//! Holds: xDS resources compiled into tables ([`Config`] in, [`Snapshot`] out), and every decision taken on
//! a connection or a request as a pure function over those tables and a view of the input. Holds not:
//! sockets, timers, buffers, metrics (`proxy`), nor what Istio's kinds mean (`control`).
//!
//! Nothing is merged, hashed by label or scanned per request. A worker keeps one `Arc<Snapshot>`; from a
//! listener it reaches the route table, the cluster and the endpoints by index ([`RouteTableId`],
//! [`ClusterId`]), which stay the same for the life of a [`Config`].
//!
//! | module | what |
//! |---|---|
//! | [`config`] | resources by name, applied and refused one by one; warming; `snapshot()` |
//! | [`snapshot`] | what workers read; listener by original destination |
//! | [`bootstrap`] | a static bootstrap file into a `Config` |
//! | [`features`] | what may be asked of a proxy and this one does |
//! | [`fields`] | which fields of which message are honoured, harmless or refused |
//! | [`refusal`] | why something was refused, with the field's path |
//! | [`view`] | what a decision may ask about a connection and a request |
//! | [`listener`], [`filter_chain`], [`network`] | the listener met, its inspectors, the chain, what the chain does |
//! | [`http_connection`], [`http1`], [`http2`], [`transport`], [`access_log`] | settings of a chain, as data |
//! | [`route_table`], [`virtual_host`], [`route`], [`route_match`], [`string_match`] | host and request to route |
//! | [`headers`], [`template`], [`rewrite`] | what a route does to a request and its response |
//! | [`filter`] | the HTTP filters of a chain in their order, and what a route says to each |
//! | [`retry`], [`fault`], [`cors`], [`upgrade`], `mirror` | policies of a route and their decisions |
//! | [`cluster`], [`endpoints`], [`lb`] | where a request goes: cluster, hosts, the one host picked |
//! | [`health_check`] | what a host is asked to know whether it is well, and what its answers make of it |
//! | [`upstream_protocol`] | which HTTP hosts are spoken to, and how |
//! | `proto`, `protobuf` | reading well-known messages, and messages field by field |
//! | `provenance` | which configuration object a compiled thing comes from |
//! | [`simulate`] | a whole call decided without a socket, by the same code |

#[macro_use]
mod macros;

pub mod access_log;
pub mod bootstrap;
pub mod cluster;
pub mod config;
pub mod cors;
pub mod endpoints;
pub mod fault;
pub mod features;
pub mod fields;
pub mod filter;
pub mod filter_chain;
#[doc(hidden)]
pub mod fuzzing;
pub mod headers;
pub mod health_check;
pub mod http1;
pub mod http2;
pub mod http_connection;
pub mod lb;
pub mod listener;
pub mod mirror;
pub mod network;
pub mod provenance;
pub mod refusal;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod route_match;
pub mod route_table;
pub mod simulate;
pub mod snapshot;
pub mod string_match;
pub mod template;
pub mod transport;
pub mod upgrade;
pub mod upstream_protocol;
pub mod view;
pub mod virtual_host;

mod proto;
mod protobuf;
pub use proto::Fraction;

pub use cluster::{Cluster, ClusterId, ClusterRef};
pub use config::{Config, Resource, Subscriptions};
pub use endpoints::{Endpoints, Host};
pub use features::FEATURES;
pub use filter_chain::FilterChain;
pub use http_connection::HttpConnection;
pub use http2::Http2Settings;
pub use listener::Listener;
pub use network::NetworkAction;
pub use refusal::{Refusal, Rejection};
pub use route::{Route, RouteDecision, Verdict};
pub use route_table::{RoutePlace, RouteTable, RouteTableId};
pub use snapshot::Snapshot;
pub use view::{ConnectionView, RequestView, TransportProtocol};
pub use virtual_host::VirtualHost;
