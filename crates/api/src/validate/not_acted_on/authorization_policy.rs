//! AuthorizationPolicy.

use super::{check_targets, no_empty_words};
use crate::object::Object;
use crate::security::{
    AuthorizationAction, AuthorizationCondition, AuthorizationOperation, AuthorizationPolicy,
    AuthorizationRule, AuthorizationSource,
};
use crate::validate::names;
use crate::validate::rules::Rules;
use crate::yaml::shorten;

pub(super) fn check(policy: &AuthorizationPolicy, object: &Object, rules: &mut Rules<'_, '_>) {
    check_targets(policy.selector.as_ref(), policy.target_ref.as_ref(), &policy.target_refs, rules);
    check_dry_run(policy, object, rules);
    let custom = policy.action == AuthorizationAction::Custom;
    let provider = policy.provider.as_ref();
    if custom && provider.is_none_or(|provider| provider.name.is_empty()) {
        rules.field("provider", |rules| rules.field_error("name", "is required with action CUSTOM"));
    }
    if !custom && provider.is_some() {
        rules.field_error("provider", format!("is for action CUSTOM only, not {}", policy.action.as_str()));
    }
    if policy.rules.len() > 512 {
        rules.field_error("rules", "must not have more than 512 entries");
    }
    rules.items("rules", &policy.rules, |rules, rule| {
        check_rule(rule, custom, rules);
        if policy.action == AuthorizationAction::Deny {
            warn_of_broad_denial(rule, rules);
        }
    });
}

fn check_dry_run(policy: &AuthorizationPolicy, object: &Object, rules: &mut Rules<'_, '_>) {
    let Some(value) = object.meta.annotations.get("istio.io/dry-run") else {
        return;
    };
    // Go's `strconv.ParseBool`.
    const BOOLEANS: &[&str] =
        &["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
    if !BOOLEANS.contains(&value.as_str()) {
        rules.error(format!(
            "the annotation istio.io/dry-run must be true or false, not {:?}",
            shorten(value)
        ));
    }
    if matches!(policy.action, AuthorizationAction::Audit | AuthorizationAction::Custom) {
        let action = policy.action.as_str();
        rules.error(format!("the annotation istio.io/dry-run is for actions ALLOW and DENY, not {action}"));
    }
}

fn check_rule(rule: &AuthorizationRule, custom: bool, rules: &mut Rules<'_, '_>) {
    for (name, empty) in [("from", rule.from.is_empty()), ("to", rule.to.is_empty())] {
        if empty && rules.has(name) {
            rules.field_error(name, "must not be empty; leave it out to match everything");
        }
    }
    rules.items("from", &rule.from, |rules, from| match &from.source {
        None => rules.field_error("source", "is required but missing"),
        Some(source) => rules.field("source", |rules| check_source(source, custom, rules)),
    });
    rules.items("to", &rule.to, |rules, to| match &to.operation {
        None => rules.field_error("operation", "is required but missing"),
        Some(operation) => rules.field("operation", |rules| check_operation(operation, rules)),
    });
    rules.items("when", &rule.when, |rules, condition| check_condition(condition, custom, rules));
}

fn check_source(source: &AuthorizationSource, custom: bool, rules: &mut Rules<'_, '_>) {
    if *source == AuthorizationSource::default() {
        rules.error("must not be empty");
    }
    for (name, words, with_custom) in [
        ("principals", &source.principals, false),
        ("notPrincipals", &source.not_principals, false),
        ("requestPrincipals", &source.request_principals, false),
        ("notRequestPrincipals", &source.not_request_principals, false),
        ("namespaces", &source.namespaces, false),
        ("notNamespaces", &source.not_namespaces, false),
        ("serviceAccounts", &source.service_accounts, false),
        ("notServiceAccounts", &source.not_service_accounts, false),
        ("trustDomains", &source.trust_domains, false),
        ("notTrustDomains", &source.not_trust_domains, false),
        ("ipBlocks", &source.ip_blocks, true),
        ("notIpBlocks", &source.not_ip_blocks, true),
        ("remoteIpBlocks", &source.remote_ip_blocks, true),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks, true),
    ] {
        no_empty_words(name, words, rules);
        if custom && !with_custom && !words.is_empty() {
            rules.field_error(name, "is not supported with action CUSTOM");
        }
    }
    for (name, blocks) in [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ] {
        rules.items(name, blocks, |rules, block| rules.require(names::ip_subnet(block)));
    }
    let by_account = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let by_identity =
        [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if by_account && by_identity.into_iter().any(|words| !words.is_empty()) {
        rules.field_error("serviceAccounts", "cannot be set together with principals or namespaces");
    }
    for (name, accounts) in
        [("serviceAccounts", &source.service_accounts), ("notServiceAccounts", &source.not_service_accounts)]
    {
        if accounts.len() > 16 {
            rules.field_error(name, "must not have more than 16 entries");
        }
        rules.items(name, accounts, |rules, account| {
            if account.len() > 320 || account.matches('/').count() > 1 {
                rules.error(format!("must be [namespace/]name, not {:?}", shorten(account)));
            }
        });
    }
}

fn check_operation(operation: &AuthorizationOperation, rules: &mut Rules<'_, '_>) {
    if *operation == AuthorizationOperation::default() {
        rules.error("must not be empty");
    }
    for (name, words) in [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ] {
        no_empty_words(name, words, rules);
    }
    for (name, ports) in [("ports", &operation.ports), ("notPorts", &operation.not_ports)] {
        rules.items(name, ports, |rules, port| rules.require(port_number(port)));
    }
    for (name, paths) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        rules.items(name, paths, |rules, path| rules.require(path_template(path)));
    }
}

