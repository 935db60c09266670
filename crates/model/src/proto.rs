//! Reading the well-known messages: durations, percentages, structs, addresses.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::refusal::Compiled;

/// The duration, refused when negative or beyond what a clock can hold.
pub(crate) fn duration(message: &xds::Duration) -> Compiled<Duration> {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(message.seconds), u32::try_from(message.nanos)) else {
        return refuse!("a duration cannot be negative");
    };
    // Proto durations end at 10 000 years; nanoseconds carry below one second.
    if seconds > 315_576_000_000 || nanos > 999_999_999 {
        return refuse!("{seconds}s {nanos}ns is no valid duration");
    }
    Ok(Duration::new(seconds, nanos))
}

pub(crate) fn optional_duration(message: Option<&xds::Duration>) -> Compiled<Option<Duration>> {
    message.map(duration).transpose()
}

/// Set and not zero: the many fields where `0s` means "none".
pub(crate) fn nonzero_duration(message: Option<&xds::Duration>) -> Compiled<Option<Duration>> {
    Ok(optional_duration(message)?.filter(|d| !d.is_zero()))
}

pub(crate) fn string_value(value: &xds::Value) -> Option<&str> {
    match value.kind.as_ref()? {
        xds::value::Kind::StringValue(s) => Some(s),
        _ => None,
    }
}

/// A `Struct`'s value as JSON, for access log formats and host metadata.
pub(crate) fn json(value: &xds::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    use xds::value::Kind;
    match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(n)) => serde_json::Number::from_f64(*n).map_or(Json::Null, Json::Number),
        Some(Kind::StringValue(s)) => Json::String(s.clone()),
        Some(Kind::BoolValue(b)) => Json::Bool(*b),
        Some(Kind::StructValue(s)) => json_object(s),
        Some(Kind::ListValue(l)) => Json::Array(l.values.iter().map(json).collect()),
    }
}

pub(crate) fn json_object(value: &xds::Struct) -> serde_json::Value {
    serde_json::Value::Object(value.fields.iter().map(|(k, v)| (k.clone(), json(v))).collect())
}

/// Where something listens or can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Ip(SocketAddr),
    Name(Arc<str>, u16),
    Pipe(Arc<str>),
}

pub(crate) fn place(address: Option<&xds::core::Address>) -> Compiled<Place> {
    use xds::core::address::Address as A;
    match address.and_then(|a| a.address.as_ref()) {
        Some(A::SocketAddress(socket)) => socket_address(socket),
        Some(A::Pipe(pipe)) => Ok(Place::Pipe(pipe.path.as_str().into())),
        Some(A::EnvoyInternalAddress(_)) => refuse!("internal listener addresses are not supported"),
        None => refuse!("an address is required"),
    }
}

pub(crate) fn socket_address(socket: &xds::core::SocketAddress) -> Compiled<Place> {
    use xds::core::socket_address::{PortSpecifier, Protocol};
    if socket.protocol != Protocol::Tcp as i32 {
        return refuse!("only TCP addresses are supported");
    }
    if !socket.resolver_name.is_empty() {
        return refuse!("resolver_name {:?} is not supported", socket.resolver_name);
    }
    let port = match socket.port_specifier.as_ref() {
        Some(PortSpecifier::PortValue(port)) => *port,
        Some(PortSpecifier::NamedPort(name)) => return refuse!("named port {name:?} is not supported"),
        None => 0,
    };
    let Ok(port) = u16::try_from(port) else { return refuse!("{port} is no port") };
    if socket.address.contains('%') {
        // Its scope is this machine's alone, and a resolver would take it for a name.
        return refuse!("{:?}: scoped addresses are not supported", socket.address);
    }
    match socket.address.parse::<IpAddr>() {
        Ok(ip) => Ok(Place::Ip(SocketAddr::new(ip, port))),
        Err(_) if socket.address.is_empty() => refuse!("the address is empty"),
        Err(_) => Ok(Place::Name(socket.address.as_str().into(), port)),
    }
}

/// A percentage as parts of a million.
pub(crate) fn fraction(message: &xds::types::FractionalPercent) -> Fraction {
    use xds::types::fractional_percent::DenominatorType;
    let scale = match message.denominator() {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Fraction { per_million: message.numerator.saturating_mul(scale).min(1_000_000) }
}

/// How often something applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Fraction {
    /// 0 never, 1 000 000 always.
    pub per_million: u32,
}

impl Fraction {
    pub const ALWAYS: Fraction = Fraction { per_million: 1_000_000 };

    /// Whether a dice thrown by the caller falls within.
    pub fn hits(self, random: u64) -> bool {
        random % 1_000_000 < u64::from(self.per_million)
    }
}

/// A percentage (0 to 100, with fractions).
pub(crate) fn percent(value: f64) -> Fraction {
    if value.is_nan() {
        return Fraction { per_million: 0 };
    }
    // In range after the clamp.
    Fraction { per_million: (value.clamp(0.0, 100.0) * 10_000.0).round() as u32 }
}
