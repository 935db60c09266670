//! `filamesh history`: what was applied and deleted, when and by whom.
use clap::Args;
use control::status::change::{ChangedObject, RevisionStatus};

use crate::exit::{Failure, Outcome};
use crate::output::{Format, Table, list};
use crate::target::{Target, ask_locally, query};

/// Every change made by apply and delete that is remembered, the newest last
#[derive(Debug, Args)]
#[command(
    after_help = "The last 10,000 changes are remembered, or those of the last 64 MiB of YAML if that is less.

Examples:
  filamesh history
  filamesh history vs reviews
  filamesh get vs reviews --revision 41 -o yaml | filamesh apply -f -"
)]
pub struct History {
    /// A kind
    kind: Option<String>,
    /// One object of it
    name: Option<String>,
    /// Only of this namespace; of one object: default
    #[arg(short, long)]
    namespace: Option<String>,
    /// How many changes, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    target: Target,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(args: &History) -> Outcome {
    let mesh = args.target.find()?;
    let (kind, name) = match args.kind.as_deref().map(|kind| kind.split_once('/').ok_or(kind)) {
        Some(Ok((kind, name))) => (Some(kind), Some(name)),
        Some(Err(kind)) => (Some(kind), args.name.as_deref()),
        None => (None, None),
    };
    let namespace = args.namespace.as_deref().or(name.map(|_| "default"));
    let limit = args.limit.to_string();
    let wanted = query(&[("limit", Some(&limit)), ("kind", kind), ("name", name), ("namespace", namespace)]);
    let history: Vec<RevisionStatus> = ask_locally(&mesh, &format!("history?{wanted}"))?;
    if history.is_empty() && matches!(args.output, Format::Table | Format::Wide) {
        crate::output::say("nothing was applied or deleted");
        return Ok(());
    }
    list(args.output, "History", &history, |status| status.revision.number.to_string(), || table(&history))
}

fn table(history: &[RevisionStatus]) -> Table {
    let mut table = Table::new(&["REVISION", "TIME", "USER", "CHANGE", "COMMENT", "UID"]).wide_from(5);
    for RevisionStatus { revision, objects } in history {
        table.row(vec![
            revision.number.to_string(),
            time(revision.at).unwrap_or_else(|_| revision.at.to_string()),
            revision.who.user.clone(),
            summary(objects),
            revision.comment.clone().unwrap_or_default(),
            revision.who.uid.map(|uid| uid.to_string()).unwrap_or_default(),
        ]);
    }
    table
}

fn time(millis: u64) -> Result<String, Failure> {
    let millis = i64::try_from(millis).map_err(|e| Failure::input(e.to_string()))?;
    let at = jiff::Timestamp::from_millisecond(millis).map_err(|e| Failure::input(e.to_string()))?;
    Ok(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Up to two objects by name, more by their number.
fn summary(objects: &[ChangedObject]) -> String {
    if let [_] | [_, _] = objects {
        let one = |object: &ChangedObject| format!("{} {}", object.verb.as_str(), object.id());
        return objects.iter().map(one).collect::<Vec<_>>().join(", ");
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for object in objects {
        match counts.iter_mut().find(|(verb, _)| *verb == object.verb.as_str()) {
            Some((_, count)) => *count += 1,
            None => counts.push((object.verb.as_str(), 1)),
        }
    }
    counts.iter().map(|(verb, count)| format!("{count} {verb}")).collect::<Vec<_>>().join(", ")
}
