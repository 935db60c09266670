//! A bare TCP relay: bytes in, bytes out, nothing read. What two sockets cost, whatever stands between them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const BUFFER: usize = 128 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LISTENER: Token = Token(usize::MAX);

/// A connection and the one it is joined with; they are neighbours in the list, an even one and the next.
struct Side {
    stream: TcpStream,
    /// Bytes for this side that its socket did not take yet. The other is not read until it has.
    unsent: Vec<u8>,
}

/// Serves until the process ends.
pub fn relay(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let mut poll = Poll::new().context("epoll")?;
    let mut listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut sides: Vec<Option<Side>> = Vec::new();
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
            let Token(index) = event.token();
            if event.token() == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    // A client whose upstream cannot be had is closed.
                    let Ok(server) = connect(upstream) else { continue };
                    let first = vacant.pop().unwrap_or(sides.len());
                    sides.resize_with(sides.len().max(first + 2), || None);
                    for (at, mut stream) in [(first, client), (first + 1, server)] {
                        let _ = stream.set_nodelay(true);
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        poll.registry().register(&mut stream, Token(at), interest)?;
                        if let Some(vacancy) = sides.get_mut(at) {
                            *vacancy = Some(Side { stream, unsent: Vec::new() });
                        }
                    }
                }
                continue;
            }
            let other = index ^ 1;
            let mut moved = Ok(());
            if event.is_writable() {
                moved = pump(&mut sides, other, index, &mut buffer, false);
            }
            if event.is_readable() && moved.is_ok() {
                moved = pump(&mut sides, index, other, &mut buffer, true);
            }
            if moved.is_err() && sides.get(index).is_some_and(Option::is_some) {
                for at in [index, other] {
                    if let Some(side) = sides.get_mut(at) {
                        *side = None;
                    }
                }
                vacant.push(index & !1);
            }
        }
    }
}

fn connect(upstream: SocketAddr) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&upstream, CONNECT_LIMIT)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// Sends what waits for `to`, then what `from` has: at once if its socket is `readable`, else only if it was left
/// unread because `to` was full.
fn pump(
    sides: &mut [Option<Side>],
    from: usize,
    to: usize,
    buffer: &mut [u8],
    readable: bool,
) -> io::Result<()> {
    let gone = || io::Error::from(ErrorKind::NotConnected);
    let Some(target) = sides.get_mut(to).and_then(Option::as_mut) else { return Err(gone()) };
    let mut unsent = std::mem::take(&mut target.unsent);
    if unsent.is_empty() && !readable {
        return Ok(());
    }
    if !unsent.is_empty() {
        let sent = send(&mut target.stream, &unsent)?;
        if sent < unsent.len() {
            unsent.drain(..sent);
            target.unsent = unsent;
            return Ok(());
        }
    }
    loop {
        let source = sides.get_mut(from).and_then(Option::as_mut).ok_or_else(gone)?;
        let read = match source.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let data = buffer.get(..read).unwrap_or_default();
        let target = sides.get_mut(to).and_then(Option::as_mut).ok_or_else(gone)?;
        let sent = send(&mut target.stream, data)?;
        if sent < read {
            target.unsent.extend_from_slice(data.get(sent..).unwrap_or_default());
            return Ok(());
        }
        // Edge-triggered: a short read has emptied the socket, the next byte makes a new edge.
        if read < buffer.len() {
            return Ok(());
        }
    }
}

/// How much of it the socket takes.
fn send(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = data.get(sent..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => sent += taken,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(sent)
}
