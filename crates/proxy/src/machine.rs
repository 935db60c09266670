//! A worker as a machine that tests drive: what must be given for one, all in one place. What is driven so is the very
//! worker that serves; sockets, time and randomness are all that is exchanged.

pub use crate::clock::{Clock, ManualTime, Time};
pub use crate::log_writer::{LogWriters, Piece};
pub use crate::net::network::{Accept, Acceptor, Connect, Connection, Event, Network, Stream, Wake};
pub use crate::options::Shared;
pub use crate::worker::census::Census;
pub use crate::worker::mailbox::{Command, Listen, Mailbox};
pub use crate::worker::{WAKER, Worker};
