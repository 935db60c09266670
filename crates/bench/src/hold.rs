//! Idle connections: opened, used for one request each, then held until standard input ends.

use std::fmt::Arguments;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{http_client, http2_client};

/// Says `holding N` on standard output when all are open. No longer than the limit, whoever forgets it.
pub fn hold(target: SocketAddr, connections: usize, http2: bool, limit: Duration) -> anyhow::Result<()> {
    let mut held = Vec::with_capacity(connections);
    for index in 0..connections {
        let connection = if http2 { open_http2(target) } else { open_http1(target) };
        held.push(connection.with_context(|| format!("connection {index} to {target}"))?);
    }
    say(format_args!("holding {}", held.len()))?;
    let _ = end_of_input().recv_timeout(limit);
    Ok(())
}

enum Held {
    Http1 { _client: http_client::Client },
    Http2 { _client: http2_client::Client },
}

fn open_http1(target: SocketAddr) -> anyhow::Result<Held> {
    let mut client = http_client::Client::over(TcpStream::connect(target)?)?;
    let reply = client.get("bench.local", "/")?;
    if reply.status != 200 {
        bail!("status {}", reply.status);
    }
    Ok(Held::Http1 { _client: client })
}

fn open_http2(target: SocketAddr) -> anyhow::Result<Held> {
    let mut client = http2_client::Client::connect(target)?;
    client.get()?;
    Ok(Held::Http2 { _client: client })
}

/// A line for whoever started this process.
pub fn say(line: Arguments<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Receives when standard input has ended.
pub fn end_of_input() -> Receiver<()> {
    let (ended, end) = channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    end
}
