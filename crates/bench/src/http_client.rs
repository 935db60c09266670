//! A blocking client for one connection: pages, status documents, readiness.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::message::{Kind, head};

const LIMIT: Duration = Duration::from_secs(10);
const BODY_LIMIT: usize = 16 << 20;

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Read beyond the last reply. Without capacity while nothing is: thousands of clients may be held.
    read: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> anyhow::Result<Client> {
        let stream =
            TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connect to {address}"))?;
        Client::over(stream)
    }

    pub fn over(stream: TcpStream) -> anyhow::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Client { stream, read: Vec::new() })
    }

    pub fn get(&mut self, host: &str, path: &str) -> anyhow::Result<Reply> {
        write!(self.stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: filamesh-bench\r\n\r\n")
            .with_context(|| format!("GET {path}"))?;
        let reply = self.reply().with_context(|| format!("GET {path}"))?;
        self.read = Vec::new();
        Ok(reply)
    }

    fn reply(&mut self) -> anyhow::Result<Reply> {
        let head = loop {
            match head(&self.read, Kind::Reply)? {
                Some(head) => break head,
                None => self.more()?,
            }
        };
        self.read.drain(..head.length);
        let body = match head.content_length {
            _ if head.chunked => self.chunks()?,
            Some(length) => self.take(usize::try_from(length)?)?,
            None if head.status == 204 || head.status == 304 => Vec::new(),
            None => bail!("a reply without a length"),
        };
        Ok(Reply { status: head.status, body })
    }

    fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk of size {size:?}"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if body.len() > BODY_LIMIT {
                bail!("a body beyond 16 MiB");
            }
            self.line()?;
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.read) {
                let line = self.take(end + 1)?;
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.more()?;
        }
    }

    fn take(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        if length > BODY_LIMIT {
            bail!("a body beyond 16 MiB");
        }
        while self.read.len() < length {
            self.more()?;
        }
        let rest = self.read.split_off(length);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    fn more(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => bail!("the connection was closed"),
            read => self.read.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
        Ok(())
    }
}

/// Host and port of `http://127.0.0.1:80/path`, whose host must be an address.
pub fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let authority = url.strip_prefix("http://").unwrap_or(url);
    let authority = authority.split('/').next().unwrap_or_default();
    authority.parse().with_context(|| format!("{url}: not http://ADDRESS:PORT"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn get(reply: &'static [u8]) -> anyhow::Result<Reply> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // All of the request: what is left unread when the socket closes turns the reply into a reset.
            let (mut request, mut byte) = (Vec::new(), [0; 1]);
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                request.push(byte[0]);
            }
            // In pieces, so that nothing relies on one read.
            for piece in reply.chunks(7) {
                stream.write_all(piece).unwrap();
            }
        });
        let got = Client::connect(address)?.get("test", "/");
        server.join().unwrap();
        got
    }

    #[test]
    fn reads_bodies_of_every_framing() {
        let table: [(&[u8], u16, &str); 3] = [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world", 200, "hello world"),
            (
                b"HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
                404,
                "hello world",
            ),
            (b"HTTP/1.1 204 None\r\n\r\n", 204, ""),
        ];
        for (bytes, status, body) in table {
            assert_eq!(get(bytes).unwrap(), Reply { status, body: body.into() });
        }
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\n\r\nendless"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
        ] {
            assert!(get(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address_of("http://127.0.0.1:80/x").unwrap(), "127.0.0.1:80".parse().unwrap());
        assert_eq!(address_of("127.0.0.1:80").unwrap(), "127.0.0.1:80".parse().unwrap());
        assert!(address_of("http://localhost:80").is_err());
    }
}
