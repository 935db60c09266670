//! The way of an answer: a host's, or one of our own.
//!
//! | file | holds |
//! |---|---|
//! | `head.rs` | the host's head: kept, tried again, or edited and passed on |
//! | `body.rs`, `end.rs` | its body and its end |
//! | `retry.rs` | another attempt instead |
//! | `local_reply.rs` | answers of our own |
//! | `reply.rs` | what such an answer says |

pub mod body;
pub mod end;
pub mod head;
pub mod local_reply;
pub mod reply;
pub mod retry;
