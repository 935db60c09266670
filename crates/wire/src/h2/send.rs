//! Sending: heads, bodies within the windows, trailers, resets.

use std::time::Duration;

use crate::h1::{Edits, RequestHead, ResponseHead, ResponseTo, Scheme};

use super::{
    connection::{Connection, Leaving, Role},
    error::ErrorCode,
    flow::is_due,
    frame::{HEADER, STREAM_MASK, write_reset, write_window_update},
    hop,
    hpack::{Encoder, Indexing, name::Pseudo},
    pump::{allowed, write_data},
    streams::{After, Stream},
    trailers::Trailers,
    write,
};

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The stream was reset, or has ended on both sides.
    #[error("the stream is gone")]
    Gone,
    /// Its own half has ended already, or its head was not sent yet.
    #[error("out of order")]
    OutOfOrder,
    /// More than [`super::Config::max_queued`] would be queued. Nothing of it was taken.
    #[error("too much is queued")]
    Full,
}

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// One side is leaving, or the connection has failed.
    #[error("the connection takes no more streams")]
    Leaving,
    /// The peer's limit is reached; another connection, or later.
    #[error("the peer takes no more streams at once")]
    Busy,
    /// All stream ids are used up.
    #[error("stream ids are used up")]
    Exhausted,
    /// The peer does not take extended CONNECT (RFC 8441 §3).
    #[error("the peer takes no extended CONNECT")]
    NoExtendedConnect,
}

/// How far a stream may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendState {
    /// Body bytes that would leave at once; 0 while something is queued.
    pub capacity: usize,
    pub queued: usize,
    /// The stream's window; not above 0: the peer stalls this stream.
    pub stream_window: i64,
    /// The connection's; not above 0: the peer stalls all of them.
    pub connection_window: i64,
}

/// The parts of a request made here: a health check, a mirror.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    pub method: &'a [u8],
    pub scheme: Scheme,
    pub authority: &'a [u8],
    pub path: &'a [u8],
    /// Fields as HTTP/1 spells them, each ended by CRLF.
    pub lines: &'a [u8],
}

impl Connection {
    /// Whether [`Connection::open`] would succeed for a request that is no upgrade.
    pub fn can_open(&self) -> Result<(), OpenError> {
        if self.error.is_some() || self.peer_leaving.is_some() || self.leaving != Leaving::No {
            return Err(OpenError::Leaving);
        }
        if self.next_id > STREAM_MASK || self.role == Role::Server {
            return Err(OpenError::Exhausted);
        }
        if self.streams.len() >= self.peer.max_concurrent_streams as usize {
            return Err(OpenError::Busy);
        }
        Ok(())
    }

    /// Sends a request's head, as `edits` would have it. `end`: nothing follows it. The stream's events carry
    /// `token`.
    pub fn open(
        &mut self,
        head: &RequestHead<'_>,
        edits: &Edits,
        scheme: Scheme,
        end: bool,
        token: u64,
    ) -> Result<Stream, OpenError> {
        self.open_with_hop(head, edits, scheme, end, token, &[])
    }

    /// The same with the value of the field by which a peer of ours restores an HTTP/1 request
    /// ([`super::hop::shape_request`]); empty for none.
    pub fn open_with_hop(
        &mut self,
        head: &RequestHead<'_>,
        edits: &Edits,
        scheme: Scheme,
        end: bool,
        token: u64,
        hop: &[u8],
    ) -> Result<Stream, OpenError> {
        let protocol = write::upgrade(head);
        let to = match protocol {
            Some(_) => ResponseTo { upgrade: true, ..ResponseTo::default() },
            None => ResponseTo { upgrade: false, ..ResponseTo::request(head) },
        };
        self.open_with_encoder(to, protocol, end, token, |encoder, out| {
            write::request(encoder, head, edits, scheme, hop, out);
        })
    }

