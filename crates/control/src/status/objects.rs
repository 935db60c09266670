//! `/filamesh/v1/objects`: the objects with their states, their reasons and what their authors wrote.

use std::collections::HashMap;
use std::sync::Arc;

use api::{ObjectId, yaml};
use http::StatusCode;

use super::answer::{Answer, Query, failure, json};
use crate::push::Shared;
use crate::shapes::ObjectStatus;
use crate::source::Loaded;
use crate::source::applied::source::AppliedSource;
use crate::source::manifest::manifest_in;
use crate::verdict::Verdict;

/// Reads files and the store for manifests, so it runs where waiting for a disk holds up nobody.
pub(super) async fn get(query: Query, shared: &Arc<Shared>, applied: &Arc<AppliedSource>) -> Answer {
    let (shared, applied) = (shared.clone(), applied.clone());
    let answer = tokio::task::spawn_blocking(move || json(&list(&query, &shared, &applied)));
    answer.await.unwrap_or_else(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

fn list(query: &Query, shared: &Shared, applied: &AppliedSource) -> Vec<ObjectStatus> {
    let published = shared.published.load();
    let (kind, namespace, name) = (query.text("kind"), query.text("namespace"), query.text("name"));
    let wanted = |group: &str, of_kind: &str, in_namespace: &str, named: &str| {
        kind.is_none_or(|k| api::kinds::is_named(group, of_kind, k))
            && namespace.is_none_or(|n| in_namespace == n || in_namespace.is_empty())
            && name.is_none_or(|n| named == n)
    };
    let objects = shared.copied(|id| wanted(&id.group, &id.kind, &id.namespace, &id.name));
    let mut statuses: Vec<ObjectStatus> = Vec::with_capacity(objects.len());
    for (loaded, since) in &objects {
        let mut status = published.status(loaded, *since);
        status.revision = applied.revision_of(loaded.object.identity());
        statuses.push(status);
    }
    if name.is_some() || query.text("manifest") == Some("true") {
        add_manifests(&mut statuses, &objects, applied);
    }
    let refused = published.verdicts.refused.iter();
    let refused = refused.filter_map(|(id, verdict)| Some((Named::parse(id)?, verdict)));
    let losers = published.verdicts.losers.iter().map(|(id, verdict)| (Named::of(id), verdict));
    statuses.extend(
        refused
            .chain(losers)
            .filter(|(id, _)| wanted(id.group, id.kind, id.namespace, id.name))
            .map(|(id, verdict)| status_of(&id, verdict)),
    );
    statuses
}

/// Who is meant by a verdict about an object that is not used.
struct Named<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Named<'a> {
    fn of(id: &'a ObjectId) -> Self {
        Self { group: &id.group, kind: &id.kind, namespace: &id.namespace, name: &id.name }
    }

    /// `Kind/namespace/name`: the group of what cannot be read is not known.
    fn parse(id: &'a str) -> Option<Self> {
        let (kind, rest) = id.split_once('/')?;
        let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
        Some(Self { group: "", kind, namespace, name })
    }
}

/// An object that is not used.
fn status_of(id: &Named<'_>, verdict: &Verdict) -> ObjectStatus {
    ObjectStatus {
        api_version: String::new(),
        kind: id.kind.to_owned(),
        namespace: id.namespace.to_owned(),
        name: id.name.to_owned(),
        generation: 0,
        hash: String::new(),
        file: verdict.place.file.clone(),
        line: verdict.place.line,
        column: verdict.place.column,
        state: verdict.state,
        reason: Some(verdict.to_string()),
        verdicts: vec![verdict.status()],
        revision: None,
        manifest: None,
    }
}

/// Every file is read once, however many objects it holds.
fn add_manifests(statuses: &mut [ObjectStatus], objects: &[(Loaded, u64)], applied: &AppliedSource) {
    let mut by_file: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, (status, (one, _))) in statuses.iter_mut().zip(objects).enumerate() {
        match status.revision {
            // An error of the disk is told by `history`; here the object is shown without its text.
            Some(_) => status.manifest = applied.manifest(one.object.identity()).unwrap_or_default(),
            None if one.stale => {}
            None => by_file.entry(&one.object.source.file).or_default().push(at),
        }
    }
    for (file, places) in by_file {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let documents = yaml::documents(&text);
        for at in places {
            if let (Some(status), Some((one, _))) = (statuses.get_mut(at), objects.get(at)) {
                status.manifest = manifest_in(&documents, &one.object);
            }
        }
    }
}
