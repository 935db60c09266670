//! ServiceEntry.

use std::collections::BTreeSet;

use super::export_to::{self, Of};
use super::names::{self, is_dns_label, is_partial_wildcard};
use super::rules::Rules;
use super::{selectors, values, workload};
use crate::networking::{Location, Resolution, ServiceEntry};
use crate::object::Object;
use crate::protocol::Protocol;
use crate::yaml::shorten;

pub(super) fn check(entry: &ServiceEntry, object: &Object, rules: &mut Rules<'_, '_>) {
    check_hosts(entry, rules);
    check_selector(entry, rules);
    check_addresses(entry, rules);
    check_ports(entry, rules);
    check_resolution(entry, rules);
    check_endpoints(entry, rules);
    export_to::check(&entry.export_to, object.namespace(), Of::ServiceEntry, rules);
}

fn check_hosts(entry: &ServiceEntry, rules: &mut Rules<'_, '_>) {
    if entry.hosts.is_empty() && rules.has("hosts") {
        rules.field_error("hosts", "at least one host is required");
    }
    if entry.hosts.len() > 256 {
        rules.field_error("hosts", "must not have more than 256 entries");
    }
    rules.items("hosts", &entry.hosts, |rules, host| {
        if host == "*" {
            rules.error("'*' is no host of a service");
            return;
        }
        rules.require(names::wildcard_domain(host));
        if is_partial_wildcard(host) {
            rules.warning(format!(
                "the partial wildcard {host:?} is not supported everywhere; write \"*.name\""
            ));
        }
    });
}

fn check_selector(entry: &ServiceEntry, rules: &mut Rules<'_, '_>) {
    selectors::workload(entry.workload_selector.as_ref(), rules);
    if entry.workload_selector.is_none() {
        return;
    }
    if rules.has("endpoints") {
        rules.field_error("endpoints", "only one of workloadSelector and endpoints may be set");
    }
    if entry.resolution == Resolution::None {
        rules.field("workloadSelector", |rules| rules.warning("has no effect with resolution NONE"));
    }
}

fn check_addresses(entry: &ServiceEntry, rules: &mut Rules<'_, '_>) {
    if entry.addresses.len() > 256 {
        rules.field_error("addresses", "must not have more than 256 entries");
    }
    let networks_too = matches!(entry.resolution, Resolution::None | Resolution::Static);
    rules.items("addresses", &entry.addresses, |rules, address| {
        rules.require(names::ip_subnet(address));
        if address.contains('/') && !networks_too {
            rules.error("a network needs resolution NONE or STATIC");
        }
    });
    let opaque = entry.ports.iter().any(|port| Protocol::parse(&port.protocol).is_tcp());
    if entry.hosts.len() > 1 && !entry.addresses.is_empty() && opaque {
        rules.field("hosts", |rules| {
            rules.warning("several hosts share addresses, so on TCP ports they cannot be told apart");
        });
    }
}

fn check_ports(entry: &ServiceEntry, rules: &mut Rules<'_, '_>) {
    if entry.ports.len() > 256 {
        rules.field_error("ports", "must not have more than 256 entries");
    }
    let (mut numbers, mut by_name) = (BTreeSet::new(), BTreeSet::new());
    let addressed = !entry.addresses.is_empty() || entry.resolution != Resolution::None;
    let partial = entry.hosts.iter().any(|host| host.contains('*'));
    rules.items("ports", &entry.ports, |rules, port| {
        if !numbers.insert(port.number) {
            rules.field_error("number", format!("{} is there twice", port.number));
        }
        if !by_name.insert(&port.name) {
            rules.field_error("name", format!("{:?} is there twice", shorten(&port.name)));
        }
        if !is_dns_label(&port.name) {
            rules
                .field_error("name", format!("{:?} is not a port's name (a DNS label)", shorten(&port.name)));
        }
        rules.require_field("number", values::port(port.number));
        if port.target_port != 0 {
            rules.require_field("targetPort", values::port(port.target_port));
        }
        let protocol = Protocol::parse(&port.protocol);
        if protocol.is_unknown() && !port.protocol.is_empty() {
            rules.field_error("protocol", unknown_protocol(&port.protocol));
        }
        if !addressed && !partial && matches!(protocol, Protocol::Tcp | Protocol::Unknown) {
            rules.warning("a TCP port of a service without addresses takes the port of every destination");
        }
    });
}

pub(super) fn unknown_protocol(protocol: &str) -> String {
    format!(
        "must be one of HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, TLS, not {:?}",
        shorten(protocol)
    )
}

fn check_resolution(entry: &ServiceEntry, rules: &mut Rules<'_, '_>) {
    let given = rules.has("endpoints");
    match entry.resolution {
        Resolution::None if given => rules.field_error("endpoints", "resolution NONE takes no endpoints"),
        Resolution::None | Resolution::Static => {}
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
                rules.items("hosts", &entry.hosts, |rules, host| {
                    if host.contains('*') && names::wildcard_domain(host).is_ok() {
                        rules
                            .error("a wildcard cannot be resolved: without endpoints, DNS needs whole names");
                    }
                });
            }
            if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
                rules.field_error("endpoints", "resolution DNS_ROUND_ROBIN takes at most one endpoint");
            }
        }
        Resolution::DynamicDns => {
            if !entry.addresses.is_empty() {
                rules.field_error(
                    "addresses",
                    "resolution DYNAMIC_DNS goes by host, so it takes no addresses",
                );
            }
            if given {
                rules.field_error("endpoints", "resolution DYNAMIC_DNS takes no endpoints");
            }
            if entry.workload_selector.is_some() {
                rules.field_error("workloadSelector", "resolution DYNAMIC_DNS takes no workloadSelector");
            }
            if !entry.hosts.iter().any(|host| host.starts_with("*.")) {
                rules.field_error("hosts", "resolution DYNAMIC_DNS needs a wildcard host");
            }
            if entry.location == Location::MeshInternal {
                rules.field_error("location", "must not be MESH_INTERNAL with resolution DYNAMIC_DNS");
            }
        }
    }
}

fn check_endpoints(entry: &ServiceEntry, rules: &mut Rules<'_, '_>) {
    let names_too = matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if entry.endpoints.len() > 4096 {
        rules.field_error("endpoints", "must not have more than 4096 entries");
    }
    rules.items("endpoints", &entry.endpoints, |rules, endpoint| {
        if names_too && endpoint.address.starts_with("unix://") {
            rules.field_error("address", "must be a host name or an IP address, as it is resolved by DNS");
        }
        workload::check_endpoint(endpoint, names_too, rules);
        if endpoint.address.starts_with("unix://") && entry.ports.len() != 1 {
            rules.error("a unix socket serves exactly one port, so the service must have one");
        }
        rules.entries("ports", &endpoint.ports, |rules, name, _| {
            if !entry.ports.iter().any(|port| port.name == *name) {
                rules.error(format!("the service has no port {:?}", shorten(name)));
            }
        });
    });
}
