//! A worker driven by the kernel.

use std::io;

use mio::{Events, Poll};

use crate::net::network::Event;
use crate::worker::Worker;
use crate::worker::connection::Conn;

/// Events taken at once: enough that asking for them costs little, few enough that timers are not far.
const EVENTS: usize = 256;

impl Worker {
    /// Runs until told to stop.
    pub fn run(mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_stopping() {
            match poll.poll(&mut events, self.sleep()) {
                Ok(()) => self.turn(events.iter().map(Event::from)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The others would serve on, and those who accept for all would hand this one connections that nobody
                    // answers. Whoever keeps processes alive starts another.
                    let index = self.index;
                    (self.shared.log)(&format!("worker {index} can not wait for events any more: {error}"));
                    std::process::abort();
                }
            }
        }
        self.end();
    }

    /// What a driver does last, when the worker [is stopping](Worker::is_stopping). What is still under way then, as it
    /// began after nothing was or is cut at the end of the time to drain, ends as when its client goes: each has its line.
    pub fn end(&mut self) {
        for key in self.conns.keys() {
            let client = self.conns.get(key).is_some_and(|conn| {
                matches!(conn, Conn::Downstream(_) | Conn::DownstreamH2(_) | Conn::TcpDownstream(_))
            });
            if client {
                self.broken(key, io::ErrorKind::ConnectionAborted);
                self.settle();
            }
        }
        self.telemetry.close();
    }
}
