//! A bounded reader of TLS ClientHello (RFC 8446 §4.1.2): server name and ALPN, nothing else believed.
//!
//! Our own, because the natural way with rustls waits on a socket, and its acceptor once panicked on a ClientHello
//! in fragments (RUSTSEC-2024-0399).

use std::borrow::Cow;
use std::net::IpAddr;

/// What the first bytes are to TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    NeedMore,
    Hello(ClientHello),
    /// Not a TLS handshake, or a malformed one.
    NotTls,
    /// More than [`MAX_HELLO`]; Envoy closes such a connection.
    TooLarge,
}

/// What a client says before the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name in lower case, as one finds it in a filter chain match. `None` without one.
    pub server_name: Option<String>,
    /// The client sent a server name that is none: empty, over 255 bytes, or with bytes other than visible ASCII.
    pub invalid_server_name: bool,
    /// The application protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// The largest ClientHello accepted; Envoy's `max_client_hello_size`.
pub const MAX_HELLO: usize = 16 * 1024;
/// With its record headers. Together with [`MAX_HELLO`] it bounds what a hello in one-byte records can cost.
const MAX_INPUT: usize = 20 * 1024;
/// RFC 8446 §5.1.
const MAX_RECORD: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Looks for a ClientHello, in one record or in many.
pub fn inspect_tls(bytes: &[u8]) -> Tls {
    let message = match handshake_message(bytes.get(..MAX_INPUT).unwrap_or(bytes)) {
        Ok(Some(message)) => message,
        Ok(None) if bytes.len() >= MAX_INPUT => return Tls::TooLarge,
        Ok(None) => return Tls::NeedMore,
        Err(verdict) => return verdict,
    };
    match parse_hello(&message) {
        Some(hello) => Tls::Hello(hello),
        None => Tls::NotTls,
    }
}

/// The body of the first handshake message, put together from its records; `None` while incomplete.
fn handshake_message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Tls> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        // Judge what is there of the record header, so that other protocols are told at their first byte.
        let plausible = match rest {
            [] => true,
            [kind] => *kind == HANDSHAKE,
            [kind, major, ..] => *kind == HANDSHAKE && *major == 3,
        };
        if !plausible {
            return Err(Tls::NotTls);
        }
        let [_, _, _, high, low, after @ ..] = rest else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > MAX_RECORD {
            return Err(Tls::NotTls);
        }
        let fragment = after.get(..length).unwrap_or(after);
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Tls::NotTls);
        }
        if let [_, a, b, c, ..] = *message {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MAX_HELLO {
                return Err(Tls::TooLarge);
            }
            if message.len() >= 4 + length {
                return Ok(Some(match message {
                    Cow::Borrowed(all) => Cow::Borrowed(all.get(4..4 + length).unwrap_or_default()),
                    Cow::Owned(all) => Cow::Owned(all.get(4..4 + length).unwrap_or_default().to_vec()),
                }));
            }
        }
        match after.get(length..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    Ok(None)
}

fn parse_hello(message: &[u8]) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    let mut reader = Reader(message);
    let [3, _] = reader.take(2)? else { return None };
    reader.take(32)?; // random
    let session = reader.block8()?;
    let suites = reader.block16()?;
    let compressions = reader.block8()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 == 1 || compressions.is_empty() {
        return None;
    }
    if reader.0.is_empty() {
        return Some(hello); // before RFC 4366 there were no extensions
    }
    let mut extensions = Reader(reader.block16()?);
    if !reader.0.is_empty() {
        return None;
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let body = extensions.block16()?;
        match kind {
            // RFC 8446 §4.2: no extension twice.
            SERVER_NAME if named => return None,
            SERVER_NAME => {
                named = true;
                parse_server_name(body, &mut hello)?;
            }
            ALPN if offered => return None,
            ALPN => {
                offered = true;
                parse_alpn(body, &mut hello)?;
            }
            _ => {}
        }
    }
    Some(hello)
}

/// RFC 6066 §3: a list of which only one name of type host_name (0) may be there, and that not a literal address.
fn parse_server_name(body: &[u8], hello: &mut ClientHello) -> Option<()> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.block16()?);
    if list.0.is_empty() || !reader.0.is_empty() {
        return None;
    }
    let [0] = list.take(1)? else { return None };
    let name = list.block16()?;
    if !list.0.is_empty() {
        return None;
    }
    let valid = !name.is_empty() && name.len() <= 255 && name.iter().all(|byte| (0x21..=0x7e).contains(byte));
    match std::str::from_utf8(name) {
        Ok(name) if valid && name.parse::<IpAddr>().is_err() => {
            hello.server_name = Some(name.to_ascii_lowercase());
        }
        _ => hello.invalid_server_name = true,
    }
    Some(())
}

/// RFC 7301 §3.1.
fn parse_alpn(body: &[u8], hello: &mut ClientHello) -> Option<()> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.block16()?);
    if list.0.is_empty() || !reader.0.is_empty() {
        return None;
    }
    while !list.0.is_empty() {
        let protocol = list.block8()?;
        if protocol.is_empty() {
            return None;
        }
        hello.alpn.push(protocol.to_vec());
    }
    Some(())
}

/// TLS presentation language: big-endian numbers and length-prefixed blocks.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn block8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    fn block16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}
