//! What a sidecar is sent.
//!
//! | module | makes |
//! |---|---|
//! | `outbound` | listeners for traffic from the workload, and which service meets which |
//! | `tcp_routes` | the filter chains of one TCP, TLS or sniffed port |
//! | `virtual_hosts`, `domains` | the routes of one port, and by which names each service is called |
//! | `inbound`, `inspection` | the listener for traffic to the workload, and what has to be sniffed on which port |

mod domains;
pub mod inbound;
mod inspection;
pub mod outbound;
mod tcp_routes;
pub mod virtual_hosts;
