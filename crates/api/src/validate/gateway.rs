//! Gateway.

use std::collections::BTreeSet;

use super::names::{self, is_dns_label, is_ip, is_partial_wildcard};
use super::rules::Rules;
use super::service_entry::unknown_protocol;
use super::{tls, values};
use crate::networking::{Gateway, GatewayPort, Server, ServerTlsSettings};
use crate::object::Object;
use crate::protocol::Protocol;
use crate::yaml::shorten;

pub(super) fn check(gateway: &Gateway, _object: &Object, rules: &mut Rules<'_, '_>) {
    if gateway.servers.is_empty() {
        rules.field_error("servers", "at least one server is required");
    }
    let (mut ports, mut servers) = (BTreeSet::new(), BTreeSet::new());
    rules.items("servers", &gateway.servers, |rules, server| {
        check_server(server, rules);
        if let Some(port) = &server.port
            && !port.name.is_empty()
            && !ports.insert(&port.name)
        {
            rules.field("port", |rules| {
                rules.field_error("name", format!("{:?} is there twice", shorten(&port.name)));
            });
        }
        if !server.name.is_empty() && !servers.insert(&server.name) {
            rules.field_error("name", format!("{:?} is there twice", shorten(&server.name)));
        }
    });
}

fn check_server(server: &Server, rules: &mut Rules<'_, '_>) {
    if server.hosts.is_empty() && rules.has("hosts") {
        rules.field_error("hosts", "at least one host is required");
    }
    rules.items("hosts", &server.hosts, |rules, host| check_host(host, rules));
    let socket = server.bind.strip_prefix("unix://");
    if let Some(path) = socket {
        rules.require_field("bind", names::unix_socket(path));
    } else if !server.bind.is_empty() && !is_ip(&server.bind) {
        rules.field_error("bind", format!("{:?} is not an IP address", shorten(&server.bind)));
    }
    rules.optional("port", server.port.as_ref(), |rules, port| check_port(port, socket.is_some(), rules));
    rules.optional("tls", server.tls.as_ref(), tls::check_server);
    if let Some(port) = &server.port {
        check_tls_fits(server.tls.as_ref(), Protocol::parse(&port.protocol), rules);
    }
}

fn check_port(port: &GatewayPort, on_socket: bool, rules: &mut Rules<'_, '_>) {
    let protocol = Protocol::parse(&port.protocol);
    if protocol.is_unknown() {
        rules.field_error("protocol", unknown_protocol(&port.protocol));
    }
    if on_socket {
        if port.number != 0 {
            rules.field_error("number", format!("must be 0 for a unix socket, not {}", port.number));
        }
    } else {
        rules.require_field("number", values::port(port.number));
    }
    if port.name.is_empty() {
        rules.field_error("name", "must not be empty");
    }
}

/// TLS settings where TLS is spoken, and only there; an HTTP port can redirect to HTTPS.
fn check_tls_fits(tls: Option<&ServerTlsSettings>, protocol: Protocol, rules: &mut Rules<'_, '_>) {
    match tls {
        None if protocol.is_tls() => rules.field_error("tls", "is required for HTTPS and TLS"),
        Some(tls) if protocol.is_http() => {
            let only_redirect =
                ServerTlsSettings { https_redirect: tls.https_redirect, ..Default::default() };
            if *tls != only_redirect {
                rules.field_error("tls", "a plain HTTP port can have httpsRedirect and nothing else");
            }
        }
        Some(_) if !protocol.is_tls() && !protocol.is_unknown() => {
            rules.field_error("tls", "is for HTTPS and TLS ports only");
        }
        _ => {}
    }
}

/// `[namespace/]host`.
fn check_host(text: &str, rules: &mut Rules<'_, '_>) {
    let host = match text.split_once('/') {
        None => text,
        Some((namespace, host)) => {
            if namespace.is_empty() || host.is_empty() {
                rules.error(format!("{:?} must be namespace/host, neither of them empty", shorten(text)));
                return;
            }
            if !matches!(namespace, "*" | ".") && !is_dns_label(namespace) {
                rules.error(format!("{:?} is not a namespace, '.' or '*'", shorten(namespace)));
            }
            host
        }
    };
    if is_ip(host) {
        return;
    }
    if host != "*" && !host.contains('.') {
        rules.error(format!("{:?} must be a whole name, with a dot", shorten(host)));
        return;
    }
    if is_partial_wildcard(host) {
        rules
            .error(format!("the partial wildcard {:?} is not allowed here; write \"*.name\"", shorten(host)));
    } else {
        rules.require(names::wildcard_domain(host));
    }
}
