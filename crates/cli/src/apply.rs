//! `filamesh apply` and `filamesh delete`: objects into and out of the mesh's configuration directory.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use api::Object;
use clap::Args;
use control::source::store::{Store, StoreError};
use control::status::shapes::{Live, ObjectState, ObjectStatus};

use crate::exit::{Code, Failure, Outcome};
use crate::get::{kind_of, resource_name};
use crate::mesh::MeshFile;
use crate::output::{put, say};
use crate::target::{Target, ask};
use crate::validate::texts;

/// How long a change may take to reach every connected proxy before we say which one lags.
const LIVE_LIMIT_MS: u64 = 5000;

/// Put objects into the mesh's configuration, and wait until every proxy has them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh apply -f virtual-service-reviews-95-5.yaml
  filamesh apply -f ./istio-yaml
  cat vs.yaml | filamesh apply -f -")]
pub struct Apply {
    /// Files or directories of YAML or JSON; `-` is standard input
    #[arg(short, long, required = true, value_name = "FILE|DIR")]
    filename: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Take objects out of the mesh's configuration
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh delete -f virtual-service-reviews-95-5.yaml
  filamesh delete virtualservice reviews")]
pub struct Delete {
    /// A kind, or KIND/NAME
    #[arg(required_unless_present = "filename")]
    kind: Option<String>,
    /// Names
    names: Vec<String>,
    /// Files or directories that hold the objects
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: Vec<PathBuf>,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Not an error if there is no such object
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    target: Target,
}

/// One document of the input: an object and the text it was written in.
struct Document {
    object: Arc<Object>,
    text: String,
}

pub fn apply(args: &Apply) -> Outcome {
    let mesh = args.target.find()?;
    let documents = documents(&args.filename, args.namespace.as_deref())?;
    if documents.is_empty() {
        return Err(Failure::input("no objects in the input"));
    }
    let store = Store::open(&mesh.config_dir).map_err(not_stored)?;
    let began = Instant::now();
    let mut slow = Vec::new();
    let mut last = None;
    for document in &documents {
        let object = &document.object;
        let name = resource_name(&object.meta.api_version, &object.meta.kind, object.name());
        let known = status(&mesh, &object.meta.kind, object.namespace(), object.name())?;
        let hash = format!("{:016x}", object.content_hash());
        let path = store.path_of(&object.meta.kind, object.namespace(), object.name());
        if let Some(known) = &known
            && Path::new(&known.file) != path
        {
            say(format_args!(
                "{name} is also written in {}:{}; the newer file counts",
                known.file, known.line
            ));
        }
        let verb = match &known {
            None => "created",
            Some(known) if known.hash == hash && known.state != ObjectState::Stale => "unchanged",
            Some(_) => "configured",
        };
        if verb != "unchanged" {
            let kind = &object.meta.kind;
            store.put(kind, object.namespace(), object.name(), &document.text).map_err(not_stored)?;
            let query = format!("wait?object={}&hash={hash}&timeout_ms={LIVE_LIMIT_MS}", object.id());
            let (live, complete) = wait(&mesh, &query)?;
            for problem in &live.problems {
                say(problem);
            }
            for refused in &live.refused {
                say(format_args!(
                    "a proxy refused {} {}: {}",
                    refused.kind, refused.resource, refused.reason
                ));
            }
            if !complete {
                slow.extend(live.pending.clone());
            }
            last = Some(live);
        }
        put(&format!("{name} {verb}\n"))?;
    }
    if let Some(live) = last {
        say(format_args!(
            "live on {} of {} proxies after {} ms",
            live.live,
            live.of,
            began.elapsed().as_millis()
        ));
    }
    if slow.is_empty() {
        return Ok(());
    }
    slow.sort();
    slow.dedup();
    Err(Failure::new(
        Code::Failure,
        format!(
            "not live within {} s on: {} (see filamesh proxy-status)",
            LIVE_LIMIT_MS / 1000,
            slow.join(", ")
        ),
    ))
}

pub fn delete(args: &Delete) -> Outcome {
    let mesh = args.target.find()?;
    let mut wanted: Vec<(String, String, String)> = Vec::new();
    for document in documents(&args.filename, None)? {
        let object = &document.object;
        wanted.push((object.meta.kind.clone(), object.namespace().to_owned(), object.name().to_owned()));
    }
    if let Some(kind) = &args.kind {
        let (kind, mut names) = match kind.split_once('/') {
            Some((kind, name)) => (kind, vec![name.to_owned()]),
            None => (kind.as_str(), Vec::new()),
        };
        names.extend(args.names.iter().cloned());
        if names.is_empty() {
            return Err(Failure::usage(format!("delete {kind}: which? Give a name")));
        }
        wanted.extend(names.into_iter().map(|name| (kind_of(kind), args.namespace.clone(), name)));
    }
    let mut missing = Vec::new();
    for (kind, namespace, name) in wanted {
        match status(&mesh, &kind, &namespace, &name)? {
            None => missing.push(format!("{} {name} in namespace {namespace}", kind.to_ascii_lowercase())),
            Some(known) => {
                remove(&mesh, &known)?;
                put(&format!("{} deleted\n", resource_name(&known.api_version, &known.kind, &known.name)))?;
            }
        }
    }
    if missing.is_empty() || args.ignore_not_found {
        return Ok(());
    }
    Err(Failure::new(Code::Failure, format!("not found: {}", missing.join(", "))))
}

/// Takes an object's file away if it is one of ours; a file that somebody wrote by hand is theirs to edit.
fn remove(mesh: &MeshFile, known: &ObjectStatus) -> Outcome {
    let store = Store::open(&mesh.config_dir).map_err(not_stored)?;
    if Path::new(&known.file) != store.path_of(&known.kind, &known.namespace, &known.name) {
        return Err(Failure::new(
            Code::Failure,
            format!(
                "{}/{} is written in {}:{}: take it out there, the directory is watched",
                known.kind, known.name, known.file, known.line
            ),
        ));
    }
    store.remove(&known.kind, &known.namespace, &known.name).map_err(not_stored)?;
    let object = format!("{}/{}/{}", known.kind, known.namespace, known.name);
    let (live, complete) =
        wait(mesh, &format!("wait?object={object}&absent=true&timeout_ms={LIVE_LIMIT_MS}"))?;
    if complete {
        return Ok(());
    }
    Err(Failure::new(Code::Failure, format!("{object} is not gone yet on: {}", live.pending.join(", "))))
}

fn status(mesh: &MeshFile, kind: &str, namespace: &str, name: &str) -> Result<Option<ObjectStatus>, Failure> {
    let found: Vec<ObjectStatus> =
        ask(mesh, &format!("objects?kind={kind}&namespace={namespace}&name={name}"))?;
    Ok(found.into_iter().next())
}

/// Waits for a change; the flag tells whether it is live everywhere.
fn wait(mesh: &MeshFile, query: &str) -> Result<(Live, bool), Failure> {
    let url = format!("{}/filamesh/v1/{query}", mesh.control.http);
    let (status, body) = crate::http_client::request(http::Method::GET, &url)?;
    let live = serde_json::from_slice(&body)
        .map_err(|e| Failure::new(Code::Failure, format!("{url} answered {status}: {e}")))?;
    Ok((live, status == 200))
}

fn not_stored(error: StoreError) -> Failure {
    let (StoreError::Write { error: cause, .. } | StoreError::Remove { error: cause, .. }) = &error;
    let denied = cause.kind() == std::io::ErrorKind::PermissionDenied;
    Failure::new(if denied { Code::Denied } else { Code::Failure }, error.to_string())
}

/// All objects of the input. One that is invalid refuses the whole input, as `kubectl apply` of a file does.
fn documents(paths: &[PathBuf], namespace: Option<&str>) -> Result<Vec<Document>, Failure> {
    let mut found = Vec::new();
    let mut errors = 0;
    for path in paths {
        for (name, text) in texts(path)? {
            for (line, part) in split(&text) {
                // Line numbers stay those of the file.
                let padded = "\n".repeat(line) + part;
                let parsed = api::parse_documents(&name, &padded, &api::Options::default());
                for problem in &parsed.problems {
                    say(problem);
                    errors += usize::from(problem.is_error());
                }
                for object in parsed.objects {
                    let text = with_namespace(part, &object, namespace);
                    found.push(Document { object: reparsed(&text, object)?, text });
                }
            }
        }
    }
    if errors > 0 {
        return Err(Failure::input(format!("{errors} errors; nothing was applied")));
    }
    Ok(found)
}

/// What the control plane will read, so that its hash is the one waited for.
fn reparsed(text: &str, before: Arc<Object>) -> Result<Arc<Object>, Failure> {
    let parsed = api::parse_documents("applied", text, &api::Options::default());
    match parsed.objects.as_slice() {
        [one] => Ok(Arc::clone(one)),
        _ => Err(Failure::input(format!(
            "{}: lists of objects in one document are not taken apart; give one document each",
            before.id()
        ))),
    }
}

fn with_namespace(text: &str, object: &Object, namespace: Option<&str>) -> String {
    let (Some(namespace), None) = (namespace, object.meta.namespace.as_deref()) else {
        return text.to_owned();
    };
    let mut out = String::new();
    let mut placed = false;
    for line in text.lines() {
        out += line;
        out.push('\n');
        if !placed && line.trim_end() == "metadata:" {
            out += &format!("  namespace: {namespace}\n");
            placed = true;
        }
    }
    out
}

/// The documents of a YAML stream with the line each starts on.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let end = offset + line.len();
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push((first_line, &text[start..offset]));
            (start, first_line) = (end, number + 1);
        }
        offset = end;
    }
    parts.push((first_line, &text[start..]));
    parts.retain(|(_, part)| part.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_the_lines_of_their_file() {
        let text = "# a comment\n---\nkind: A\n---\nkind: B\nx: 1\n";
        assert_eq!(split(text), [(2, "kind: A\n"), (4, "kind: B\nx: 1\n")]);
    }
}
