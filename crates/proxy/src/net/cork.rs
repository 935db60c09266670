//! Small sends to one socket within a turn, put together for one system call.

use crate::net::sockets::{Key, Sockets};

/// What comes in pieces gathers up to this size; larger pieces go at once.
const CORK_LIMIT: usize = 8192;

impl Sockets {
    /// As [`Sockets::send`], but with what soon follows for the same socket: the pieces of one message that come by HTTP/2
    /// leave in one call. Sent by [`Sockets::uncork`], or as soon as anything else is done with a socket.
    pub fn send_soon(&mut self, key: Key, head: &[u8], body: &[u8]) {
        if self.corked != Some(key) {
            self.uncork();
        }
        if self.cork.len() + head.len() + body.len() <= CORK_LIMIT {
            self.corked = Some(key);
            self.cork.extend_from_slice(head);
            self.cork.extend_from_slice(body);
            return;
        }
        let mut cork = std::mem::take(&mut self.cork);
        self.corked = None;
        cork.extend_from_slice(head);
        self.send(key, &cork, body);
        cork.clear();
        self.cork = cork;
    }

    /// Sends what was to be sent soon.
    #[inline]
    pub fn uncork(&mut self) {
        if let Some(key) = self.corked.take() {
            let mut cork = std::mem::take(&mut self.cork);
            self.send(key, &cork, b"");
            cork.clear();
            self.cork = cork;
        }
    }

    /// Before anything else is done with a socket for which something gathers.
    #[inline]
    pub(super) fn uncork_for(&mut self, key: Key) {
        if self.corked == Some(key) {
            self.uncork();
        }
    }
}
