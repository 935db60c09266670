//! Sockets with a layer above them: until its handshake is over, they count as connecting.

use std::io;

use crate::net::layer::{Agreed, Layer};
use crate::net::network::{COPY_LIMIT, Stream};
use crate::net::socket::{Layered, Socket};
use crate::net::sockets::{Key, Sockets};

impl Sockets {
    /// Puts a layer above a socket. Its handshake goes on by [`Sockets::handshake`]; what is sent before its end waits.
    pub fn put_layer(&mut self, key: Key, layer: Box<dyn Layer>) {
        if let Some(socket) = self.slots.get_mut(key) {
            socket.layered = Some(Box::new(Layered { layer, agreed: None }));
            socket.flags.connecting = true;
            socket.flags.handshaking = true;
        }
    }

    /// Whether the handshake of its layer is not over.
    #[inline]
    pub fn is_handshaking(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.handshaking)
    }

    /// Whether a short read leaves nothing to be read. Not where there is a layer: it reads more than it gives.
    #[inline]
    pub fn short_read_is_last(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.layered.is_none() && !socket.flags.hung_up)
    }

    /// One step of a handshake. True: it has succeeded, and [`Sockets::writable`] will say that the connection is made.
    pub fn handshake(&mut self, key: Key) -> bool {
        let Some(socket) = self.slots.get_mut(key) else { return false };
        let Some(layered) = &mut socket.layered else { return false };
        if socket.flags.broken || socket.flags.closed {
            return false;
        }
        match layered.layer.handshake(&socket.stream) {
            Ok(Some(agreed)) => {
                layered.agreed = Some(agreed);
                socket.flags.handshaking = false;
                // Its last flight may not have left yet.
                socket.note_held_back();
                true
            }
            Ok(None) => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                socket.flags.broken = true;
                self.broken.push((key, error.kind()));
                false
            }
        }
    }

    /// What the handshake has brought; `None` without a layer, or before that.
    pub fn agreed(&self, key: Key) -> Option<&Agreed> {
        self.slots.get(key)?.layered.as_ref()?.agreed.as_ref()
    }
}

impl Socket {
    #[inline]
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.layered {
            None => self.stream.read(buffer),
            Some(layered) => layered.layer.read(&self.stream, buffer),
        }
    }

    #[inline]
    pub(super) fn write(&mut self, head: &[u8], body: &[u8], joined: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.layered {
            None => self.stream.write(head, body, joined),
            Some(layered) => layered.write(&self.stream, head, body, joined),
        }
    }

    /// Bytes that were written and have not left.
    #[inline]
    pub(super) fn held_back(&self) -> usize {
        self.layered.as_ref().map_or(0, |layered| layered.layer.held_back())
    }

    /// An outbox, empty if need be, stands for what a layer has still to send.
    #[inline]
    pub(super) fn note_held_back(&mut self) {
        if self.held_back() > 0 {
            self.outbox.get_or_insert_default();
        }
    }

    /// Sends what a layer holds back. `WouldBlock`: some is left.
    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.layered.as_mut().map_or(Ok(()), |layered| layered.layer.flush(&self.stream))
    }

    /// Ends our direction. False: a layer's last words have not gone, and it is done when they have.
    pub(super) fn end_direction(&mut self) -> bool {
        let said = self.layered.as_mut().map_or(Ok(()), |layered| layered.layer.end(&self.stream));
        if matches!(said, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.outbox.get_or_insert_default();
            self.flags.shutdown_after = true;
            return false;
        }
        let _ = self.stream.shutdown_write();
        true
    }
}

impl Layered {
    /// Writes until the layer takes no more: as after a short write of the kernel's, an event will say when it does.
    fn write(
        &mut self,
        stream: &Stream,
        head: &[u8],
        body: &[u8],
        joined: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let small = !head.is_empty() && !body.is_empty() && head.len() + body.len() <= COPY_LIMIT;
        if small {
            // One record for both.
            joined.clear();
            joined.extend_from_slice(head);
            joined.extend_from_slice(body);
        }
        let parts: [&[u8]; 2] = if small { [joined, &[]] } else { [head, body] };
        let mut taken = 0;
        for mut part in parts {
            while !part.is_empty() {
                match self.layer.write(stream, part) {
                    Ok(0) => return Ok(taken),
                    Ok(sent) => {
                        taken += sent;
                        part = part.get(sent..).unwrap_or_default();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(taken)
    }
}
