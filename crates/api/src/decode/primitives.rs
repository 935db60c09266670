//! Plain values, lists and maps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Context, Decode, parse_duration};
use crate::yaml::{Node, Value, shorten};

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        T::decode(node, context).map(Some)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        let Some(items) = node.items() else {
            context.error(node.at, format!("must be a list, not {}", node.describe()));
            return None;
        };
        let decoded = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| context.in_item(index, |context| T::decode(item, context)));
        Some(decoded.collect())
    }
}

impl<K: MapKey, T: Decode> Decode for BTreeMap<K, T> {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        let Some(entries) = node.entries() else {
            context.error(node.at, format!("must be a mapping, not {}", node.describe()));
            return None;
        };
        let mut map = Self::new();
        for (key, value) in entries {
            context.in_field(&key.name, |context| {
                let Some(parsed) = K::parse(&key.name) else {
                    context.error(key.at, format!("key must be {}", K::EXPECTED));
                    return;
                };
                if let Some(value) = T::decode(value, context) {
                    map.insert(parsed, value);
                }
            });
        }
        Some(map)
    }
}

/// What can be the key of a map.
pub(crate) trait MapKey: Ord + Sized {
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
}

impl MapKey for String {
    const EXPECTED: &'static str = "a string";
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl MapKey for u16 {
    const EXPECTED: &'static str = "a port number from 1 to 65535";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|port| *port != 0)
    }
}

impl Decode for String {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            other => {
                let hint = match other {
                    Value::Bool(_) | Value::Int(_) | Value::Float(_) => "; put it in quotes",
                    _ => "",
                };
                context.error(node.at, format!("must be a string, not {}{hint}", node.describe()));
                None
            }
        }
    }
}

impl Decode for bool {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                context.error(node.at, format!("must be true or false, not {}", node.describe()));
                None
            }
        }
    }
}

impl Decode for f64 {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        match &node.value {
            // Precise up to 2^53; no setting is larger.
            #[allow(clippy::cast_precision_loss)]
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::String(text) if context.proto_json => match text.parse() {
                Ok(value) => Some(value),
                Err(_) => wrong_number(node, context),
            },
            _ => wrong_number(node, context),
        }
    }
}

fn wrong_number(node: &Node, context: &mut Context) -> Option<f64> {
    context.error(node.at, format!("must be a number, not {}", node.describe()));
    None
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Decode for $type {
            fn decode(node: &Node, context: &mut Context) -> Option<Self> {
                let value = integer(node, context)?;
                match Self::try_from(value) {
                    Ok(value) => Some(value),
                    Err(_) => {
                        context.error(
                            node.at,
                            format!("must be an integer from {} to {}, not {value}", Self::MIN, Self::MAX),
                        );
                        None
                    }
                }
            }
        }
    )*};
}

integers!(u16, u32, u64, i32, i64);

fn integer(node: &Node, context: &mut Context) -> Option<i128> {
    let value = match &node.value {
        Value::Int(value) => Some(*value),
        // JSON does not tell 5.0 from 5.
        #[allow(clippy::cast_possible_truncation)]
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => Some(*value as i128),
        Value::String(text) if context.proto_json => text.parse().ok(),
        _ => None,
    };
    if value.is_none() {
        let hint = match &node.value {
            Value::String(text) if text.parse::<i128>().is_ok() => "; write it without quotes",
            _ => "",
        };
        context.error(node.at, format!("must be an integer, not {}{hint}", node.describe()));
    }
    value
}

impl Decode for Duration {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        const EXPECTED: &str = "a duration such as 1.5s, 100ms or 1h";
        let Some(text) = node.text() else {
            context.error(node.at, format!("must be {EXPECTED}, not {}", node.describe()));
            return None;
        };
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                context.error(node.at, format!("must be {EXPECTED}, not {:?}: {reason}", shorten(text)));
                None
            }
        }
    }
}

/// Any JSON.
impl Decode for serde_json::Value {
    fn decode(node: &Node, _: &mut Context) -> Option<Self> {
        Some(json(node))
    }
}

/// Numbers that JSON has not (infinities) become null.
fn json(node: &Node) -> serde_json::Value {
    use serde_json::{Number, Value as Json};
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(value), _) => value.into(),
            (_, Ok(value)) => value.into(),
            _ => Json::Null,
        },
        Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(text.clone()),
        Value::Sequence(items) => Json::Array(items.iter().map(json).collect()),
        Value::Mapping(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.name.clone(), json(value))).collect())
        }
    }
}

/// Bytes written as base64, standard or URL alphabet, padded or not (as proto3 JSON takes them).
pub(crate) struct Base64(pub Vec<u8>);

impl Decode for Base64 {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        let text = String::decode(node, context)?;
        let decoded = base64(&text);
        if decoded.is_none() {
            context.error(node.at, format!("must be base64, not {:?}", shorten(&text)));
        }
        decoded.map(Self)
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
        bits &= (1 << count) - 1;
    }
    (count != 6).then_some(bytes)
}

/// An enumeration's value by name; a wrong one is answered with all right ones.
pub(crate) fn decode_name<T>(
    node: &Node,
    names: &'static [&'static str],
    parse: fn(&str) -> Option<T>,
    context: &mut Context,
) -> Option<T> {
    let by_number = match node.value {
        Value::Int(number) if context.proto_json => {
            usize::try_from(number).ok().and_then(|number| names.get(number))
        }
        _ => None,
    };
    let name = by_number.copied().or_else(|| node.text());
    let value = name.and_then(parse);
    if value.is_none() {
        let right = names.join(", ");
        context.error(node.at, format!("must be one of {right}, not {}", node.describe()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_both_alphabets() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("aGVsbG8=", Some(b"hello")),
            ("aGVsbG8", Some(b"hello")),
            ("-_-_", Some(&[0xfb, 0xff, 0xbf])),
            ("+/+/", Some(&[0xfb, 0xff, 0xbf])),
            ("a", None),
            ("aGVs bG8=", None),
        ] {
            assert_eq!(base64(text).as_deref(), bytes, "{text}");
        }
    }
}
