//! Where requests go: one worker's view of clusters, their hosts and the connections kept to them.
//!
//! | file | holds |
//! |---|---|
//! | `clusters.rs` | clusters by number, brought up to date with the configuration as they are used |
//! | `cluster.rs` | one cluster: its hosts, the plan by which they are picked |
//! | `counted.rs` | guards for what is counted while it lasts: connections, requests, what waits |
//! | `host.rs` | one host: what is said of it, and the pool of connections to it |
//! | `outlier.rs` | who is left out for failing, and for how long |
//! | `cluster_core.rs` | a cluster's settings and counts, as its hosts and requests hold them |
//! | `health.rs` | how hosts fare, over all workers |
//! | `idle.rs` | how long a host keeps idle connections, as it was learned |
//! | `shelf.rs` | idle connections that any worker may use |
//! | `breaker.rs` | what may be under way at once, over all workers |
//! | `dns.rs` | names resolved beside the workers |
//! | `connect.rs` | sockets to hosts and to the application |

pub mod breaker;
pub mod cluster;
pub mod cluster_core;
pub mod clusters;
pub mod connect;
pub mod counted;
pub mod dns;
pub mod health;
pub mod host;
mod idle;
pub mod outlier;
pub mod shelf;
