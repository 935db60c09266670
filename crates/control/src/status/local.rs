//! The Unix socket of the state directory. Who asks is what the kernel says of the other end (`SO_PEERCRED`): the
//! control plane's own user or root, nobody else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectId;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::{Uid, User, geteuid};
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};

use super::answer::{Answer, Query, failure, json};
use super::change::{
    ApplyRequest, Changed, ChangedObject, DeleteRequest, Refusal, RevisionStatus, RollbackRequest,
};
use super::server;
use crate::push::Shared;
use crate::source::applied::AppliedError;
use crate::source::applied::batch::{Deletion, Planned, Target};
use crate::source::applied::revision::{Entry, Verb, Who};
use crate::source::applied::source::{Applied, AppliedSource};
use crate::source::applied::store::{Cause, file_name};
use crate::source::manifest::{Manifest, Manifests, Purpose};

/// An input may be so large. A hundred thousand VirtualServices are about 40 MB.
const INPUT: usize = 256 << 20;

/// While a change is made it is looked so often whether the disk answers; one that takes longer for a write is told of:
/// 13,500 objects take half a second.
const LOOK: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(3);

/// What the requests of this socket need.
#[derive(Clone)]
struct Local {
    shared: Arc<Shared>,
    applied: Arc<AppliedSource>,
    who: Who,
}

