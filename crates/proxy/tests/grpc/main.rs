//! gRPC through the proxy, in process and by real sockets: every kind of call between HTTP/1 and HTTP/2, what becomes of
//! cancellations, resets and deadlines, gRPC-Web, WebSockets beside it.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod peer;
mod pool;
mod rig;
mod web;
mod websocket;
