//! The listener and the table of paths.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use super::shapes::Failure;
use super::{debug, mesh, wait};
use crate::push::Shared;

/// A request's head has to come within this.
const HEAD: Duration = Duration::from_secs(10);

pub(super) type Answer = Response<Full<Bytes>>;

/// Accepts until dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, shared.clone()));
            }
            Err(error) => crate::ads::pause_after(&error, "HTTP", shared.log).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that goes away is no event.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Answer {
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let method = request.method();
    if let Some(rest) = path.strip_prefix("/filamesh/v1/") {
        if method == Method::DELETE {
            return mesh::delete(rest, shared).await;
        }
        if rest == "wait" && method == Method::GET {
            return wait::answer(&query, shared).await;
        }
    }
    if method != Method::GET && method != Method::HEAD {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    match path.as_str() {
        "/healthz" => text("ok\n"),
        "/ready" if shared.published.load().waiting => {
            failure(StatusCode::SERVICE_UNAVAILABLE, "waiting for a configuration directory")
        }
        // Listening starts when the first state is there.
        "/ready" => text("ok\n"),
        "/metrics" => {
            let mut answer = text(shared.metrics.text(shared.peers().len()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            answer
        }
        "/version" => json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
        other => match (other.strip_prefix("/filamesh/v1/"), other.strip_prefix("/debug/")) {
            (Some(rest), _) => mesh::get(rest, &query, shared),
            (_, Some(rest)) => debug::get(rest, &query, shared),
            _ => failure(StatusCode::NOT_FOUND, "no such page: see /debug/ and /filamesh/v1/"),
        },
    }
}

/// The parameters of a request.
pub(super) struct Query(HashMap<String, String>);

impl Query {
    fn parse(query: &str) -> Self {
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

fn text(content: impl Into<Cow<'static, str>>) -> Answer {
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
