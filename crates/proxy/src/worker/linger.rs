//! A connection whose last words are said: it is closed when the peer has read them and ended, or after a moment.
//!
//! To close a socket at once whose peer still sends is to reset it, and a reset takes what the peer has not yet read (RFC 9112
//! §9.6). So our direction is ended, and for a while what comes is read and thrown away: up to [`MOST_READ`], because a peer that
//! sends without end would otherwise be read as fast as it can send until its time is over.

use std::time::Duration;

use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Linger};

/// How long a peer may take to read our last words, where configuration does not say (Envoy's default of
/// `delayed_close_timeout`).
const WAIT: Duration = Duration::from_secs(1);
/// What is read and thrown away. Envoy stops after about 4 MB.
const MOST_READ: u32 = 1 << 20;

impl Worker {
    /// Lingers as long as is usual.
    pub(crate) fn linger(&mut self, key: Key) {
        self.linger_for(key, Some(WAIT));
    }

    /// Lingers for `wait` after the last progress; `None`: closed as soon as all is written (Envoy:
    /// `delayed_close_timeout: 0s`).
    pub(crate) fn linger_for(&mut self, key: Key, wait: Option<Duration>) {
        if wait.is_none() {
            return self.close_written(key);
        }
        self.sockets.shutdown_write(key);
        if self.sockets.read_ended(key) {
            return self.close_written(key);
        }
        self.begin_linger(key, wait.unwrap_or(WAIT));
    }

    /// Closes the socket when what waits for its peer is written, and in any case once the peer has read none of it for a
    /// moment.
    pub(crate) fn close_written(&mut self, key: Key) {
        if self.sockets.close_when_written(key) {
            self.put(key, Conn::Vacant);
            self.sockets.close(key);
        } else {
            self.begin_linger(key, WAIT);
        }
    }

    fn begin_linger(&mut self, key: Key, wait: Duration) {
        let wait_millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.put(key, Conn::Lingering(Linger { wait_millis, left: MOST_READ }));
        self.sockets.set_deadline(key, self.now.after(wait));
        if self.sockets.resume(key) {
            self.read_later(key);
        }
    }

    /// The peer still sends.
    pub(crate) fn linger_bytes(&mut self, key: Key, bytes: usize) {
        let Some(Conn::Lingering(linger)) = self.conns.get_mut(key) else { return };
        linger.left = linger.left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        if linger.left == 0 {
            self.sockets.pause(key);
        }
    }

    /// A slow reader is waited for as long as it reads.
    pub(crate) fn linger_timeout(&mut self, key: Key) {
        match self.conns.get(key) {
            Some(Conn::Lingering(linger)) if self.sockets.has_moved(key) => {
                let wait = Duration::from_millis(linger.wait_millis.into());
                self.sockets.set_deadline(key, self.now.after(wait));
            }
            _ => self.sockets.close(key),
        }
    }
}
