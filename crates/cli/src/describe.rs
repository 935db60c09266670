//! `filamesh describe`: what became of one object, with every reason and where it stands.
use std::fmt::Write;

use clap::Args;
use control::shapes::ObjectStatus;

use crate::exit::Outcome;
use crate::get::{not_found, resource};
use crate::output::put;
use crate::target::{Namespaces, Target, ask, query};

/// An object's state, every reason why it is not live as it is written, and what is written
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh describe vs reviews
  filamesh describe destinationrule/reviews -n prod
  filamesh describe gateways -A")]
pub struct Describe {
    /// A kind (virtualservice, vs, destinationrule, dr, service, svc, gateway, gw, ...), or KIND/NAME
    kind: String,
    /// Only this one
    name: Option<String>,
    #[command(flatten)]
    namespaces: Namespaces,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Describe) -> Outcome {
    let mesh = args.target.find()?;
    let (kind, name) = resource(&args.kind, args.name.as_deref());
    let namespace = args.namespaces.one();
    let wanted =
        query(&[("kind", Some(kind)), ("namespace", namespace), ("name", name), ("manifest", Some("true"))]);
    let mut objects: Vec<ObjectStatus> = ask(&mesh, &format!("objects?{wanted}"))?;
    objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    if objects.is_empty() {
        return Err(not_found(&args.namespaces, kind, name));
    }
    let texts: Vec<String> = objects.iter().map(text).collect();
    put(&texts.join("\n\n"))
}

/// In the manner of `kubectl describe`.
fn text(object: &ObjectStatus) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{:14}{value}", format!("{label}:"));
        }
    };
    line("Name", &object.name);
    line("Namespace", &object.namespace);
    line("Kind", &object.kind);
    line("API Version", &object.api_version);
    match object.line {
        0 => line("Source", &object.file),
        at => line("Source", &format!("{}:{at}", object.file)),
    }
    line("Revision", &object.revision.map(|revision| revision.to_string()).unwrap_or_default());
    if object.generation > 0 {
        line("Generation", &object.generation.to_string());
    }
    line("State", object.state.as_str());
    if !object.verdicts.is_empty() {
        out.push_str("Reasons:\n");
    }
    for verdict in &object.verdicts {
        let _ = writeln!(out, "  {:17}{}", verdict.state.as_str(), verdict.reason);
    }
    if let Some(manifest) = &object.manifest {
        out.push_str("Manifest:\n");
        for line in manifest.trim_end().lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use control::shapes::{ObjectState, VerdictStatus};

    use super::*;

    #[test]
    fn every_reason_is_told_with_its_state() {
        let verdict = |state, reason: &str| VerdictStatus { state, reason: reason.into() };
        let object = ObjectStatus {
            api_version: "networking.istio.io/v1".into(),
            kind: "VirtualService".into(),
            namespace: "default".into(),
            name: "评论".into(),
            generation: 7,
            hash: "0".into(),
            file: "a.yaml".into(),
            line: 3,
            column: 1,
            state: ObjectState::Waiting,
            reason: Some("first".into()),
            verdicts: vec![
                verdict(ObjectState::Waiting, "a.yaml:9:5: spec.gateways[0]: no Gateway default/g"),
                verdict(ObjectState::Partial, "a.yaml:12:5: spec.http[0]: not done"),
            ],
            revision: None,
            manifest: Some("kind: VirtualService\nspec: {}\n".into()),
        };
        let said = "Name:         评论\nNamespace:    default\nKind:         VirtualService\n\
                    API Version:  networking.istio.io/v1\nSource:       a.yaml:3\nGeneration:   7\nState:        waiting\n\
                    Reasons:\n  waiting          a.yaml:9:5: spec.gateways[0]: no Gateway default/g\n  \
                    partly acted on  a.yaml:12:5: spec.http[0]: not done\nManifest:\n  kind: VirtualService\n  spec: {}\n";
        assert_eq!(text(&object), said);
    }
}
