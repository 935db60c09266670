//! What is refused, and how: table tests by section of RFC 9113 (§), RFC 8441 and bad-inputs class N.

use wire::h2::{Config, PREFACE};

use super::support::*;

mod bodies;
mod frames;
mod hpack;
mod mirrored;
mod requests;
mod responses;
mod streams;
mod windows;

/// What a server does with frames after the handshake.
#[derive(Debug)]
pub enum Answer {
    /// GOAWAY with this code.
    Connection(&'static str),
    /// RST_STREAM of stream 1 with this code.
    Stream(&'static str),
    /// A reply on stream 1 with this status.
    Status(u16),
    Fine,
}
use Answer::*;

pub fn check(rule: &str, answer: &Answer, events: &[String], said: &[String]) {
    let closed = events.iter().find_map(|event| event.strip_prefix("closed "));
    let reset = said.iter().find_map(|frame| frame.strip_prefix("RST_STREAM 1 "));
    match answer {
        Connection(code) => {
            assert_eq!(closed, Some(*code), "{rule}: {events:?} {said:?}");
            assert!(
                said.iter().any(|frame| frame.starts_with("GOAWAY") && frame.ends_with(code)),
                "{rule}: {said:?}"
            );
        }
        Stream(code) => {
            assert_eq!((closed, reset), (None, Some(*code)), "{rule}: {events:?} {said:?}");
        }
        Status(status) => {
            assert_eq!(closed, None, "{rule}: {said:?}");
            let refused = format!("refused 1 {status} ");
            assert!(events.iter().any(|event| event.starts_with(&refused)), "{rule}: {events:?}");
            assert!(said.contains(&"HEADERS 1 end".to_owned()), "{rule}: {said:?}");
        }
        Fine => assert_eq!((closed, reset), (None, None), "{rule}: {events:?} {said:?}"),
    }
}

pub fn server(rule: &str, bytes: &[u8], answer: Answer) {
    // The same by single bytes: the answer must not depend on the split.
    let mut whole = End::server(Config::default());
    let events = whole.events(bytes);
    let said = whole.said();
    check(rule, &answer, &events, &said);
    let mut pieces = End::server(Config::default());
    let mut log = vec![];
    for byte in bytes {
        log.extend(pieces.events(&[*byte]));
        if log.last().is_some_and(|event| event.starts_with("closed")) {
            break;
        }
    }
    let said_pieces = pieces.said();
    check(rule, &answer, &log, &said_pieces);
    assert_eq!(said, said_pieces, "{rule}: by single bytes");
}
