//! A request's way from its head to the choice of a cluster.
//!
//! | file | holds |
//! |---|---|
//! | `chain.rs` | a filter chain made ready |
//! | `head.rs` | the head is checked; what the client says about itself is believed or not |
//! | `view.rs` | the request as the model sees it |
//! | `routed.rs` | what was decided, kept for as long as the request is under way |
//! | `route.rs` | filters, then where to, as the route says |
//! | `edits.rs` | what is changed in the head |
//! | `timeouts.rs` | how long it may take |
//! | `destination.rs` | the original destination, where the cluster goes there |

pub mod chain;
pub mod destination;
pub mod edits;
pub mod head;
pub mod route;
pub mod routed;
pub mod timeouts;
pub mod view;
