//! HTTP/1 as the actors read it: heads and bodies cut out of bytes. Knows only what well-behaved peers send.

use crate::plan::Framing;

pub struct Reader {
    buffer: Vec<u8>,
    /// What of it is cut already.
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Close,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Head(String),
    Body(Vec<u8>),
    End,
}

impl Reader {
    pub fn new() -> Reader {
        Reader { buffer: vec![], at: 0, state: State::Head }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn left(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn cut(&mut self, length: usize) -> Vec<u8> {
        let bytes = self.left()[..length].to_vec();
        self.at += length;
        bytes
    }

    /// Bytes not cut yet.
    pub fn rest(&mut self) -> Vec<u8> {
        let length = self.left().len();
        self.cut(length)
    }

    pub fn until_close(&self) -> bool {
        self.state == State::Close
    }

    /// The next part; an error is what no proxy may pass on.
    pub fn next(&mut self, bodiless: bool) -> Result<Option<Part>, String> {
        loop {
            match self.state {
                State::Head => {
                    let Some(end) = find(self.left(), b"\r\n\r\n") else { return Ok(None) };
                    let head = String::from_utf8(self.cut(end + 4)).map_err(|error| error.to_string())?;
                    if !(head.starts_with("HTTP/1.")
                        || head.lines().next().is_some_and(|l| l.contains(" HTTP/1.")))
                    {
                        return Err(format!("no head: {head:?}"));
                    }
                    self.state = framing(&head, bodiless)?;
                    return Ok(Some(Part::Head(head)));
                }
                State::Length(0) => {
                    self.state = State::Head;
                    return Ok(Some(Part::End));
                }
                State::Length(left) | State::Chunk(left) if left > 0 => {
                    if self.left().is_empty() {
                        return Ok(None);
                    }
                    let length = (left.min(self.left().len() as u64)) as usize;
                    let body = self.cut(length);
                    let left = left - length as u64;
                    self.state = match self.state {
                        State::Chunk(_) if left == 0 => State::ChunkEnd,
                        State::Chunk(_) => State::Chunk(left),
                        _ => State::Length(left),
                    };
                    return Ok(Some(Part::Body(body)));
                }
                State::Chunk(_) | State::ChunkEnd => {
                    if self.left().len() < 2 {
                        return Ok(None);
                    }
                    if !self.left().starts_with(b"\r\n") {
                        return Err("a chunk does not end".into());
                    }
                    self.at += 2;
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => {
                    let Some(end) = find(self.left(), b"\r\n") else { return Ok(None) };
                    let line = self.cut(end + 2);
                    let text = String::from_utf8_lossy(&line);
                    let digits = text.trim().split(';').next().unwrap_or_default().to_owned();
                    let size =
                        u64::from_str_radix(&digits, 16).map_err(|_| format!("chunk size {text:?}"))?;
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::Trailers => {
                    let Some(end) = find(self.left(), b"\r\n") else { return Ok(None) };
                    self.at += end + 2;
                    if end == 0 {
                        self.state = State::Head;
                        return Ok(Some(Part::End));
                    }
                }
                State::Close => {
                    if self.left().is_empty() {
                        return Ok(None);
                    }
                    return Ok(Some(Part::Body(self.rest())));
                }
                State::Length(_) => return Ok(None),
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

pub fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.get(..3)?.parse().ok()).unwrap_or(0)
}

fn framing(head: &str, bodiless: bool) -> Result<State, String> {
    let response = head.starts_with("HTTP/");
    let status = if response { status(head) } else { 0 };
    if response && (100..200).contains(&status) {
        // Interim: another head follows.
        return Ok(State::Head);
    }
    if response && (bodiless || status == 204 || status == 304) {
        return Ok(State::Length(0));
    }
    if field(head, "transfer-encoding").is_some_and(|te| te.eq_ignore_ascii_case("chunked")) {
        if field(head, "content-length").is_some() {
            return Err(format!("two framings: {head:?}"));
        }
        return Ok(State::ChunkSize);
    }
    match field(head, "content-length") {
        Some(length) => Ok(State::Length(length.parse().map_err(|_| format!("length in {head:?}"))?)),
        None if response => Ok(State::Close),
        None => Ok(State::Length(0)),
    }
}

/// A piece of a body as it is sent.
pub fn frame(framing: Framing, bytes: &[u8], out: &mut Vec<u8>) {
    if framing == Framing::Chunked && !bytes.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(bytes);
    }
}

pub fn frame_end(framing: Framing, trailers: bool, out: &mut Vec<u8>) {
    if framing == Framing::Chunked {
        out.extend_from_slice(if trailers { b"0\r\nx-trailer: 1\r\n\r\n" } else { b"0\r\n\r\n" });
    }
}
