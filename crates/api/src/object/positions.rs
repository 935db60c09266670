//! Where each field of an object was written, in 12 bytes a field.

use crate::yaml::{Node, Position, Value};

/// Sorted by the hash of the path. A clash of hashes (one in 2^32 per pair of fields) misplaces a message, nothing else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Positions {
    entries: Box<[(u32, Position)]>,
}

impl Positions {
    /// Records every value below `root`; a mapping's values are placed at their keys.
    pub(crate) fn of(root: &Node) -> Self {
        let mut entries = vec![(hash(""), root.at)];
        record(root, &mut String::new(), &mut entries);
        entries.sort_unstable();
        Self { entries: entries.into() }
    }

    /// The place of `path`, else of the longest prefix of it that was written.
    pub(crate) fn nearest(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(position) = self.exact(path) {
                return position;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None if path.is_empty() => return Position::default(),
                None => path = "",
            }
        }
    }

    fn exact(&self, path: &str) -> Option<Position> {
        let wanted = hash(path);
        let index = self.entries.binary_search_by_key(&wanted, |(hash, _)| *hash).ok()?;
        self.entries.get(index).map(|(_, position)| *position)
    }
}

fn record(node: &Node, path: &mut String, entries: &mut Vec<(u32, Position)>) {
    let parent = path.len();
    match &node.value {
        Value::Mapping(fields) => {
            for (key, value) in fields {
                push_field(path, &key.name);
                entries.push((hash(path), key.at));
                record(value, path, entries);
                path.truncate(parent);
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                push_index(path, index);
                entries.push((hash(path), item.at));
                record(item, path, entries);
                path.truncate(parent);
            }
        }
        _ => {}
    }
}

/// Paths are written as Kubernetes does: `spec.http[0].match`; a key with dots in brackets: `labels[app.kubernetes.io/name]`.
pub(crate) fn push_field(path: &mut String, name: &str) {
    if name.contains(['.', '[', ']', '/', ' ']) {
        path.push('[');
        path.push_str(name);
        path.push(']');
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

pub(crate) fn push_index(path: &mut String, index: usize) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    let _ = write!(path, "[{index}]");
}

/// FNV-1a: short keys, no dependency, the same on every machine.
fn hash(path: &str) -> u32 {
    path.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
