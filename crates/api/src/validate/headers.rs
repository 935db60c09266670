//! Header names, and what may be done to headers.

use std::collections::BTreeMap;

use super::rules::Rules;
use crate::networking::{HeaderOperations, Headers};
use crate::yaml::shorten;

type Checked = Result<(), String>;

/// A name to match by: a token of RFC 9110 §5.1, or a pseudo header.
pub(super) fn name(name: &str) -> Checked {
    if name.is_empty() {
        return Err("a header's name must not be empty".into());
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&byte);
    if name.bytes().all(token) {
        return Ok(());
    }
    Err(format!("{:?} is not a header's name", shorten(name)))
}

/// A name of letters, digits, `-` and `_` only.
pub(super) fn strict_name(name: &str) -> Checked {
    if !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    {
        return Ok(());
    }
    Err(format!("{:?} is not a header's name (letters, digits, '-' and '_')", shorten(name)))
}

/// A header's name, or at gateways a claim of the caller's token: `@request.auth.claims.group`.
pub(super) fn name_or_claim(text: &str) -> Checked {
    if text.starts_with("@request.auth.claims") {
        return Ok(());
    }
    name(text)
}

pub(super) fn operations(headers: Option<&Headers>, rules: &mut Rules<'_, '_>) {
    rules.optional("headers", headers, |rules, headers| {
        rules.optional("request", headers.request.as_ref(), |rules, request| {
            one_side(request, Side::Request, rules);
        });
        rules.optional("response", headers.response.as_ref(), |rules, response| {
            one_side(response, Side::Response, rules);
        });
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

fn one_side(operations: &HeaderOperations, side: Side, rules: &mut Rules<'_, '_>) {
    for (name, values) in [("set", &operations.set), ("add", &operations.add)] {
        changed(name, values, side, rules);
    }
    rules.items("remove", &operations.remove, |rules, name| rules.require(changeable(name, false)));
}

fn changed(operation: &str, values: &BTreeMap<String, String>, side: Side, rules: &mut Rules<'_, '_>) {
    rules.entries(operation, values, |rules, name, value| {
        rules.require(changeable(name, side == Side::Request));
        rules.require(template(value));
    });
}

/// Pseudo headers and Host stay as they are, except that a request's authority may be set.
fn changeable(name: &str, authority_too: bool) -> Checked {
    if name.is_empty() {
        return Err("a header's name must not be empty".into());
    }
    if authority_too && is_authority(name) {
        return Ok(());
    }
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(format!("the header {:?} cannot be changed here", shorten(name)));
    }
    Ok(())
}

pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Envoy's format strings: `%NAME%` or `%NAME(argument)%`, and `%%` for a percent sign.
fn template(value: &str) -> Checked {
    let mut rest = value;
    while let Some(start) = rest.find('%') {
        let variable = rest.get(start + 1..).unwrap_or_default();
        if variable.is_empty() {
            return Err(format!("{:?} has a single % (write %% for the sign itself)", shorten(value)));
        }
        if let Some(after) = variable.strip_prefix('%') {
            rest = after;
            continue;
        }
        let end = match variable.find(['%', '(']) {
            Some(end) if variable.get(end..).is_some_and(|tail| tail.starts_with('(')) => {
                variable.find(")%").map(|end| end + 1)
            }
            end => end,
        };
        let Some(end) = end else {
            return Err(format!(
                "{:?} has a variable that does not end (write %NAME%, or %% for the sign itself)",
                shorten(value)
            ));
        };
        rest = variable.get(end + 1..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy's header formatter: "Custom request/response headers".
    #[test]
    fn templates_as_envoy_reads_them() {
        for (value, good) in [
            ("", true),
            ("plain", true),
            ("100%%", true),
            ("%START_TIME%", true),
            ("%START_TIME(%s)%", true),
            ("%UPSTREAM_METADATA([\"a\", \"b\"])%!", true),
            ("a%%b%PROTOCOL%c", true),
            ("%", false),
            ("100%", false),
            ("%START_TIME%%", false),
            ("abc%123", false),
            ("%START_TIME(x", false),
        ] {
            assert_eq!(template(value).is_ok(), good, "{value}");
        }
    }
}
