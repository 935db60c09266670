//! WorkloadEntry (also as a ServiceEntry's endpoint) and WorkloadGroup.

use super::names::{self, is_dns_label, is_ip};
use super::rules::Rules;
use super::{headers, selectors, values};
use crate::networking::{ReadinessProbe, WorkloadEntry, WorkloadGroup};
use crate::yaml::shorten;

pub(super) fn check_entry(entry: &WorkloadEntry, rules: &mut Rules<'_, '_>) {
    check_endpoint(entry, true, rules);
}

/// `names_too`: whether the address may be a host name.
pub(super) fn check_endpoint(entry: &WorkloadEntry, names_too: bool, rules: &mut Rules<'_, '_>) {
    let address = entry.address.as_str();
    if address.is_empty() {
        if entry.network.is_empty() {
            rules.field_error("address", "is required, unless there is a network");
        } else {
            rules.warning(format!("has no address, only the network {:?}", shorten(&entry.network)));
        }
    } else if let Some(path) = address.strip_prefix("unix://") {
        rules.require_field("address", names::unix_socket(path));
        if !entry.ports.is_empty() {
            rules.field_error("ports", "a unix socket has no ports");
        }
    } else if !is_ip(address) && !names_too {
        rules.field_error("address", format!("{:?} is not an IP address", shorten(address)));
    } else if !is_ip(address) {
        rules.require_field("address", names::fqdn(address));
    }
    check_ports(entry, rules);
    selectors::labels("labels", &entry.labels, rules);
    if address.len() > 256 {
        rules.field_error("address", "must not be longer than 256 characters");
    }
    for (name, text, limit) in [
        ("network", &entry.network, 2048),
        ("locality", &entry.locality, 2048),
        ("serviceAccount", &entry.service_account, 253),
    ] {
        if text.len() > limit {
            rules.field_error(name, format!("must not be longer than {limit} characters"));
        }
    }
}

fn check_ports(entry: &WorkloadEntry, rules: &mut Rules<'_, '_>) {
    if entry.ports.len() > 128 {
        rules.field_error("ports", "must not have more than 128 entries");
    }
    rules.entries("ports", &entry.ports, |rules, name, number| {
        if !is_dns_label(name) {
            rules.error(format!("{:?} is not a port's name (a DNS label)", shorten(name)));
        }
        rules.require(values::port(*number));
    });
}

pub(super) fn check_group(group: &WorkloadGroup, rules: &mut Rules<'_, '_>) {
    rules.optional("metadata", group.metadata.as_ref(), |rules, metadata| {
        selectors::labels("labels", &metadata.labels, rules);
    });
    rules.optional("template", group.template.as_ref(), |rules, template| {
        if template.address.starts_with("unix://") && !template.ports.is_empty() {
            rules.field_error("ports", "a unix socket has no ports");
        }
        check_ports(template, rules);
        selectors::labels("labels", &template.labels, rules);
    });
    rules.optional("probe", group.probe.as_ref(), check_probe);
}

fn check_probe(rules: &mut Rules<'_, '_>, probe: &ReadinessProbe) {
    for (name, seconds) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        values::not_negative(name, seconds, rules);
    }
    let methods =
        [probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.exec.is_some(), probe.grpc.is_some()];
    if methods.into_iter().filter(|set| *set).count() > 1 {
        rules.error("only one of httpGet, tcpSocket, exec and grpc may be set");
    }
    rules.optional("httpGet", probe.http_get.as_ref(), |rules, get| {
        rules.require_field("port", values::port(get.port));
        if !matches!(get.scheme.as_str(), "" | "HTTP" | "HTTPS") {
            rules.field_error("scheme", format!("must be HTTP or HTTPS, not {:?}", shorten(&get.scheme)));
        }
        rules.items("httpHeaders", &get.http_headers, |rules, header| {
            rules.require_field("name", headers::strict_name(&header.name));
        });
    });
    rules.optional("tcpSocket", probe.tcp_socket.as_ref(), |rules, socket| {
        rules.require_field("port", values::port(socket.port));
    });
    rules.optional("exec", probe.exec.as_ref(), |rules, exec| {
        if exec.command.is_empty() || exec.command.iter().any(String::is_empty) {
            rules.field_error("command", "must be a command and its arguments, none of them empty");
        }
    });
    rules.optional("grpc", probe.grpc.as_ref(), |rules, grpc| {
        rules.require_field("port", values::port(grpc.port));
    });
}
