//! HTTP/2 connections gather what they have to say and send it once per turn of the loop.

use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    /// The connection has something to send when this turn ends.
    pub(crate) fn flush_later(&mut self, key: Key) {
        let flush = match self.conns.get_mut(key) {
            Some(Conn::DownstreamH2(down)) => &mut down.flush,
            Some(Conn::UpstreamH2(up)) => &mut up.flush,
            _ => return,
        };
        if !std::mem::replace(flush, true) {
            self.to_flush.push(key);
        }
    }

    /// Sends what this turn has gathered. What thereby becomes possible is done too.
    pub(crate) fn flush_all(&mut self) {
        while let Some(key) = self.to_flush.pop() {
            self.flush(key);
            self.settle();
        }
    }

    /// Sends as much as goes now, and looks whether the connection has thereby come to its end.
    pub(crate) fn flush(&mut self, key: Key) {
        // What can be sent is bounded by what was read in this turn and before.
        loop {
            let codec = match self.conns.get_mut(key) {
                Some(Conn::DownstreamH2(down)) => {
                    down.flush = false;
                    &mut down.codec
                }
                Some(Conn::UpstreamH2(up)) => {
                    up.flush = false;
                    &mut up.codec
                }
                _ => return,
            };
            let length = codec.output().len();
            if length == 0 {
                break;
            }
            let sent = self.sockets.try_send(key, codec.output());
            codec.sent(sent);
            // There is room now: bodies that waited for it have moved, and their senders are told.
            match self.conns.get(key) {
                Some(Conn::DownstreamH2(_)) => self.h2_client_events(key, &[]),
                Some(Conn::UpstreamH2(_)) => self.h2_host_events(key, &[]),
                _ => return,
            }
            if sent < length {
                break;
            }
        }
        match self.conns.get(key) {
            Some(Conn::DownstreamH2(_)) => self.h2_client_flushed(key),
            Some(Conn::UpstreamH2(_)) => self.h2_host_flushed(key),
            _ => {}
        }
    }
}
