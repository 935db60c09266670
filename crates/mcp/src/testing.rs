//! A document as the resource that a server sends, for tests.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::{Message, Name as _};
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::Any;
use serde_json::Value as Json;

use crate::{Collection, Metadata, Reader, Resource};

static READER: LazyLock<Reader> = LazyLock::new(Reader::default);

/// The other way round of [`Reader::document`]; an error says what the definitions do not know.
pub fn pack(document: &Json) -> Result<Any, String> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let type_url = format!("{}/{}", text(&document["apiVersion"]), text(&document["kind"]));
    let collection = Collection::of(&type_url).ok_or_else(|| format!("no collection {type_url}"))?;
    let descriptor = READER.descriptors().get_message_by_name(collection.message);
    let descriptor = descriptor.ok_or_else(|| format!("no message {}", collection.message))?;
    let empty = Json::Object(serde_json::Map::new());
    let spec = document.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let spec = in_seconds(&descriptor, spec);
    let body =
        DynamicMessage::deserialize_with_options(descriptor, &spec, &options).map_err(|e| e.to_string())?;
    let metadata = &document["metadata"];
    let pairs = |field: &str| -> BTreeMap<String, String> {
        let entries = metadata[field].as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.clone(), text(value))).collect()
    };
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let resource = Resource {
        metadata: Some(Metadata {
            name: format!("{namespace}/{}", text(&metadata["name"])),
            create_time: text(&metadata["creationTimestamp"]).parse().ok(),
            version: text(&metadata["resourceVersion"]),
            labels: pairs("labels"),
            annotations: pairs("annotations"),
        }),
        body: Some(Any {
            type_url: format!("type.googleapis.com/{}", collection.message),
            value: body.encode_to_vec(),
        }),
    };
    Ok(Any { type_url: Resource::type_url(), value: resource.encode_to_vec() })
}

/// The JSON of a message with every duration in seconds: users write `1h` and `5ms`, as Go does, proto3's JSON does not.
fn in_seconds(message: &MessageDescriptor, json: &Json) -> Json {
    if message.full_name() == "google.protobuf.Duration" {
        return json.as_str().and_then(seconds).map_or_else(|| json.clone(), Json::String);
    }
    let Json::Object(fields) = json else { return json.clone() };
    let field = |(name, value): (&String, &Json)| {
        let known = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
        (name.clone(), known.map_or_else(|| value.clone(), |known| field_in_seconds(&known, value)))
    };
    Json::Object(fields.iter().map(field).collect())
}

fn field_in_seconds(field: &FieldDescriptor, json: &Json) -> Json {
    let Kind::Message(message) = field.kind() else { return json.clone() };
    match json {
        Json::Array(items) if field.is_list() => {
            Json::Array(items.iter().map(|item| in_seconds(&message, item)).collect())
        }
        Json::Object(entries) if field.is_map() => {
            let Kind::Message(value) = message.map_entry_value_field().kind() else { return json.clone() };
            Json::Object(entries.iter().map(|(k, v)| (k.clone(), in_seconds(&value, v))).collect())
        }
        json => in_seconds(&message, json),
    }
}

/// `1h30m` as `5400s`; `None`: no such duration.
fn seconds(text: &str) -> Option<String> {
    let mut nanos = 0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let unit = match unit {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    Some(format!("{:.9}s", nanos.round() / 1e9))
}
