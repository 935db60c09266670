//! The transport of a worker: sockets, timers, listening sockets. Knows no protocol.

pub mod listen;
pub mod sockets;
pub mod timers;
