//! Whatever stands in the way of small requests: an upload without end, clients that read slowly.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::hold;

/// What a slow reader takes, and how often.
const SIP: usize = 1024;
const BETWEEN: Duration = Duration::from_millis(100);
/// So that what nobody reads stands in the proxy and not in the kernel. Two segments of a loopback fit, or the kernel would
/// throw them away and the proxy's would send them again and again.
const RECEIVE_BUFFER: usize = 128 * 1024;
/// A body that never ends in time.
const ENDLESS: u64 = 1 << 40;

/// Uploads. Says `disturbing` on standard output when it has begun, and goes on until standard input ends; no longer
/// than the limit.
pub fn upload(target: SocketAddr, limit: Duration) -> anyhow::Result<()> {
    let mut upload = TcpStream::connect(target)?;
    write!(upload, "POST /large/upload HTTP/1.1\r\nhost: bench.local\r\ncontent-length: {ENDLESS}\r\n\r\n")?;
    hold::say(format_args!("disturbing"))?;
    let end = hold::end_of_input();
    let began = Instant::now();
    let piece = vec![b'x'; 64 * 1024];
    while began.elapsed() < limit && end.try_recv().is_err() {
        upload.write_all(&piece).context("the upload")?;
    }
    Ok(())
}

/// Reads slowly. Says `disturbing` on standard output when all have asked, and goes on until standard input ends; no
/// longer than the limit.
pub fn read_slowly(target: SocketAddr, readers: usize, limit: Duration) -> anyhow::Result<()> {
    let mut slow = Vec::with_capacity(readers);
    for index in 0..readers {
        slow.push(slow_reader(target).with_context(|| format!("reader {index}"))?);
    }
    hold::say(format_args!("disturbing"))?;
    let end = hold::end_of_input();
    let began = Instant::now();
    let mut buffer = vec![0; SIP];
    while began.elapsed() < limit && end.try_recv().is_err() {
        let next = Instant::now() + BETWEEN;
        slow.retain_mut(|reader| match reader.read(&mut buffer) {
            Ok(0) => false,
            Ok(_) => true,
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        });
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    anyhow::ensure!(slow.len() == readers, "{} of {readers} slow readers were cut off", readers - slow.len());
    Ok(())
}

fn slow_reader(target: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(stream.as_fd(), RECEIVE_BUFFER)?;
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: bench.local\r\n\r\n")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
