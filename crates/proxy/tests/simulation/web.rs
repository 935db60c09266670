//! gRPC-Web as a client speaks it: bodies as they are or in base64, and the trailers as a last message.

use crate::plan::{Plan, Web, differs};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What its head says.
pub fn kind(web: Web) -> &'static str {
    match web {
        Web::No => "",
        Web::Binary => {
            "content-type: application/grpc-web+proto\r\naccept: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"
        }
        Web::Text => {
            "content-type: application/grpc-web-text+proto\r\naccept: application/grpc-web-text+proto\r\n"
        }
    }
}

pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
    out
}

/// Groups of four, each of which may be the last of a run.
fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = vec![];
    for group in text.chunks(4) {
        let padding = group.iter().rev().take_while(|digit| **digit == b'=').count();
        if group.len() != 4 || padding > 2 {
            return Err(format!("{} bytes of base64", text.len()));
        }
        let mut word = 0u32;
        for digit in &group[..4 - padding] {
            let value = DIGITS.iter().position(|other| other == digit).ok_or("no base64")?;
            word = word << 6 | value as u32;
        }
        word <<= 6 * padding;
        out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
    }
    Ok(out)
}

/// How much of the host's body an answer carries, whose last message is the trailers.
pub fn understand(plan: &Plan, body: &[u8]) -> Result<u64, String> {
    let decoded = if plan.web == Web::Text { decode(body)? } else { body.to_vec() };
    let length = (plan.response as usize).min(decoded.len());
    let (payload, rest) = decoded.split_at(length);
    if let Some(at) = differs(plan.id, true, 0, payload) {
        return Err(format!("differs at {at}"));
    }
    match rest.split_first_chunk::<5>() {
        Some(([0x80, length @ ..], fields)) if plan.trailers => {
            let told = u32::from_be_bytes(*length) as usize;
            if told != fields.len() || !fields.starts_with(b"x-trailer:") {
                return Err(format!("trailers {:?}", String::from_utf8_lossy(fields)));
            }
        }
        None if rest.is_empty() && !plan.trailers => {}
        _ => return Err(format!("{} bytes behind its payload", rest.len())),
    }
    Ok(payload.len() as u64)
}
