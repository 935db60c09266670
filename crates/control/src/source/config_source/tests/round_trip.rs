//! Objects as users write them, as protobuf and back: the same objects.
//!
//! Packed once by our own definitions of Istio's messages, and once by Istio's own (`mcp-peer convert`, a program in Go over
//! `istio.io/api`), so that a wrong number or type in a definition shows.
#![expect(clippy::print_stdout, reason = "what is skipped, and what was counted")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mcp::COLLECTIONS;

use super::super::object;
use super::*;
use crate::admission;

/// Documents of kinds that have a collection, whose objects are accepted as they are written.
fn documents() -> Vec<(Value, Arc<api::Object>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    collect(&root.join("tests/data"), &mut texts);
    let shared = root.ancestors().map(|dir| dir.join("shared/corpus")).find(|dir| dir.is_dir());
    match shared {
        Some(shared) => collect(&shared, &mut texts),
        None => println!("SKIPPED: round trip of the shared corpus (no shared corpus)"),
    }
    let mut documents = BTreeMap::new();
    for text in &texts {
        for tree in api::yaml::load(text, api::yaml::Limits::default()).into_iter().flatten() {
            let mut parsed = api::parse_tree("written", text, &tree, &api::Options::default());
            admission::admit(&mut parsed);
            let document = tree.to_json();
            let kind = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
            let type_url = format!("{}/{}", kind("apiVersion"), kind("kind"));
            if let ([object], Some(_)) = (parsed.objects.as_slice(), mcp::Collection::of(&type_url)) {
                documents.insert(document.to_string(), (document, object.clone()));
            }
        }
    }
    documents.into_values().collect()
}

/// Every YAML text below a directory; lines of JSON hold some in a field.
fn collect(directory: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let text = || std::fs::read_to_string(&path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => collect(&path, texts),
            Some("yaml" | "yml") => texts.push(text()),
            Some("jsonl") => {
                for line in text().lines() {
                    let case: Value = serde_json::from_str(line).unwrap();
                    let fields =
                        ["yaml", "config", "policies"].iter().filter_map(|field| case[field].as_str());
                    texts.extend(fields.map(str::to_owned));
                }
            }
            _ => {}
        }
    }
}

/// What a resource makes, compared with what was written.
fn compare(reader: &mcp::Reader, written: &(Value, Arc<api::Object>), sent: &Any) -> Result<(), String> {
    let (document, object) = written;
    let field = |name: &str| document[name].as_str().unwrap();
    let type_url = format!("{}/{}", field("apiVersion"), field("kind"));
    let collection = mcp::Collection::of(&type_url).unwrap();
    let (name, resource) = mcp::Resource::open(sent).map_err(|e| e.to_string())?;
    let read = object::read(reader, "read", collection, &name, &resource);
    let Some(back) = read.object else { return Err(format!("{:?}", read.problems)) };
    if back.identity() != object.identity() || back.meta.labels != object.meta.labels {
        return Err(format!("{:?} is not {:?}", back.meta, object.meta));
    }
    if back.spec != object.spec {
        return Err(format!("{:?} is not {:?}", back.spec, object.spec));
    }
    Ok(())
}

fn report(name: &str, count: usize, wrong: &[String]) {
    println!("{name}: {count} objects, {} are others when they come back", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_object_comes_back_as_it_was_written() {
    let documents = documents();
    let mut wrong = Vec::new();
    let mut kinds = BTreeMap::new();
    let reader = mcp::Reader::default();
    for written in &documents {
        *kinds.entry(written.0["kind"].to_string()).or_insert(0) += 1;
        match pack(&written.0) {
            Ok(sent) => {
                wrong.extend(compare(&reader, written, &sent).err().map(|e| format!("{}: {e}", written.0)))
            }
            Err(reason) => wrong.push(format!("{}: {reason}", written.0)),
        }
    }
    println!("{kinds:?}");
    report("our own messages", documents.len(), &wrong);
}

/// `FILAMESH_MCP_PEER`: the program of `tests/config_source/peer`.
#[test]
fn istios_own_messages_are_read_as_they_were_written() {
    let Some(peer) = std::env::var_os("FILAMESH_MCP_PEER") else {
        println!("SKIPPED: round trip through Istio's own messages (no mcp-peer)");
        return;
    };
    let documents = documents();
    let mut peer =
        Command::new(peer).arg("convert").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = peer.stdin.take().unwrap();
    let lines: String = documents.iter().map(|(document, _)| format!("{document}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = peer.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(answers.len(), documents.len());
    let mut wrong = Vec::new();
    let mut refused = 0;
    let reader = mcp::Reader::default();
    for (written, answer) in documents.iter().zip(&answers) {
        let Some(text) = answer["resource"].as_str() else {
            // Istio's messages do not take what our reader takes.
            refused += 1;
            println!("{}: {}", written.0, answer["failed"]);
            continue;
        };
        let sent = <Any as xds::Message>::decode(hex(text).as_slice()).unwrap();
        wrong.extend(compare(&reader, written, &sent).err().map(|e| format!("{}: {e}", written.0)));
        // Also of kinds whose fields no object of ours has.
        let document = |sent: &Any| {
            let (name, resource) = mcp::Resource::open(sent).unwrap();
            let collection = COLLECTIONS.iter().find(|c| written.0["kind"] == c.kind).unwrap();
            reader.document(collection, &name, &resource).unwrap()
        };
        let (theirs, ours) = (document(&sent), document(&pack(&written.0).unwrap()));
        wrong.extend((theirs != ours).then(|| format!("{theirs} is not {ours}")));
    }
    report("Istio's own messages", documents.len() - refused, &wrong);
    assert_eq!(refused, 0);
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
