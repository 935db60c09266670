//! The server behind the proxies: one thread, fixed replies. It answers whatever is asked as soon as the request
//! is whole, and costs as little as the kernel allows.

mod http2;

pub use http2::BODY as GRPC_BODY;

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::message::{Kind, Reader};
use http2::Session;

const BUFFER: usize = 256 * 1024;

/// Where it listens, and what it answers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    pub address: SocketAddr,
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// HTTP/1, bodies of so many bytes.
    Http1(usize),
    /// HTTP/2 by prior knowledge, small replies with trailers.
    Grpc,
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.answer {
            Answer::Http1(length) => write!(f, "{}={length}", self.address),
            Answer::Grpc => write!(f, "{}=grpc", self.address),
        }
    }
}

impl std::str::FromStr for Service {
    type Err = String;

    /// `127.0.0.1:9000=1024`, `127.0.0.1:9000=grpc`.
    fn from_str(text: &str) -> Result<Service, String> {
        let (address, answer) = text.split_once('=').ok_or("ADDRESS=BYTES or ADDRESS=grpc is needed")?;
        let address = address.parse().map_err(|e| format!("{address}: {e}"))?;
        if answer == "grpc" {
            return Ok(Service { address, answer: Answer::Grpc });
        }
        let length = answer.parse().map_err(|e| format!("{answer}: {e}"))?;
        if length > 16 << 20 {
            return Err(format!("{length}: at most 16 MiB"));
        }
        Ok(Service { address, answer: Answer::Http1(length) })
    }
}

struct Client {
    stream: TcpStream,
    protocol: Protocol,
}

enum Protocol {
    Http1 {
        reader: Reader,
        service: usize,
        /// Bytes of replies that the socket did not take yet.
        unsent: usize,
    },
    Http2 {
        session: Box<Session>,
        unsent: Vec<u8>,
    },
}

/// Serves until the process ends.
pub fn serve(services: &[Service]) -> anyhow::Result<()> {
    let mut poll = Poll::new().context("epoll")?;
    let mut listeners = Vec::new();
    let mut replies = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let mut listener =
            TcpListener::bind(service.address).with_context(|| format!("listen on {}", service.address))?;
        poll.registry().register(&mut listener, Token(index), Interest::READABLE)?;
        listeners.push(listener);
        replies.push(match service.answer {
            Answer::Http1(length) => Some(reply(length)),
            Answer::Grpc => None,
        });
    }
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut vacant: Vec<usize> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(1024);
    loop {
        if let Err(e) = poll.poll(&mut events, None)
            && e.kind() != ErrorKind::Interrupted
        {
            return Err(e).context("epoll");
        }
        for event in &events {
            let Token(token) = event.token();
            if let Some(listener) = listeners.get(token) {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let slot = vacant.pop().unwrap_or(clients.len());
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(listeners.len() + slot), interest)?;
                    let protocol = match replies.get(token) {
                        Some(Some(_)) => {
                            Protocol::Http1 { reader: Reader::new(Kind::Request), service: token, unsent: 0 }
                        }
                        _ => Protocol::Http2 { session: Box::new(Session::new()), unsent: Vec::new() },
                    };
                    let client = Client { stream, protocol };
                    match clients.get_mut(slot) {
                        Some(vacancy) => *vacancy = Some(client),
                        None => clients.push(Some(client)),
                    }
                }
                continue;
            }
            let slot = token - listeners.len();
            let Some(vacancy) = clients.get_mut(slot) else { continue };
            let Some(client) = vacancy else { continue };
            if client.serve(event.is_readable(), &replies, &mut buffer).is_err() {
                *vacancy = None;
                vacant.push(slot);
            }
        }
    }
}

impl Client {
    fn serve(&mut self, readable: bool, replies: &[Option<Vec<u8>>], buffer: &mut [u8]) -> io::Result<()> {
        let Client { stream, protocol } = self;
        match protocol {
            Protocol::Http1 { reader, service, unsent } => {
                let reply = replies.get(*service).and_then(Option::as_deref).unwrap_or_default();
                if readable {
                    receive(stream, buffer, |data| {
                        let ended =
                            reader.feed(data).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
                        *unsent += ended.messages as usize * reply.len();
                        Ok(())
                    })?;
                }
                while *unsent > 0 {
                    // Pipelined requests owe several replies: the one under way ends at a multiple of the length.
                    let left = match *unsent % reply.len() {
                        0 => reply.len(),
                        left => left,
                    };
                    match send(stream, reply.get(reply.len() - left..).unwrap_or_default())? {
                        0 => break,
                        sent => *unsent -= sent,
                    }
                }
            }
            Protocol::Http2 { session, unsent } => {
                if readable {
                    receive(stream, buffer, |data| session.feed(data, unsent))?;
                }
                let mut sent = 0;
                while let Some(rest) = unsent.get(sent..).filter(|rest| !rest.is_empty()) {
                    match send(stream, rest)? {
                        0 => break,
                        taken => sent += taken,
                    }
                }
                unsent.drain(..sent);
            }
        }
        Ok(())
    }
}

/// All that has come. Edge-triggered: a short read has emptied the socket, the next byte makes a new edge.
fn receive(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let read = match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        each(buffer.get(..read).unwrap_or_default())?;
        if read < buffer.len() {
            return Ok(());
        }
    }
}

/// How many bytes the socket takes; 0: none now.
fn send(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(data) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => return Ok(taken),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn reply(length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\nx-served-by: bench\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + length, b'.');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_as_address_and_answer() {
        for (text, answer) in
            [("127.0.0.1:9000=1024", Answer::Http1(1024)), ("127.0.0.1:9000=grpc", Answer::Grpc)]
        {
            let service: Service = text.parse().unwrap();
            assert_eq!(service, Service { address: "127.0.0.1:9000".parse().unwrap(), answer });
            assert_eq!(service.to_string(), text);
        }
        for wrong in ["127.0.0.1:9000", "here=1", "127.0.0.1:1=many", "127.0.0.1:1=99999999999"] {
            assert!(wrong.parse::<Service>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reply_is_a_whole_message() {
        let mut reader = Reader::new(Kind::Reply);
        assert_eq!(reader.feed(&reply(1024)).unwrap().messages, 1);
        assert!(!reader.within());
    }
}
