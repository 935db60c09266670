//! Small pieces of Envoy messages.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Object;
use xds::core::{Address, CidrRange, Metadata, Pipe, SocketAddress, address, socket_address};
use xds::{Name, Struct, Value, value};

pub fn duration(from: Duration) -> xds::Duration {
    xds::Duration {
        seconds: i64::try_from(from.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(from.subsec_nanos()).unwrap_or_default(),
    }
}

pub fn seconds(seconds: i64) -> xds::Duration {
    xds::Duration { seconds, nanos: 0 }
}

pub fn text(value: impl Into<String>) -> Value {
    Value { kind: Some(value::Kind::StringValue(value.into())) }
}

pub fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(value::Kind::ListValue(xds::ListValue { values })) }
}

pub fn structure(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

pub fn struct_value(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value { kind: Some(value::Kind::StructValue(structure(fields))) }
}

/// Where a resource comes from: `istio.config` as Istio has it, and `filamesh.rule`, the path within that object.
pub fn provenance(object: &Object, rule: &str) -> Metadata {
    let mut filter_metadata = BTreeMap::new();
    filter_metadata.insert("istio".to_owned(), structure([("config", text(config_path(object)))]));
    if !rule.is_empty() {
        filter_metadata.insert("filamesh".to_owned(), structure([("rule", text(rule))]));
    }
    Metadata { filter_metadata, ..Default::default() }
}

/// `/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME`.
pub fn config_path(object: &Object) -> String {
    let mut kind = String::new();
    for (at, letter) in object.meta.kind.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            kind.push('-');
        }
        kind.push(letter.to_ascii_lowercase());
    }
    // Istio names the version it works with, whichever was written.
    let version = match object.meta.api_version.split_once('/') {
        Some((group @ ("networking.istio.io" | "security.istio.io"), _)) => format!("{group}/v1"),
        _ => object.meta.api_version.clone(),
    };
    format!("/apis/{version}/namespaces/{}/{kind}/{}", object.namespace(), object.name())
}

/// A socket address, or a Unix socket if `host` is `unix://...` or a path.
pub fn address(host: &str, port: u32) -> Address {
    let path = host.strip_prefix("unix://").or_else(|| host.starts_with(['/', '@']).then_some(host));
    let address = match path {
        Some(path) => address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 }),
        None => address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
            ..Default::default()
        }),
    };
    Address { address: Some(address) }
}

/// An address or `address/length`; `None` if it is neither.
pub fn cidr(text: &str) -> Option<CidrRange> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let parsed: std::net::IpAddr = address.parse().ok()?;
    let whole = if parsed.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(whole);
    (length <= whole).then(|| CidrRange { address_prefix: address.to_owned(), prefix_len: Some(length) })
}

pub fn network_filter<M: Name>(name: &str, config: &M) -> xds::listener::Filter {
    xds::listener::Filter {
        name: name.to_owned(),
        config_type: Some(xds::listener::filter::ConfigType::TypedConfig(xds::pack(config))),
    }
}

pub fn listener_filter<M: Name>(name: &str, config: &M) -> xds::listener::ListenerFilter {
    xds::listener::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(xds::listener::listener_filter::ConfigType::TypedConfig(xds::pack(config))),
        filter_disabled: None,
    }
}

pub fn ads() -> xds::core::ConfigSource {
    xds::core::ConfigSource {
        config_source_specifier: Some(xds::core::config_source::ConfigSourceSpecifier::Ads(
            xds::core::AggregatedConfigSource {},
        )),
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: xds::core::ApiVersion::V3 as i32,
    }
}
