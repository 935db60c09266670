//! One client connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;

use crate::message::{Kind, Reader};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    reader: Reader,
    /// Bytes of the request that the socket did not take yet.
    unsent: usize,
    /// When the request under way fell due. `None`: free.
    pub due: Option<u64>,
}

impl Connection {
    /// Connects and waits for it: opening is no part of what is measured.
    pub fn open(target: SocketAddr) -> io::Result<Connection> {
        let stream = std::net::TcpStream::connect_timeout(&target, CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            reader: Reader::new(Kind::Reply),
            unsent: 0,
            due: None,
        })
    }

    pub fn send(&mut self, request: &[u8], due: u64) -> io::Result<()> {
        self.due = Some(due);
        self.unsent = request.len();
        self.send_rest(request)
    }

    /// After the socket became writable.
    pub fn send_rest(&mut self, request: &[u8]) -> io::Result<()> {
        while self.unsent > 0 {
            let rest = request.get(request.len() - self.unsent..).unwrap_or_default();
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.unsent -= taken,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads what has come: the status of the reply, once it is whole.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<u16>> {
        let mut whole = None;
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(whole),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let data = buffer.get(..read).unwrap_or_default();
            let ended = self.reader.feed(data).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
            match ended.messages {
                0 => {}
                1 if whole.is_none() && self.due.is_some() => whole = Some(ended.status),
                _ => return Err(io::Error::new(ErrorKind::InvalidData, "a reply nobody asked for")),
            }
            // Edge-triggered: a short read has emptied the socket, the next byte makes a new edge.
            if read < buffer.len() {
                return Ok(whole);
            }
        }
    }
}
