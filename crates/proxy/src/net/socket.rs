//! One socket: its flags, and the bytes kept for its peer.

use std::io;

use crate::net::layer::{Agreed, Layer};
use crate::net::network::Stream;

/// While more than this waits to be written to a socket, nothing is read from its peer.
pub const HIGH_WATER: usize = 128 * 1024;

/// [`HIGH_WATER`], or less where configuration asks for less (`per_connection_buffer_limit_bytes`; 0 is none).
pub fn high_water(limit: Option<u32>) -> usize {
    match limit {
        None | Some(0) => HIGH_WATER,
        Some(limit) => HIGH_WATER.min(limit as usize),
    }
}

pub(super) struct Socket {
    pub(super) stream: Stream,
    /// Bytes the system has taken to send.
    pub(super) written: u64,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) flags: Flags,
    /// What lies between its bytes and the owner's.
    pub(super) layered: Option<Box<Layered>>,
}

/// The layer of a socket.
pub(super) struct Layered {
    pub(super) layer: Box<dyn Layer>,
    /// What its handshake has brought.
    pub(super) agreed: Option<Agreed>,
}

/// What a writable socket means to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// Nothing the owner must know.
    Nothing,
    /// The connection is made.
    Connected,
    /// The connection could not be made; the error is on the list of broken ones.
    Failed,
    /// What had been kept has fallen below the low mark: the peer may be read again.
    Drained,
    /// All is written and the socket was to be closed then.
    Finished,
}

/// Whose connection a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    /// Ours to a host. `connecting`: it is not made yet.
    Host {
        connecting: bool,
    },
}

#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    /// Nothing may be read for now.
    pub(super) paused: bool,
    /// The kernel said there is something to read while reading was paused.
    pub(super) readable: bool,
    /// The peer has ended its direction (or all): reads go on to the end.
    pub(super) hung_up: bool,
    /// That end was read and told: there is nothing more to read, ever.
    pub(super) read_ended: bool,
    /// A client's connection, not one of ours to a host.
    pub(super) client: bool,
    /// It is among those whose reading goes on in the next turn.
    pub(super) queued: bool,
    pub(super) connecting: bool,
    /// The handshake of its layer is not over, and with it connecting.
    pub(super) handshaking: bool,
    /// Close, or end our direction, as soon as the outbox is empty.
    pub(super) close_after: bool,
    pub(super) shutdown_after: bool,
    pub(super) broken: bool,
    pub(super) closed: bool,
    /// Some of what was kept has been written, since somebody asked.
    pub(super) moved: bool,
    /// Another worker may have taken it: it is not read.
    pub(super) offered: bool,
}

#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
}

impl Outbox {
    /// Bytes not written yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

impl Socket {
    /// Writes what is kept. `WouldBlock`: no more goes now, and some is left.
    pub(super) fn write_kept(&mut self, joined: &mut Vec<u8>) -> io::Result<()> {
        let Some(mut outbox) = self.outbox.take() else { return Ok(()) };
        while let Some(rest) = outbox.bytes.get(outbox.at..).filter(|rest| !rest.is_empty()) {
            match self.write(rest, &[], joined) {
                Ok(sent) => {
                    outbox.at += sent;
                    self.written += sent as u64;
                    self.flags.moved = true;
                }
                Err(error) => {
                    if outbox.at > HIGH_WATER {
                        outbox.bytes.drain(..outbox.at);
                        outbox.at = 0;
                    }
                    self.outbox = Some(outbox);
                    return Err(error);
                }
            }
        }
        // Nothing is left, but perhaps with a layer.
        let flushed = self.flush();
        if flushed.is_err() {
            self.outbox = Some(outbox);
        }
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `per_connection_buffer_limit_bytes`: a smaller bound is kept, a larger one is not needed, 0 is none.
    #[test]
    fn a_configured_bound_only_lowers_ours() {
        for (limit, bound) in
            [(None, HIGH_WATER), (Some(0), HIGH_WATER), (Some(32_768), 32_768), (Some(1 << 20), HIGH_WATER)]
        {
            assert_eq!(high_water(limit), bound, "{limit:?}");
        }
    }
}
