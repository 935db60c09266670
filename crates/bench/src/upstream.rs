//! The server behind the proxies: one thread, fixed replies. It answers whatever is asked as soon as the request
//! is whole, and costs as little as the kernel allows.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::message::{Kind, Reader};

const BUFFER: usize = 256 * 1024;

/// Where it listens, and the length of the replies given there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    pub address: SocketAddr,
    pub reply: usize,
}

impl std::str::FromStr for Service {
    type Err = String;

    /// `127.0.0.1:9000=1024`.
    fn from_str(text: &str) -> Result<Service, String> {
        let (address, reply) = text.split_once('=').ok_or("ADDRESS=BYTES is needed")?;
        let address = address.parse().map_err(|e| format!("{address}: {e}"))?;
        let reply = reply.parse().map_err(|e| format!("{reply}: {e}"))?;
        if reply > 16 << 20 {
            return Err(format!("{reply}: at most 16 MiB"));
        }
        Ok(Service { address, reply })
    }
}

struct Client {
    stream: TcpStream,
    reader: Reader,
    service: usize,
    /// Bytes of replies that the socket did not take yet.
    unsent: usize,
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
        replies.push(reply(service.reply));
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
                    let client =
                        Client { stream, reader: Reader::new(Kind::Request), service: token, unsent: 0 };
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
            let reply = replies.get(client.service).map(Vec::as_slice).unwrap_or_default();
            let served = (|| {
                if event.is_readable() {
                    client.receive(&mut buffer, reply)?;
                }
                client.send(reply)
            })();
            if served.is_err() {
                *vacancy = None;
                vacant.push(slot);
            }
        }
    }
}

impl Client {
    fn receive(&mut self, buffer: &mut [u8], reply: &[u8]) -> io::Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let data = buffer.get(..read).unwrap_or_default();
            let ended = self.reader.feed(data).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
            self.unsent += ended.messages as usize * reply.len();
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, reply: &[u8]) -> io::Result<()> {
        while self.unsent > 0 {
            // Pipelined requests owe several replies: the one under way ends at a multiple of the length.
            let left = match self.unsent % reply.len() {
                0 => reply.len(),
                left => left,
            };
            match self.stream.write(reply.get(reply.len() - left..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.unsent -= taken,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
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
    fn a_service_is_written_as_address_and_length() {
        let service: Service = "127.0.0.1:9000=1024".parse().unwrap();
        assert_eq!(service, Service { address: "127.0.0.1:9000".parse().unwrap(), reply: 1024 });
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
