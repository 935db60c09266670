//! What an unquoted word means: as kubectl reads it (YAML 1.1's booleans and numbers), which is what users' files are checked with.

use super::Value;

/// Resolves a plain scalar.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => {
            number(text).unwrap_or_else(|| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

/// A number's value; `None` if it is a word.
pub(super) fn number(text: &str) -> Option<Value> {
    let plain = text.replace('_', "");
    if let Some(value) = integer(&plain) {
        return Some(Value::Int(value));
    }
    is_float(&plain).then(|| plain.parse().ok()).flatten().map(Value::Float)
}

/// Decimal, `0x`, `0o`, `0b`, and a leading 0 for octal. Beyond 64 bits it is a float, as in kubectl.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let magnitude = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        radix(hex, 16)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        radix(octal, 8)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        radix(binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        radix(digits, 8)
    } else {
        radix(digits, 10)
    }?;
    Some(if negative { -magnitude } else { magnitude })
}

fn radix(digits: &str, radix: u32) -> Option<i128> {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok().filter(|value| *value <= i128::from(u64::MAX))
}

/// `[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?` with at least one digit before the exponent.
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_ok = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    /// go-yaml v2's `resolve`, which sigs.k8s.io/yaml and so kubectl use.
    #[test]
    fn words_as_kubectl_reads_them() {
        let string = |text: &str| Value::String(text.into());
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("yes", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("yEs", string("yEs")),
            ("v1", string("v1")),
            ("80", Value::Int(80)),
            ("-1", Value::Int(-1)),
            ("+1", Value::Int(1)),
            ("1_000", Value::Int(1000)),
            ("0x10", Value::Int(16)),
            ("010", Value::Int(8)),
            ("0o10", Value::Int(8)),
            ("0b11", Value::Int(3)),
            ("089", Value::Float(89.0)),
            ("1.0", Value::Float(1.0)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            ("18446744073709551615", Value::Int(u64::MAX.into())),
            ("18446744073709551616", Value::Float(18_446_744_073_709_551_616.0)),
            (".", string(".")),
            ("-", string("-")),
            ("+", string("+")),
            ("1.2.3.4", string("1.2.3.4")),
            ("12:30:45", string("12:30:45")),
            ("2020-01-01", string("2020-01-01")),
            ("2020-01-01T00:00:00Z", string("2020-01-01T00:00:00Z")),
            ("1s", string("1s")),
            ("0x", string("0x")),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("页面", string("页面")),
        ] {
            assert_eq!(resolve(text), value, "{text:?}");
        }
    }
}
