//! Reading: bytes to frames, frames to events.

use std::time::Duration;

use super::{
    closed::Was,
    connection::{Connection, Happened, Role},
    error::{ConnectionError, ErrorCode},
    event::{Event, Scratch},
    flow::is_due,
    frame::{Frame, HEADER, PREFACE, STREAM_MASK, flag, kind, write_window_update},
    streams::Stream,
    trailers::Trailers,
};

/// Where in the stream of bytes the connection is.
#[derive(Debug)]
pub(super) struct Reader {
    phase: Phase,
    /// A frame header, or another frame, of which only a part has come.
    partial: Vec<u8>,
    /// A field block of which only a part has come.
    pub(super) block: Block,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// So much of the preface has come.
    Preface(usize),
    Header,
    Payload(Frame),
    Data(Data),
}

/// A DATA frame being passed on as it comes.
#[derive(Clone, Copy, Debug)]
struct Data {
    /// `None`: for nobody.
    stream: Option<Stream>,
    left: u32,
    padding: Padding,
    end: bool,
}

#[derive(Clone, Copy, Debug)]
enum Padding {
    /// Its length is the next byte.
    ToCome,
    Left(u32),
}

/// HEADERS and CONTINUATION frames of one block.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// 0: none is open.
    pub stream: u32,
    pub end_stream: bool,
    pub self_dependent: bool,
    pub frames: u32,
    pub bytes: Vec<u8>,
}

/// What an event is made of, without borrowing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'i> {
    Request { stream: Stream, end: bool },
    Response { stream: Stream, token: u64, end: bool },
    Trailers { stream: Stream, token: u64, sensitive: bool },
    Data { stream: Stream, token: u64, bytes: &'i [u8], end: bool },
    Happened(Happened),
}

impl Reader {
    pub fn new(preface: bool) -> Reader {
        let phase = if preface { Phase::Preface(0) } else { Phase::Header };
        Reader { phase, partial: Vec::new(), block: Block::default() }
    }

    pub fn is_mid_head(&self) -> bool {
        let frame = match self.phase {
            Phase::Payload(frame) => frame.kind == kind::HEADERS,
            _ => false,
        };
        frame || self.block.stream != 0
    }

    pub fn release(&mut self) {
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        if self.block.stream == 0 {
            self.block.bytes = Vec::new();
        }
    }

    pub fn memory(&self) -> usize {
        self.partial.capacity() + self.block.bytes.capacity()
    }
}

type Found<'i> = Result<Option<Step<'i>>, ConnectionError>;

