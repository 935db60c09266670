//! Those we call: a host is picked, a connection to it found or made, the request sent, what it says cut into messages.
//!
//! | file | holds |
//! |---|---|
//! | `attempt.rs` | one try: cluster, host, breakers, then a connection |
//! | `pool.rs` | connections of HTTP/1 taken, given back, and whoever waits for one |
//! | `lend.rs` | an idle connection of another worker, borrowed |
//! | `undecided.rs` | connections whose protocol is known only after the handshake |
//! | `send_request.rs` | the request on its way |
//! | `http1.rs`, `http2.rs` | the host's bytes cut into responses |
//! | `side.rs` | the verbs of an exchange towards its host, over either HTTP or as bytes |
//!
//! What is known of clusters and their hosts is in [`crate::upstream`].

pub mod attempt;
pub mod http1;
pub mod http2;
mod lend;
mod pool;
mod send_request;
pub mod side;
pub mod undecided;
