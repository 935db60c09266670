//! Clients and hosts, who answer at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use wire::h1::Scheme;
use wire::h2::{Config, Connection, Event, RequestParts, Scratch, Trailers};

use crate::Stage;
use crate::memory::End;

pub trait Work {
    /// A request of each client, answered; how many that were.
    fn round(&mut self, stage: &mut Stage) -> anyhow::Result<usize>;
}

/// Requests and answers of HTTP/1, one at a time on each connection.
pub struct Text {
    clients: Vec<End>,
    request: Vec<u8>,
    answer: Vec<u8>,
    came: Vec<u8>,
}

impl Text {
    pub fn new(stage: &Stage, proxy: SocketAddr, clients: usize, body: usize, answer: usize) -> Text {
        let (method, length) = match body {
            0 => ("GET", String::new()),
            _ => ("POST", format!("content-length: {body}\r\n")),
        };
        let head = format!(
            "{method} /items/1024 HTTP/1.1\r\nhost: bench.local\r\nuser-agent: filamesh-bench/1\r\n\
             accept: */*\r\n{length}\r\n"
        );
        let reply = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {answer}\r\n\
             x-served-by: bench\r\n\r\n"
        );
        Text {
            clients: (0..clients).map(|_| stage.net.connect(proxy)).collect(),
            request: [head.as_bytes(), &vec![b'q'; body]].concat(),
            answer: [reply.as_bytes(), &vec![b'a'; answer]].concat(),
            came: vec![],
        }
    }
}

impl Work for Text {
    fn round(&mut self, stage: &mut Stage) -> anyhow::Result<usize> {
        for client in &self.clients {
            stage.net.write(*client, &self.request);
        }
        stage.settle();
        for host in stage.net.hosts() {
            stage.net.take(host, &mut self.came);
            if !self.came.is_empty() {
                stage.net.write(host, &self.answer);
            }
        }
        stage.settle();
        for client in &self.clients {
            stage.net.take(*client, &mut self.came);
            ensure!(self.came.starts_with(b"HTTP/1.1 200 OK"), "{:?}", String::from_utf8_lossy(&self.came));
            ensure!(self.came.len() >= self.answer.len(), "{} bytes", self.came.len());
        }
        Ok(self.clients.len())
    }
}

/// gRPC-like calls, several at a time on one connection.
pub struct Grpc {
    client: (End, Connection),
    hosts: Vec<(End, Connection)>,
    streams: usize,
    scratch: Scratch,
    came: Vec<u8>,
    requests: u64,
}

const NOW: Duration = Duration::ZERO;

fn codec() -> Arc<Config> {
    Arc::new(Config { max_concurrent_streams: 1024, ..Config::default() })
}

impl Grpc {
    pub fn new(stage: &Stage, proxy: SocketAddr, streams: usize) -> Grpc {
        Grpc {
            client: (stage.net.connect(proxy), Connection::client(codec(), NOW)),
            hosts: vec![],
            streams,
            scratch: Scratch::new(),
            came: vec![],
            requests: 0,
        }
    }

    fn ask(&mut self) -> anyhow::Result<()> {
        self.requests += 1;
        let lines = format!(
            "content-type: application/grpc\r\nte: trailers\r\nuser-agent: grpc-c++/1.60 bench\r\n\
             x-request-id: {:032x}\r\ngrpc-timeout: 1S\r\n",
            self.requests
        );
        let parts = RequestParts {
            method: b"POST",
            scheme: Scheme::Http,
            authority: b"bench.local",
            path: b"/bench.Echo/Unary",
            lines: lines.as_bytes(),
        };
        let stream = self.client.1.open_parts(&parts, false, 0)?;
        self.client.1.data(stream, &[7; 100], true)?;
        Ok(())
    }

    fn serve(&mut self, stage: &Stage) -> anyhow::Result<()> {
        for end in stage.net.hosts() {
            if self.hosts.iter().all(|(known, _)| *known != end) {
                self.hosts.push((end, Connection::server(codec(), NOW)));
            }
        }
        for (end, conn) in &mut self.hosts {
            stage.net.take(*end, &mut self.came);
            let mut input = self.came.as_slice();
            while let Some(event) = conn.next(&mut input, &mut self.scratch, NOW)? {
                match event {
                    Event::Data { stream, bytes, end, .. } => {
                        conn.consume(stream, bytes.len());
                        if end {
                            let lines = b"content-type: application/grpc\r\nserver: bench\r\n";
                            conn.respond_parts(stream, 200, lines, false)?;
                            conn.data(stream, &[9; 128], false)?;
                            conn.trailers(stream, &Trailers::from_section(b"grpc-status: 0\r\n\r\n"))?;
                        }
                    }
                    Event::Reset { .. } | Event::Refused { .. } => bail!("{event:?}"),
                    _ => {}
                }
            }
            send(stage, *end, conn);
        }
        Ok(())
    }
}

fn send(stage: &Stage, end: End, conn: &mut Connection) {
    let output = conn.output();
    if !output.is_empty() {
        stage.net.write(end, output);
        conn.sent(output.len());
    }
}

impl Work for Grpc {
    fn round(&mut self, stage: &mut Stage) -> anyhow::Result<usize> {
        for _ in 0..self.streams {
            self.ask()?;
        }
        let end = self.client.0;
        send(stage, end, &mut self.client.1);
        stage.settle();
        self.serve(stage)?;
        stage.settle();
        stage.net.take(end, &mut self.came);
        let mut input = self.came.as_slice();
        let mut ended = 0;
        while let Some(event) = self.client.1.next(&mut input, &mut self.scratch, NOW)? {
            match event {
                Event::Data { stream, bytes, .. } => self.client.1.consume(stream, bytes.len()),
                Event::Trailers { .. } => ended += 1,
                Event::Reset { .. } => bail!("{event:?}"),
                _ => {}
            }
        }
        ensure!(ended == self.streams, "{ended} of {} calls were answered", self.streams);
        Ok(ended)
    }
}
