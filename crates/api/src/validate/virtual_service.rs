//! VirtualService.

use super::export_to::{self, Of};
use super::names::{self, is_dns_label, is_ip};
use super::rules::Rules;
use super::{http_route, selectors, unreachable, values};
use crate::hosts;
use crate::networking::{
    Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute, VirtualService,
};
use crate::object::Object;
use crate::yaml::shorten;

pub(super) fn check(service: &VirtualService, object: &Object, rules: &mut Rules<'_, '_>) {
    let is_delegate = service.hosts.is_empty();
    let to_gateway = service.gateways.iter().any(|gateway| gateway != "mesh");
    let to_mesh = service.gateways.is_empty() || service.gateways.iter().any(|gateway| gateway == "mesh");
    if is_delegate && !service.gateways.is_empty() {
        rules.field_error(
            "gateways",
            "a VirtualService without hosts is a delegate, which has no gateways of its own",
        );
    }
    rules.items("gateways", &service.gateways, |rules, gateway| rules.require(names::gateway_name(gateway)));
    check_hosts(service, to_gateway, to_mesh, rules);
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        rules.error("at least one of http, tls and tcp is required");
    }
    if is_delegate && !(service.tls.is_empty() && service.tcp.is_empty()) {
        rules.error("a VirtualService without hosts is a delegate, which can have http routes only");
    }
    rules.items("http", &service.http, |rules, route| {
        http_route::check(route, is_delegate, rules);
    });
    rules.items("tls", &service.tls, |rules, route| check_tls(route, &service.hosts, to_gateway, rules));
    rules.items("tcp", &service.tcp, |rules, route| check_tcp(route, rules));
    export_to::check(&service.export_to, object.namespace(), Of::Other, rules);
    unreachable::check(service, rules);
}

fn check_hosts(service: &VirtualService, to_gateway: bool, to_mesh: bool, rules: &mut Rules<'_, '_>) {
    let mut all_good = true;
    rules.items("hosts", &service.hosts, |rules, host| {
        let outcome = if to_gateway { names::gateway_domain(host) } else { names::wildcard_domain(host) };
        match outcome {
            Err(_) if is_ip(host) => {}
            Err(message) => {
                all_good = false;
                rules.error(message);
            }
            Ok(()) if to_mesh && host == "*" => {
                all_good = false;
                rules.error("'*' can only be bound to gateways, not to the mesh");
            }
            Ok(()) => {}
        }
    });
    if !all_good {
        return;
    }
    for (index, right) in service.hosts.iter().enumerate() {
        let earlier = service.hosts.iter().take(index);
        if let Some(left) = earlier.into_iter().find(|left| hosts::matches(left, right)) {
            rules.field("hosts", |rules| {
                rules.item(index, |rules| {
                    rules.error(format!("{right:?} overlaps with {left:?} of the same object"))
                });
            });
        }
    }
}

/// The conditions that decide which proxies get a rule.
pub(super) fn check_static_match(
    port: Option<u32>,
    labels: &std::collections::BTreeMap<String, String>,
    namespace: &str,
    gateways: &[String],
    rules: &mut Rules<'_, '_>,
) {
    if let Some(port) = port.filter(|port| *port != 0) {
        rules.require_field("port", values::port(port));
    }
    selectors::labels("sourceLabels", labels, rules);
    if !namespace.is_empty() && !is_dns_label(namespace) {
        rules.field_error("sourceNamespace", format!("{:?} is not a namespace", shorten(namespace)));
    }
    rules.items("gateways", gateways, |rules, gateway| rules.require(names::gateway_name(gateway)));
}

fn check_tls(route: &TlsRoute, hosts: &[String], to_gateway: bool, rules: &mut Rules<'_, '_>) {
    if route.matches.is_empty() {
        rules.field_error("match", "at least one match is required");
    }
    rules.items("match", &route.matches, |rules, connection| {
        check_tls_match(connection, hosts, to_gateway, rules);
    });
    check_l4_routes(&route.route, rules);
}

fn check_tls_match(
    connection: &TlsMatchAttributes,
    hosts: &[String],
    to_gateway: bool,
    rules: &mut Rules<'_, '_>,
) {
    if connection.sni_hosts.is_empty() {
        rules.field_error("sniHosts", "at least one host is required");
    }
    rules.items("sniHosts", &connection.sni_hosts, |rules, sni| {
        if is_ip(sni) {
            rules.warning(format!("{sni:?} is an address, which most clients do not send as server name"));
        } else {
            rules.require(if to_gateway { names::gateway_domain(sni) } else { names::wildcard_domain(sni) });
        }
        if !is_ip(sni) && !hosts.iter().any(|host| hosts::is_subset(sni, host)) {
            rules.error(format!("{:?} is none of the object's hosts ({})", shorten(sni), hosts.join(", ")));
        }
    });
    rules.items("destinationSubnets", &connection.destination_subnets, |rules, subnet| {
        rules.require(names::ip_subnet(subnet));
    });
    check_static_match(
        connection.port,
        &connection.source_labels,
        &connection.source_namespace,
        &connection.gateways,
        rules,
    );
}

fn check_tcp(route: &TcpRoute, rules: &mut Rules<'_, '_>) {
    rules.items("match", &route.matches, |rules, connection: &L4MatchAttributes| {
        rules.items("destinationSubnets", &connection.destination_subnets, |rules, subnet| {
            rules.require(names::ip_subnet(subnet));
        });
        if !connection.source_subnet.is_empty() {
            rules.require_field("sourceSubnet", names::ip_subnet(&connection.source_subnet));
        }
        check_static_match(
            connection.port,
            &connection.source_labels,
            &connection.source_namespace,
            &connection.gateways,
            rules,
        );
    });
    check_l4_routes(&route.route, rules);
}

fn check_l4_routes(routes: &[RouteDestination], rules: &mut Rules<'_, '_>) {
    if routes.is_empty() {
        rules.field_error("route", "at least one destination is required");
    }
    rules.items("route", routes, |rules, target| {
        rules.field("destination", |rules| check_destination(&target.destination, rules));
        check_weight(target.weight, rules);
    });
    check_total_weight(routes.iter().map(|target| target.weight), rules);
}

pub(super) fn check_weight(weight: i32, rules: &mut Rules<'_, '_>) {
    values::not_negative("weight", weight, rules);
}

/// Weights are relative to their sum; a single destination needs none.
pub(super) fn check_total_weight(weights: impl ExactSizeIterator<Item = i32>, rules: &mut Rules<'_, '_>) {
    if weights.len() > 1 && weights.map(i64::from).sum::<i64>() == 0 {
        rules.field_error("route", "the weights of several destinations must not all be 0");
    }
}

pub(super) fn check_destination(destination: &Destination, rules: &mut Rules<'_, '_>) {
    rules.require_field(
        "host",
        match destination.host.as_str() {
            "*" => Err("'*' is no destination".into()),
            host => names::wildcard_domain(host),
        },
    );
    if !destination.subset.is_empty() && !is_dns_label(&destination.subset) {
        rules.field_error("subset", format!("{:?} is not a DNS label", shorten(&destination.subset)));
    }
    rules.optional("port", destination.port.as_ref(), |rules, port| values::port_selector(port, rules));
}
