//! RequestAuthentication.

use serde_json::Value as Json;

use super::{check_targets, no_empty_words};
use crate::security::{JwtRule, RequestAuthentication};
use crate::validate::rules::Rules;
use crate::validate::{headers, names, values};
use crate::yaml::shorten;

pub(super) fn check(policy: &RequestAuthentication, rules: &mut Rules<'_, '_>) {
    check_targets(policy.selector.as_ref(), policy.target_ref.as_ref(), &policy.target_refs, rules);
    rules.items("jwtRules", &policy.jwt_rules, check_rule);
}

fn check_rule(rules: &mut Rules<'_, '_>, rule: &JwtRule) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() {
        rules.error("one of issuer and jwksUri is required");
    }
    for (name, empty) in [("issuer", rule.issuer.is_empty()), ("jwksUri", rule.jwks_uri.is_empty())] {
        if empty && rules.has(name) {
            rules.field_error(name, "must not be empty");
        }
    }
    if !rule.jwks_uri.is_empty() && !rule.jwks.is_empty() {
        rules.field_error("jwks", "only one of jwksUri and jwks may be set");
    }
    if !rule.jwks_uri.is_empty() {
        rules.require_field("jwksUri", http_url(&rule.jwks_uri));
    }
    if !rule.jwks.is_empty() {
        rules.field("jwks", |rules| check_keys(&rule.jwks, rules));
    }
    for (name, words) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        no_empty_words(name, words, rules);
    }
    rules.items("fromHeaders", &rule.from_headers, |rules, header| {
        if header.name.is_empty() {
            rules.field_error("name", "must not be empty");
        }
    });
    rules.items("outputClaimToHeaders", &rule.output_claim_to_headers, |rules, output| {
        if output.claim.is_empty() {
            rules.field_error("claim", "must not be empty");
        }
        rules.require_field("header", headers::strict_name(&output.header));
    });
    values::optional_duration("timeout", rule.timeout, rules);
}

/// `http://HOST[:PORT]/...` or https.
fn http_url(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{:?} must be an http or https URL: {why}", shorten(text)));
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("the scheme is missing");
    };
    if !matches!(scheme, "http" | "https") {
        return wrong("the scheme is another");
    }
    if text.chars().any(|character| character.is_control() || character == ' ') {
        return wrong("it has spaces or control characters");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() {
        return wrong("the host is missing");
    }
    let port = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, port)) if names::is_ip(address) => port.strip_prefix(':'),
        Some(_) => return wrong("the host is no address"),
        None => host.split_once(':').map(|(_, port)| port),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return wrong("the port is no number");
    }
    Ok(())
}

/// A JSON Web Key Set (RFC 7517): `{"keys": [{"kty": ...}, ...]}`.
fn check_keys(text: &str, rules: &mut Rules<'_, '_>) {
    let parsed: Json = match serde_json::from_str(text) {
        Ok(parsed) => parsed,
        Err(error) => return rules.error(format!("is not a JSON Web Key Set: {error}")),
    };
    let Some(keys) = parsed.get("keys").and_then(Json::as_array) else {
        return rules.error("is not a JSON Web Key Set: it has no list \"keys\"");
    };
    for (index, key) in keys.iter().enumerate() {
        if key.get("kty").and_then(Json::as_str).is_none() {
            rules.error(format!("the key {index} has no type (kty)"));
        }
        // RFC 7518 §6.2.2, §6.3.2.
        if ["d", "p", "q", "dp", "dq", "qi"].iter().any(|part| key.get(part).is_some()) {
            rules.warning(format!("the key {index} holds a private key; only the public part is needed"));
        }
    }
}
