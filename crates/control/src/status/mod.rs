//! What the control plane tells about itself over HTTP.
//!
//! | module | what |
//! |---|---|
//! | [`change`] | what is asked and answered when objects are applied or deleted |
//! | `local` | the Unix socket: who asks, and the requests that change something |
//! | `server` | the listener and the table of paths |
//! | `answer` | a request's parameters, and what is answered |
//! | `mesh` | `/filamesh/v1/*` |
//! | `objects` | the objects with their states and manifests |
//! | `wait` | until a change is live |
//! | `debug` | Istio's `/debug/*` |

mod answer;
pub mod change;
mod debug;
pub(crate) mod local;
mod mesh;
mod objects;
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod wait;