/// Accepts until dropped.
pub(crate) async fn serve(listener: UnixListener, shared: Arc<Shared>, applied: Arc<AppliedSource>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, shared.clone(), applied.clone()));
            }
            Err(error) => crate::ads::pause_after(&error, "the Unix socket", shared.log).await,
        }
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>, applied: Arc<AppliedSource>) {
    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
    let allowed = uid.is_some_and(|uid| may_change(uid, geteuid().as_raw()));
    let who = Who { uid, user: uid.map_or_else(|| "unknown".to_owned(), user_name) };
    let local = Local { shared, applied, who };
    let service = hyper::service::service_fn(move |request| {
        let local = local.clone();
        async move { Ok::<_, Infallible>(if allowed { local.answer(request).await } else { local.denied() }) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(server::HEAD);
    // A client that goes away is no event.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Whether a process of this user may change the mesh of the other.
fn may_change(uid: u32, of: u32) -> bool {
    uid == of || uid == 0
}

/// As the machine's user database has it.
fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| "unknown".to_owned(), |user| user.name)
}

/// Why a request is not done.
enum Refused {
    Input(Refusal),
    Conflict(Refusal),
    Applied(AppliedError),
}

impl Local {
    fn denied(&self) -> Answer {
        let (user, own) = (&self.who.user, user_name(geteuid().as_raw()));
        failure(StatusCode::FORBIDDEN, &format!("user {user} may not change the mesh of user {own}"))
    }

    async fn answer(self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().strip_prefix("/filamesh/v1/").unwrap_or_default().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match (request.method(), path.as_str()) {
            (&Method::POST, "apply") => match body(request).await {
                Ok(request) => self.changing(move |local| local.apply(request)).await,
                Err(answer) => answer,
            },
            (&Method::POST, "delete") => match body(request).await {
                Ok(request) => self.changing(move |local| local.delete(request)).await,
                Err(answer) => answer,
            },
            (&Method::POST, "rollback") => match body(request).await {
                Ok(request) => self.changing(move |local| local.rollback(request)).await,
                Err(answer) => answer,
            },
            (&Method::GET, "history") => blocking(move || self.history(&query)).await,
            (&Method::GET, "manifests") => blocking(move || self.manifests(&query)).await,
            _ => server::answer(request, &self.shared, &self.applied).await,
        }
    }

    /// Makes a change where waiting for the disk holds up nobody, and answers when it is part of the configuration.
    async fn changing(
        self,
        change: impl FnOnce(&Self) -> Result<(Changed, u64, Vec<Manifest>), Refused> + Send + 'static,
    ) -> Answer {
        let local = self.clone();
        let mut done = tokio::task::spawn_blocking(move || change(&local));
        let done = loop {
            match tokio::time::timeout(LOOK, &mut done).await {
                Ok(done) => break done,
                Err(_) => self.applied.tell_slow_disk(SLOW, self.shared.log),
            }
        };
        let (mut changed, said, manifests) = match done {
            Ok(Ok(done)) => done,
            Ok(Err(refused)) => return self.refused(refused),
            Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let mut progress = self.shared.watch_progress();
        let published = loop {
            progress.borrow_and_update();
            let published = self.shared.published.load_full();
            if published.readings >= said {
                break published;
            }
            if progress.changed().await.is_err() {
                return failure(StatusCode::SERVICE_UNAVAILABLE, "the control plane is stopping");
            }
        };
        changed.generation = published.generation;
        if let Some(revision) = changed.revision {
            let file = file_name(revision);
            let by_id: HashMap<String, &Manifest> = manifests.iter().map(|m| (m.object.id(), m)).collect();
            for problem in published.problems.iter().filter(|problem| *problem.file == *file) {
                let manifest = problem.object.as_ref().and_then(|id| by_id.get(id));
                let placed = manifest.map_or_else(|| problem.clone(), |manifest| manifest.placed(problem));
                changed.problems.push(placed.to_string());
            }
        }
        json(&changed)
    }

    fn refused(&self, refused: Refused) -> Answer {
        let (code, refusal) = match refused {
            Refused::Input(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, refusal),
            Refused::Conflict(refusal) => (StatusCode::CONFLICT, refusal),
            Refused::Applied(error @ AppliedError::NoRevision(_)) => {
                (StatusCode::NOT_FOUND, Refusal { error: error.to_string(), problems: Vec::new() })
            }
            Refused::Applied(error) => {
                (self.shared.log)(&error.to_string());
                (StatusCode::INSUFFICIENT_STORAGE, Refusal { error: error.to_string(), problems: Vec::new() })
            }
        };
        let mut answer = json(&refusal);
        *answer.status_mut() = code;
        answer
    }

    fn apply(&self, request: ApplyRequest) -> Result<(Changed, u64, Vec<Manifest>), Refused> {
        let ApplyRequest { documents, namespace, dry_run, comment, show } = request;
        let mut manifests = Manifests::default();
        for input in &documents {
            manifests.read(&input.name, &input.text, namespace.as_deref(), Purpose::Apply);
        }
        drop(documents);
        let problems: Vec<String> = manifests.problems.iter().map(ToString::to_string).collect();
        if manifests.has_errors() {
            let errors = manifests.problems.iter().filter(|problem| problem.is_error()).count();
            let s = if errors == 1 { "" } else { "s" };
            let error = format!("{errors} error{s} in the input; nothing was applied");
            return Err(Refused::Input(Refusal { error, problems }));
        }
        if manifests.items.is_empty() {
            let error = "no objects in the input".to_owned();
            return Err(Refused::Input(Refusal { error, problems }));
        }
        let applied =
            self.applied.apply(manifests.items, self.cause(comment), dry_run).map_err(Refused::Applied)?;
        let Applied { revision, said, what } = applied;
        self.log(revision, what.iter().map(|planned| planned.verb));
        let objects = what.iter().map(|planned| applied_object(planned, show)).collect();
        let changed =
            Changed { revision, generation: 0, objects, problems, missing: Vec::new(), left: Vec::new() };
        Ok((changed, said, what.into_iter().map(|planned| planned.manifest).collect()))
    }

    fn delete(&self, request: DeleteRequest) -> Result<(Changed, u64, Vec<Manifest>), Refused> {
        let DeleteRequest { documents, namespace, targets, dry_run, comment } = request;
        let mut manifests = Manifests::default();
        for input in &documents {
            manifests.read(&input.name, &input.text, namespace.as_deref(), Purpose::Delete);
        }
        let problems: Vec<String> = manifests.problems.iter().map(ToString::to_string).collect();
        if manifests.has_errors() {
            let error = "the input cannot be read; nothing was deleted".to_owned();
            return Err(Refused::Input(Refusal { error, problems }));
        }
        let in_documents =
            manifests.items.iter().map(|manifest| Target::Exactly((**manifest.object.identity()).clone()));
        let named = targets.into_iter().map(|target| Target::Named {
            kind: target.kind,
            namespace: target.namespace,
            name: target.name,
        });
        let targets: Vec<Target> = in_documents.chain(named).collect();
        let Applied { revision, said, what } =
            self.applied.delete(&targets, self.cause(comment), dry_run).map_err(Refused::Applied)?;
        if what.is_refused(&targets) {
            return Err(Refused::Conflict(not_deleted(&what)));
        }
        self.log(revision, what.deleted.iter().map(|_| Verb::Deleted));
        let left = what.in_files.iter().map(|(id, place)| written_in(id, place)).collect();
        let objects = what.deleted.into_iter().map(|(id, over)| ChangedObject {
            in_file: over.map(Into::into),
            ..ChangedObject::new(&id, Verb::Deleted)
        });
        let objects = objects.collect();
        let changed = Changed { revision, generation: 0, objects, problems, missing: what.missing, left };
        Ok((changed, said, Vec::new()))
    }

    fn rollback(&self, request: RollbackRequest) -> Result<(Changed, u64, Vec<Manifest>), Refused> {
        let RollbackRequest { revision, dry_run, comment } = request;
        let comment = comment.or_else(|| Some(format!("rollback to revision {revision}")));
        let restored =
            self.applied.restore(revision, self.cause(comment), dry_run).map_err(Refused::Applied)?;
        let Applied { revision: made, said, what } = restored;
        if !what.problems.is_empty() {
            let problems = what.problems.iter().map(ToString::to_string).collect();
            let error =
                format!("revision {revision} holds objects that are not valid any more; nothing was changed");
            return Err(Refused::Conflict(Refusal { error, problems }));
        }
        let changes = what.changes.iter().map(|(change, _)| change);
        self.log(made, changes.clone().map(|change| change.verb));
        let objects = changes.map(|change| ChangedObject::new(&change.id, change.verb)).collect();
        let (problems, missing, left) = (Vec::new(), Vec::new(), Vec::new());
        Ok((Changed { revision: made, generation: 0, objects, problems, missing, left }, said, Vec::new()))
    }

    fn cause(&self, comment: Option<String>) -> Cause {
        Cause { who: self.who.clone(), comment, at: crate::registrations::millis_now() }
    }

    /// One line for a change, for whoever reads the log.
    fn log(&self, revision: Option<u64>, verbs: impl Iterator<Item = Verb>) {
        let Some(revision) = revision else { return };
        let mut counts: Vec<(Verb, usize)> = Vec::new();
        for verb in verbs {
            match counts.iter_mut().find(|(known, _)| *known == verb) {
                Some((_, count)) => *count += 1,
                None => counts.push((verb, 1)),
            }
        }
        let counts: Vec<String> =
            counts.iter().map(|(verb, count)| format!("{count} {}", verb.as_str())).collect();
        (self.shared.log)(&format!("revision {revision} by {}: {}", self.who.user, counts.join(", ")));
    }

    fn history(&self, query: &Query) -> Answer {
        let wanted = Wanted::of(query);
        let limit = query.text("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        match self.applied.history(limit, |id| wanted.fits(id)) {
            Err(error) => self.refused(Refused::Applied(error)),
            Ok(entries) => {
                let status = |entry: Entry| RevisionStatus {
                    revision: entry.revision,
                    objects: entry.changes.iter().map(|(id, verb)| ChangedObject::new(id, *verb)).collect(),
                };
                json(&entries.into_iter().map(status).collect::<Vec<_>>())
            }
        }
    }

    fn manifests(&self, query: &Query) -> Answer {
        let Some(revision) = query.text("revision").and_then(|number| number.parse().ok()) else {
            return failure(StatusCode::BAD_REQUEST, "expected revision=N");
        };
        match self.applied.state_after(revision) {
            Err(error) => self.refused(Refused::Applied(error)),
            Ok(versions) => {
                let wanted = Wanted::of(query);
                let versions = versions.into_iter().filter(|version| wanted.fits(&version.id));
                let objects = versions.map(|version| ChangedObject {
                    text: version.text,
                    ..ChangedObject::new(&version.id, Verb::Configured)
                });
                json(&objects.collect::<Vec<_>>())
            }
        }
    }
}

/// Which objects a question is about.
struct Wanted<'q> {
    kind: Option<&'q str>,
    namespace: Option<&'q str>,
    name: Option<&'q str>,
}

impl<'q> Wanted<'q> {
    fn of(query: &'q Query) -> Self {
        Self { kind: query.text("kind"), namespace: query.text("namespace"), name: query.text("name") }
    }

    fn fits(&self, id: &ObjectId) -> bool {
        self.kind.is_none_or(|kind| api::kinds::is_named(&id.group, &id.kind, kind))
            && self.namespace.is_none_or(|n| id.namespace == n || id.namespace.is_empty())
            && self.name.is_none_or(|name| id.name == name)
    }
}

fn applied_object(planned: &Planned, show: bool) -> ChangedObject {
    ChangedObject {
        in_file: planned.over.clone().map(Into::into),
        text: show.then(|| planned.manifest.text.clone()),
        ..ChangedObject::new(planned.manifest.object.identity(), planned.verb)
    }
}

/// Why nothing was deleted, in sentences.
fn not_deleted(deletion: &Deletion) -> Refusal {
    let mut problems: Vec<String> =
        deletion.in_files.iter().map(|(id, place)| written_in(id, place)).collect();
    problems.extend(deletion.ambiguous.iter().map(|target| format!("{target}: say which, with the group")));
    let error = match problems.as_slice() {
        [one] => one.clone(),
        _ => format!("{} objects cannot be deleted; nothing was deleted", problems.len()),
    };
    if problems.len() == 1 {
        problems.clear();
    }
    Refusal { error, problems }
}

fn written_in(id: &ObjectId, place: &api::SourceRef) -> String {
    let (name, file, line) = (id.resource_name(), &place.file, place.line);
    format!("{name} was not applied but is written in {file}:{line}: remove it from that file to delete it")
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Answer> {
    let bytes: Bytes = match Limited::new(request.into_body(), INPUT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let limit = INPUT >> 20;
            let error = format!("the request cannot be read (at most {limit} MiB): {error}");
            return Err(failure(StatusCode::PAYLOAD_TOO_LARGE, &error));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| failure(StatusCode::BAD_REQUEST, &error.to_string()))
}

async fn blocking(question: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let answer = tokio::task::spawn_blocking(question).await;
    answer.unwrap_or_else(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_and_root_may_change_the_mesh() {
        for (uid, of, may) in [(1000, 1000, true), (0, 1000, true), (1001, 1000, false), (1000, 0, false)] {
            assert_eq!(may_change(uid, of), may, "{uid} of {of}");
        }
    }
}
