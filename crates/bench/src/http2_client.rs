//! A client's end of an HTTP/2 connection, as little of it as holding and pushing takes: it begins by prior
//! knowledge, asks, and reads frames. Windows are never opened further.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

const LIMIT: Duration = Duration::from_secs(10);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const LARGEST: usize = 16 * 1024;

/// RFC 9113 §6.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
}
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    next: u32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> anyhow::Result<Client> {
        let mut stream =
            TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut first = PREFACE.to_vec();
        push_frame(&mut first, kind::SETTINGS, 0, 0, &[]);
        stream.write_all(&first)?;
        Ok(Client { stream, next: 1 })
    }

    /// The frame that asks for `/` on the next stream.
    pub fn request(&mut self, out: &mut Vec<u8>) {
        push_frame(out, kind::HEADERS, END_STREAM | END_HEADERS, self.next, &block());
        self.next += 2;
    }

    /// Asks once and reads to the end of the reply; what the other side sets is acknowledged.
    pub fn get(&mut self) -> anyhow::Result<()> {
        let mut out = Vec::new();
        self.request(&mut out);
        self.stream.write_all(&out)?;
        let (mut settled, mut ended) = (false, false);
        while !(settled && ended) {
            let (kind, flags) = self.frame()?;
            match kind {
                kind::SETTINGS if flags & ACK == 0 => {
                    let mut ack = Vec::new();
                    push_frame(&mut ack, kind::SETTINGS, ACK, 0, &[]);
                    self.stream.write_all(&ack)?;
                    settled = true;
                }
                kind::DATA | kind::HEADERS => ended |= flags & END_STREAM != 0,
                kind::RST_STREAM | kind::GOAWAY => bail!("the stream was refused"),
                _ => {}
            }
        }
        Ok(())
    }

    /// The next frame's type and flags; its payload is read and dropped.
    fn frame(&mut self) -> anyhow::Result<(u8, u8)> {
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head)?;
        let [high, middle, low, kind, flags, ..] = head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        ensure!(length <= LARGEST, "a frame of {length} bytes");
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok((kind, flags))
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(length.get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// GET, http, `/` by the static table (RFC 7541 Appendix A); the authority as a literal that is not indexed, so
/// that every request is the same bytes.
fn block() -> Vec<u8> {
    const AUTHORITY: &[u8] = b"bench.local";
    let mut block = vec![0x82, 0x86, 0x84, 0x01, AUTHORITY.len() as u8];
    block.extend_from_slice(AUTHORITY);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_say_their_length_and_stream() {
        let mut out = Vec::new();
        push_frame(&mut out, kind::HEADERS, END_HEADERS, 5, b"abc");
        assert_eq!(out, [0, 0, 3, 1, 4, 0, 0, 0, 5, b'a', b'b', b'c']);
        assert_eq!(block().len(), 16);
    }
}
