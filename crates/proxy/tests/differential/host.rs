//! What a host sees of a case: requests read as strictly as can be.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that came whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub line: String,
    /// Names in lower case, values trimmed, sorted.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// What is wrong with it as HTTP/1.1.
    pub fault: Option<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:.200} {:?} body {} {}",
            self.line,
            self.headers,
            self.body.len(),
            self.body[..self.body.len().min(60)].escape_ascii()
        )?;
        if !self.trailers.is_empty() {
            write!(out, " trailers {:?}", self.trailers)?;
        }
        match &self.fault {
            Some(fault) => write!(out, " FAULT {fault}"),
            None => Ok(()),
        }
    }
}

pub struct Host {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Host {
    pub fn start() -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let kept = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                std::thread::spawn(move || serve(Reader { stream, buffer: vec![], at: 0 }, &kept));
            }
        });
        Host { address, seen }
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Bytes of a connection as they are needed.
struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(length @ 1..) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Some(())
            }
            _ => None,
        }
    }

    /// A line up to its CRLF.
    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = rest[..end].to_vec();
                self.at += end + 2;
                return Some(line);
            }
            self.fill()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() - self.at < length {
            self.fill()?;
        }
        let bytes = self.buffer[self.at..self.at + length].to_vec();
        self.at += length;
        Some(bytes)
    }

    fn fields(&mut self, fault: &mut Option<String>) -> Option<Vec<(String, String)>> {
        let mut fields: Vec<(String, String)> = vec![];
        loop {
            let line = self.line()?;
            if line.is_empty() {
                // By name; lines of one name keep their order.
                fields.sort_by(|(left, _), (right, _)| left.cmp(right));
                return Some(fields);
            }
            let text = line.escape_ascii().to_string();
            let Some((name, _)) = text.split_once(':') else {
                *fault = Some(format!("a line without colon: {text}"));
                continue;
            };
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                *fault = Some(format!("a bad name: {text}"));
            }
            if line.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
                *fault = Some(format!("a bad value: {text}"));
            }
            let value = line.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default();
            fields.push((name.to_ascii_lowercase(), value.trim_ascii().escape_ascii().to_string()));
        }
    }
}

fn serve(mut reader: Reader, kept: &Mutex<Vec<Seen>>) {
    while let Some((seen, tunnel)) = request(&mut reader) {
        let head = seen.line.starts_with("HEAD ");
        let malformed = seen.fault.is_some();
        kept.lock().unwrap().push(seen);
        let answer: &[u8] = match (malformed, tunnel, head) {
            (true, _, _) => return,
            (_, true, _) => {
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            }
            (_, _, true) => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        if reader.stream.write_all(answer).is_err() {
            return;
        }
        if tunnel {
            while reader.fill().is_some() {}
            return;
        }
        reader.buffer.drain(..reader.at);
        reader.at = 0;
    }
}

fn request(reader: &mut Reader) -> Option<(Seen, bool)> {
    let mut fault = None;
    let line = reader.line()?.escape_ascii().to_string();
    if line.split(' ').count() != 3 || !line.ends_with(" HTTP/1.1") {
        fault = Some("not a request line".to_owned());
    }
    let headers = reader.fields(&mut fault)?;
    let mut counted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &headers {
        counted.entry(name).or_default().push(value);
    }
    if line.split(' ').nth(1).is_none_or(|target| !target.starts_with('/') && target != "*") {
        fault = Some("a bad target".to_owned());
    }
    let all = |name: &str| counted.get(name).cloned().unwrap_or_default();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    if all("host").len() != 1 {
        fault = Some(format!("{} hosts", all("host").len()));
    }
    if lengths.len() + codings.len() > 1 {
        fault = Some("more than one framing".to_owned());
    }
    if !all("expect").is_empty() {
        reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let tunnel = !all("upgrade").is_empty();
    let (mut body, mut trailers) = (vec![], vec![]);
    if tunnel {
        // Whether a body comes before the 101 is each proxy's own affair.
    } else if let [coding] = codings[..] {
        if !coding.eq_ignore_ascii_case("chunked") {
            fault = Some(format!("coding {coding}"));
        }
        loop {
            let line = reader.line()?;
            let text = String::from_utf8_lossy(&line).into_owned();
            let digits = text.split(';').next().unwrap_or_default();
            let Ok(size) = usize::from_str_radix(digits.trim_end(), 16) else {
                fault = Some(format!("chunk size {text:?}"));
                break;
            };
            if size == 0 {
                trailers = reader.fields(&mut fault)?;
                break;
            }
            body.extend(reader.exactly(size)?);
            if reader.exactly(2)? != b"\r\n" {
                fault = Some("a chunk without end".to_owned());
                break;
            }
        }
    } else if let [length] = lengths[..] {
        match length.parse::<usize>() {
            Ok(length) if length.to_string() == lengths[0] => body = reader.exactly(length)?,
            _ => fault = Some(format!("length {length:?}")),
        }
    }
    Some((Seen { line, headers, body, trailers, fault }, tunnel))
}
