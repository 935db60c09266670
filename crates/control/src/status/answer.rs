//! A request's parameters, and what is answered.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use crate::shapes::Failure;

pub(super) type Answer = Response<Full<Bytes>>;

/// The parameters of a request.
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|p| !p.is_empty());
        let parse = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        };
        Self(pairs.map(parse).collect())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// Percent signs and plus signs resolved; what is no valid escape stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let value =
            escaped.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None if byte == b'+' => out.push(b' '),
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type("application/json", bytes),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(super) fn failure(code: StatusCode, error: &str) -> Answer {
    let mut answer = json(&Failure { error: error.to_owned() });
    *answer.status_mut() = code;
    answer
}

pub(super) fn text(content: impl Into<Cow<'static, str>>) -> Answer {
    with_type("text/plain; charset=utf-8", content.into().into_owned().into_bytes())
}

fn with_type(kind: &'static str, bytes: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(bytes.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query =
            Query::parse("object=VirtualService%2Fdefault%2Fa&path=spec.http%5B1%5D&x=%zz+y&empty=&flag");
        assert_eq!(query.text("object"), Some("VirtualService/default/a"));
        assert_eq!(query.text("path"), Some("spec.http[1]"));
        assert_eq!(query.text("x"), Some("%zz y"));
        assert_eq!((query.text("empty"), query.text("flag"), query.text("none")), (None, None, None));
    }
}
