//! Reading an Envoy bootstrap: YAML or JSON into the message, an error with its place.
use std::path::Path;

use api::yaml::{Limits, Node, Value as Yaml, load};
use serde_json::{Map, Number, Value};
use xds::bootstrap::Bootstrap;

use crate::exit::{Code, Failure};

/// The bootstrap in the file. A field that is not known is refused by name.
pub fn read(path: &Path) -> Result<Bootstrap, Failure> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|e| Failure::new(Code::BadInput, format!("{name}: {e}")))?;
    let mut documents = load(&text, Limits::default());
    let document = match documents.len() {
        1 => documents
            .remove(0)
            .map_err(|e| Failure::input(format!("{name}:{}:{}: {}", e.at.line, e.at.column, e.message)))?,
        found => return Err(Failure::input(format!("{name}: one document expected, found {found}"))),
    };
    xds::json::from_json(&json(&document)).map_err(|e| {
        let message = e.to_string();
        let place = unknown_field(&message).and_then(|field| find(&document, field));
        match place {
            Some(at) => Failure::input(format!("{name}:{}:{}: {message}", at.line, at.column)),
            None => Failure::input(format!("{name}: {message}")),
        }
    })
}

/// The field an error of the JSON reader quotes: ``unrecognized field name 'x'``.
fn unknown_field(message: &str) -> Option<&str> {
    message.split(['\'', '`']).nth(1)
}

/// Where the first key of this name was written.
fn find(node: &Node, field: &str) -> Option<api::yaml::Position> {
    if let Some(entries) = node.entries() {
        return entries
            .iter()
            .find_map(|(key, value)| if key.name == field { Some(key.at) } else { find(value, field) });
    }
    node.items()?.iter().find_map(|item| find(item, field))
}

fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(*value),
        Yaml::Int(value) => match i64::try_from(*value) {
            Ok(value) => Value::Number(value.into()),
            Err(_) => u64::try_from(*value).map_or_else(|_| Value::String(value.to_string()), Into::into),
        },
        Yaml::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect()),
        Yaml::Mapping(entries) => Value::Object(
            entries.iter().map(|(key, value)| (key.name.clone(), json(value))).collect::<Map<_, _>>(),
        ),
    }
}
