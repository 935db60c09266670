//! HTTP/2, both ends: by the codec of `wire`, which has tests of its own.

mod client;
mod host;

use std::time::Duration;

use wire::h2::{Connection, Event, Scratch, Stream};

use crate::actor::Cx;
use crate::net::{EndId, Nanos};
use crate::plan::Id;

pub use client::Client;
pub use host::Served;

/// A connection and its socket.
struct Wire {
    end: EndId,
    codec: Connection,
    scratch: Scratch,
    /// Writes at most so much at once.
    piece: usize,
    input: Vec<u8>,
}

/// What happened on a connection, without what it borrows.
enum Seen {
    Request { stream: Stream, id: Option<Id>, path: String, end: bool },
    Response { token: u64, status: u16, id: Option<Id>, end: bool },
    Data { stream: Stream, token: u64, bytes: Vec<u8>, end: bool },
    Trailers { stream: Stream, token: u64 },
    Reset { stream: Stream, token: u64 },
    Writable,
    GoAway,
}

impl Wire {
    /// Sends what may go; false: the connection is broken.
    fn flush(&mut self, cx: &mut Cx<'_>) -> bool {
        while !self.codec.output().is_empty() {
            let length = self.codec.output().len().min(self.piece);
            let Some(sent) = cx.write(self.end, &self.codec.output()[..length]) else { return false };
            self.codec.sent(sent);
            if sent < length {
                break;
            }
        }
        true
    }

    /// What happened since, with these bytes; `None`: the connection is in error.
    fn take(&mut self, bytes: &[u8], now: Nanos) -> (Vec<Seen>, bool) {
        self.input.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.input);
        let mut rest = &all[..];
        let mut seen = vec![];
        loop {
            let event = self.codec.next(&mut rest, &mut self.scratch, Duration::from_nanos(now));
            match event {
                Ok(Some(event)) => seen.extend(Seen::of(event)),
                Ok(None) => break,
                Err(_) => return (seen, false),
            }
        }
        self.input = rest.to_vec();
        (seen, true)
    }
}

fn number(head: impl Iterator<Item = (String, String)>, name: &str) -> Option<Id> {
    let mut head = head;
    head.find(|(n, _)| n.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.parse().ok())
}

impl Seen {
    fn of(event: Event<'_>) -> Option<Seen> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match event {
            Event::Request { stream, head, end } => {
                let fields = head.fields().map(|field| (text(field.name), text(field.value)));
                Seen::Request { stream, id: number(fields, "x-sim"), path: text(head.target()), end }
            }
            Event::Response { token, head, end, .. } => {
                let fields = head.fields().map(|field| (text(field.name), text(field.value)));
                Seen::Response { token, status: head.status(), id: number(fields, "x-sim-id"), end }
            }
            Event::Data { stream, token, bytes, end } => {
                Seen::Data { stream, token, bytes: bytes.to_vec(), end }
            }
            Event::Trailers { stream, token, .. } => Seen::Trailers { stream, token },
            Event::Reset { stream, token, .. } => Seen::Reset { stream, token },
            Event::Writable { .. } => Seen::Writable,
            Event::GoAway { .. } => Seen::GoAway,
            Event::Settings | Event::Pong | Event::Refused { .. } => return None,
        })
    }
}
