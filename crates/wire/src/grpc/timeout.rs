//! Deadlines: the grpc-timeout field.

use std::time::Duration;

use crate::text::push_u64;

const MAX_DIGITS: usize = 8;

/// At most eight digits and a unit. `None` for anything else, which is to be ignored as if the field were not there
/// (bad-inputs G-01).
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Appends a timeout in milliseconds, or in the first longer unit that eight digits hold, as Envoy writes it.
pub fn push_timeout(out: &mut Vec<u8>, timeout: Duration) {
    const LARGEST: u128 = 99_999_999;
    let milliseconds = timeout.as_millis();
    for (unit, divisor) in [(b'm', 1), (b'S', 1000), (b'M', 60_000), (b'H', 3_600_000)] {
        let number = milliseconds / divisor;
        if number <= LARGEST || unit == b'H' {
            // At most eight digits.
            push_u64(out, number.min(LARGEST) as u64);
            return out.push(unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("10S", Some(Duration::from_secs(10))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("99999999999H", None),
            ("-1S", None),
            ("1x", None),
            ("", None),
            ("S", None),
            ("1 S", None),
            ("1.5S", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn written() {
        for (milliseconds, text) in [
            (0, "0m"),
            (1500, "1500m"),
            (99_999_999, "99999999m"),
            (100_000_000, "100000S"),
            (99_999_999_000, "99999999S"),
            (100_000_000_000, "1666666M"),
            (u64::MAX, "99999999H"),
        ] {
            let mut out = vec![];
            push_timeout(&mut out, Duration::from_millis(milliseconds));
            assert_eq!(out, text.as_bytes());
        }
    }
}
