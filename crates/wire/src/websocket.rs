//! What a WebSocket's handshake lacks when it changes protocols on its way.
//!
//! In HTTP/1 the client sends a key and the server proves by a hash of it that it understood (RFC 6455 §1.3). In HTTP/2
//! an extended CONNECT is proof enough and there is neither (RFC 8441 §5). So:
//!
//! | from, to | request | answer that grants it |
//! |---|---|---|
//! | HTTP/1, HTTP/2 | the key goes along, as through Envoy | 200 becomes 101; [`add_accept`] if the host gave none |
//! | HTTP/2, HTTP/1 | [`add_key`] if there is none | [`take_accept`] checks it and takes it off; 101 becomes 200 |
//! | the same twice | nothing | nothing |
//!
//! What becomes of `:protocol`, Upgrade, Connection and the statuses is settled where heads are read and written
//! ([`crate::h2`]). An answer that does not grant the upgrade is any other answer, but for one: a 2xx that is no 101,
//! which HTTP/2 would take for one that grants it, goes to an HTTP/2 client as 502.

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};

use crate::{
    HeaderId,
    h1::{Edits, RequestHead, ResponseHead},
    reject::{Reject, Side, details},
};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key made here, to be kept until the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 24]);

impl Key {
    /// Of 16 bytes that nobody can guess beforehand.
    pub fn new(random: u128) -> Key {
        let mut key = [b'='; 24];
        // 16 bytes are always 24 digits.
        let _ = BASE64_STANDARD.encode_slice(random.to_be_bytes(), &mut key);
        Key(key)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the server answers to a key: Sec-WebSocket-Accept.
pub fn accept(key: &[u8]) -> [u8; 28] {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [b'='; 28];
    // 20 bytes are always 28 digits.
    let _ = BASE64_STANDARD.encode_slice(hash, &mut accept);
    accept
}

/// Whether the protocol asked for, or granted, is this one.
pub fn is_websocket(upgrade: Option<&[u8]>) -> bool {
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// For a request that leaves by HTTP/1: gives a WebSocket's handshake a key if it has none. What is returned is to be
/// given to [`take_accept`] with the answer.
pub fn add_key(head: &RequestHead<'_>, edits: &mut Edits, random: u128) -> Option<Key> {
    if !is_websocket(head.upgrade()) || edits.value(head, b"sec-websocket-key").is_some() {
        return None;
    }
    let key = Key::new(random);
    edits.set_known(head, HeaderId::SecWebSocketKey, key.as_bytes());
    Some(key)
}

/// For the answer to a request that was given a key: if it is a 101, it must prove that the server understood
/// (RFC 6455 §4.1), and the proof is for nobody else. A refusal means: answer the client 502, close the upstream
/// connection.
pub fn take_accept(head: &ResponseHead<'_>, edits: &mut Edits, key: &Key) -> Result<(), Reject> {
    if head.status() != 101 {
        return Ok(());
    }
    let proven = head.known(HeaderId::SecWebSocketAccept) == Some(&accept(key.as_bytes())[..])
        && !head.repeats(HeaderId::SecWebSocketAccept)
        && is_websocket(head.upgrade());
    if !proven {
        return Err(Reject::malformed(Side::Response, details::UNEXPECTED_UPGRADE));
    }
    edits.remove_known(head, HeaderId::SecWebSocketAccept);
    Ok(())
}

/// For an answer that goes to an HTTP/1 client, whose own key is given: what HTTP/2 servers leave out of a granted
/// upgrade.
pub fn add_accept(head: &ResponseHead<'_>, edits: &mut Edits, key: &[u8]) {
    if head.status() == 101
        && is_websocket(head.upgrade())
        && edits.value(head, b"sec-websocket-accept").is_none()
    {
        edits.set_known(head, HeaderId::SecWebSocketAccept, &accept(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example() {
        // RFC 6455 §1.3.
        assert_eq!(&accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let random = u128::from_be_bytes(*b"the sample nonce");
        assert_eq!(Key::new(random).as_bytes(), b"dGhlIHNhbXBsZSBub25jZQ==");
    }
}
