//! Sidecar.

use std::collections::BTreeSet;

use super::names::{self, is_dns_label, is_ip};
use super::routes::check_destination;
use super::rules::Rules;
use super::service_entry::unknown_protocol;
use super::{selectors, tls, traffic_policy, values};
use crate::hosts;
use crate::networking::{
    CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
    ServerTlsMode, ServerTlsSettings, Sidecar, SidecarPort,
};
use crate::object::Object;
use crate::protocol::Protocol;
use crate::yaml::shorten;

pub(super) fn check(sidecar: &Sidecar, object: &Object, rules: &mut Rules<'_, '_>) {
    let said = Sidecar { workload_selector: None, ..sidecar.clone() };
    if said == Sidecar::default() {
        rules.error(
            "is empty: one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool is required",
        );
    }
    selectors::workload(sidecar.workload_selector.as_ref(), rules);
    check_ingress(sidecar, rules);
    check_egress(sidecar, object.namespace(), rules);
    rules.optional("inboundConnectionPool", sidecar.inbound_connection_pool.as_ref(), |rules, pool| {
        traffic_policy::check_connection_pool(rules, pool);
    });
    rules.optional("outboundTrafficPolicy", sidecar.outbound_traffic_policy.as_ref(), check_outbound_policy);
}

fn check_ingress(sidecar: &Sidecar, rules: &mut Rules<'_, '_>) {
    let mut ports = BTreeSet::new();
    rules.items("ingress", &sidecar.ingress, |rules, listener| {
        if let Some(port) = &listener.port {
            rules.field("port", |rules| {
                check_port(port, rules);
                rules.require_field("number", values::port(port.number));
                if !ports.insert(port.number) {
                    rules.field_error("number", format!("{} is there twice", port.number));
                }
            });
        }
        if !listener.bind.is_empty() && !is_ip(&listener.bind) {
            rules.field_error("bind", format!("{:?} is not an IP address", shorten(&listener.bind)));
        }
        check_default_endpoint(&listener.default_endpoint, rules);
        let protocol = listener.port.as_ref().map(|port| Protocol::parse(&port.protocol));
        rules.optional("tls", listener.tls.as_ref(), |rules, tls| check_ingress_tls(tls, protocol, rules));
        check_ingress_pool(listener, protocol.unwrap_or_default(), rules);
    });
}

fn check_ingress_pool(listener: &IstioIngressListener, protocol: Protocol, rules: &mut Rules<'_, '_>) {
    rules.optional("connectionPool", listener.connection_pool.as_ref(), |rules, pool| {
        traffic_policy::check_connection_pool(rules, pool);
        if pool.http.is_some() && !protocol.is_http() {
            rules.field("http", |rules| rules.warning("has no effect, as the port's protocol is not HTTP"));
        }
    });
}

fn check_ingress_tls(tls: &ServerTlsSettings, protocol: Option<Protocol>, rules: &mut Rules<'_, '_>) {
    for (name, set) in [
        ("httpsRedirect", tls.https_redirect),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ] {
        if set {
            rules.field_error(name, "is not supported in a Sidecar");
        }
    }
    if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        rules.field_error("mode", format!("must not be {} in a Sidecar", tls.mode.as_str()));
    }
    if protocol.is_some_and(|protocol| !protocol.is_tls()) {
        rules.error("is for HTTPS and TLS ports only");
    }
    tls::check_server(rules, tls);
}

fn check_default_endpoint(endpoint: &str, rules: &mut Rules<'_, '_>) {
    if endpoint.is_empty() {
        return;
    }
    if let Some(path) = endpoint.strip_prefix("unix://") {
        rules.require_field("defaultEndpoint", names::unix_socket(path));
        return;
    }
    let local = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
        matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]")
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !local {
        rules.field_error(
            "defaultEndpoint",
            format!(
                "must be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH, not {:?}",
                shorten(endpoint)
            ),
        );
    }
}

