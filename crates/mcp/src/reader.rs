//! A resource as the document that a user would have written.

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, SerializeOptions, Value};
use prost_types::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::collection::Collection;
use crate::resource::{Name, Resource};

/// Reads bodies by the descriptors of `proto/`, which are held for as long as a reader is.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: DescriptorPool,
}

/// Why the body of an object cannot be read. What is wrong with what it says, `api` finds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("its body is a {found:?}, expected a {expected}")]
    Type { expected: &'static str, found: String },
    #[error("its body does not decode as a {message}: {reason}")]
    Decode { message: &'static str, reason: String },
    /// Of a newer Istio than the one these definitions are of (1.32), or no message of this kind at all.
    #[error("unknown field {number} of {message}")]
    UnknownField { message: String, number: u32 },
    #[error("its body has no JSON form: {0}")]
    Json(String),
}

impl Default for Reader {
    fn default() -> Self {
        // Made by our own build script from our own files: that it decodes is checked by every test of this crate.
        let pool =
            DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_ref())
                .unwrap_or_else(|e| panic!("the built-in descriptors do not decode: {e}"));
        Self { pool }
    }
}

impl Reader {
    /// The descriptors, for making messages.
    pub fn descriptors(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The object with `apiVersion`, `kind`, `metadata` and `spec`, as in YAML.
    pub fn document(
        &self,
        collection: &Collection,
        name: &Name,
        resource: &Resource,
    ) -> Result<Json, BodyError> {
        let mut metadata = Map::new();
        metadata.insert("name".into(), name.name.clone().into());
        metadata.insert("namespace".into(), name.namespace.clone().into());
        if let Some(written) = &resource.metadata {
            if !written.version.is_empty() {
                metadata.insert("resourceVersion".into(), written.version.clone().into());
            }
            // Go's zero time is year 1: a server without a time sends that, or 1970.
            if let Some(created) = written.create_time.as_ref().filter(|time| time.seconds > 0) {
                metadata.insert("creationTimestamp".into(), timestamp(created).into());
            }
            for (field, pairs) in [("labels", &written.labels), ("annotations", &written.annotations)] {
                if !pairs.is_empty() {
                    metadata.insert(field.into(), json!(pairs));
                }
            }
        }
        Ok(json!({
            "apiVersion": collection.api_version,
            "kind": collection.kind,
            "metadata": metadata,
            "spec": self.spec(collection, resource)?,
        }))
    }

    /// The body in proto3's JSON, as Istio itself writes it: field names in camelCase, enumerations by name, durations in
    /// seconds, fields with their zero value left out.
    fn spec(&self, collection: &Collection, resource: &Resource) -> Result<Json, BodyError> {
        let Some(body) = &resource.body else { return Ok(json!({})) };
        let wrong_type = || BodyError::Type { expected: collection.message, found: body.type_url.clone() };
        if body.type_url.rsplit('/').next() != Some(collection.message) {
            return Err(wrong_type());
        }
        let descriptor = self.pool.get_message_by_name(collection.message).ok_or_else(wrong_type)?;
        let message = DynamicMessage::decode(descriptor, body.value.as_slice())
            .map_err(|e| BodyError::Decode { message: collection.message, reason: e.to_string() })?;
        refuse_unknown(&message)?;
        let options = SerializeOptions::new().stringify_64_bit_integers(false);
        message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|e| BodyError::Json(e.to_string()))
    }
}

/// Finds the first field that the descriptors do not know, at any depth: to leave it out would be to do something else than
/// what the object says.
fn refuse_unknown(message: &DynamicMessage) -> Result<(), BodyError> {
    if let Some(unknown) = message.unknown_fields().next() {
        let message = message.descriptor().full_name().to_owned();
        return Err(BodyError::UnknownField { message, number: unknown.number() });
    }
    message.fields().try_for_each(|(_, value)| refuse_unknown_in(value))
}

fn refuse_unknown_in(value: &Value) -> Result<(), BodyError> {
    match value {
        Value::Message(message) => refuse_unknown(message),
        Value::List(items) => items.iter().try_for_each(refuse_unknown_in),
        Value::Map(entries) => entries.values().try_for_each(refuse_unknown_in),
        _ => Ok(()),
    }
}

/// RFC 3339 to the second, as Kubernetes has it.
fn timestamp(time: &Timestamp) -> String {
    Timestamp { seconds: time.seconds, nanos: 0 }.to_string()
}

#[cfg(test)]
mod tests;
