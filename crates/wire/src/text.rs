//! Small writers that do not allocate: decimal, hexadecimal, HTTP dates, case-insensitive comparison.

/// Appends `value` in decimal.
pub fn push_u64(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        // Most of them: milliseconds, attempts.
        out.push(b'0' + value as u8);
        return;
    }
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        // A remainder of ten always fits.
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends `value` in lower-case hexadecimal without leading zeros: a chunk size.
pub fn push_hex(out: &mut Vec<u8>, value: u64) {
    let width = (64 - value.leading_zeros()).div_ceil(4).max(1);
    for nibble in (0..width).rev() {
        out.push(hex_digit((value >> (nibble * 4)) as u8 & 15));
    }
}

/// The lower-case digit of a number's low four bits.
#[inline]
pub(crate) fn hex_digit(nibble: u8) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    DIGITS[usize::from(nibble & 15)]
}

/// The value of a hexadecimal digit of either case.
#[inline]
pub(crate) fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Strict decimal: digits only, no sign, no leading zero, within `u64`. The only spelling of a length two
/// parsers can not read differently.
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    match text {
        [] => None,
        [b'0'] => Some(0),
        [b'0', ..] => None,
        _ => text.iter().try_fold(0u64, |sum, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        }),
    }
}

/// Without leading and trailing spaces and tabs (RFC 9110 §5.6.3 OWS).
#[inline]
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The non-empty members of a comma-separated list, trimmed (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Whether a comma-separated list holds `token`, in any case.
pub fn list_has(value: &[u8], token: &[u8]) -> bool {
    list(value).any(|member| member.eq_ignore_ascii_case(token))
}

/// RFC 9110 §5.6.2 `tchar`.
#[inline]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `name` may stand as a field name.
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

/// Whether `value` may stand as a field value: no control byte but the tab (RFC 9110 §5.5).
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
}

const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// An IMF-fixdate (RFC 9110 §5.6.7) of seconds since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Meant to be made once a second and shared by all responses of that second.
pub fn http_date(unix_seconds: u64) -> [u8; 29] {
    // Years past 9999 have no place in the format.
    let unix_seconds = unix_seconds.min(253_402_300_799);
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut put = |at: usize, text: &[u8]| {
        if let Some(place) = out.get_mut(at..at + text.len()) {
            place.copy_from_slice(text);
        }
    };
    put(0, WEEKDAYS[(days % 7) as usize]);
    put(5, &two_digits(day));
    put(8, MONTHS[(month.clamp(1, 12) - 1) as usize]);
    put(12, &two_digits(year / 100));
    put(14, &two_digits(year % 100));
    put(17, &two_digits(second / 3600));
    put(20, &two_digits(second / 60 % 60));
    put(23, &two_digits(second % 60));
    out
}

fn two_digits(value: u64) -> [u8; 2] {
    [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]
}

/// Gregorian date of a day since 1970, counting years from March so that the leap day comes last.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_hexadecimal_round_trip() {
        for value in [0, 1, 9, 10, 255, 4096, u64::MAX] {
            let mut out = vec![];
            push_u64(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
            assert_eq!(parse_decimal(&out), Some(value));
            out.clear();
            push_hex(&mut out, value);
            assert_eq!(out, format!("{value:x}").as_bytes());
        }
    }

    #[test]
    fn only_one_spelling_of_a_length_is_a_length() {
        let bad = ["", "+5", "-48", "0x10", "010", "00", "1_0", "1Z", " 5", "5,5", "18446744073709551616"];
        for text in bad {
            assert_eq!(parse_decimal(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_decimal(&[b'9'; 99]), None);
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), // RFC 9110 §5.6.7
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&http_date(seconds)).unwrap(), text);
        }
    }
}
