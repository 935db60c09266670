//! `/filamesh/v1/*`: what the command line asks.

use std::sync::Arc;

use http::StatusCode;
use http_body_util::Full;

use super::answer::{Answer, Query, decoded, failure, json};
use crate::push::Shared;
use crate::push::published::Published;
use crate::source::Loaded;

pub(super) fn get(path: &str, query: &Query, shared: &Shared) -> Answer {
    let published = shared.published.load();
    match path {
        "workloads" => json(&published.workloads),
        "proxies" => {
            let newest = shared.generation();
            json(&shared.peers().iter().map(|peer| peer.status(newest)).collect::<Vec<_>>())
        }
        "objects" => objects(query, &published),
        "problems" => json(&*published.problems),
        "resolve" => resolve(query, &published),
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

fn objects(query: &Query, published: &Published) -> Answer {
    let (kind, namespace, name) = (query.text("kind"), query.text("namespace"), query.text("name"));
    let wanted = |loaded: &&Loaded| {
        let object = &loaded.object;
        kind.is_none_or(|k| is_kind(&object.meta.kind, k))
            && namespace.is_none_or(|n| object.namespace() == n)
            && name.is_none_or(|n| object.name() == n)
    };
    let statuses = published.objects.iter().filter(wanted).map(|loaded| {
        let mut status = published.status(loaded);
        if name.is_some() {
            status.manifest = manifest(loaded);
        }
        status
    });
    json(&statuses.collect::<Vec<_>>())
}

/// A kind as people write it: `VirtualService`, `virtualservice`, `virtualservices`.
fn is_kind(kind: &str, wanted: &str) -> bool {
    let (kind, wanted) = (kind.to_lowercase(), wanted.to_lowercase());
    let plural = match kind.strip_suffix('y') {
        Some(stem) if !kind.ends_with("ay") => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    };
    wanted == kind || wanted == plural
}

/// The document of the object in its file, as written. `None` if the file says something else now.
fn manifest(loaded: &Loaded) -> Option<String> {
    if loaded.stale {
        return None;
    }
    let source = &loaded.object.source;
    let text = std::fs::read_to_string(source.file.as_ref()).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let at = usize::try_from(source.line).ok()?.saturating_sub(1);
    let separator = |line: &&str| line.starts_with("---");
    let start = lines.get(..=at)?.iter().rposition(separator).map_or(0, |i| i + 1);
    let rest = lines.get(start..)?;
    let end = rest.iter().position(separator).unwrap_or(rest.len());
    Some(rest.get(..end)?.join("\n"))
}

fn resolve(query: &Query, published: &Published) -> Answer {
    let Some(object) = query.text("object") else {
        return failure(StatusCode::BAD_REQUEST, "expected object=KIND/NAMESPACE/NAME and path=spec.…");
    };
    match published.place(object, query.text("path").unwrap_or_default()) {
        Some(place) => json(&place),
        None => failure(StatusCode::NOT_FOUND, &format!("no object {object}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_people_do() {
        for (kind, wanted, same) in [
            ("VirtualService", "virtualservice", true),
            ("VirtualService", "VirtualServices", true),
            ("ServiceEntry", "serviceentries", true),
            ("Gateway", "gateways", true),
            ("Gateway", "gatewaies", false),
            ("Service", "ServiceEntry", false),
        ] {
            assert_eq!(is_kind(kind, wanted), same, "{kind} {wanted}");
        }
    }
}
