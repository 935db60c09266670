//! Those who call us: their connections, what they speak, and the messages cut out of their bytes.
//!
//! | file | holds |
//! |---|---|
//! | `accept.rs` | a connection is taken; its listener and original destination are found |
//! | `listening.rs` | the sockets connections are taken from; those given to other workers |
//! | `origin.rs` | where a connection came from, and whom it is for |
//! | `inspect.rs` | its first bytes are looked at, the filter chain is picked |
//! | `http1.rs`, `http2.rs` | its bytes are cut into messages, its timers run |
//! | `side.rs` | the verbs of an exchange towards its client, over either HTTP |
//! | `websocket.rs` | a switch of protocols between HTTP/1 and HTTP/2 |
//! | `certificate.rs` | who the client is, as its certificate says |

pub mod accept;
pub mod certificate;
pub mod http1;
pub mod http2;
pub mod inspect;
pub mod listening;
pub mod origin;
pub mod side;
pub mod websocket;
