//! A transport of the tests, in the place of TLS: a handshake of two round trips, then records. It holds bytes back,
//! gives them in small pieces, says late which protocol is spoken, and who the peer is.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use model::transport::{DownstreamTls, UpstreamTls};
use proxy::net::layer::{Agreed, Identity, Layer, Layers};
use proxy::net::network::Stream;

/// No read gives more than this.
const PIECE: usize = 1000;
/// No write takes more than this.
const RECORD: usize = 16 * 1024;
const MASK: u8 = 0x5a;

/// What the layers of one proxy do, and what was seen of them.
#[derive(Default)]
pub struct Late {
    /// What clients' handshakes pick, one after the other; the last for all that follow. Empty: nothing.
    pub picks: Mutex<Vec<&'static str>>,
    pub steps: AtomicUsize,
    pub finished: AtomicUsize,
    /// Offers that clients made.
    pub offers: Mutex<Vec<String>>,
    /// Ends of our direction that were announced.
    pub ends: AtomicUsize,
}

impl Late {
    pub fn picking(picks: &[&'static str]) -> Arc<Late> {
        Arc::new(Late { picks: Mutex::new(picks.to_vec()), ..Late::default() })
    }

    fn pick(&self) -> &'static str {
        let mut picks = self.picks.lock().unwrap();
        if picks.len() > 1 { picks.remove(0) } else { picks.first().copied().unwrap_or("") }
    }
}

/// The layers of a proxy, as a proxy's options take them.
pub struct LateLayers(pub Arc<Late>);

impl Layers for LateLayers {
    fn for_host(&self, tls: &UpstreamTls, _: &str) -> io::Result<Box<dyn Layer>> {
        let mut layer = LateLayer::new(&self.0, true);
        layer.say(format!("offers {}", tls.common.alpn.join(",")).as_bytes());
        Ok(Box::new(layer))
    }

    fn for_client(&self, _: &DownstreamTls, early: &[u8]) -> io::Result<Box<dyn Layer>> {
        let mut layer = LateLayer::new(&self.0, false);
        layer.raw.extend(early);
        Ok(Box::new(layer))
    }
}

pub struct LateLayer {
    late: Arc<Late>,
    client: bool,
    /// Received and not taken apart, taken apart and not given, taken and not sent.
    raw: VecDeque<u8>,
    plain: VecDeque<u8>,
    held: VecDeque<u8>,
    round: u8,
    ended: bool,
    said_end: bool,
}

impl LateLayer {
    pub fn new(late: &Arc<Late>, client: bool) -> LateLayer {
        let empty = VecDeque::new;
        LateLayer {
            late: late.clone(),
            client,
            raw: empty(),
            plain: empty(),
            held: empty(),
            round: 0,
            ended: false,
            said_end: false,
        }
    }

    fn say(&mut self, record: &[u8]) {
        self.held.extend(self::record(record));
    }

    /// The next record, read as far as need be.
    fn record(&mut self, stream: &Stream) -> io::Result<Vec<u8>> {
        loop {
            if self.raw.len() >= 2 {
                let length = usize::from(self.raw[0]) << 8 | usize::from(self.raw[1]);
                if self.raw.len() >= 2 + length {
                    self.raw.drain(..2);
                    return Ok(self.raw.drain(..length).map(|byte| byte ^ MASK).collect());
                }
            }
            let mut chunk = [0; 50_000];
            match stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.raw.extend(&chunk[..read]),
            }
        }
    }

    /// One record of the handshake, and what is said to it. True: all is said and heard.
    fn round(&mut self, stream: &Stream) -> io::Result<Option<Agreed>> {
        self.push(stream)?;
        let heard = String::from_utf8(self.record(stream)?).map_err(|_| io::ErrorKind::InvalidData)?;
        self.round += 1;
        let (word, rest) = heard.split_once(' ').unwrap_or((&heard, ""));
        let (said, agreed) = match (self.client, self.round, word) {
            (true, 1, "hello") => (Some("me spiffe://test/client".to_owned()), None),
            (true, 2, "picked") => (None, Some((rest.to_owned(), "spiffe://test/host"))),
            (false, 1, "offers") => {
                self.late.offers.lock().unwrap().push(rest.to_owned());
                (Some("hello".to_owned()), None)
            }
            (false, 2, "me") => {
                let picked = self.late.pick();
                (Some(format!("picked {picked}")), Some((picked.to_owned(), "spiffe://test/client")))
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if let Some(said) = said {
            self.say(said.as_bytes());
            match self.push(stream) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(agreed.map(|(protocol, peer)| Agreed {
            protocol: (!protocol.is_empty()).then(|| protocol.into()),
            own: if self.client { "spiffe://test/client" } else { "spiffe://test/host" }.into(),
            peer: Some(Identity { uris: vec![peer.into()], ..Identity::default() }),
        }))
    }

    fn push(&mut self, stream: &Stream) -> io::Result<()> {
        while !self.held.is_empty() {
            let sent = stream.write(self.held.make_contiguous(), b"", &mut vec![])?;
            self.held.drain(..sent);
        }
        Ok(())
    }
}

impl Layer for LateLayer {
    fn handshake(&mut self, stream: &Stream) -> io::Result<Option<Agreed>> {
        self.late.steps.fetch_add(1, SeqCst);
        loop {
            if let Some(agreed) = self.round(stream)? {
                self.late.finished.fetch_add(1, SeqCst);
                return Ok(Some(agreed));
            }
        }
    }

    fn read(&mut self, stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
        while self.plain.is_empty() {
            if self.ended {
                return Ok(0);
            }
            let record = self.record(stream)?;
            self.ended = record.is_empty();
            self.plain.extend(record);
        }
        let length = buffer.len().min(self.plain.len()).min(PIECE);
        for (place, byte) in buffer.iter_mut().zip(self.plain.drain(..length)) {
            *place = byte;
        }
        Ok(length)
    }

    fn write(&mut self, stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
        self.push(stream)?;
        let taken = &bytes[..bytes.len().min(RECORD)];
        self.say(taken);
        match self.push(stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken.len()),
        }
    }

    fn flush(&mut self, stream: &Stream) -> io::Result<()> {
        self.push(stream)
    }

    fn held_back(&self) -> usize {
        self.held.len()
    }

    fn end(&mut self, stream: &Stream) -> io::Result<()> {
        if !std::mem::replace(&mut self.said_end, true) {
            self.late.ends.fetch_add(1, SeqCst);
            self.say(b"");
        }
        self.push(stream)
    }
}

/// A record as it travels.
pub fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u16).to_be_bytes();
    length.into_iter().chain(bytes.iter().map(|byte| byte ^ MASK)).collect()
}

/// The next record a blocking client gets.
pub fn read_record(stream: &mut std::net::TcpStream) -> Vec<u8> {
    use std::io::Read;
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    bytes.into_iter().map(|byte| byte ^ MASK).collect()
}