fn check_egress(sidecar: &Sidecar, own: &str, rules: &mut Rules<'_, '_>) {
    let last = sidecar.egress.len().saturating_sub(1);
    let (mut ports, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    let mut seen: Vec<(&str, &str)> = Vec::new();
    rules.field("egress", |rules| {
        for (index, listener) in sidecar.egress.iter().enumerate() {
            rules.item(index, |rules| {
                match &listener.port {
                    None if index != last => rules.error("a listener without a port must be the last"),
                    None => check_bind(&listener.bind, rules),
                    Some(port) => check_egress_port(listener, port, &mut ports, &mut sockets, rules),
                }
                if listener.hosts.is_empty() && rules.has("hosts") {
                    rules.field_error("hosts", "at least one host is required");
                }
                rules.items("hosts", &listener.hosts, |rules, host| check_egress_host(host, rules));
                if listener.port.is_none() {
                    warn_of_duplicates(listener, own, &mut seen, rules);
                }
            });
        }
    });
}

fn check_egress_port<'s>(
    listener: &'s IstioEgressListener,
    port: &SidecarPort,
    ports: &mut BTreeSet<u32>,
    sockets: &mut BTreeSet<&'s str>,
    rules: &mut Rules<'_, '_>,
) {
    rules.field("port", |rules| check_port(port, rules));
    if port.number != 0 {
        rules.field("port", |rules| {
            rules.require_field("number", values::port(port.number));
            if !ports.insert(port.number) {
                rules.field_error("number", format!("{} is there twice", port.number));
            }
        });
        check_bind(&listener.bind, rules);
        return;
    }
    match listener.bind.strip_prefix("unix://") {
        None => rules.field_error("bind", "must be unix:///PATH where the port is 0"),
        Some(path) => {
            rules.require_field("bind", names::unix_socket(path));
            if listener.capture_mode == CaptureMode::Iptables {
                rules.field_error("captureMode", "must be DEFAULT or NONE for a unix socket");
            }
            if !sockets.insert(&listener.bind) {
                rules.field_error("bind", format!("{:?} is there twice", shorten(&listener.bind)));
            }
        }
    }
}

fn check_bind(bind: &str, rules: &mut Rules<'_, '_>) {
    if !bind.is_empty() && !is_ip(bind) {
        rules.field_error("bind", format!("{:?} is not an IP address", shorten(bind)));
    }
}

fn check_port(port: &SidecarPort, rules: &mut Rules<'_, '_>) {
    if !port.name.is_empty() && !is_dns_label(&port.name) {
        rules.field_error("name", format!("{:?} is not a port's name (a DNS label)", shorten(&port.name)));
    }
    if !port.protocol.is_empty() && Protocol::parse(&port.protocol).is_unknown() {
        rules.field_error("protocol", unknown_protocol(&port.protocol));
    }
}

/// `namespace/host`; `~namespace/host` takes hosts out again.
fn check_egress_host(text: &str, rules: &mut Rules<'_, '_>) {
    let Some((namespace, host)) = text.split_once('/') else {
        rules.error(format!("{:?} must be namespace/host", shorten(text)));
        return;
    };
    let namespace = match namespace.strip_prefix('~') {
        Some("") | None => namespace,
        Some(excluded) => excluded,
    };
    if namespace.is_empty() || host.is_empty() {
        rules.error(format!("{:?} must be namespace/host, neither of them empty", shorten(text)));
        return;
    }
    if !matches!(namespace, "*" | "." | "~") && !is_dns_label(namespace) {
        rules.error(format!("{:?} is not a namespace, '.', '*' or '~'", shorten(namespace)));
    }
    if host != "*" && !host.contains('.') {
        rules.error(format!("{:?} must be a whole name, with a dot", shorten(host)));
        return;
    }
    rules.require(names::wildcard_domain(host));
}

/// An entry within an earlier one says nothing, unless it takes hosts out again (`~`).
fn warn_of_duplicates<'s>(
    listener: &'s IstioEgressListener,
    own: &'s str,
    seen: &mut Vec<(&'s str, &'s str)>,
    rules: &mut Rules<'_, '_>,
) {
    rules.field("hosts", |rules| {
        for (index, entry) in listener.hosts.iter().enumerate() {
            let Some((namespace, host)) = entry.split_once('/').filter(|_| !entry.starts_with('~')) else {
                continue;
            };
            let namespace = if namespace == "." { own } else { namespace };
            let within = |(outer, other): &&(&str, &str)| {
                (*outer == "*" || *outer == namespace) && hosts::is_subset(host, other)
            };
            if let Some((outer, other)) = seen.iter().find(within) {
                rules.item(index, |rules| rules.warning(format!("is within \"{outer}/{other}\" already")));
            }
            seen.push((namespace, host));
        }
    });
}

fn check_outbound_policy(rules: &mut Rules<'_, '_>, policy: &OutboundTrafficPolicy) {
    rules.optional("egressProxy", policy.egress_proxy.as_ref(), |rules, proxy| {
        if policy.mode != OutboundTrafficPolicyMode::AllowAny {
            rules.error("needs mode ALLOW_ANY");
        }
        if proxy.port.is_none() {
            rules.field_error("port", "is required but missing");
        }
        check_destination(proxy, rules);
    });
}
