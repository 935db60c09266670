//! The client end of a state-of-the-world ADS stream: each response holds all there is of its type.
//!
//! Knows no type: the [`Consumer`] is given responses as they come. What a stream was told is asked for anew on the next one,
//! without a version: a server that was started anew may give another content the same version.
//!
//! | module | what |
//! |---|---|
//! | [`session`] | the protocol, without I/O |
//! | `run` | one stream at a time, for ever |

mod run;
pub mod session;
#[cfg(test)]
mod tests;

use crate::core;
use crate::delta_client::Address;
use crate::discovery::DiscoveryResponse;

pub use run::run;

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    pub address: Address,
    /// Sent with the first request of every stream.
    pub node: core::Node,
    /// What is asked for, in this order.
    pub type_urls: Vec<String>,
}

/// Whoever turns responses into something.
pub trait Consumer {
    /// All there is of one of the types asked for. An error is told to the server: what it sent is not used, in part or at all.
    fn response(&mut self, response: DiscoveryResponse) -> Result<(), String>;

    /// The server cannot be reached, or the stream was lost: told at each attempt.
    fn lost(&mut self, reason: &str);
}
