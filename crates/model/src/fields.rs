//! Which fields are honoured, which are harmless, and that everything else is refused by its path.
//!
//! "Accepted and silently ignored" must not happen: before a message is compiled its encoded bytes are
//! walked, and the first field that the table of honoured and harmless fields does not name is refused,
//! unknown field numbers and unknown `Any`s included. The walk reads tags and lengths only; it costs a
//! fraction of decoding.
use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{FieldDescriptor, Kind};

use crate::protobuf::{self, Value};
use crate::refusal::{Compiled, Refusal};

/// Messages nested deeper than this are refused: no honest resource is, and the walk is recursive.
const MAX_DEPTH: usize = 64;

/// Refuses the first field set in an encoded message that is neither honoured nor harmless, by its path.
pub fn check(full_name: &str, bytes: &[u8]) -> Compiled<()> {
    match SCHEMA.get(full_name) {
        Some(message) => walk(message, bytes, 0),
        None => refuse!("messages of type {full_name} are not supported"),
    }
}

struct Message {
    name: String,
    fields: HashMap<u32, Field>,
    /// Number of the field by which the message says that its extension may be left out where it is not known.
    is_optional: Option<u32>,
}

struct Field {
    name: String,
    repeated: bool,
    meaning: Meaning,
}

enum Meaning {
    /// Nothing inside to look at: scalars, well-known types, harmless messages.
    Plain,
    Message(String),
    Any,
    /// A map's entries: key 1, and this in 2.
    Map(Box<Meaning>),
    Refused,
}

const ANY: &str = "google.protobuf.Any";

fn walk(message: &Message, bytes: &[u8], depth: usize) -> Compiled<()> {
    if depth > MAX_DEPTH {
        return refuse!("nested deeper than {MAX_DEPTH}");
    }
    let is_optional = |field: protobuf::Field<'_>| {
        Some(field.number) == message.is_optional && field.whole.last() != Some(&0)
    };
    let lenient = message.is_optional.is_some() && protobuf::fields(bytes).flatten().any(is_optional);
    for (position, field) in protobuf::fields(bytes).enumerate() {
        let Ok(field) = field else { return refuse!("does not decode as {}", message.name) };
        let Some(known) = message.fields.get(&field.number) else {
            return refuse!("unknown field {} of {}", field.number, message.name);
        };
        let at = |refusal: Refusal| refusal.within(&path(known, bytes, field.number, position));
        let inner = match field.value {
            Value::Bytes(inner) => inner,
            Value::Varint | Value::Fixed => &[],
        };
        visit(&known.meaning, inner, depth, lenient).map_err(at)?;
    }
    Ok(())
}

/// `lenient`: an extension that is not known is left out by whoever compiles the message.
fn visit(meaning: &Meaning, bytes: &[u8], depth: usize, lenient: bool) -> Compiled<()> {
    match meaning {
        Meaning::Plain => Ok(()),
        Meaning::Refused => refuse!("is not supported"),
        Meaning::Message(name) => match SCHEMA.get(name) {
            Some(message) => walk(message, bytes, depth + 1),
            None => refuse!("messages of type {name} are not supported"),
        },
        Meaning::Map(value) => {
            let mut key = "";
            let mut inner: &[u8] = &[];
            for field in protobuf::fields(bytes) {
                match field {
                    Ok(f) => match (f.number, f.value) {
                        (1, Value::Bytes(bytes)) => key = std::str::from_utf8(bytes).unwrap_or("?"),
                        (2, Value::Bytes(bytes)) => inner = bytes,
                        _ => {}
                    },
                    Err(_) => return refuse!("does not decode"),
                }
            }
            visit(value, inner, depth + 1, false).map_err(|e| e.within(&format!("[{key}]")))
        }
        Meaning::Any => {
            let mut url = "";
            let mut inner: &[u8] = &[];
            for field in protobuf::fields(bytes) {
                match field {
                    Ok(f) => match (f.number, f.value) {
                        (1, Value::Bytes(bytes)) => url = std::str::from_utf8(bytes).unwrap_or("?"),
                        (2, Value::Bytes(bytes)) => inner = bytes,
                        _ => {}
                    },
                    Err(_) => return refuse!("does not decode"),
                }
            }
            match SCHEMA.get(url.rsplit('/').next().unwrap_or_default()) {
                Some(message) => walk(message, inner, depth + 1),
                None if lenient => Ok(()),
                None => refuse!("{url} is not supported"),
            }
        }
    }
}

