//! The Gateway API's kinds: the rules of its schemas.

mod http_route;

use std::collections::BTreeSet;

pub(super) use http_route::check as check_http_route;

use crate::gateway_api::{Gateway, Listener, ListenerTlsMode, ReferenceGrant};
use crate::validate::names::object_name;
use crate::validate::rules::Rules;
use crate::validate::values;
use crate::yaml::shorten;

pub(super) fn check_gateway(gateway: &Gateway, rules: &mut Rules<'_, '_>) {
    if gateway.gateway_class_name.is_empty() {
        rules.field_error("gatewayClassName", "must not be empty");
    }
    if !(1..=64).contains(&gateway.listeners.len()) {
        rules.field_error("listeners", "must have 1 to 64 entries");
    }
    let (mut names, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    rules.items("listeners", &gateway.listeners, |rules, listener| {
        if !names.insert(&listener.name) {
            rules.field_error("name", format!("{:?} is there twice", shorten(&listener.name)));
        }
        if !sockets.insert((listener.port, &listener.protocol, &listener.hostname)) {
            rules.error("has the port, protocol and hostname of another");
        }
        check_listener(listener, rules);
    });
}

fn check_listener(listener: &Listener, rules: &mut Rules<'_, '_>) {
    rules.require_field("name", object_name(&listener.name));
    rules.require_field("port", values::port(listener.port));
    let protocol = listener.protocol.as_str();
    if !listener.hostname.is_empty() {
        rules.require_field("hostname", hostname(&listener.hostname));
        if matches!(protocol, "TCP" | "UDP") {
            rules.field_error("hostname", format!("is not for protocol {protocol}"));
        }
    }
    rules.optional("tls", listener.tls.as_ref(), |rules, tls| {
        if matches!(protocol, "HTTP" | "TCP" | "UDP") {
            rules.error(format!("is not for protocol {protocol}"));
        }
        if protocol == "HTTPS" && tls.mode != ListenerTlsMode::Terminate {
            rules.field_error("mode", "must be Terminate for protocol HTTPS");
        }
        if tls.mode == ListenerTlsMode::Terminate && tls.certificate_refs.is_empty() && tls.options.is_empty()
        {
            rules.field_error("certificateRefs", "is required with mode Terminate, unless there are options");
        }
    });
}

pub(super) fn check_reference_grant(grant: &ReferenceGrant, rules: &mut Rules<'_, '_>) {
    for (name, count) in [("from", grant.from.len()), ("to", grant.to.len())] {
        if !(1..=16).contains(&count) {
            rules.field_error(name, "must have 1 to 16 entries");
        }
    }
}

/// A subdomain, or `*.` and one.
fn hostname(text: &str) -> Result<(), String> {
    object_name(text.strip_prefix("*.").unwrap_or(text))
}

/// A kind's name: letters, digits and '-'.
fn kind(text: &str) -> Result<(), String> {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let last = text.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first
        && last
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Ok(());
    }
    Err(format!("{:?} is not a kind", shorten(text)))
}
