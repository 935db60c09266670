//! Operations over a source into bytes.

use super::operator::{AddressPart, Cleaning, GrpcStyle, Header, Name, Op};
use super::source::{Address, LogSource, NumberField};
use super::time::{TimeCache, TimeFormat};
use super::{escape, grpc};
use crate::Flags;
use crate::decimal::{push_u64, push_v4};

pub(super) fn text(
    ops: &[Op],
    source: &impl LogSource,
    time: &mut TimeCache,
    omit_empty: bool,
    out: &mut Vec<u8>,
) {
    for op in ops {
        if let Op::Literal(literal) = op {
            literal.push(out);
            continue;
        }
        match value(op, source) {
            Value::Missing if omit_empty => {}
            Value::Missing => out.push(b'-'),
            found => push(found, source, time, escape::text, out),
        }
    }
}

/// What an operator found, before it is written.
pub(super) enum Value<'a> {
    Missing,
    Text(&'a [u8], Cleaning),
    Number(u64),
    Flags(Flags),
    LongFlags(Flags),
    Start(&'a TimeFormat),
    Socket(Address<'a>, AddressPart),
}

#[inline(always)]
pub(super) fn value<'a>(op: &'a Op, source: &'a impl LogSource) -> Value<'a> {
    match op {
        Op::Literal(literal) => Value::Text(literal.text(), Cleaning::AsIs),
        Op::Missing => Value::Missing,
        Op::StartTime(format) => Value::Start(format),
        Op::FlagsShort => Value::Flags(source.flags()),
        Op::FlagsLong => Value::LongFlags(source.flags()),
        Op::Request(header) => either(header, source, |name| match name {
            Name::Method => source.method(),
            Name::Path => source.path(),
            Name::Authority => source.authority(),
            Name::Scheme => source.scheme(),
            Name::Status => None,
            Name::Named(name) => source.request_header(name),
        }),
        Op::Response(header) => either(header, source, |name| match name {
            Name::Named(name) => source.response_header(name),
            _ => None,
        }),
        Op::Trailer(header) => either(header, source, |name| match name {
            Name::Named(name) => source.response_trailer(name),
            _ => None,
        }),
        Op::Text(field, Cleaning::HostName, _) if source.text(*field).is_some_and(is_address) => {
            Value::Missing
        }
        Op::Text(field, cleaning, max) => found(source.text(*field), *cleaning, *max),
        Op::Number(field) => {
            source.number(*field).or(field.default_value()).map_or(Value::Missing, Value::Number)
        }
        Op::Address(field, part) => match source.address(*field) {
            None => Value::Missing,
            Some(Address::Named(_)) if *part == AddressPart::PortOnly => Value::Missing,
            Some(address) => Value::Socket(address, *part),
        },
        Op::Grpc(style) => match source.number(NumberField::GrpcStatus) {
            None => Value::Missing,
            Some(status) => {
                let name = match style {
                    GrpcStyle::Camel => grpc::camel(status),
                    GrpcStyle::Snake => grpc::snake(status),
                    GrpcStyle::Number => None,
                };
                name.map_or(Value::Number(status), |name| Value::Text(name.as_bytes(), Cleaning::AsIs))
            }
        },
        Op::Metadata { namespace, path, max } => {
            found(source.dynamic_metadata(namespace, path), Cleaning::AsIs, *max)
        }
        Op::FilterState { key, max } => found(source.filter_state(key), Cleaning::AsIs, *max),
    }
}

/// The first header, else the second. `:status` is the one value that is a number.
#[inline]
fn either<'a>(
    header: &'a Header,
    source: &'a impl LogSource,
    read: impl Fn(&'a Name) -> Option<&'a [u8]>,
) -> Value<'a> {
    for name in [Some(&header.first), header.second.as_ref()].into_iter().flatten() {
        if *name == Name::Status
            && let Some(code) = source.number(NumberField::ResponseCode)
        {
            return Value::Number(code);
        }
        if let Some(text) = read(name) {
            return found(Some(text), Cleaning::AsIs, header.max);
        }
    }
    Value::Missing
}

fn is_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

#[inline]
fn found(text: Option<&[u8]>, cleaning: Cleaning, max: Option<usize>) -> Value<'_> {
    match text {
        Some(text) if !text.is_empty() => Value::Text(escape::cut(text, max), cleaning),
        _ => Value::Missing,
    }
}

/// Writes a value that is not missing; `escaped` writes text that came from outside.
#[inline(always)]
pub(super) fn push(
    value: Value<'_>,
    source: &impl LogSource,
    time: &mut TimeCache,
    escaped: impl Fn(&mut Vec<u8>, &[u8]),
    out: &mut Vec<u8>,
) {
    match value {
        Value::Missing => {}
        Value::Text(text, Cleaning::AsIs) => escaped(out, text),
        Value::Text(text, Cleaning::Underscores) if !text.contains(&b' ') => escaped(out, text),
        Value::Text(text, Cleaning::Underscores) => {
            for (index, word) in text.split(|byte| *byte == b' ').enumerate() {
                if index > 0 {
                    out.push(b'_');
                }
                escaped(out, word);
            }
        }
        Value::Text(text, Cleaning::HostName) => {
            let allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*');
            out.extend(text.iter().map(|byte| if allowed(*byte) { *byte } else { b'_' }));
        }
        Value::Number(number) => push_u64(out, number),
        Value::Flags(flags) => flags.push_short(out),
        Value::LongFlags(flags) => flags.push_long(out),
        Value::Start(format) => format.render(source.start_time(), time, out),
        Value::Socket(address, part) => socket(address, part, escaped, out),
    }
}

fn socket(address: Address<'_>, part: AddressPart, escaped: impl Fn(&mut Vec<u8>, &[u8]), out: &mut Vec<u8>) {
    let address = match address {
        Address::Socket(address) => address,
        Address::Named(name) => return escaped(out, name),
    };
    match part {
        AddressPart::PortOnly => push_u64(out, u64::from(address.port())),
        AddressPart::WithoutPort => escape::ip(out, address.ip()),
        AddressPart::Whole => {
            if let std::net::SocketAddr::V4(v4) = address {
                return push_v4(out, *v4.ip(), Some(v4.port()));
            }
            if address.is_ipv6() {
                out.push(b'[');
            }
            escape::ip(out, address.ip());
            if address.is_ipv6() {
                out.push(b']');
            }
            out.push(b':');
            push_u64(out, u64::from(address.port()));
        }
    }
}
