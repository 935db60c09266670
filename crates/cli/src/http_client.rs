//! Small requests to our own HTTP endpoints: the control plane's API, its Unix socket, a proxy's admin port.
use std::path::Path;
use std::time::Duration;

use control::local_socket::SocketPath;

use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::exit::{Code, Failure};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A config dump of ten thousand services fits.
const LIMIT: usize = 1 << 30;

/// GET, the body of a 200.
pub fn get(url: &str) -> Result<Bytes, Failure> {
    match request(Method::GET, url)? {
        (200, body) => Ok(body),
        (status, body) => Err(Failure::new(
            Code::Failure,
            format!("{url} answered {status}: {}", String::from_utf8_lossy(&body).trim()),
        )),
    }
}

/// GET, the body of a 200 as JSON.
pub fn get_json(url: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_slice(&get(url)?)
        .map_err(|e| Failure::new(Code::Failure, format!("{url} did not answer JSON: {e}")))
}

/// Any request without a body: the status and the body.
pub fn request(method: Method, url: &str) -> Result<(u16, Bytes), Failure> {
    request_within(method, url, TIMEOUT)
}

/// [`request`] that may take so long.
pub fn request_within(method: Method, url: &str, limit: Duration) -> Result<(u16, Bytes), Failure> {
    runtime()?.block_on(async {
        let unreachable = |why: String| Failure::unreachable(format!("{url} is not reachable: {why}"));
        let request = Request::builder()
            .method(method)
            .uri(url)
            .body(Full::<Bytes>::default())
            .map_err(|e| Failure::usage(format!("{url}: {e}")))?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let exchange = async {
            let reply = client.request(request).await.map_err(|e| unreachable(root(&e)))?;
            whole(reply).await.map_err(unreachable)
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("no answer in {} s", limit.as_secs()))))
    })
}

/// A request through the control plane's Unix socket: the status and the body.
pub fn local(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    limit: Duration,
) -> Result<(u16, Bytes), Failure> {
    runtime()?.block_on(async {
        let name = socket.display();
        let failed = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failure::io(format!("{name}"), error),
            _ => Failure::unreachable(format!("the control plane is not reachable at {name}: {error}")),
        };
        let unreachable = |why: String| {
            Failure::unreachable(format!("the control plane is not reachable at {name}: {why}"))
        };
        let address = SocketPath::of(socket).map_err(|e| failed(&e))?;
        let stream = tokio::net::UnixStream::connect(address.as_path()).await.map_err(|e| failed(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "control")
            .body(Full::<Bytes>::from(body))
            .map_err(|e| Failure::usage(format!("{path}: {e}")))?;
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|e| unreachable(root(&e)))?;
            tokio::spawn(connection);
            let reply = sender.send_request(request).await.map_err(|e| unreachable(root(&e)))?;
            whole(reply).await.map_err(unreachable)
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("no answer in {} s", limit.as_secs()))))
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("cannot start", &e))
}

async fn whole(reply: http::Response<hyper::body::Incoming>) -> Result<(u16, Bytes), String> {
    let status = reply.status().as_u16();
    let body = Limited::new(reply.into_body(), LIMIT).collect().await.map_err(|e| e.to_string())?;
    Ok((status, body.to_bytes()))
}

/// The innermost reason: "connection refused", not "client error".
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
