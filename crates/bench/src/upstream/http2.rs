//! As much of HTTP/2 (RFC 9113) as answering small calls needs: frames in, the same reply to every stream. Fields of
//! requests are not read, so no header table is kept; those of replies are literals that no table holds. What it does
//! not expect ends the connection: figures of a peer that is not understood would be worth nothing.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Ours, for the largest frame of the peer. RFC 9113 §6.5.2, the initial value.
const FRAME_LIMIT: usize = 16_384;
const WINDOW_LIMIT: u32 = 0x7fff_ffff;
const INITIAL_WINDOW: i64 = 65_535;
/// Streams a peer may have at a time.
const STREAMS: u32 = 4096;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const SETTING_STREAMS: u16 = 3;
const SETTING_WINDOW: u16 = 4;

/// Bytes of a reply's body: the five of a gRPC message's head, and its content.
pub const BODY: usize = 128;

/// One connection, without its socket.
#[derive(Debug)]
pub struct Session {
    /// Received and not yet a whole frame.
    input: Vec<u8>,
    greeted: bool,
    /// What the peer takes on the whole connection; on a stream it takes more than one reply, or it is refused.
    window: i64,
    /// Bytes received since the last update.
    received: u32,
    /// Answered when the window lets them.
    waiting: VecDeque<u32>,
}

impl Session {
    pub fn new() -> Session {
        Session {
            input: Vec::new(),
            greeted: false,
            window: INITIAL_WINDOW,
            received: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Takes what was received; what is to be sent is appended to `out`.
    pub fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        // Almost always whole frames come, and nothing is kept.
        if self.input.is_empty() {
            let used = self.frames(data, out)?;
            self.input.extend_from_slice(data.get(used..).unwrap_or_default());
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(data);
            let used = self.frames(&input, out)?;
            input.drain(..used);
            self.input = input;
        }
        Ok(())
    }

    /// Bytes used.
    fn frames(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let mut rest = data;
        if !self.greeted {
            if rest.len() < PREFACE.len() && PREFACE.starts_with(rest) {
                return Ok(0);
            }
            rest = rest.strip_prefix(PREFACE).ok_or_else(|| refused("no HTTP/2 preface"))?;
            self.greeted = true;
            greet(out);
        }
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD>() {
            let [l0, l1, l2, kind, flags, i0, i1, i2, i3] = *head;
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if length > FRAME_LIMIT {
                return Err(refused("a frame beyond the limit"));
            }
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([i0 & 0x7f, i1, i2, i3]);
            self.frame(kind, flags, stream, payload, out)?;
            rest = after;
        }
        Ok(data.len() - rest.len())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        match kind {
            DATA => {
                self.received += u32::try_from(payload.len()).unwrap_or(u32::MAX);
                if self.received > WINDOW_LIMIT / 4 {
                    update_window(out, self.received);
                    self.received = 0;
                }
                if flags & END_STREAM != 0 {
                    self.reply(stream, out);
                }
            }
            HEADERS => {
                if flags & END_HEADERS == 0 {
                    return Err(refused("a header block in several frames"));
                }
                if flags & END_STREAM != 0 {
                    self.reply(stream, out);
                }
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let &[k0, k1, v0, v1, v2, v3] = setting
                        && u16::from_be_bytes([k0, k1]) == SETTING_WINDOW
                        && u32::from_be_bytes([v0, v1, v2, v3]) < BODY as u32
                    {
                        return Err(refused("a window smaller than one reply"));
                    }
                }
                frame_head(out, 0, SETTINGS, ACK, 0);
            }
            PING if flags & ACK == 0 => {
                frame_head(out, payload.len(), PING, ACK, 0);
                out.extend_from_slice(payload);
            }
            WINDOW_UPDATE if stream == 0 => {
                let increment =
                    payload.try_into().map_err(|_| refused("a window update without a number"))?;
                self.window += i64::from(u32::from_be_bytes(increment) & WINDOW_LIMIT);
                while self.window >= BODY as i64
                    && let Some(stream) = self.waiting.pop_front()
                {
                    self.reply(stream, out);
                }
            }
            // Streams are answered when they end and not before: there is nothing to reset but what waits.
            RST_STREAM => self.waiting.retain(|waiting| *waiting != stream),
            PUSH_PROMISE | CONTINUATION => return Err(refused("a frame that no client of ours sends")),
            // PRIORITY, GOAWAY, windows of streams, acknowledgements, and kinds that RFC 9113 §5.5 has us ignore.
            _ => {}
        }
        Ok(())
    }

