//! What a proxy says about its traffic: numbers and lines.
//!
//! Holds: metric cells that one worker thread writes and a scraper sums, the Prometheus text
//! encoder, Istio's standard metrics and Envoy's statistics as typed layers over the cells, Envoy's
//! response flags, access-log formats compiled to operations, the buffer those lines leave through,
//! and a reader of the Prometheus text format for our own command line.
//!
//! Does not hold: routing, sockets, any runtime, the exporters' transports, the decision whether a
//! request is logged or measured.
//!
//! | module | holds |
//! |---|---|
//! | [`metrics`] | [`Registry`], [`Shard`], buckets, the text encoders |
//! | [`istio`] | `istio_requests_total` and its siblings, with Istio's fill rules |
//! | [`envoy`] | `envoy_cluster_*`, `envoy_listener_*`, `envoy_http_*`, `envoy_tcp_*` |
//! | [`flags`] | response flags, short and long names |
//! | [`access_log`] | Envoy format strings and JSON formats, compiled once, rendered without allocating |
//! | [`log_sink`] | the per-worker line buffer that drops and counts rather than blocks |
//! | `decimal` | numbers as text |
//! | [`scrape`] | parsing a scrape, histogram quantiles, traffic between two scrapes |

pub mod access_log;
mod decimal;
pub mod envoy;
pub mod flags;
#[doc(hidden)]
pub mod fuzzing;
pub mod istio;
pub mod log_sink;
pub mod metrics;
pub mod scrape;

pub use flags::Flags;
pub use metrics::{Counter, Gauge, Histogram, Registry, Shard};
