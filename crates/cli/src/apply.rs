//! `filamesh apply`: objects into the mesh, all of a command as one change.
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use control::source::applied::revision::Verb;
use control::source::manifest::{Manifests, Purpose};
use control::status::change::{ApplyRequest, Changed, ChangedObject, Input};

use crate::exit::{Failure, Outcome};
use crate::live::{DryRun, Wait};
use crate::output::{document_out, put, say};
use crate::target::{Target, change};
use crate::validate::texts;

/// Put objects into the mesh's configuration, all at once, and wait until every proxy has them
#[derive(Debug, Args)]
#[command(
    after_help = "All objects of the command are one change: one that is invalid refuses the whole input.

Examples:
  filamesh apply -f virtual-service-reviews-95-5.yaml
  filamesh apply -f ./istio-yaml --comment 'canary, ticket 42'
  filamesh apply -f ./istio-yaml --dry-run=server
  cat vs.yaml | filamesh apply -n prod -f -"
)]
pub struct Apply {
    /// Files or directories of YAML or JSON; `-` is standard input
    #[arg(short, long, required = true, value_name = "FILE|DIR")]
    filename: Vec<PathBuf>,
    /// Namespace of objects that name none; an object that names another is refused
    #[arg(short, long)]
    namespace: Option<String>,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = DryRun::None)]
    dry_run: DryRun,
    /// Why: remembered in `filamesh history`
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Print the objects, or only their names, instead of what was done
    #[arg(short, long, value_enum)]
    output: Option<ObjectFormat>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    target: Target,
}

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    Name,
    Json,
    Yaml,
}

pub fn run(args: &Apply) -> Outcome {
    let began = Instant::now();
    let documents = inputs(&args.filename)?;
    if args.dry_run == DryRun::Client {
        return dry_run(args, &documents);
    }
    let mesh = args.target.find()?;
    let request = ApplyRequest {
        documents,
        namespace: args.namespace.clone(),
        dry_run: args.dry_run == DryRun::Server,
        comment: args.comment.clone(),
        show: matches!(args.output, Some(ObjectFormat::Json | ObjectFormat::Yaml)),
    };
    let changed: Changed = change(&mesh, "apply", &request)?;
    drop(request);
    for problem in &changed.problems {
        say(problem);
    }
    for object in &changed.objects {
        if let (Some(place), Verb::Created | Verb::Configured) = (&object.in_file, object.verb) {
            let (name, file, line) = (object.id().resource_name(), &place.file, place.line);
            say(format_args!("{name} is also written in {file}:{line}; what was applied counts"));
        }
    }
    print(&changed.objects, args.output, args.dry_run)?;
    args.wait.for_change(&mesh, &changed, began)
}

/// The files of the command by the names findings give them.
pub fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in paths {
        inputs.extend(texts(path)?.into_iter().map(|(name, text)| Input { name, text }));
    }
    Ok(inputs)
}

/// What the control plane would judge, judged here by the same code.
fn dry_run(args: &Apply, documents: &[Input]) -> Outcome {
    let mut manifests = Manifests::default();
    for input in documents {
        manifests.read(&input.name, &input.text, args.namespace.as_deref(), Purpose::Apply);
    }
    for problem in &manifests.problems {
        say(problem);
    }
    if manifests.has_errors() {
        return Err(Failure::input("the input has errors; nothing would be applied"));
    }
    if manifests.items.is_empty() {
        return Err(Failure::input("no objects in the input"));
    }
    let object = |manifest: control::source::manifest::Manifest| {
        let id = manifest.object.identity();
        ChangedObject {
            group: id.group.clone(),
            kind: id.kind.clone(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            verb: Verb::Created,
            in_file: None,
            text: Some(manifest.text),
        }
    };
    let objects: Vec<ChangedObject> = manifests.items.into_iter().map(object).collect();
    print(&objects, args.output, args.dry_run)
}

/// What was done, or the objects.
pub fn print(objects: &[ChangedObject], format: Option<ObjectFormat>, dry_run: DryRun) -> Outcome {
    let names = objects.iter().map(|object| (object.id().resource_name(), object.verb.as_str()));
    match format {
        None => {
            let remark = dry_run.remark();
            put(&names.map(|(name, verb)| format!("{name} {verb}{remark}\n")).collect::<String>())
        }
        Some(ObjectFormat::Name) => put(&names.map(|(name, _)| name + "\n").collect::<String>()),
        Some(format) => manifests(objects.iter().filter_map(|object| object.text.as_deref()), format),
    }
}

/// Manifests so that `apply` reads them back: one as it is, several as YAML documents or a JSON `List`.
pub fn manifests<'t>(texts: impl Iterator<Item = &'t str>, format: ObjectFormat) -> Outcome {
    if format == ObjectFormat::Yaml {
        return put(&texts.collect::<Vec<_>>().join("---\n"));
    }
    let trees = texts.flat_map(|text| api::yaml::load(text, api::yaml::Limits::default()));
    let mut items: Vec<serde_json::Value> = trees.flatten().map(|tree| tree.to_json()).collect();
    let document = match items.len() {
        1 => items.remove(0),
        _ => serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}),
    };
    document_out(crate::output::Format::Json, &document)
}
