//! The admin server: what the proxy has and does, in Envoy's words.
//!
//! On the control side, on an ordinary tokio runtime; nothing here is on the way of a request.

mod clusters;
mod config_dump;
mod inner;
mod pages;
mod raw;
mod text;
mod updates;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

pub use raw::{Raw, RawResource};

use crate::admin::inner::Inner;
use crate::admin::updates::Updates;
use crate::peer::NodeIdentity;
use crate::runtime::ProxyHandle;

/// The admin server could not listen.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("admin: {0}")]
    Listen(#[from] crate::net::listen::ListenError),
    #[error("admin: {0}")]
    Io(#[from] std::io::Error),
}

/// The state behind the pages. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

impl Admin {
    pub fn new(handle: ProxyHandle, node: NodeIdentity) -> Admin {
        let updates = Mutex::new(Updates::new(handle.registry()));
        Admin {
            inner: Arc::new(Inner {
                handle,
                node,
                updates,
                raw: Mutex::default(),
                ready: AtomicBool::new(false),
                started: Instant::now(),
                quit: Notify::new(),
                sockets: Mutex::default(),
                address: Mutex::default(),
            }),
        }
    }

    /// The resources as they came, for `/config_dump`.
    pub fn set_raw(&self, raw: Raw) {
        *self.inner.raw.lock().unwrap_or_else(PoisonError::into_inner) = raw;
    }

    /// Takes over and counts a response of a control plane as it was applied.
    pub fn applied(
        &self,
        type_url: &str,
        resources: &[model::config::Resource],
        removed: &[String],
        refused: &[model::Rejection],
    ) {
        let mut raw = self.inner.raw.lock().unwrap_or_else(PoisonError::into_inner);
        raw.apply(type_url, resources, removed, refused);
        drop(raw);
        let updates = self.inner.updates.lock().unwrap_or_else(PoisonError::into_inner);
        updates.count(type_url, !refused.is_empty());
    }

    /// Whether the first configuration is in use: what `/ready` says.
    pub fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Relaxed);
    }

    /// Listens on an address, to be served by [`Admin::serve`].
    pub fn listen(&self, address: SocketAddr) -> Result<(), AdminError> {
        let socket = crate::net::listen::listen("admin", address, false, 128)?;
        self.add(socket.into())
    }

    /// Takes a listening socket made elsewhere.
    pub fn add(&self, socket: std::net::TcpListener) -> Result<(), AdminError> {
        socket.set_nonblocking(true)?;
        *self.inner.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.local_addr()?);
        self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        Ok(())
    }

    pub fn address(&self) -> Option<SocketAddr> {
        *self.inner.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves all sockets until somebody asks the proxy to quit.
    pub async fn serve(&self) {
        let sockets = std::mem::take(&mut *self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in sockets {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => drop(tokio::spawn(accept(self.inner.clone(), socket))),
                Err(error) => self.inner.handle.log(&format!("admin: {error}")),
            }
        }
        self.inner.quit.notified().await;
    }
}

async fn accept(inner: Arc<Inner>, socket: tokio::net::TcpListener) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors: others may free some.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let inner = inner.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let inner = inner.clone();
                async move { Ok::<_, Infallible>(answer(&inner, request).await) }
            });
            // What is wrong with an admin's connection is the admin's to see.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(inner: &Arc<Inner>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    // A page in some browser must not be able to command the proxy, nor a name that was made to point here.
    if !from_here(&request) {
        return page(StatusCode::FORBIDDEN, "text/plain", "forbidden host\n".into());
    }
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    let post = request.method() == Method::POST;
    if !post
        && matches!(
            path.as_str(),
            "/quitquitquit" | "/drain_listeners" | "/healthcheck/fail" | "/healthcheck/ok"
        )
    {
        return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "Method Not Allowed".into());
    }
    match path.as_str() {
        "/quitquitquit" => {
            inner.quit.notify_one();
            return page(StatusCode::OK, "text/plain", "OK\n".into());
        }
        "/ready" => {
            let (status, text) = if inner.handle.is_draining() {
                (StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n")
            } else if inner.ready.load(Relaxed) {
                (StatusCode::OK, "LIVE\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "PRE_INITIALIZING\n")
            };
            return page(status, "text/plain", text.into());
        }
        _ => {}
    }
    // Everything else may take its time: workers are asked, dumps are long.
    let inner = inner.clone();
    let made = tokio::task::spawn_blocking(move || pages::make(&inner, &path, &query)).await;
    match made {
        Ok((status, kind, body)) => page(status, kind, body),
        Err(_) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "failed\n".into()),
    }
}

/// Whether a request is meant for the admin server: it has one Host, which is an address or a name without a dot, and so is
/// the authority of its target if that has one.
fn from_here<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    };
    let target = request.uri().authority().map(|authority| authority.as_str());
    host.is_some_and(is_here) && target.is_none_or(is_here)
}

/// Whether an authority is an address or a name without a dot (`localhost`, the name of a machine or of a container), with
/// or without a port. No page of the internet can have such a name pointed here.
fn is_here(authority: &str) -> bool {
    let port = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = port.map_or(authority, |(name, _)| name);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let local =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    local || address.parse::<std::net::IpAddr>().is_ok()
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page in a browser, by a name of its own that was made to point here, must not command the proxy.
    #[test]
    fn a_request_is_for_here_only_by_an_address_of_here() {
        let rows: [(&str, &[&str], bool); 18] = [
            ("/stats", &["127.0.0.1:15000"], true),
            ("/stats", &["localhost"], true),
            ("/stats", &["LOCALHOST:15000"], true),
            ("/stats", &["[::1]:15000"], true),
            ("/stats", &["10.0.0.7"], true),
            ("/stats", &["my-pod:15000"], true),
            ("/stats", &["evil."], false),
            ("/stats", &[], false),
            ("/stats", &[""], false),
            ("/stats", &["evil.test"], false),
            ("/stats", &["evil.test:15000"], false),
            ("/stats", &["localhost.evil.test"], false),
            ("/stats", &["127.0.0.1", "evil.test"], false),
            ("/stats", &["evil.test", "127.0.0.1"], false),
            ("/stats", &["127.0.0.1", "127.0.0.1"], false),
            ("http://evil.test/stats", &["127.0.0.1"], false),
            ("http://127.0.0.1:15000/stats", &["127.0.0.1:15000"], true),
            ("http://127.0.0.1/stats", &["evil.test"], false),
        ];
        for (target, hosts, here) in rows {
            let request =
                hosts.iter().fold(Request::get(target), |request, host| request.header("host", *host));
            assert_eq!(from_here(&request.body(()).unwrap()), here, "{target} {hosts:?}");
        }
    }
}
