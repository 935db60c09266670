//! `/filamesh/v1/*`: what the command line asks.

use std::sync::Arc;

use http::StatusCode;
use http_body_util::Full;

use super::answer::{Answer, Query, decoded, failure, json};
use crate::push::Shared;
use crate::shapes::Place;

pub(super) fn get(path: &str, query: &Query, shared: &Shared) -> Answer {
    let published = shared.published.load();
    match path {
        "workloads" => json(&*published.workloads),
        "proxies" => {
            let newest = shared.generation();
            json(&shared.peers().iter().map(|peer| peer.status(newest)).collect::<Vec<_>>())
        }
        "problems" => json(&*published.problems),
        "resolve" => resolve(query, shared),
        _ => failure(
            StatusCode::NOT_FOUND,
            "no such request; workloads, proxies, objects, problems, resolve, wait",
        ),
    }
}

/// `DELETE workloads/NAMESPACE/NAME`.
pub(super) async fn delete(path: &str, shared: &Arc<Shared>) -> Answer {
    let parts: Vec<String> = path.split('/').map(decoded).collect();
    let [what, namespace, name] = parts.as_slice() else {
        return failure(StatusCode::NOT_FOUND, "expected workloads/NAMESPACE/NAME");
    };
    if what != "workloads" {
        return failure(StatusCode::NOT_FOUND, "only workloads are deleted here");
    }
    let (answer, removed) = tokio::sync::oneshot::channel();
    shared.remove(namespace, name, answer);
    match removed.await {
        Ok(0) => failure(StatusCode::NOT_FOUND, &format!("no workload {name} in namespace {namespace}")),
        Ok(_) => {
            let mut done = Answer::new(Full::default());
            *done.status_mut() = StatusCode::NO_CONTENT;
            done
        }
        Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "the control plane is stopping"),
    }
}

fn resolve(query: &Query, shared: &Shared) -> Answer {
    let Some(object) = query.text("object") else {
        return failure(StatusCode::BAD_REQUEST, "expected object=KIND/NAMESPACE/NAME and path=spec.…");
    };
    match shared.objects().meant(object) {
        Some(held) => {
            let object = &held.loaded.object;
            let at = object.position(query.text("path").unwrap_or_default());
            json(&Place { file: object.source.file.to_string(), line: at.line, column: at.column })
        }
        None => failure(StatusCode::NOT_FOUND, &format!("no object {object}")),
    }
}