impl Connection {
    /// The next event. Takes what it needs from the front of `input`; `None` when nothing is left in it and nothing
    /// waits. To be called until then after each read, and once (with nothing) after output was sent or streams
    /// were dealt with outside an event.
    ///
    /// An error is the end, told after all that happened before it: send the output, which says it too, and close.
    /// Every later call gives the same.
    pub fn next<'e, 'i: 'e>(
        &mut self,
        input: &mut &'i [u8],
        scratch: &'e mut Scratch,
        now: Duration,
    ) -> Result<Option<Event<'e>>, ConnectionError> {
        self.now = self.now.max(now);
        let before = input.len();
        let mut step = None;
        if self.error.is_none()
            && let Err(error) = self.step(input, scratch).map(|found| step = found)
        {
            self.fail(error);
        }
        self.received += (before - input.len()) as u64;
        if let Some(error) = self.error {
            // What happened before the end is told before it.
            step = Some(Step::Happened(self.happened().ok_or(error)?));
        }
        let Some(step) = step else { return Ok(None) };
        let scratch: &'e Scratch = scratch;
        Ok(Some(match step {
            Step::Request { stream, end } => {
                Event::Request { stream, head: scratch.storage.request(&scratch.text), end }
            }
            Step::Response { stream, token, end } => {
                Event::Response { stream, token, head: scratch.storage.response(&scratch.text), end }
            }
            Step::Trailers { stream, token, sensitive } => {
                let trailers = Trailers::from_section(&scratch.text).sensitive(sensitive);
                Event::Trailers { stream, token, trailers }
            }
            Step::Data { stream, token, bytes, end } => Event::Data { stream, token, bytes, end },
            Step::Happened(happened) => match happened {
                Happened::Writable(stream) => {
                    let token = self.streams.peek(stream).map_or(0, |entry| entry.token);
                    Event::Writable { stream, token }
                }
                Happened::Reset { stream, token, code, by } => Event::Reset { stream, token, code, by },
                Happened::GoAway { last, code } => Event::GoAway { last, code },
                Happened::Refused { id, reject } => Event::Refused { id, reject },
                Happened::Settings => Event::Settings,
                Happened::Pong => Event::Pong,
            },
        }))
    }

    fn step<'i>(&mut self, input: &mut &'i [u8], scratch: &mut Scratch) -> Found<'i> {
        if !input.is_empty() {
            self.timers.heard = self.now;
            if self.timers.pinged.is_some() {
                // Whatever comes is a sign of life.
                self.timers.pinged = None;
            }
        }
        loop {
            if let Some(happened) = self.happened() {
                return Ok(Some(Step::Happened(happened)));
            }
            match self.reader.phase {
                Phase::Preface(had) => {
                    let rest = PREFACE.get(had..).unwrap_or_default();
                    let length = rest.len().min(input.len());
                    let (given, after) = input.split_at(length);
                    if given != rest.get(..length).unwrap_or_default() {
                        return Err(ConnectionError::protocol("no HTTP/2 preface"));
                    }
                    *input = after;
                    if length < rest.len() {
                        self.reader.phase = Phase::Preface(had + length);
                        return Ok(None);
                    }
                    self.reader.phase = Phase::Header;
                }
                Phase::Header => {
                    let Some(frame) = self.frame_header(input) else {
                        if self.events.is_empty() {
                            return Ok(None);
                        }
                        continue;
                    };
                    match self.begin_frame(frame)? {
                        // What is here in one piece, as nearly all is, goes without being noted first.
                        Phase::Payload(frame) if input.len() >= frame.length as usize => {
                            let (payload, after) = input.split_at(frame.length as usize);
                            *input = after;
                            if let Some(step) = self.frame(frame, payload, scratch)? {
                                return Ok(Some(step));
                            }
                        }
                        Phase::Data(data) => {
                            if let Some(step) = self.data_frame(data, input)? {
                                return Ok(Some(step));
                            }
                        }
                        phase => self.reader.phase = phase,
                    }
                }
                Phase::Payload(frame) => {
                    let length = frame.length as usize;
                    let had = self.reader.partial.len();
                    let (given, after) = input.split_at((length - had).min(input.len()));
                    self.reader.partial.extend_from_slice(given);
                    *input = after;
                    if self.reader.partial.len() < length {
                        return Ok(None);
                    }
                    self.reader.phase = Phase::Header;
                    let mut payload = std::mem::take(&mut self.reader.partial);
                    let step = self.frame(frame, &payload, scratch)?;
                    payload.clear();
                    self.reader.partial = payload;
                    if step.is_some() {
                        return Ok(step);
                    }
                }
                Phase::Data(data) => match self.data_frame(data, input)? {
                    Some(step) => return Ok(Some(step)),
                    None if matches!(self.reader.phase, Phase::Data(_)) && self.events.is_empty() => {
                        return Ok(None);
                    }
                    None => {}
                },
            }
        }
    }

    /// The next event that waits. A stream that has gone since it became writable is no longer spoken of.
    fn happened(&mut self) -> Option<Happened> {
        while let Some(happened) = self.events.pop_front() {
            match happened {
                Happened::Writable(stream) if self.streams.peek(stream).is_none() => {}
                happened => return Some(happened),
            }
        }
        None
    }

    #[inline]
    fn frame_header(&mut self, input: &mut &[u8]) -> Option<Frame> {
        let partial = &mut self.reader.partial;
        if partial.is_empty()
            && let Some((header, after)) = input.split_first_chunk::<HEADER>()
        {
            *input = after;
            return Some(Frame::read(header));
        }
        let (given, after) = input.split_at((HEADER - partial.len()).min(input.len()));
        partial.extend_from_slice(given);
        *input = after;
        let frame = Frame::read(partial.first_chunk()?);
        partial.clear();
        Some(frame)
    }

    /// What a frame's header alone can be wrong in; how the frame is to be read.
    fn begin_frame(&mut self, frame: Frame) -> Result<Phase, ConnectionError> {
        if !self.settings_seen && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            // RFC 9113 §3.4.
            return Err(ConnectionError::protocol("the first frame is not SETTINGS"));
        }
        // RFC 9113 §4.2 would let a DATA frame cost its stream alone; nobody sends one by mistake.
        if frame.length > self.config.max_frame {
            return Err(ConnectionError::size("frame larger than MAX_FRAME_SIZE"));
        }
        let open_block = self.reader.block.stream;
        if open_block != 0 && (frame.kind != kind::CONTINUATION || frame.stream != open_block) {
            // RFC 9113 §6.10.
            return Err(ConnectionError::protocol("another frame within a field block"));
        }
        Ok(if frame.kind == kind::DATA {
            Phase::Data(self.begin_data(frame)?)
        } else {
            Phase::Payload(frame)
        })
    }

    fn begin_data(&mut self, frame: Frame) -> Result<Data, ConnectionError> {
        if frame.stream == 0 || self.is_idle(frame.stream) {
            return Err(ConnectionError::protocol("DATA on stream 0 or an idle one"));
        }
        let padded = frame.has(flag::PADDED);
        if padded && frame.length == 0 {
            return Err(ConnectionError::protocol("padding longer than the frame"));
        }
        // RFC 9113 §6.9: the whole frame counts, padding and all, whoever it is for.
        if !self.reception.take(frame.length) {
            return Err(ConnectionError::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "more DATA than the connection's window",
            ));
        }
        let end = frame.has(flag::END_STREAM);
        let stream = self.data_stream(frame.stream, frame.length)?;
        let padding = if padded { Padding::ToCome } else { Padding::Left(0) };
        if frame.length == 0 && !end {
            self.abuse.empty(&self.config.abuse)?;
        }
        let mut data = Data { stream, left: frame.length, padding, end };
        if !padded {
            data.stream = self.count_body(data)?;
        }
        if data.stream.is_none() {
            self.credit(frame.length);
        }
        Ok(data)
    }

    /// Whom a DATA frame of so many bytes is for.
    fn data_stream(&mut self, id: u32, length: u32) -> Result<Option<Stream>, ConnectionError> {
        let Some(stream) = self.streams.find(id) else {
            // RFC 9113 §5.1 "closed": what comes after our RST_STREAM is not heard; after the peer's own end, or its
            // RST_STREAM, it is an error.
            let late = self.role == Role::Client
                || self.left_out(id)
                || matches!(self.closed.was(id, self.last_peer_id), Was::Reset | Was::LongAgo);
            if !late {
                self.stream_error(id, ErrorCode::STREAM_CLOSED, "DATA on a closed stream")?;
            }
            return Ok(None);
        };
        let client = self.role == Role::Client;
        let Some(entry) = self.streams.get(stream) else { return Ok(None) };
        if entry.remote_ended {
            self.stream_error(id, ErrorCode::STREAM_CLOSED, "DATA after the end of its stream")?;
            return Ok(None);
        }
        if client && !entry.answered {
            self.stream_error(id, ErrorCode::PROTOCOL_ERROR, "DATA before a response's head")?;
            return Ok(None);
        }
        entry.receive_window -= i64::from(length);
        if entry.receive_window < 0 {
            self.stream_error(id, ErrorCode::FLOW_CONTROL_ERROR, "more DATA than the stream's window")?;
            return Ok(None);
        }
        Ok(Some(stream))
    }

    /// Holds a body against its content-length (RFC 9113 §8.1.1), `data.left` being what this frame has of it.
    fn count_body(&mut self, data: Data) -> Result<Option<Stream>, ConnectionError> {
        let Some(stream) = data.stream else { return Ok(None) };
        let Some(entry) = self.streams.get(stream) else { return Ok(None) };
        if let Some(left) = entry.body_left {
            let after = left.checked_sub(u64::from(data.left));
            if after.is_none() || data.end && after != Some(0) {
                self.stream_error(
                    stream.id,
                    ErrorCode::PROTOCOL_ERROR,
                    "body is not as long as content-length",
                )?;
                return Ok(None);
            }
            entry.body_left = after;
        }
        Ok(Some(stream))
    }

    /// The next run of a DATA frame. `None`: the frame is done, or there is no more input (the phase tells).
    fn data_frame<'i>(&mut self, mut data: Data, input: &mut &'i [u8]) -> Found<'i> {
        if let Padding::ToCome = data.padding {
            let Some((padding, after)) = input.split_first() else {
                self.reader.phase = Phase::Data(data);
                return Ok(None);
            };
            *input = after;
            let padding = u32::from(*padding);
            let Some(left) = (data.left - 1).checked_sub(padding) else {
                return Err(ConnectionError::protocol("padding longer than the frame"));
            };
            data.left = left;
            data.padding = Padding::Left(padding);
            if let Some(stream) = data.stream {
                data.stream = self.count_body(data)?;
                match data.stream {
                    // Padding is nobody's to consume.
                    Some(_) => self.give_back(stream, padding + 1),
                    None => self.credit(left + padding + 1),
                }
            }
            if left == 0 && !data.end {
                self.abuse.empty(&self.config.abuse)?;
            }
        }
        let (bytes, after) = input.split_at((data.left as usize).min(input.len()));
        *input = after;
        data.left -= bytes.len() as u32;
        if !bytes.is_empty() {
            self.abuse.not_empty();
        }
        let end = data.end && data.left == 0;
        data.end &= !end;
        if data.left == 0
            && let Padding::Left(padding) = &mut data.padding
        {
            let (given, after) = input.split_at((*padding as usize).min(input.len()));
            *input = after;
            *padding -= given.len() as u32;
        }
        self.reader.phase = match data {
            Data { left: 0, padding: Padding::Left(0), .. } => Phase::Header,
            _ => Phase::Data(data),
        };
        Ok(if bytes.is_empty() && !end { None } else { self.passed_on(data, bytes, end) })
    }

    /// Gives a run of body to its stream, if it is still there.
    fn passed_on<'i>(&mut self, data: Data, bytes: &'i [u8], end: bool) -> Option<Step<'i>> {
        let stream = data.stream?;
        let length = bytes.len() as u32;
        let Some(entry) = self.streams.get(stream) else {
            // Given up between two runs of one frame.
            self.credit(length);
            return None;
        };
        entry.held += length;
        let token = entry.token;
        if end {
            entry.remote_ended = true;
            self.close_if_ended(stream);
        }
        Some(Step::Data { stream, token, bytes, end })
    }

    /// Window of a stream and the connection for bytes that no owner sees.
    fn give_back(&mut self, stream: Stream, bytes: u32) {
        let size = self.receive_initial;
        if let Some(entry) = self.streams.get(stream)
            && !entry.remote_ended
        {
            entry.released += bytes;
            if is_due(entry.released, size) {
                let increment = std::mem::take(&mut entry.released);
                entry.receive_window += i64::from(increment);
                write_window_update(&mut self.out, stream.id, increment);
            }
        }
        self.credit(bytes);
    }

    /// Whether no such stream was ever opened (RFC 9113 §5.1.1). A server opens none of its own: we take no pushes.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        let odd = id & 1 == 1;
        match self.role {
            Role::Server => !odd || id > self.last_peer_id,
            Role::Client => !odd || id >= self.next_id,
        }
    }

    /// Whether a stream is past the last one we said to take.
    pub(super) fn left_out(&self, id: u32) -> bool {
        matches!(self.leaving, super::connection::Leaving::Final(last) if self.role == Role::Server && id > last)
    }

    fn frame<'i>(&mut self, frame: Frame, payload: &[u8], scratch: &mut Scratch) -> Found<'i> {
        match frame.kind {
            kind::HEADERS => self.headers_frame(frame, payload, scratch),
            kind::CONTINUATION => self.continuation_frame(frame, payload, scratch),
            kind::PRIORITY => self.priority_frame(frame, payload).map(|()| None),
            kind::RST_STREAM => self.reset_frame(frame, payload).map(|()| None),
            kind::SETTINGS => self.settings_frame(frame, payload).map(|()| None),
            // RFC 9113 §8.4: a client can not push, and a server was told not to.
            kind::PUSH_PROMISE => Err(ConnectionError::protocol("PUSH_PROMISE that was not allowed")),
            kind::PING => self.ping_frame(frame, payload).map(|()| None),
            kind::GOAWAY => self.goaway_frame(frame, payload).map(|()| None),
            kind::WINDOW_UPDATE => self.window_update_frame(frame, payload).map(|()| None),
            // RFC 9113 §5.5: ignored, whatever it is (bad-inputs N-24).
            _ => self.abuse.control(self.now, &self.config.abuse).map(|()| None),
        }
    }
}

/// The widest a window may be.
pub(super) const WIDEST: i64 = STREAM_MASK as i64;
