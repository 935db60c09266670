//! HEADERS and CONTINUATION: field blocks put together, and what they begin or end.

use crate::{Reject, reject::Side};

use super::{
    closed::Was,
    config::HEAD_PER_BYTE,
    connection::{Connection, Happened, Role},
    error::{ConnectionError, ErrorCode, detail},
    event::Scratch,
    frame::{Frame, STREAM_MASK, flag, unpad, word, write_reset},
    gather::{Fault, Gather, Kind, memo},
    receive::Step,
    streams::Stream,
};

type Found<'i> = Result<Option<Step<'i>>, ConnectionError>;

/// What is to become of a block.
enum Meaning {
    Begin,
    Answer(Stream),
    End(Stream),
    /// Decoded for the table's sake; then, maybe, an error.
    Nothing(Option<(ErrorCode, &'static str)>),
    Refuse,
}

impl Connection {
    pub(super) fn headers_frame<'i>(
        &mut self,
        frame: Frame,
        payload: &[u8],
        scratch: &mut Scratch,
    ) -> Found<'i> {
        if frame.stream == 0 {
            return Err(ConnectionError::protocol("HEADERS on stream 0"));
        }
        let mut fragment =
            unpad(frame, payload).ok_or(ConnectionError::protocol("padding longer than the frame"))?;
        let mut self_dependent = false;
        if frame.has(flag::PRIORITY) {
            let parent = word(fragment).ok_or(ConnectionError::size("HEADERS too short for its priority"))?;
            self_dependent = parent & STREAM_MASK == frame.stream;
            fragment =
                fragment.get(5..).ok_or(ConnectionError::size("HEADERS too short for its priority"))?;
        }
        let end_stream = frame.has(flag::END_STREAM);
        if frame.has(flag::END_HEADERS) {
            self.abuse.not_empty();
            return self.block(frame.stream, end_stream, self_dependent, fragment, scratch);
        }
        if fragment.is_empty() {
            self.abuse.empty(&self.config.abuse)?;
        }
        let block = &mut self.reader.block;
        (block.stream, block.end_stream, block.self_dependent) = (frame.stream, end_stream, self_dependent);
        block.frames = 0;
        block.bytes.clear();
        block.bytes.extend_from_slice(fragment);
        Ok(None)
    }

