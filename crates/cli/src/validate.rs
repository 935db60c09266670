//! `filamesh validate`: parsing and Istio's validation of files, nothing running.
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::exit::{Code, Failure, Outcome};
use crate::output::{Format, document_out, put, say, to_value};

/// Check files as `kubectl apply` to an Istio cluster would: syntax, schema and Istio's own rules.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 all valid (warnings on stderr), 65 something is not.

Examples:
  filamesh validate reviews.yaml
  filamesh validate ./mesh -o json
  cat reviews.yaml | filamesh validate -")]
pub struct Validate {
    /// Files or directories of YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(args: &Validate) -> Outcome {
    let mut problems = Vec::new();
    let (mut objects, mut files, mut unsupported) = (0usize, 0usize, Vec::new());
    for path in &args.paths {
        for (name, text) in texts(path)? {
            files += 1;
            let mut parsed = api::parse_documents(&name, &text, &api::Options::default());
            control::admission::admit(&mut parsed);
            objects += parsed.objects.len();
            let kinds = parsed.objects.iter().filter(|o| matches!(o.spec, api::Spec::Unsupported));
            unsupported.extend(kinds.map(|o| o.meta.kind.clone()));
            problems.extend(parsed.problems);
        }
    }
    unsupported.sort();
    unsupported.dedup();
    let errors = problems.iter().filter(|p| p.is_error()).count();
    match args.output {
        Format::Json | Format::Yaml => {
            let document = json!({
                "apiVersion": "filamesh.dev/v1alpha1", "kind": "ValidationReport", "valid": errors == 0,
                "files": files, "objects": objects, "notActedOn": unsupported, "findings": to_value(&problems)?,
            });
            document_out(args.output, &document)?;
        }
        _ => {
            for problem in &problems {
                if problem.is_error() { put(&format!("{problem}\n"))? } else { say(problem) }
            }
            if !unsupported.is_empty() {
                say(format_args!("kinds that are checked and not acted on yet: {}", unsupported.join(", ")));
            }
            if errors == 0 {
                say(format_args!("{objects} objects in {files} files are valid"));
            }
        }
    }
    if errors == 0 {
        Ok(())
    } else {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        Err(Failure::new(Code::BadInput, format!("{} in {}", count(errors, "error"), count(files, "file"))))
    }
}

/// The texts of a file, of standard input or of all YAML and JSON files below a directory, by name.
pub fn texts(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| Failure::new(Code::BadInput, format!("standard input: {e}")))?;
        return Ok(vec![("<stdin>".to_owned(), text)]);
    }
    let mut files = Vec::new();
    collect(path, &mut files, true)?;
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read(&path)
            .map_err(|e| Failure::new(Code::BadInput, format!("{}: {e}", path.display())))?;
        let text = String::from_utf8(text).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Failure::new(Code::BadInput, format!("{}: not UTF-8 at byte {at}", path.display()))
        })?;
        Ok((path.display().to_string(), text))
    };
    files.into_iter().map(read).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, given: bool) -> Outcome {
    let bad = |e: std::io::Error| Failure::new(Code::BadInput, format!("{}: {e}", path.display()));
    if std::fs::metadata(path).map_err(bad)?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(bad)? {
            collect(&entry.map_err(bad)?.path(), files, false)?;
        }
    } else if given || is_configuration(path) {
        files.push(path.to_owned());
    }
    Ok(())
}

fn is_configuration(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "json"))
}