fn port_number(text: &str) -> Result<(), String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err(format!("must be a port from 1 to 65535, not {:?}", shorten(text))),
    }
}

/// `{*}` stands for one segment, `{**}` for any number of them; behind the latter there are plain segments only, and no
/// segment of such a path has any other brace or star (Envoy's URI template matcher).
fn path_template(path: &str) -> Result<(), String> {
    if !path.contains(['{', '}']) {
        return Ok(());
    }
    let mut open_ended = false;
    for segment in path.split('/') {
        match segment {
            "{*}" if !open_ended => {}
            "{**}" if !open_ended => open_ended = true,
            plain if !plain.contains(['{', '}', '*']) => {}
            _ => {
                return Err(format!(
                    "{:?}: segments can be {{*}} and at last {{**}}, and no other has a brace or star",
                    shorten(path)
                ));
            }
        }
    }
    Ok(())
}

fn check_condition(condition: &AuthorizationCondition, custom: bool, rules: &mut Rules<'_, '_>) {
    let key = condition.key.as_str();
    if key.is_empty() {
        rules.field_error("key", "must not be empty");
        return;
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        rules.error("one of values and notValues is required");
    }
    for (name, words) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        no_empty_words(name, words, rules);
        rules.items(name, words, |rules, word| match key {
            "source.ip" | "remote.ip" | "destination.ip" => rules.require(names::ip_subnet(word)),
            "destination.port" => rules.require(port_number(word)),
            _ => {}
        });
    }
    let indexed =
        |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'));
    let known = KEYS.contains(&key)
        || indexed("request.headers")
        || indexed("request.auth.claims")
        || key.starts_with("experimental.envoy.filters.");
    if !known {
        rules.field_error(
            "key",
            format!(
                "must be one of {}, request.headers[NAME], request.auth.claims[NAME], not {:?}",
                KEYS.join(", "),
                shorten(key)
            ),
        );
    }
    let by_identity = matches!(key, "source.namespace" | "source.principal" | "source.serviceAccount");
    if custom && (by_identity || key.starts_with("request.auth.")) {
        rules.field_error("key", format!("{key} is not supported with action CUSTOM"));
    }
}

const KEYS: &[&str] = &[
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

/// On a TCP port the HTTP fields of a DENY rule are left out, which makes it deny more than it says.
fn warn_of_broad_denial(rule: &AuthorizationRule, rules: &mut Rules<'_, '_>) {
    let tcp_source = rule.from.iter().filter_map(|from| from.source.as_ref()).any(|source| {
        let http_only = AuthorizationSource {
            request_principals: source.request_principals.clone(),
            not_request_principals: source.not_request_principals.clone(),
            ..Default::default()
        };
        *source != http_only
    });
    let tcp_operation = rule
        .to
        .iter()
        .filter_map(|to| to.operation.as_ref())
        .any(|operation| !operation.ports.is_empty() || !operation.not_ports.is_empty());
    if (!rule.from.is_empty() && !tcp_source) || (!rule.to.is_empty() && !tcp_operation) {
        rules.warning("has only HTTP fields, so it denies everything on TCP ports; name the ports it is for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy's URI template matcher, as Istio lets it be used.
    #[test]
    fn path_templates() {
        for (path, good) in [
            ("/a/*", true),
            ("/a/{*}", true),
            ("/a/{*}/b/{**}", true),
            ("/{**}/b", true),
            ("/{**}/{*}", false),
            ("/{**}/{**}", false),
            ("/{*}/*", false),
            ("/a{*}", false),
            ("/{a}", false),
            ("/{", false),
        ] {
            assert_eq!(path_template(path).is_ok(), good, "{path}");
        }
    }
}