    pub(super) fn continuation_frame<'i>(
        &mut self,
        frame: Frame,
        fragment: &[u8],
        scratch: &mut Scratch,
    ) -> Found<'i> {
        if self.reader.block.stream == 0 {
            return Err(ConnectionError::protocol("CONTINUATION without a field block"));
        }
        if fragment.is_empty() && !frame.has(flag::END_HEADERS) {
            self.abuse.empty(&self.config.abuse)?;
        }
        let block = &mut self.reader.block;
        block.frames += 1;
        if block.frames > self.config.abuse.continuations {
            return Err(ConnectionError::flood("too many CONTINUATION frames"));
        }
        if block.bytes.len() + fragment.len() > self.config.max_block() {
            return Err(ConnectionError::flood("field block too large"));
        }
        block.bytes.extend_from_slice(fragment);
        if !frame.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let stream = std::mem::take(&mut block.stream);
        let (end_stream, self_dependent) = (block.end_stream, block.self_dependent);
        let mut bytes = std::mem::take(&mut block.bytes);
        self.abuse.not_empty();
        let step = self.block(stream, end_stream, self_dependent, &bytes, scratch);
        bytes.clear();
        self.reader.block.bytes = bytes;
        step
    }

    /// A whole block.
    fn block<'i>(
        &mut self,
        id: u32,
        end: bool,
        self_dependent: bool,
        block: &[u8],
        scratch: &mut Scratch,
    ) -> Found<'i> {
        let meaning = match self.role {
            Role::Server => self.meaning_to_server(id, end)?,
            Role::Client => self.meaning_to_client(id, end)?,
        };
        let meaning = match meaning {
            Meaning::Begin | Meaning::Answer(_) | Meaning::End(_) if self_dependent => {
                // RFC 7540 §5.3.1.
                Meaning::Nothing(Some((ErrorCode::PROTOCOL_ERROR, "stream depends on itself")))
            }
            meaning => meaning,
        };
        match meaning {
            Meaning::Begin => self.request(id, end, block, scratch),
            Meaning::Answer(stream) => self.response(stream, end, block, scratch),
            Meaning::End(stream) => self.end_with(stream, block, scratch),
            Meaning::Refuse => {
                self.decode(Kind::Nothing, block, scratch)?;
                self.refuse(id).map(|()| None)
            }
            Meaning::Nothing(error) => {
                self.decode(Kind::Nothing, block, scratch)?;
                if let Some((code, why)) = error {
                    self.stream_error(id, code, why)?;
                }
                Ok(None)
            }
        }
    }

    fn meaning_to_server(&mut self, id: u32, end: bool) -> Result<Meaning, ConnectionError> {
        if id & 1 == 0 {
            return Err(ConnectionError::protocol("client opens an even stream"));
        }
        if let Some(stream) = self.streams.find(id) {
            return Ok(self.meaning_of_trailers(stream, end));
        }
        if id > self.last_peer_id {
            let left_out = self.left_out(id);
            self.closed.opened(self.last_peer_id, id);
            self.last_peer_id = id;
            return Ok(match () {
                // RFC 9113 §6.8: not processed, and the client knows.
                () if left_out => Meaning::Nothing(None),
                () if self.streams.len() >= self.config.max_concurrent_streams as usize => Meaning::Refuse,
                () => Meaning::Begin,
            });
        }
        self.meaning_on_closed(id)
    }

    fn meaning_to_client(&mut self, id: u32, end: bool) -> Result<Meaning, ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("HEADERS on a stream that was not opened"));
        }
        // Under way when the stream closed, however long ago (`closed.rs`).
        let Some(stream) = self.streams.find(id) else { return Ok(Meaning::Nothing(None)) };
        match self.streams.peek(stream) {
            Some(entry) if !entry.answered && !entry.remote_ended => Ok(Meaning::Answer(stream)),
            _ => Ok(self.meaning_of_trailers(stream, end)),
        }
    }

    fn meaning_of_trailers(&self, stream: Stream, end: bool) -> Meaning {
        let Some(entry) = self.streams.peek(stream) else { return Meaning::Nothing(None) };
        if entry.remote_ended {
            Meaning::Nothing(Some((ErrorCode::STREAM_CLOSED, "HEADERS after the end of its stream")))
        } else if !end {
            // RFC 9113 §8.1 (bad-inputs N-18).
            Meaning::Nothing(Some((ErrorCode::PROTOCOL_ERROR, "trailers without END_STREAM")))
        } else if entry.body_left.is_some_and(|left| left > 0) {
            Meaning::Nothing(Some((ErrorCode::PROTOCOL_ERROR, "body is not as long as content-length")))
        } else {
            Meaning::End(stream)
        }
    }

    /// RFC 9113 §5.1 "closed", §5.1.1 (server).
    fn meaning_on_closed(&self, id: u32) -> Result<Meaning, ConnectionError> {
        match self.closed.was(id, self.last_peer_id) {
            Was::Reset | Was::LongAgo => Ok(Meaning::Nothing(None)),
            Was::Ended => Err(ConnectionError::new(ErrorCode::STREAM_CLOSED, "HEADERS on a closed stream")),
            Was::Skipped => Err(ConnectionError::protocol("stream id is not above those before it")),
        }
    }

    /// Decodes a block into the scratch.
    #[inline]
    fn decode<'s>(
        &mut self,
        kind: Kind,
        block: &[u8],
        scratch: &'s mut Scratch,
    ) -> Result<(Gather<'s>, &'s mut Vec<u8>), ConnectionError> {
        let Scratch { text, storage } = scratch;
        let mut gather = Gather::new(kind, self.limits, text, storage);
        match memo::decode(&mut self.memo, &mut self.decoder, block, text, &mut gather) {
            Ok(()) => Ok((gather, text)),
            Err(error) if error.0 == detail::BOMB => Err(ConnectionError::flood(error.0)),
            Err(error) => Err(ConnectionError::new(ErrorCode::COMPRESSION_ERROR, error.0)),
        }
    }

    fn request<'i>(&mut self, id: u32, end: bool, block: &[u8], scratch: &mut Scratch) -> Found<'i> {
        let kind = Kind::Request { extended: self.config.extended_connect };
        let mut seen = self.authority;
        let (mut gather, text) = self.decode(kind, block, scratch)?;
        let fault = match gather.finish_request(text, end, &mut seen) {
            Ok(length) => {
                self.authority = seen;
                let head = scratch.text.len() + scratch.storage.memory_used();
                if !self.can_hold(head, block.len()) {
                    return self.refuse(id).map(|()| None);
                }
                let upgrade = scratch.storage.line.upgrade.is_some();
                let stream = self.add_stream(id, 0);
                self.streams.heads += head as u64;
                if let Some(entry) = self.streams.get(stream) {
                    // Bounded by the limits of a head.
                    entry.head = head as u32;
                    entry.to.upgrade = upgrade;
                    entry.remote_ended = end;
                    entry.body_left = length;
                }
                return Ok(Some(Step::Request { stream, end }));
            }
            Err(fault) => fault,
        };
        let reject = match fault {
            Fault::Malformed(_) => {
                write_reset(&mut self.out, id, ErrorCode::PROTOCOL_ERROR);
                self.remember_reset(id);
                Reject::malformed(Side::Request, detail::MESSAGING)
            }
            Fault::Rejected(reject) => {
                self.answer_refused(id, reject.status, end);
                reject
            }
        };
        self.abuse.reset_by_us(&self.config.abuse)?;
        Ok(Some(Step::Happened(Happened::Refused { id, reject })))
    }

    /// Whether another head of so many bytes, which came as `coded` bytes, is paid for ([`super::Config::head_credit`]).
    #[inline]
    fn can_hold(&self, head: usize, coded: usize) -> bool {
        let held = self.streams.heads + head as u64;
        held <= self.config.head_credit as u64 + HEAD_PER_BYTE * (self.received + coded as u64)
    }

    /// A request that is not processed, and may come again (RFC 9113 §8.7).
    fn refuse(&mut self, id: u32) -> Result<(), ConnectionError> {
        write_reset(&mut self.out, id, ErrorCode::REFUSED_STREAM);
        self.remember_reset(id);
        self.abuse.reset_by_us(&self.config.abuse)
    }

    fn response<'i>(&mut self, stream: Stream, end: bool, block: &[u8], scratch: &mut Scratch) -> Found<'i> {
        let (mut gather, text) = self.decode(Kind::Response, block, scratch)?;
        let Some(entry) = self.streams.get(stream) else { return Ok(None) };
        let length = match gather.finish_response(text, end, entry.to, entry.protocol.as_deref()) {
            Ok(length) => length,
            Err(fault) => {
                let why = match fault {
                    Fault::Malformed(why) => why,
                    Fault::Rejected(reject) => reject.details,
                };
                self.stream_error(stream.id, ErrorCode::PROTOCOL_ERROR, why)?;
                return Ok(None);
            }
        };
        let token = entry.token;
        if !scratch.storage.response(&scratch.text).is_interim() {
            entry.answered = true;
            entry.body_left = length;
            entry.remote_ended = end;
            self.close_if_ended(stream);
        }
        Ok(Some(Step::Response { stream, token, end }))
    }

    fn end_with<'i>(&mut self, stream: Stream, block: &[u8], scratch: &mut Scratch) -> Found<'i> {
        let (mut gather, text) = self.decode(Kind::Trailers, block, scratch)?;
        if let Err(fault) = gather.finish_trailers(text) {
            let why = match fault {
                Fault::Malformed(why) => why,
                Fault::Rejected(reject) => reject.details,
            };
            self.stream_error(stream.id, ErrorCode::PROTOCOL_ERROR, why)?;
            return Ok(None);
        }
        let sensitive = gather.is_sensitive();
        let Some(entry) = self.streams.get(stream) else { return Ok(None) };
        let token = entry.token;
        entry.remote_ended = true;
        self.close_if_ended(stream);
        Ok(Some(Step::Trailers { stream, token, sensitive }))
    }
}
