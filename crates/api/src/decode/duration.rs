//! Durations as Go writes them, which is how Istio's are read: `1h30m`, `1.5s`, `100ms`.

use std::time::Duration;

/// A day's worth of centuries: longer ones overflow somewhere on the way to a timer.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Parses a duration of at least 0. The error says what is wrong with the text.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let rest = match text.strip_prefix('-') {
        Some(rest) if nanoseconds(rest)? > 0 => return Err("must not be negative"),
        Some(rest) => rest,
        None => text.strip_prefix('+').unwrap_or(text),
    };
    let nanos = u64::try_from(nanoseconds(rest)?).map_err(|_| "too long")?;
    Ok(Duration::from_nanos(nanos))
}

fn nanoseconds(text: &str) -> Result<u128, &'static str> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("is empty");
    }
    let mut total = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .ok_or("needs a unit (ns, us, ms, s, m, h)")?;
        let (number, tail) = rest.split_at(end);
        let end =
            tail.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err("the unit must be one of ns, us, ms, s, m, h"),
        };
        total = total.saturating_add(scale(number, unit)?);
        if total > MAX_NANOS {
            return Err("too long");
        }
        rest = tail;
    }
    Ok(total)
}

/// `number` times `unit`, cut to whole nanoseconds.
fn scale(number: &str, unit: u128) -> Result<u128, &'static str> {
    const NOT_A_NUMBER: &str = "is not a number with a unit";
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(NOT_A_NUMBER);
    }
    let mut total = match whole {
        "" => 0,
        digits if digits.len() > 20 => return Err("too long"),
        digits => digits.parse::<u128>().map_err(|_| NOT_A_NUMBER)?.saturating_mul(unit),
    };
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        total += u128::from(digit.to_digit(10).ok_or(NOT_A_NUMBER)?) * place;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's `time.ParseDuration`.
    #[test]
    fn as_go_reads_them() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("-0s", Some(0)),
            ("1s", Some(1_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("0.000000999s", Some(999)),
            ("0.00000000099s", Some(0)),
            ("5us", Some(5_000)),
            ("5µs", Some(5_000)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1 s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("１s", None),
            ("99999999999999999999999h", None),
            ("9999999h", None),
        ] {
            let parsed = parse_duration(text).ok();
            assert_eq!(parsed, nanos.map(Duration::from_nanos), "{text:?}");
        }
    }
}
