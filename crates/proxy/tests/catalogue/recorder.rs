//! A host that keeps every byte it was sent and answers what is whole.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One connection's bytes so far.
#[derive(Clone, Default)]
pub struct Taken {
    pub bytes: Vec<u8>,
    pub ended: bool,
}

/// What it does with a connection's bytes.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers each whole HTTP/1 request with 200 and `ok`.
    Http,
    /// Takes all, says nothing.
    Silent,
}

pub struct Recorder {
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Recorder {
    pub fn http() -> Recorder {
        Recorder::start(Manner::Http)
    }

    pub fn silent() -> Recorder {
        Recorder::start(Manner::Silent)
    }

    fn start(manner: Manner) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let kept = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                std::thread::spawn(move || record(stream, manner, &kept));
            }
        });
        Recorder { address, taken }
    }

    /// All connections that said anything, as they were taken.
    pub fn connections(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Every byte of every connection.
    pub fn bytes(&self) -> Vec<u8> {
        self.taken.lock().unwrap().iter().flat_map(|taken| taken.bytes.clone()).collect()
    }

    /// Requests that came whole, all connections together, head and body.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let mut all = vec![];
        for taken in self.taken.lock().unwrap().iter() {
            let mut rest = &taken.bytes[..];
            while let Some(length) = whole_request(rest) {
                all.push(rest[..length].to_vec());
                rest = &rest[length..];
            }
        }
        all
    }

    /// Forgets what came so far; connections that are open go on from nothing.
    pub fn forget(&self) {
        let mut taken = self.taken.lock().unwrap();
        for one in taken.iter_mut() {
            one.bytes.clear();
        }
    }
}

fn record(mut stream: TcpStream, manner: Manner, kept: &Mutex<Vec<Taken>>) {
    let at = {
        let mut kept = kept.lock().unwrap();
        kept.push(Taken::default());
        kept.len() - 1
    };
    let mut chunk = [0; 16384];
    let mut pending = vec![];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        kept.lock().unwrap()[at].bytes.extend_from_slice(&chunk[..length]);
        pending.extend_from_slice(&chunk[..length]);
        if let Manner::Silent = manner {
            continue;
        }
        while let Some(length) = whole_request(&pending) {
            pending.drain(..length);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                break;
            }
        }
    }
    kept.lock().unwrap()[at].ended = true;
}

/// The length of the request these bytes begin with, when it is whole: by content-length, else by a strict reading of
/// its chunks.
pub fn whole_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
    };
    if value("transfer-encoding").is_some() {
        return chunked_end(&bytes[head..]).map(|end| head + end);
    }
    let length: usize = value("content-length").map_or(0, |length| length.parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// Where a chunked body ends; nothing while it has not, or when it is not one.
pub fn chunked_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(text.split(';').next()?.trim_end(), 16).ok()?;
        at += line + 2;
        if size == 0 {
            let section = &bytes[at..];
            if section.starts_with(b"\r\n") {
                return Some(at + 2);
            }
            return section.windows(4).position(|four| four == b"\r\n\r\n").map(|end| at + end + 4);
        }
        if bytes.get(at + size..at + size + 2)? != b"\r\n" {
            return None;
        }
        at += size + 2;
    }
}
