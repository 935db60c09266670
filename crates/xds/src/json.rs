//! Proto3 JSON both ways, every `Any` expanded by its `@type`.
//!
//! The descriptors know the fields of `proto/` and no others, so a field that filamesh does not know is
//! refused by name when JSON is read.
use std::sync::{Mutex, PoisonError};

use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};

use crate::{Any, Name};

/// Three megabytes once decoded, and used now and then by people: kept only while somebody has use for it.
static POOL: Mutex<Option<DescriptorPool>> = Mutex::new(None);

/// The descriptors of all messages of this crate; decoded at the first use.
pub fn descriptors() -> DescriptorPool {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.get_or_insert_with(|| {
        // Made by our own build script from our own files: that it decodes is checked by every test of this crate.
        DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_ref())
            .unwrap_or_else(|e| panic!("the built-in descriptors do not decode: {e}"))
    })
    .clone()
}

/// Gives the memory of the descriptors back; the next use decodes them again (some milliseconds).
pub fn forget_descriptors() {
    *POOL.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Why JSON and a message could not be turned into each other.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("unknown message type {0}")]
    UnknownType(String),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Whether this build knows the type, by its full name or its type URL.
pub fn knows(type_url: &str) -> bool {
    descriptors().get_message_by_name(full_name(type_url)).is_some()
}

/// The message as proto3 JSON, field names in lowerCamelCase as `protojson` has them.
pub fn to_json<M: Name>(message: &M) -> Result<serde_json::Value, JsonError> {
    bytes_to_json(&M::full_name(), &message.encode_to_vec(), &SerializeOptions::new())
}

/// The message in the `Any` as proto3 JSON with its `@type`, field names as in the proto: how Envoy's admin
/// endpoints print.
pub fn any_to_json(any: &Any) -> Result<serde_json::Value, JsonError> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut value = bytes_to_json(full_name(&any.type_url), &any.value, &options)?;
    if let serde_json::Value::Object(map) = &mut value {
        map.shift_insert(0, "@type".to_owned(), any.type_url.clone().into());
    }
    Ok(value)
}

/// The message of this type read from proto3 JSON. Unknown fields are errors.
pub fn from_json<M: Name + Default>(value: &serde_json::Value) -> Result<M, JsonError> {
    let full_name = M::full_name();
    let descriptor =
        descriptors().get_message_by_name(&full_name).ok_or(JsonError::UnknownType(full_name))?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor, value, &options)?;
    Ok(dynamic.transcode_to::<M>()?)
}

fn bytes_to_json(
    full_name: &str,
    bytes: &[u8],
    options: &SerializeOptions,
) -> Result<serde_json::Value, JsonError> {
    let descriptor = descriptors()
        .get_message_by_name(full_name)
        .ok_or_else(|| JsonError::UnknownType(full_name.to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, bytes)?;
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, options)?)
}

fn full_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// The descriptor of a message type, for walking its fields.
pub fn descriptor_of(type_url: &str) -> Option<prost_reflect::MessageDescriptor> {
    descriptors().get_message_by_name(full_name(type_url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hcm, listener, pack};

    fn sample() -> listener::Listener {
        let manager = hcm::HttpConnectionManager { stat_prefix: "in".into(), ..Default::default() };
        let filter = listener::Filter {
            name: "hcm".into(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(pack(&manager))),
        };
        listener::Listener {
            name: "l".into(),
            filter_chains: vec![listener::FilterChain { filters: vec![filter], ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn a_message_survives_json_with_its_any_expanded() {
        let json = to_json(&sample()).unwrap();
        let config = &json["filterChains"][0]["filters"][0]["typedConfig"];
        assert_eq!(config["statPrefix"], "in");
        assert_eq!(from_json::<listener::Listener>(&json).unwrap(), sample());
    }

    #[test]
    fn snake_case_is_accepted_and_an_unknown_field_is_named() {
        let listener: listener::Listener =
            from_json(&serde_json::json!({"name": "l", "stat_prefix": "p"})).unwrap();
        assert_eq!(listener.stat_prefix, "p");
        let error = from_json::<listener::Listener>(&serde_json::json!({"udp_listener_config": {}}));
        assert!(error.unwrap_err().to_string().contains("udp_listener_config"));
    }
}
