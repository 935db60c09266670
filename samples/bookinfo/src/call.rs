//! Calling another service: the address, the headers handed on, the time allowed.
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

const REPLY_LIMIT: usize = 1024 * 1024;

/// The headers every Bookinfo service hands on, so that traces and user rules hold along the way.
const HANDED_ON: [&str; 21] = [
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "sw8",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
    "end-user",
];

/// A service by name: `http://NAME[.DOMAIN]:PORT`.
pub struct Peer {
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Peer {
    /// Reads `NAME_HOSTNAME`, `NAME_SERVICE_PORT` and `SERVICES_DOMAIN`; defaults to the name and 9080.
    pub fn from_env(name: &str) -> Peer {
        let variable = |suffix: &str| std::env::var(format!("{}_{suffix}", name.to_uppercase())).ok();
        let mut host = variable("HOSTNAME").unwrap_or_else(|| name.to_owned());
        if let Ok(domain) = std::env::var("SERVICES_DOMAIN")
            && !domain.is_empty()
        {
            host = format!("{host}.{domain}");
        }
        let port = variable("SERVICE_PORT").unwrap_or_else(|| "9080".to_owned());
        Peer {
            base: format!("http://{host}:{port}"),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// GET of a path within the time; `None` when there was no answer.
    pub async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
        timeout: Duration,
    ) -> Option<(StatusCode, serde_json::Value)> {
        let mut request = Request::get(format!("{}{path}", self.base));
        for name in HANDED_ON {
            for value in headers.get_all(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Empty::new()).ok()?;
        tokio::time::timeout(timeout, async {
            let reply = self.client.request(request).await.ok()?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), REPLY_LIMIT).collect().await.ok()?.to_bytes();
            Some((status, serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null)))
        })
        .await
        .ok()
        .flatten()
    }
}
