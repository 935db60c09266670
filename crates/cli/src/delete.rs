//! `filamesh delete`: applied objects out of the mesh, all of a command as one change.
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use control::status::change::{Changed, DeleteRequest, NamedTarget};

use crate::apply::{ObjectFormat, inputs, print};
use crate::exit::{Code, Failure, Outcome};
use crate::live::{DryRun, Wait};
use crate::output::say;
use crate::target::{Target, change};

/// Take applied objects out of the mesh's configuration, all at once, and wait until no proxy has them
#[derive(Debug, Args)]
#[command(
    after_help = "An object that is written in a watched file is not deleted: it is removed from that file.

Examples:
  filamesh delete -f virtual-service-reviews-95-5.yaml
  filamesh delete virtualservice reviews ratings -n prod
  filamesh delete vs/reviews dr/reviews
  filamesh delete vs --all
  filamesh delete gateway.gateway.networking.k8s.io/web"
)]
pub struct Delete {
    /// A kind and names, or KIND/NAME as often as needed
    #[arg(required_unless_present = "filename", value_name = "KIND NAME|KIND/NAME")]
    what: Vec<String>,
    /// Files or directories that hold the objects; `-` is standard input
    #[arg(short, long, value_name = "FILE|DIR")]
    filename: Vec<PathBuf>,
    /// Namespace of the names, and of objects in files that name none; default: default
    #[arg(short, long)]
    namespace: Option<String>,
    /// All applied objects of the kind in the namespace
    #[arg(long)]
    all: bool,
    /// Not an error if there is no such object
    #[arg(long)]
    ignore_not_found: bool,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = DryRun::None)]
    dry_run: DryRun,
    /// Why: remembered in `filamesh history`
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Print the names only
    #[arg(short, long, value_enum)]
    output: Option<NameFormat>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    target: Target,
}

/// There is nothing else left of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NameFormat {
    Name,
}

pub fn run(args: &Delete) -> Outcome {
    let began = Instant::now();
    let namespace = args.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let targets = targets(&args.what, &namespace, args.all)?;
    let mesh = args.target.find()?;
    let request = DeleteRequest {
        documents: inputs(&args.filename)?,
        namespace: args.namespace.clone(),
        targets,
        dry_run: args.dry_run != DryRun::None,
        comment: args.comment.clone(),
    };
    let changed: Changed = change(&mesh, "delete", &request)?;
    drop(request);
    for line in changed.problems.iter().chain(&changed.left) {
        say(line);
    }
    print(&changed.objects, args.output.map(|NameFormat::Name| ObjectFormat::Name), args.dry_run)?;
    for object in &changed.objects {
        if let Some(place) = &object.in_file {
            let (name, file, line) = (object.id().resource_name(), &place.file, place.line);
            say(format_args!("{name} is also written in {file}:{line}: that version counts now"));
        }
    }
    if args.all && changed.objects.is_empty() && changed.left.is_empty() {
        say(format_args!("no applied objects of the kind in namespace {namespace}"));
    }
    args.wait.for_change(&mesh, &changed, began)?;
    if !changed.missing.is_empty() && !args.ignore_not_found {
        return Err(Failure::new(Code::Failure, format!("not found: {}", changed.missing.join(", "))));
    }
    match changed.left.len() {
        0 => Ok(()),
        left => Err(Failure::new(Code::Failure, format!("{left} objects are written in files and stay"))),
    }
}

/// The words of the command line: `KIND NAME...`, `KIND/NAME...`, or `KIND --all`.
fn targets(what: &[String], namespace: &str, all: bool) -> Result<Vec<NamedTarget>, Failure> {
    let target = |kind: &str, name: Option<&str>| NamedTarget {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.map(str::to_owned),
    };
    let Some((first, names)) = what.split_first() else {
        return if all { Err(Failure::usage("delete --all: of which kind?")) } else { Ok(Vec::new()) };
    };
    let with_names = what.iter().filter(|word| word.contains('/')).count();
    if with_names > 0 {
        let pairs: Option<Vec<(&str, &str)>> = what.iter().map(|word| word.split_once('/')).collect();
        let pairs =
            pairs.filter(|pairs| pairs.iter().all(|(kind, name)| !kind.is_empty() && !name.is_empty()));
        let Some(pairs) = pairs.filter(|_| !all) else {
            return Err(Failure::usage("write KIND/NAME each time, or one KIND and then names or --all"));
        };
        return Ok(pairs.into_iter().map(|(kind, name)| target(kind, Some(name))).collect());
    }
    match (all, names) {
        // kubectl takes several kinds with commas.
        (true, []) => Ok(first.split(',').map(|kind| target(kind, None)).collect()),
        (true, _) => Err(Failure::usage("name may not be given together with --all")),
        (false, []) => Err(Failure::usage(format!("delete {first}: which? Give names, or --all"))),
        (false, names) => Ok(names.iter().map(|name| target(first, Some(name))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubectl's grammar: `kubectl delete --help`.
    #[test]
    fn objects_are_named_as_for_kubectl() {
        let read = |words: &[&str], all| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let targets = targets(&words, "prod", all).map_err(|failure| failure.code)?;
            let name = |t: NamedTarget| format!("{} {}", t.kind, t.name.unwrap_or_else(|| "*".to_owned()));
            Ok::<_, Code>(targets.into_iter().map(name).collect::<Vec<_>>())
        };
        let ok = |lines: &[&str]| Ok(lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(read(&["vs", "a", "b"], false), ok(&["vs a", "vs b"]));
        assert_eq!(read(&["vs/a", "dr/b"], false), ok(&["vs a", "dr b"]));
        assert_eq!(read(&["gateway.networking.istio.io/a"], false), ok(&["gateway.networking.istio.io a"]));
        assert_eq!(read(&["vs,dr"], true), ok(&["vs *", "dr *"]));
        assert_eq!(read(&[], false), ok(&[]));
        for (words, all) in [
            (&["vs"][..], false),
            (&["vs", "a"], true),
            (&["vs/a"], true),
            (&["vs/a", "b"], false),
            (&["vs/"], false),
            (&["/a"], false),
            (&[], true),
        ] {
            assert_eq!(read(words, all), Err(Code::Usage), "{words:?} {all}");
        }
    }
}
