//! The task that answers an application's queries.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Answer, Transport, answer, refusal};
use super::{NameTable, Upstream};
use crate::holder::DnsSockets;

/// Queries waiting for the host's nameservers at one time; more are answered SERVFAIL at once.
const MOST_FORWARDED: usize = 512;
/// Open TCP connections; more wait to be accepted.
const MOST_CONNECTIONS: usize = 64;
/// How long a TCP client may stay silent (RFC 7766 §6.2.3 leaves it to the server).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// How long the first queries wait for the first table. A resolver asks twice, five seconds apart (resolv.conf(5)), and takes
/// a late answer to either; one that is told SERVFAIL tells its application.
const FIRST_TABLE: Duration = Duration::from_secs(9);

/// What the server did, for metrics. Istio's agent calls them dns_requests_total,
/// dns_upstream_requests_total and dns_upstream_failures_total.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub upstream_requests: AtomicU64,
    pub upstream_failures: AtomicU64,
}

/// Answers queries until the future is dropped. `table` holds `None` until the control plane sent
/// one. Needs a tokio runtime with I/O and time.
pub async fn serve(
    sockets: DnsSockets,
    table: watch::Receiver<Option<Arc<NameTable>>>,
    upstream: Upstream,
    counters: Arc<Counters>,
) -> io::Result<()> {
    let server = Arc::new(Server {
        table,
        upstream,
        counters,
        turn: AtomicUsize::new(0),
        forwards: Semaphore::new(MOST_FORWARDED),
    });
    let mut tasks = JoinSet::new();
    for socket in sockets.udp {
        tasks.spawn(udp(Arc::clone(&server), UdpSocket::from_std(socket)?));
    }
    for listener in sockets.tcp {
        tasks.spawn(tcp(Arc::clone(&server), TcpListener::from_std(listener)?));
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

struct Server {
    table: watch::Receiver<Option<Arc<NameTable>>>,
    upstream: Upstream,
    counters: Arc<Counters>,
    turn: AtomicUsize,
    forwards: Semaphore,
}

impl Server {
    /// An application may ask before the control plane has said anything: its first queries wait in the socket, so
    /// that starting before the proxy is ready costs a moment and not the name.
    async fn wait_for_table(&self) {
        let mut table = self.table.clone();
        // Its owner gone, or out of patience: queries are answered with SERVFAIL.
        let _ = timeout(FIRST_TABLE, table.wait_for(Option::is_some)).await;
    }

    /// What is known without asking anyone.
    fn decide(&self, query: &[u8], transport: Transport) -> Answer {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let table = self.table.borrow().clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer(query, table.as_deref(), &self.upstream.settings().search, turn, transport)
    }

    async fn forward(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.counters.upstream_requests.fetch_add(1, Ordering::Relaxed);
        let reply = match self.forwards.try_acquire() {
            Ok(_permit) => self.upstream.ask(query, transport).await,
            Err(_) => refusal(query, ResponseCode::ServFail),
        };
        let failed = reply.as_ref().is_none_or(|reply| reply.get(3).is_some_and(|f| f & 0x0f == 2));
        if failed {
            self.counters.upstream_failures.fetch_add(1, Ordering::Relaxed);
        }
        reply
    }
}

async fn udp(server: Arc<Server>, socket: UdpSocket) {
    server.wait_for_table().await;
    let socket = Arc::new(socket);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            // An earlier answer's error, or memory; not to be asked again in a tight loop.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let query = buffer.get(..length).unwrap_or_default();
        match server.decide(query, Transport::Udp) {
            Answer::Ignore => {}
            Answer::Reply(reply) => {
                let _ = socket.send_to(&reply, client).await;
            }
            Answer::Forward => {
                let (server, socket, query) = (Arc::clone(&server), Arc::clone(&socket), query.to_vec());
                tokio::spawn(async move {
                    if let Some(reply) = server.forward(&query, Transport::Udp).await {
                        let _ = socket.send_to(&reply, client).await;
                    }
                });
            }
        }
    }
}

async fn tcp(server: Arc<Server>, listener: TcpListener) {
    server.wait_for_table().await;
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    // However it ends, it is the client's affair.
                    let _ = connection(&server, stream).await;
                    drop(permit);
                });
            }
            // Out of descriptors, say: let others finish before trying again.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Queries one after another, each with its length before it (RFC 1035 §4.2.2).
async fn connection(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut query)).await??;
        let reply = match server.decide(&query, Transport::Tcp) {
            Answer::Ignore => return Ok(()),
            Answer::Reply(reply) => Some(reply),
            Answer::Forward => server.forward(&query, Transport::Tcp).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let Ok(length) = u16::try_from(reply.len()) else { return Ok(()) };
        let mut framed = Vec::with_capacity(reply.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&reply);
        timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}
