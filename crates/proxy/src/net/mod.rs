//! The transport of a worker: sockets over a network (the kernel's, or one that is given), timers, listening sockets.
//! Knows no protocol.

mod acknowledged;
mod cork;
pub mod failure;
mod handshake;
pub mod kernel;
pub mod layer;
pub mod listen;
pub mod network;
mod socket;
pub mod sockets;
pub mod timers;
