//! VirtualService.

use super::export_to::{self, Of};
use super::names::{self, is_ip};
use super::routes::{check_destination, check_static_match, check_total_weight, check_weight};
use super::rules::Rules;
use super::{http_route, unreachable};
use crate::hosts;
use crate::networking::{
    L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute, VirtualService,
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
