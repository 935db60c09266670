//! The listener and the table of paths.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::answer::{Answer, Query, failure, json, text};
use super::{debug, mesh, objects, wait};
use crate::metrics::Waits;
use crate::push::Shared;
use crate::source::applied::source::AppliedSource;

/// A request's head has to come within this.
pub(super) const HEAD: Duration = Duration::from_secs(10);

/// Accepts until dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, applied: Arc<AppliedSource>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, shared.clone(), applied.clone()));
            }
            Err(error) => crate::ads::pause_after(&error, "HTTP", shared.log).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, applied: Arc<AppliedSource>) {
    let service = hyper::service::service_fn(move |request| {
        let (shared, applied) = (shared.clone(), applied.clone());
        async move { Ok::<_, Infallible>(answer(request, &shared, &applied).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that goes away is no event.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn metrics(_: &str, _: &Query, shared: &Shared) -> Answer {
    let published = shared.published.load_full();
    let waits = Waits { unread: shared.unread_since(), unanswered: shared.behind() };
    let mut answer =
        text(shared.metrics.text(shared.peers().len(), &published.verdicts, &shared.objects(), &waits));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// Makes a page where that holds up no stream of a proxy: some decode everything that every proxy holds.
async fn beside(
    page: &str,
    query: Query,
    shared: &Arc<Shared>,
    make: fn(&str, &Query, &Shared) -> Answer,
) -> Answer {
    let (page, shared) = (page.to_owned(), shared.clone());
    let made = tokio::task::spawn_blocking(move || make(&page, &query, &shared)).await;
    made.unwrap_or_else(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

pub(super) async fn answer(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    applied: &Arc<AppliedSource>,
) -> Answer {
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
    if method == Method::POST && path.starts_with("/filamesh/v1/") {
        return failure(
            StatusCode::FORBIDDEN,
            "objects are applied and deleted through the Unix socket in the state directory only",
        );
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
        // It looks at every object and at every stream.
        "/metrics" => beside("", query, shared, metrics).await,
        "/version" => json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
        other => match (other.strip_prefix("/filamesh/v1/"), other.strip_prefix("/debug/")) {
            (Some("objects"), _) => objects::get(query, shared, applied).await,
            (Some(rest), _) => beside(rest, query, shared, mesh::get).await,
            (_, Some(rest)) => beside(rest, query, shared, debug::get).await,
            _ => failure(StatusCode::NOT_FOUND, "no such page: see /debug/ and /filamesh/v1/"),
        },
    }
}
