//! One resource as an object: the document that a user would have written, judged by the same rules.

use std::sync::Arc;

use api::yaml::{Key, Node, Position, Value};
use api::{Object, Problem};
use mcp::{BodyError, Collection, Name, Reader, Resource};
use serde_json::Value as Json;

use crate::admission;
use crate::source::file::whole_file;

/// What became of a resource.
pub(super) struct Read {
    /// None: it is refused, and the problems say why.
    pub(super) object: Option<Arc<Object>>,
    pub(super) problems: Vec<Problem>,
    /// Why its body cannot be read, which its server is told.
    pub(super) unreadable: Option<String>,
}

/// `place` is what objects and problems are said to come from.
pub(super) fn read(
    reader: &Reader,
    place: &str,
    collection: &Collection,
    name: &Name,
    resource: &Resource,
) -> Read {
    let document = match reader.document(collection, name, resource) {
        Ok(document) => document,
        Err(error) => return unreadable(place, collection, name, &error),
    };
    let mut parsed = api::parse_tree(place, "", &node(&document), &api::Options::default());
    admission::admit(&mut parsed);
    Read { object: parsed.objects.into_iter().next(), problems: parsed.problems, unreadable: None }
}

fn unreadable(place: &str, collection: &Collection, name: &Name, error: &BodyError) -> Read {
    let problem = Problem {
        object: Some(format!("{}/{name}", collection.kind)),
        ..whole_file(place, error.to_string())
    };
    Read { object: None, problems: vec![problem], unreadable: Some(error.to_string()) }
}

/// Nothing of it was written in lines.
fn node(json: &Json) -> Node {
    let at = Position::default();
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value.into()),
            (None, Some(value)) => Value::Int(value.into()),
            (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Sequence(items.iter().map(node).collect()),
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| (Key { name: name.clone(), at }, node(value));
            Value::Mapping(fields.iter().map(field).collect())
        }
    };
    Node { at, value }
}
