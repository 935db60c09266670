//! Asking the host's nameservers, from the host's network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::{Transport, refusal};
use super::resolv_conf::ResolvConf;

/// For one query, all servers and tries together: as long as the C library waits for one.
const TOTAL: Duration = Duration::from_secs(5);
/// A lost datagram is sent again once.
const ROUNDS: u32 = 2;

/// The host's nameservers.
pub struct Upstream {
    source: Source,
}

enum Source {
    Fixed(ResolvConf),
    /// Read again whenever the file changes: laptops move between networks.
    File {
        path: PathBuf,
        seen: Mutex<Option<(SystemTime, ResolvConf)>>,
    },
}

impl Upstream {
    /// As `/etc/resolv.conf` says, now and later.
    pub fn host() -> Self {
        Self::file("/etc/resolv.conf".into())
    }

    pub fn file(path: PathBuf) -> Self {
        Self { source: Source::File { path, seen: Mutex::new(None) } }
    }

    pub fn fixed(settings: ResolvConf) -> Self {
        Self { source: Source::Fixed(settings) }
    }

    /// The settings of this moment. A file that cannot be read names no servers.
    pub fn settings(&self) -> ResolvConf {
        let (path, seen) = match &self.source {
            Source::Fixed(settings) => return settings.clone(),
            Source::File { path, seen } => (path, seen),
        };
        let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (modified, seen.as_ref()) {
            (Err(_), _) => ResolvConf::default(),
            (Ok(modified), Some((then, settings))) if *then == modified => settings.clone(),
            (Ok(modified), _) => {
                let settings = ResolvConf::parse(&std::fs::read_to_string(path).unwrap_or_default());
                *seen = Some((modified, settings.clone()));
                settings
            }
        }
    }

    /// The answer to send back for `query`. Always one, within five seconds: where there is no
    /// nameserver NXDOMAIN at once (nobody could know the name), where none answers SERVFAIL.
    pub async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let servers = self.settings().nameservers;
        if servers.is_empty() {
            return refusal(query, ResponseCode::NXDomain);
        }
        let tries = ROUNDS * u32::try_from(servers.len()).unwrap_or(1);
        let mut unhelpful = None;
        for server in servers.iter().cycle().take(usize::try_from(tries).unwrap_or(1)) {
            match timeout(TOTAL / tries, exchange(*server, query, transport)).await {
                // SERVFAIL and REFUSED are one server's trouble; another may know.
                Ok(Ok(reply)) if matches!(response_code(&reply), Some(2 | 5)) => {
                    unhelpful.get_or_insert(reply);
                }
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        unhelpful.or_else(|| refusal(query, ResponseCode::ServFail))
    }
}

/// Over UDP first; over TCP when the answer was cut and the client can take more.
async fn exchange(server: SocketAddr, query: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    let reply = over_udp(server, query).await?;
    let cut = reply.get(2).is_some_and(|flags| flags & 0x02 != 0);
    if cut && transport == Transport::Tcp { over_tcp(server, query).await } else { Ok(reply) }
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A socket of its own, connected: a fresh random port for every query, answers from this server
    // alone, and a refused port told at once.
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let reply = buffer.get(..length).unwrap_or_default();
        if is_reply_to(query, reply) {
            return Ok(reply.to_vec());
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if is_reply_to(query, &reply) {
        Ok(reply)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
    }
}

/// The same id, marked as a response, with the same question (RFC 5452 §9.1). Without a question is
/// accepted only for an error, which some servers send so.
fn is_reply_to(query: &[u8], reply: &[u8]) -> bool {
    let same_id = query.get(..2).is_some_and(|id| reply.get(..2) == Some(id));
    let response = reply.get(2).is_some_and(|flags| flags & 0x80 != 0);
    if !same_id || !response || reply.len() < 12 {
        return false;
    }
    if reply.get(4..6) == Some(&[0, 0]) {
        return response_code(reply) != Some(0);
    }
    let Some(question) = query.get(12..question_end(query).unwrap_or(usize::MAX)) else { return false };
    reply.get(12..12 + question.len()).is_some_and(|other| other.eq_ignore_ascii_case(question))
}

/// Where the first question's type and class end; queries do not compress.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*query.get(at)?) {
            0 => return Some(at + 5),
            label @ 1..=63 => at += label + 1,
            _ => return None,
        }
    }
}

fn response_code(reply: &[u8]) -> Option<u8> {
    reply.get(3).map(|flags| flags & 0x0f)
}