/// `name` or `name[i]`, the position counted only now that it is needed.
fn path(field: &Field, bytes: &[u8], number: u32, position: usize) -> String {
    if !field.repeated {
        return field.name.clone();
    }
    let before = protobuf::fields(bytes).take(position).flatten().filter(|f| f.number == number).count();
    format!("{}[{before}]", field.name)
}

static SCHEMA: LazyLock<HashMap<String, Message>> = LazyLock::new(|| {
    let mut schema = HashMap::new();
    for line in TABLE.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (name, fields) = line.split_once(':').unwrap_or((line, ""));
        let (honoured, harmless) = fields.split_once('|').unwrap_or((fields, ""));
        let Some(descriptor) = xds::json::descriptor_of(name) else { continue };
        let listed = |list: &str, field: &str| list.split_whitespace().any(|w| w == field);
        let fields = descriptor.fields().map(|f| {
            let meaning = if listed(harmless, f.name()) {
                Meaning::Plain
            } else if listed(honoured, f.name()) {
                meaning(&f)
            } else {
                Meaning::Refused
            };
            (f.number(), Field { name: f.name().to_owned(), repeated: f.is_list(), meaning })
        });
        let is_optional = descriptor.get_field_by_name("is_optional").map(|field| field.number());
        let message = Message { name: name.to_owned(), fields: fields.collect(), is_optional };
        schema.insert(name.to_owned(), message);
    }
    schema
});

fn meaning(field: &FieldDescriptor) -> Meaning {
    let of = |kind: Kind| match kind {
        Kind::Message(m) if m.full_name() == ANY => Meaning::Any,
        Kind::Message(m) if m.full_name().starts_with("google.protobuf.") => Meaning::Plain,
        Kind::Message(m) => Meaning::Message(m.full_name().to_owned()),
        _ => Meaning::Plain,
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            Meaning::Map(Box::new(of(entry.map_entry_value_field().kind())))
        }
        kind => of(kind),
    }
}

/// `message: honoured fields | harmless fields`. A field in neither list is refused.
///
/// Harmless: names of statistics and runtime keys (there is no runtime), metadata read for provenance
/// only, and settings of what filamesh does differently but never worse (accept batching, connection
/// balance: one listener per worker does both; merging of updates; warm-up of new hosts without health
/// checks; session resumption; an endpoint's second address: the first is the one used).
const TABLE: &str = include_str!("fields.txt");

#[cfg(test)]
mod tests {
    use super::*;

    /// A misspelt line would refuse a field, or a whole message, for ever.
    #[test]
    fn every_name_in_the_table_exists() {
        for line in TABLE.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (name, fields) = line.split_once(':').unwrap_or((line, ""));
            let descriptor = xds::json::descriptor_of(name);
            let descriptor = descriptor.unwrap_or_else(|| panic!("no message {name}"));
            for field in fields.split_whitespace().filter(|f| *f != "|") {
                assert!(descriptor.get_field_by_name(field).is_some(), "{name} has no field {field}");
            }
        }
    }

    /// Whatever a honoured field leads to has to be in the table too.
    #[test]
    fn every_message_that_is_reached_is_in_the_table() {
        for message in SCHEMA.values() {
            for field in message.fields.values() {
                let inner = match &field.meaning {
                    Meaning::Message(name) => Some(name),
                    Meaning::Map(value) => match &**value {
                        Meaning::Message(name) => Some(name),
                        _ => None,
                    },
                    _ => None,
                };
                if let Some(inner) = inner {
                    assert!(SCHEMA.contains_key(inner), "{}.{} leads to {inner}", message.name, field.name);
                }
            }
        }
    }
}
