//! `filamesh get`: the objects the control plane knows, as kubectl shows them.
use clap::Args;
use control::shapes::ObjectStatus;
use control::status::change::ChangedObject;

use crate::apply::{ObjectFormat, manifests};
use crate::exit::{Code, Failure, Outcome};
use crate::output::{Format, Table, list, put, say};
use crate::target::{Namespaces, Target, ask, ask_locally, query};

/// The configuration objects the mesh knows, where each is written, and whether it is live
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh get all -A
  filamesh get virtualservices
  filamesh get vs reviews -o yaml
  filamesh get all -A -o yaml                 documents that apply reads back
  filamesh get vs reviews --revision 41 -o yaml")]
pub struct Get {
    /// A kind (virtualservice, vs, destinationrule, dr, service, svc, gateway, gw, ...), or `all`
    kind: String,
    /// Only this one
    name: Option<String>,
    /// What was applied after this revision (see `filamesh history`); with -o yaml, json or name
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    #[command(flatten)]
    namespaces: Namespaces,
    #[command(flatten)]
    target: Target,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// `kind.group/name`, as kubectl's `-o name` has it.
fn resource_name(api_version: &str, kind: &str, name: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

pub fn run(args: &Get) -> Outcome {
    let mesh = args.target.find()?;
    let (kind, name) = resource(&args.kind, args.name.as_deref());
    let namespace = args.namespaces.one();
    let of_kind = Some(kind).filter(|kind| *kind != "all");
    let wanted = query(&[("kind", of_kind), ("namespace", namespace), ("name", name)]);
    if let Some(revision) = args.revision {
        let path = format!("manifests?revision={revision}&{wanted}");
        let objects: Vec<ChangedObject> = ask_locally(&mesh, &path)?;
        return then(args, name.map(|name| (kind, name)), &objects);
    }
    let manifest = (args.output == Format::Yaml).then_some("true");
    let path = format!("objects?{wanted}&{}", query(&[("manifest", manifest)]));
    let mut objects: Vec<ObjectStatus> = ask(&mesh, &path)?;
    objects.sort_by(|a, b| (&a.namespace, &a.kind, &a.name).cmp(&(&b.namespace, &b.kind, &b.name)));
    if let (true, Some(name)) = (objects.is_empty(), name) {
        return Err(not_found(&args.namespaces, kind, Some(name)));
    }
    if objects.is_empty() && matches!(args.output, Format::Table | Format::Wide) {
        crate::output::say(format_args!(
            "no resources found{}",
            namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default()
        ));
        return Ok(());
    }
    // What was written is the best YAML there is.
    if args.output == Format::Yaml {
        return written(&objects);
    }
    table(args, &objects)
}

/// `KIND NAME` or `KIND/NAME`.
pub fn resource<'a>(kind: &'a str, name: Option<&'a str>) -> (&'a str, Option<&'a str>) {
    match kind.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (kind, name),
    }
}

pub fn not_found(namespaces: &Namespaces, kind: &str, name: Option<&str>) -> Failure {
    let kind = api::kinds::named(kind).unwrap_or(kind).to_ascii_lowercase();
    let place = namespaces.one().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let what = name.map(|name| format!("{kind} {name}")).unwrap_or(kind);
    Failure::new(Code::Failure, format!("{what} not found{place}"))
}

/// What their authors wrote, as documents that `apply` reads back.
fn written(objects: &[ObjectStatus]) -> Outcome {
    for object in objects.iter().filter(|object| object.manifest.is_none()) {
        let name = resource_name(&object.api_version, &object.kind, &object.name);
        let why = object.reason.as_deref().unwrap_or("what is written there now is something else");
        say(format_args!("{name} in {}:{} is left out: {why}", object.file, object.line));
    }
    manifests(objects.iter().filter_map(|object| object.manifest.as_deref()), ObjectFormat::Yaml)
}

/// What was applied after a revision.
fn then(args: &Get, one: Option<(&str, &str)>, objects: &[ChangedObject]) -> Outcome {
    if let (true, Some((kind, name))) = (objects.is_empty(), one) {
        return Err(not_found(&args.namespaces, kind, Some(name)));
    }
    let format = match args.output {
        Format::Json => ObjectFormat::Json,
        Format::Yaml => ObjectFormat::Yaml,
        _ => {
            return put(&objects.iter().map(|object| object.id().resource_name() + "\n").collect::<String>());
        }
    };
    manifests(objects.iter().filter_map(|object| object.text.as_deref()), format)
}

fn table(args: &Get, objects: &[ObjectStatus]) -> Outcome {
    list(
        args.output,
        "List",
        objects,
        |o| resource_name(&o.api_version, &o.kind, &o.name),
        || {
            let mut table = Table::new(&[
                "NAMESPACE",
                "KIND",
                "NAME",
                "STATE",
                "GENERATION",
                "SOURCE",
                "API VERSION",
                "REASON",
            ])
            .wide_from(6);
            for object in objects {
                table.row(vec![
                    object.namespace.clone(),
                    object.kind.clone(),
                    object.name.clone(),
                    object.state.as_str().to_owned(),
                    object.generation.to_string(),
                    format!("{}:{}", object.file, object.line),
                    object.api_version.clone(),
                    object.reason.clone().unwrap_or_default(),
                ]);
            }
            table
        },
    )
}
