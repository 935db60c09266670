//! `filamesh get`: the objects the control plane knows, as kubectl shows them.
use clap::Args;
use control::status::shapes::{ObjectState, ObjectStatus};

use crate::exit::{Code, Failure, Outcome};
use crate::output::{Format, Table, list, put};
use crate::target::{Namespaces, Target, ask};

/// The configuration objects the mesh knows, where each is written, and whether it is live
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh get all -A
  filamesh get virtualservices
  filamesh get vs reviews -o yaml")]
pub struct Get {
    /// A kind (virtualservice, vs, destinationrule, dr, service, svc, gateway, gw, ...), or `all`
    kind: String,
    /// Only this one
    name: Option<String>,
    #[command(flatten)]
    namespaces: Namespaces,
    #[command(flatten)]
    target: Target,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Kinds by the names kubectl takes: singular, plural, short.
const KINDS: &[(&str, &[&str])] = &[
    ("VirtualService", &["virtualservice", "virtualservices", "vs"]),
    ("DestinationRule", &["destinationrule", "destinationrules", "dr"]),
    ("ServiceEntry", &["serviceentry", "serviceentries", "se"]),
    ("Gateway", &["gateway", "gateways", "gw"]),
    ("Sidecar", &["sidecar", "sidecars"]),
    ("WorkloadEntry", &["workloadentry", "workloadentries", "we"]),
    ("WorkloadGroup", &["workloadgroup", "workloadgroups", "wg"]),
    ("PeerAuthentication", &["peerauthentication", "peerauthentications", "pa"]),
    ("Service", &["service", "services", "svc"]),
    ("Namespace", &["namespace", "namespaces", "ns"]),
    ("Pod", &["pod", "pods", "po"]),
    ("EndpointSlice", &["endpointslice", "endpointslices"]),
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("ServiceAccount", &["serviceaccount", "serviceaccounts", "sa"]),
    ("ConfigMap", &["configmap", "configmaps", "cm"]),
];

/// The kind meant. One we have no short name for is taken as written.
pub fn kind_of(word: &str) -> String {
    let lower = word.split('.').next().unwrap_or(word).to_ascii_lowercase();
    KINDS
        .iter()
        .find(|(_, names)| names.contains(&lower.as_str()))
        .map_or_else(|| word.to_owned(), |(kind, _)| (*kind).to_owned())
}

/// `kind.group/name`, as kubectl's `-o name` has it.
pub fn resource_name(api_version: &str, kind: &str, name: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

pub fn run(args: &Get) -> Outcome {
    let mesh = args.target.find()?;
    let (kind, name) = match args.kind.split_once('/') {
        Some((kind, name)) => (kind, Some(name.to_owned())),
        None => (args.kind.as_str(), args.name.clone()),
    };
    let mut query = Vec::new();
    if kind != "all" {
        query.push(format!("kind={}", kind_of(kind)));
    }
    if !args.namespaces.all_namespaces {
        query.push(format!("namespace={}", args.namespaces.namespace));
    }
    if let Some(name) = &name {
        query.push(format!("name={name}"));
    }
    let mut objects: Vec<ObjectStatus> = ask(&mesh, &format!("objects?{}", query.join("&")))?;
    objects.sort_by(|a, b| (&a.namespace, &a.kind, &a.name).cmp(&(&b.namespace, &b.kind, &b.name)));
    if let (true, Some(name)) = (objects.is_empty(), &name) {
        let kind = kind_of(kind).to_ascii_lowercase();
        return Err(Failure::new(
            Code::Failure,
            format!("{kind} {name} not found in namespace {}", args.namespaces.namespace),
        ));
    }
    if objects.is_empty() && matches!(args.output, Format::Table | Format::Wide) {
        crate::output::say(format_args!(
            "no resources found{}",
            if args.namespaces.all_namespaces {
                String::new()
            } else {
                format!(" in namespace {}", args.namespaces.namespace)
            }
        ));
        return Ok(());
    }
    // What was written is the best YAML there is.
    if let (Format::Yaml, Some(_), [one]) = (args.output, &name, objects.as_slice())
        && let Some(manifest) = &one.manifest
    {
        return put(manifest);
    }
    list(
        args.output,
        "List",
        &objects,
        |o| resource_name(&o.api_version, &o.kind, &o.name),
        || {
            let mut table =
                Table::new(&["NAMESPACE", "KIND", "NAME", "STATE", "GENERATION", "SOURCE", "API VERSION"])
                    .wide_from(6);
            for object in &objects {
                table.row(vec![
                    object.namespace.clone(),
                    object.kind.clone(),
                    object.name.clone(),
                    match object.state {
                        ObjectState::Live => "live",
                        ObjectState::Stale => "stale (the file is refused now)",
                        ObjectState::Ignored => "not acted on",
                    }
                    .to_owned(),
                    object.generation.to_string(),
                    format!("{}:{}", object.file, object.line),
                    object.api_version.clone(),
                ]);
            }
            table
        },
    )
}
