//! The body of a response on its way to the client: walked over where both sides frame it alike, else as payload.

use wire::Reject;
use wire::h1::BodyReader;

use crate::exchange::framing::frame_chunk;
use crate::exchange::{Exchange, Framing};
use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::Reading;

/// How much of what an HTTP/1 host sent has passed, and whether the response is complete.
pub(crate) struct Passed {
    pub used: usize,
    pub done: bool,
}

/// What body bytes are: so many of them are used, so many pass as they are, nothing of the body follows.
struct Walked {
    used: usize,
    forward: usize,
    done: bool,
}

impl Worker {
    /// The answer of an HTTP/1 host: its head (it lies in `self.response`, over `bytes`, which it fills up to `length`) and
    /// what has come of its body, in one write where the client gets both as they are.
    pub(crate) fn pass_answer(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        bytes: &[u8],
        length: usize,
    ) -> Result<Passed, Reject> {
        let head = self.response.response(bytes);
        exchange.check_websocket(&head, &mut self.response_edits)?;
        let (framing, keep_alive) = (head.framing(), head.keep_alive());
        self.note_head(exchange, bytes);
        let limits = self.shared.upstream_limits;
        let mut done = false;
        if let Some(up) = self.upstream(key) {
            up.body = BodyReader::response(framing, &limits);
            up.reading = Reading::Body;
            up.keep_alive = keep_alive;
            done = up.body.is_done();
        }
        let rest = bytes.get(length..).unwrap_or_default();
        if exchange.takes_payload() {
            self.pass_head(exchange, bytes, done);
            if done {
                return Ok(Passed { used: length, done });
            }
            let passed = self.decode_body(key, exchange, rest)?;
            return Ok(Passed { used: length + passed.used, ..passed });
        }
        self.edit_head(exchange, bytes);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.print_head(exchange, bytes, &mut out);
        let head_length = out.len();
        exchange.response.sent_head = head_length as u64;
        if exchange.tunnel.is_open() {
            self.begin_tunnel(exchange);
        }
        let walked = self.walk_body(key, exchange, rest, &mut out);
        if walked.is_err() {
            // The head alone is true.
            out.truncate(head_length);
        }
        let forward = walked.as_ref().map_or(0, |walked| walked.forward);
        let body = rest.get(..forward).unwrap_or_default();
        if !body.is_empty() && out.len() > head_length {
            // Trailers follow the body, not the head.
            let (head, tail) = out.split_at(head_length);
            self.write_text(exchange, &[head, body, tail].concat(), &[]);
        } else {
            self.write_text(exchange, &out, body);
        }
        self.out = out;
        self.touch(exchange);
        walked.map(|walked| Passed { used: length + walked.used, done: walked.done })
    }

    /// More of the body of an HTTP/1 host's answer.
    pub(crate) fn pass_body(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        bytes: &[u8],
    ) -> Result<Passed, Reject> {
        self.touch(exchange);
        if exchange.takes_payload() {
            return self.decode_body(key, exchange, bytes);
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let walked = self.walk_body(key, exchange, bytes, &mut out);
        if let Ok(walked) = &walked {
            self.write_text(exchange, bytes.get(..walked.forward).unwrap_or_default(), &out);
        }
        self.out = out;
        walked.map(|walked| Passed { used: walked.used, done: walked.done })
    }

    /// Walks over body bytes for a client of HTTP/1. What has to be written otherwise than it came is appended to `out`: the
    /// body framed anew, or the trailers, which follow the bytes that pass as they are.
    fn walk_body(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Walked, Reject> {
        let Some(up) = self.upstream(key) else {
            return Ok(Walked { used: bytes.len(), forward: 0, done: false });
        };
        let walked = match exchange.response.framing {
            Framing::Same => {
                let advance = up.body.advance(bytes)?;
                if advance.tail {
                    out.extend_from_slice(up.body.tail());
                }
                Walked { used: advance.consumed, forward: advance.forward, done: advance.done }
            }
            Framing::Chunk => {
                let advance = up.body.advance(bytes)?;
                let payload = bytes.get(..advance.consumed).unwrap_or_default();
                frame_chunk(payload, &[], advance.done, out);
                Walked { used: advance.consumed, forward: 0, done: advance.done }
            }
            Framing::Unchunk => {
                let mut at = 0;
                let done = loop {
                    let decoded = up.body.decode(bytes.get(at..).unwrap_or_default())?;
                    out.extend_from_slice(decoded.payload);
                    at += decoded.consumed;
                    if decoded.done || decoded.consumed == 0 {
                        break decoded.done;
                    }
                };
                Walked { used: at, forward: 0, done }
            }
        };
        exchange.response.sent = up.body.payload();
        Ok(walked)
    }

    /// Takes the framing off body bytes and passes their payload on.
    fn decode_body(&mut self, key: Key, exchange: &mut Exchange, bytes: &[u8]) -> Result<Passed, Reject> {
        let mut at = 0;
        loop {
            let Some(up) = self.upstream(key) else { return Ok(Passed { used: bytes.len(), done: false }) };
            let decoded = up.body.decode(bytes.get(at..).unwrap_or_default())?;
            at += decoded.consumed;
            let tail = if decoded.done { up.body.tail().to_vec() } else { vec![] };
            exchange.response.sent = up.body.payload();
            let end = decoded.done && tail.is_empty();
            if !decoded.payload.is_empty() || end {
                self.pass_payload(exchange, decoded.payload, end);
            }
            if !tail.is_empty() {
                self.pass_trailers(exchange, &tail);
            }
            if decoded.done || decoded.consumed == 0 {
                return Ok(Passed { used: at, done: decoded.done });
            }
        }
    }

    /// Part of a response's body, its host's framing taken off, on its way to the client. `end`: nothing follows.
    pub(crate) fn pass_payload(&mut self, exchange: &mut Exchange, payload: &[u8], end: bool) {
        match exchange.web {
            None => self.write_payload(exchange, payload, end),
            Some(_) => self.encode_web(exchange, payload, end),
        }
    }

    /// The trailers that end a response whose body the client gets without its host's framing.
    pub(crate) fn pass_trailers(&mut self, exchange: &mut Exchange, section: &[u8]) {
        Worker::note_trailers(exchange, section);
        if exchange.web.is_some() {
            return self.end_web(exchange, section);
        }
        self.write_trailers(exchange, section);
    }
}