    fn reply(&mut self, stream: u32, out: &mut Vec<u8>) {
        if self.window < BODY as i64 {
            self.waiting.push_back(stream);
            return;
        }
        self.window -= BODY as i64;
        // 0x88: the static table's `:status: 200`. RFC 7541 appendix A.
        let mut head = vec![0x88];
        literal(&mut head, b"content-type", b"application/grpc");
        frame_head(out, head.len(), HEADERS, END_HEADERS, stream);
        out.extend_from_slice(&head);
        frame_head(out, BODY, DATA, 0, stream);
        // Not compressed, and the length of the message.
        out.extend_from_slice(&[0, 0, 0, 0, (BODY - 5) as u8]);
        out.resize(out.len() + BODY - 5, b'.');
        let mut trailers = Vec::new();
        literal(&mut trailers, b"grpc-status", b"0");
        frame_head(out, trailers.len(), HEADERS, END_HEADERS | END_STREAM, stream);
        out.extend_from_slice(&trailers);
    }
}

fn greet(out: &mut Vec<u8>) {
    frame_head(out, 12, SETTINGS, 0, 0);
    for (setting, value) in [(SETTING_STREAMS, STREAMS), (SETTING_WINDOW, WINDOW_LIMIT)] {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    update_window(out, WINDOW_LIMIT - INITIAL_WINDOW as u32);
}

fn update_window(out: &mut Vec<u8>, increment: u32) {
    frame_head(out, 4, WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// RFC 9113 §4.1. Lengths here are of our own frames, all short.
fn frame_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = (length as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Without indexing, a new name, no Huffman code. RFC 7541 §6.2.2. Both are shorter than 127 bytes.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text);
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame_head(&mut bytes, payload.len(), kind, flags, stream);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Kind, flags, stream and length of each frame.
    fn read(mut bytes: &[u8]) -> Vec<(u8, u8, u32, usize)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
            frames.push((bytes[3], bytes[4], stream, length));
            bytes = &bytes[9 + length..];
        }
        frames
    }

    fn call(stream: u32) -> Vec<u8> {
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &[0x83]);
        bytes.extend(frame(DATA, END_STREAM, stream, &[7; 100]));
        bytes
    }

    const REPLY: [(u8, u8, u32, usize); 3] =
        [(HEADERS, END_HEADERS, 1, 32), (DATA, 0, 1, BODY), (HEADERS, END_HEADERS | END_STREAM, 1, 15)];

    #[test]
    fn a_call_is_answered_however_it_is_split() {
        let input = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), call(1)].concat();
        for split in 0..=input.len() {
            let (mut session, mut out) = (Session::new(), Vec::new());
            session.feed(&input[..split], &mut out).unwrap();
            session.feed(&input[split..], &mut out).unwrap();
            let frames = read(&out);
            assert_eq!(frames[..3], [(SETTINGS, 0, 0, 12), (WINDOW_UPDATE, 0, 0, 4), (SETTINGS, ACK, 0, 0)]);
            assert_eq!(frames[3..], REPLY, "split at {split}");
        }
    }

    #[test]
    fn replies_wait_for_the_window() {
        let (mut session, mut out) = (Session::new(), Vec::new());
        session.feed(PREFACE, &mut out).unwrap();
        session.window = 0;
        out.clear();
        session.feed(&[call(1), call(3)].concat(), &mut out).unwrap();
        assert_eq!(read(&out), []);
        session.feed(&frame(RST_STREAM, 0, 3, &[0; 4]), &mut out).unwrap();
        session.feed(&frame(WINDOW_UPDATE, 0, 0, &1000_u32.to_be_bytes()), &mut out).unwrap();
        assert_eq!(read(&out), REPLY);
        assert_eq!(session.window, 1000 - BODY as i64);
    }

    #[test]
    fn what_is_not_understood_ends_the_connection() {
        let table = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            [PREFACE.to_vec(), frame(HEADERS, 0, 1, &[])].concat(),
            [PREFACE.to_vec(), frame(9, 0, 1, &[])].concat(),
            [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1])].concat(),
            [PREFACE.to_vec(), vec![1, 0, 0, 0, 0, 0, 0, 0, 1]].concat(),
        ];
        for input in table {
            assert!(Session::new().feed(&input, &mut Vec::new()).is_err(), "{input:?}");
        }
    }
}
