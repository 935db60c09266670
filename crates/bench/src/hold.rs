//! Idle connections: opened, used for one request each, then held until standard input ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::http_client::Client;

/// Says `holding N` on standard output when all are open. No longer than the limit, whoever forgets it.
pub fn hold(target: SocketAddr, connections: usize, limit: Duration) -> anyhow::Result<()> {
    let mut held = Vec::with_capacity(connections);
    for index in 0..connections {
        let stream = TcpStream::connect(target).with_context(|| format!("connection {index} to {target}"))?;
        let mut client = Client::over(stream)?;
        let reply = client.get("bench.local", "/").with_context(|| format!("connection {index}"))?;
        if reply.status != 200 {
            bail!("connection {index} to {target}: status {}", reply.status);
        }
        held.push(client);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "holding {}", held.len())?;
    out.flush()?;
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let _ = end.recv_timeout(limit);
    Ok(())
}