    /// The same for a request made here.
    pub fn open_parts(
        &mut self,
        parts: &RequestParts<'_>,
        end: bool,
        token: u64,
    ) -> Result<Stream, OpenError> {
        let connect = parts.method == b"CONNECT";
        let to = ResponseTo { head: parts.method == b"HEAD", connect, upgrade: false };
        self.open_with_encoder(to, None, end, token, |encoder, out| {
            encoder.begin_block(out);
            write::pseudo(encoder, 2, Pseudo::Method, parts.method, Indexing::Recurring, out);
            if !connect {
                encoder.static_field(if parts.scheme == Scheme::Https { 7 } else { 6 }, out);
                write::pseudo(encoder, 4, Pseudo::Path, parts.path, Indexing::Recurring, out);
            }
            write::pseudo(encoder, 1, Pseudo::Authority, parts.authority, Indexing::Recurring, out);
            write::lines(encoder, parts.lines, false, out);
        })
    }

    fn open_with_encoder(
        &mut self,
        to: ResponseTo,
        protocol: Option<&[u8]>,
        end: bool,
        token: u64,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<Stream, OpenError> {
        self.can_open()?;
        // RFC 8441 §3: not before its settings have allowed it; an owner with a fresh connection waits for them.
        if protocol.is_some() && !self.peer.connect_protocol {
            return Err(OpenError::NoExtendedConnect);
        }
        let id = self.next_id;
        self.next_id += 2;
        let stream = self.add_stream(id, token);
        self.write_block(id, end, encode);
        if let Some(entry) = self.streams.get(stream) {
            entry.local_ended = end;
            entry.to = to;
            entry.protocol = protocol.map(|protocol| protocol.to_ascii_lowercase().into());
        }
        Ok(stream)
    }

    /// Sends a response's head, as `edits` would have it; an interim one (1xx) may be followed by others. `end`:
    /// nothing follows it.
    pub fn respond(
        &mut self,
        stream: Stream,
        head: &ResponseHead<'_>,
        edits: &Edits,
        end: bool,
    ) -> Result<(), SendError> {
        self.respond_with_hop(stream, head, edits, end, &[])
    }

    /// The same with the value of the field by which a peer of ours restores an HTTP/1 response
    /// ([`super::hop::shape_response`]); empty for none.
    pub fn respond_with_hop(
        &mut self,
        stream: Stream,
        head: &ResponseHead<'_>,
        edits: &Edits,
        end: bool,
        hop: &[u8],
    ) -> Result<(), SendError> {
        let status = edits.status.unwrap_or(head.status());
        self.respond_with_encoder(stream, status, end, |encoder, status, out| {
            write::response(encoder, head, edits, status, hop, out);
        })
    }

    /// The same for a response made here; `lines`: its fields as HTTP/1 spells them, each ended by CRLF.
    pub fn respond_parts(
        &mut self,
        stream: Stream,
        status: u16,
        lines: &[u8],
        end: bool,
    ) -> Result<(), SendError> {
        self.respond_with_encoder(stream, status, end, |encoder, status, out| {
            encoder.begin_block(out);
            write::status(encoder, status, out);
            write::lines(encoder, lines, false, out);
        })
    }

    fn respond_with_encoder(
        &mut self,
        stream: Stream,
        status: u16,
        end: bool,
        encode: impl FnOnce(&mut Encoder, u16, &mut Vec<u8>),
    ) -> Result<(), SendError> {
        let interim = matches!(status, 100 | 102..=199);
        let entry = self.streams.get(stream).ok_or(SendError::Gone)?;
        let declined = entry.to.upgrade && hop::is_declined(status);
        let status = if declined { hop::DECLINED } else { status };
        if entry.answered || entry.local_ended || interim && end {
            return Err(SendError::OutOfOrder);
        }
        entry.answered = !interim;
        entry.local_ended = end;
        self.write_block(stream.id, end, |encoder, out| encode(encoder, status, out));
        self.close_if_ended(stream);
        Ok(())
    }

    /// Sends body. What the windows do not let out is queued; how much is queued now. While that is not nothing, an
    /// owner does well not to consume what it got from the other side: [`super::Event::Writable`] tells when it is.
    pub fn data(&mut self, stream: Stream, bytes: &[u8], end: bool) -> Result<usize, SendError> {
        let (room, moment) = (self.output_room(), self.now);
        let connection = self.send_window;
        let server = self.role == Role::Server;
        let entry = self.streams.get(stream).ok_or(SendError::Gone)?;
        if entry.local_ended || !entry.after_queue.is_nothing() || server && !entry.answered {
            return Err(SendError::OutOfOrder);
        }
        let queued = entry.queued();
        let now = if queued > 0 { 0 } else { allowed(entry.send_window, connection, room).min(bytes.len()) };
        let rest = bytes.get(now..).unwrap_or_default();
        if queued + rest.len() > self.config.max_queued {
            return Err(SendError::Full);
        }
        if !rest.is_empty() {
            if queued == 0 {
                entry.moved = moment;
            }
            entry.queue.extend_from_slice(rest);
            entry.blocked = true;
            if end {
                entry.after_queue = After::End;
            }
            // Nothing but the room in the output may be short, which no frame of the peer's will mend.
            if !entry.waiting && entry.send_window - now as i64 > 0 {
                entry.waiting = true;
                self.waiting.push_back(stream.slot);
            }
        } else if end && queued > 0 {
            entry.after_queue = After::End;
            return Ok(queued);
        }
        let end = end && rest.is_empty();
        if now > 0 || end {
            let head = bytes.get(..now).unwrap_or_default();
            entry.send_window -= now as i64;
            entry.local_ended = end;
            self.send_window -= now as i64;
            let max_frame = self.peer.max_frame;
            let frames = write_data(&mut self.out, stream.id, head, end, max_frame);
            self.abuse.data_sent(frames);
        }
        if end {
            self.close_if_ended(stream);
        }
        self.streams.queued += rest.len();
        Ok(queued + rest.len())
    }

    /// Ends a message with trailers, after whatever is queued.
    pub fn trailers(&mut self, stream: Stream, trailers: &Trailers<'_>) -> Result<(), SendError> {
        let server = self.role == Role::Server;
        let entry = self.streams.get(stream).ok_or(SendError::Gone)?;
        if entry.local_ended || !entry.after_queue.is_nothing() || server && !entry.answered {
            return Err(SendError::OutOfOrder);
        }
        if entry.queued() > 0 {
            entry.after_queue = After::trailers(trailers);
            return Ok(());
        }
        self.end_with_trailers(stream, trailers.section(), trailers.is_sensitive());
        Ok(())
    }

    pub(super) fn end_with_trailers(&mut self, stream: Stream, section: &[u8], sensitive: bool) {
        if let Some(entry) = self.streams.get(stream) {
            entry.local_ended = true;
        }
        let before = self.out.len();
        self.write_block(stream.id, true, |encoder, out| {
            encoder.begin_block(out);
            write::lines(encoder, section, sensitive, out);
        });
        if self.out.len() == before + HEADER {
            // A block of no fields: some peers take it amiss, and an end is all it says.
            self.out.truncate(before);
            write_data(&mut self.out, stream.id, &[], true, self.peer.max_frame);
        }
        self.close_if_ended(stream);
    }

    /// Gives a stream up. A server that has answered in full may so tell that it wants no more of the request, with
    /// NO_ERROR (RFC 9113 §8.1). No event follows.
    pub fn reset(&mut self, stream: Stream, code: ErrorCode) {
        if self.streams.peek(stream).is_some() {
            write_reset(&mut self.out, stream.id, code);
            self.remember_reset(stream.id);
            self.drop_stream(stream);
        }
    }

    /// Server: the response is complete (or will be when what is queued has left), and nothing more is wanted of the
    /// request: the peer is then told to stop, with NO_ERROR (RFC 9113 §8.1).
    pub fn finish(&mut self, stream: Stream) {
        if let Some(entry) = self.streams.get(stream) {
            entry.enough = true;
            self.close_if_ended(stream);
        }
    }

    /// A deadline for the queue of a stream whose owner has no more to say and waits for nothing: if the peer's windows have
    /// not let it out by then, the stream is reset with CANCEL (Envoy: `stream_flush_timeout`) by
    /// [`Connection::poll_timeouts`], and no event follows. True: [`Connection::deadline`] is earlier than before. Without
    /// effect on a stream that has nothing queued.
    pub fn flush_by(&mut self, stream: Stream, deadline: Duration) -> bool {
        let Some(entry) = self.streams.get(stream).filter(|entry| entry.queued() > 0) else { return false };
        entry.flush_by = Some(deadline);
        let earlier = self.flush_by.is_none_or(|earliest| deadline < earliest);
        if earlier {
            self.flush_by = Some(deadline);
        }
        earlier
    }

    /// Resets the streams whose [`Connection::flush_by`] has passed.
    pub(super) fn reset_unflushed(&mut self) {
        let now = self.now;
        if self.flush_by.is_none_or(|earliest| earliest > now) {
            return;
        }
        let waiting = self.streams.iter().filter_map(|(stream, entry)| entry.flush_by.map(|by| (stream, by)));
        let (late, waiting): (Vec<_>, Vec<_>) = waiting.partition(|(_, by)| *by <= now);
        self.flush_by = waiting.into_iter().map(|(_, by)| by).min();
        for (stream, _) in late {
            self.unflushed += 1;
            self.reset(stream, ErrorCode::CANCEL);
        }
    }

    /// How many streams were reset because the peer made no room for what was queued, since this was last asked (Envoy:
    /// `http2.tx_flush_timeout`).
    pub fn take_unflushed(&mut self) -> u64 {
        std::mem::take(&mut self.unflushed)
    }

    /// So many bytes of a stream's body are dealt with: the peer may send as many more. Bytes of a stream that is
    /// gone were given back when it went.
    pub fn consume(&mut self, stream: Stream, bytes: usize) {
        let size = self.receive_initial;
        let Some(entry) = self.streams.get(stream) else { return };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(entry.held);
        entry.held -= bytes;
        if !entry.remote_ended {
            entry.released += bytes;
            if is_due(entry.released, size) {
                let increment = std::mem::take(&mut entry.released);
                entry.receive_window += i64::from(increment);
                write_window_update(&mut self.out, stream.id, increment);
            }
        }
        self.credit(bytes);
    }

    /// All that waits to be sent: the output, and what streams have queued until a window opens. While this is more
    /// than an owner wants to hold for one peer, the owner feeds no more input, whose answers (heads above all, for
    /// which no window is asked) would add to it; the rest of the input it keeps. To be asked between two events.
    #[inline]
    pub fn backlog(&self) -> usize {
        self.out.len() - self.out_at + self.streams.queued
    }

    /// Streams of which something is queued and nothing has left since `then`: their peer opens no window. An owner
    /// that is done with them resets them. Walks over all streams.
    pub fn stalled_since(&self, then: Duration) -> impl Iterator<Item = (Stream, u64)> {
        let stalled = self.streams.iter().filter(move |(_, entry)| entry.queued() > 0 && entry.moved <= then);
        stalled.map(|(stream, entry)| (stream, entry.token))
    }

    /// Body bytes that [`Connection::data`] would send at once.
    pub fn send_capacity(&self, stream: Stream) -> usize {
        self.send_state(stream).map_or(0, |state| state.capacity)
    }

    /// How far a stream may send; `None` if it is gone.
    pub fn send_state(&self, stream: Stream) -> Option<SendState> {
        let entry = self.streams.peek(stream)?;
        let queued = entry.queued();
        let free = allowed(entry.send_window, self.send_window, self.output_room());
        Some(SendState {
            capacity: if queued > 0 { 0 } else { free },
            queued,
            stream_window: entry.send_window,
            connection_window: self.send_window,
        })
    }
}
