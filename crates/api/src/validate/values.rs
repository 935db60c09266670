//! Numbers, durations, patterns.

use std::time::Duration;

use super::rules::Rules;
use crate::networking::{Percent, PortSelector, StringMatch};
use crate::yaml::shorten;

type Checked = Result<(), String>;

pub(super) fn port(number: u32) -> Checked {
    if (1..=65535).contains(&number) {
        return Ok(());
    }
    Err(format!("the port must be from 1 to 65535, not {number}"))
}

pub(super) fn port_selector(selector: &PortSelector, rules: &mut Rules<'_, '_>) {
    rules.require_field("number", port(selector.number));
}

/// At least 1 ms, in whole milliseconds.
pub(super) fn duration(value: Duration) -> Checked {
    if value < Duration::from_millis(1) {
        return Err(format!("the duration must be at least 1ms, not {value:?}"));
    }
    whole_milliseconds(value)
}

fn whole_milliseconds(value: Duration) -> Checked {
    if !value.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("the duration must be in whole milliseconds, not {value:?}"));
    }
    Ok(())
}

/// Checks a duration field if it is there.
pub(super) fn optional_duration(name: &str, value: Option<Duration>, rules: &mut Rules<'_, '_>) {
    if let Some(value) = value {
        rules.require_field(name, duration(value));
    }
}

/// A duration for which 0 means never.
pub(super) fn duration_or_zero(name: &str, value: Option<Duration>, rules: &mut Rules<'_, '_>) {
    optional_duration(name, value.filter(|value| !value.is_zero()), rules);
}

/// 0 to 100.
pub(super) fn whole_percent(value: i32) -> Checked {
    if (0..=100).contains(&value) {
        return Ok(());
    }
    Err(format!("the percentage must be from 0 to 100, not {value}"))
}

/// 0, or from a ten-thousandth (the finest step Envoy knows) to 100.
pub(super) fn percent(value: &Percent) -> Checked {
    let value = value.value;
    if value == 0.0 || (0.0001..=100.0).contains(&value) {
        return Ok(());
    }
    Err(format!("the percentage must be 0 or from 0.0001 to 100, not {value}"))
}

pub(super) fn not_negative(name: &str, value: i32, rules: &mut Rules<'_, '_>) {
    if value < 0 {
        rules.field_error(name, format!("must not be negative, but is {value}"));
    }
}

/// A condition that can hold for something: no empty prefix, a regular expression that compiles.
pub(super) fn string_match(condition: &StringMatch, rules: &mut Rules<'_, '_>) {
    match condition {
        StringMatch::Prefix(prefix) if prefix.is_empty() => {
            rules.field_error("prefix", "a prefix must not be empty")
        }
        StringMatch::Regex(pattern) => rules.require_field("regex", regex(pattern)),
        _ => {}
    }
}

/// RE2, at most 1024 characters (the length stands for the program size that Envoy limits).
pub(super) fn regex(pattern: &str) -> Checked {
    if pattern.is_empty() {
        return Err("a regular expression must not be empty".into());
    }
    if pattern.len() > 1024 {
        return Err("a regular expression must not be longer than 1024 characters".into());
    }
    match regex::Regex::new(&literal_braces(pattern)) {
        Ok(_) | Err(regex::Error::CompiledTooBig(_)) => Ok(()),
        Err(error) => {
            let error = error.to_string();
            let reason = error.rsplit("error: ").next().unwrap_or(&error).trim();
            Err(format!("{:?} is not an RE2 regular expression: {reason}", shorten(pattern)))
        }
    }
}

/// RE2 takes a brace that begins no repetition for itself (`/users/{id}`); the regex crate wants it escaped.
fn literal_braces(pattern: &str) -> String {
    let mut result = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let (this, tail) = rest.split_at(character.len_utf8());
        match character {
            '\\' => {
                let length = tail.chars().next().map_or(0, char::len_utf8);
                let (escaped, after) = tail.split_at(length);
                result.push_str(this);
                result.push_str(escaped);
                rest = after;
                // `\p{Greek}` and `\x{10FFFF}` keep their braces.
                if matches!(escaped, "p" | "P" | "x")
                    && rest.starts_with('{')
                    && let Some(end) = rest.find('}')
                {
                    let (braced, after) = rest.split_at(end + 1);
                    result.push_str(braced);
                    rest = after;
                }
                continue;
            }
            '{' if !is_repetition(tail) => result.push_str("\\{"),
            _ => result.push_str(this),
        }
        rest = tail;
    }
    result
}

/// Whether `2}`, `2,}` or `2,3}` follows.
fn is_repetition(tail: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    tail.split_once('}').is_some_and(|(inside, _)| match inside.split_once(',') {
        Some((from, to)) => digits(from) && (to.is_empty() || digits(to)),
        None => digits(inside),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// github.com/google/re2/wiki/Syntax.
    #[test]
    fn patterns_as_re2_takes_them() {
        for (pattern, good) in [
            (".*", true),
            ("^/users/[0-9]+$", true),
            ("/users/{id}", true),
            ("a{2,3}b{1}c{4,}", true),
            ("\\p{Greek}{2}", true),
            ("[{}]", true),
            ("?", false),
            ("*", false),
            ("(", false),
            ("(?=x)", false),
            ("", false),
        ] {
            assert_eq!(regex(pattern).is_ok(), good, "{pattern}");
        }
        assert!(regex(&"a".repeat(1025)).is_err());
    }
}
