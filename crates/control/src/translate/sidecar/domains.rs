//! By which names a service may be called in a Host header (`istio-behaviour` rule 7).

use std::collections::HashSet;

use crate::translate::context::Context;
use crate::world::service::{Resolution, Service};

/// Names and addresses of a service, and which of them are abbreviations. `port` 0 leaves ports out, because the route
/// configuration ignores them.
pub fn of_service(context: &Context<'_>, service: &Service, port: u32) -> (Vec<String>, Vec<String>) {
    let dns_domain = context.dns_domain();
    let mut domains = Vec::new();
    let mut abbreviations = Vec::new();
    for host in std::iter::once(&service.host).chain(&service.aliases) {
        let short = abbreviate(host, port, &dns_domain);
        push(&mut domains, host, port);
        domains.extend(short.iter().cloned());
        abbreviations.extend(short);
    }
    if service.is_headless() && service.resolution == Resolution::Passthrough {
        // Pods are called by their own names under the service's.
        let of_pods: Vec<String> = domains.iter().map(|domain| format!("*.{domain}")).collect();
        domains.extend(of_pods);
    }
    for address in service.addresses_for(context.uses_automatic_addresses()) {
        push(&mut domains, address, port);
    }
    (domains, abbreviations)
}

/// Drops domains another virtual host has, and abbreviations that are another service's full name.
pub fn deduplicate(
    domains: Vec<String>,
    taken: &mut HashSet<String>,
    abbreviations: &[String],
    known: &HashSet<String>,
) -> Vec<String> {
    let mut kept = Vec::with_capacity(domains.len());
    for domain in domains {
        let lower = domain.to_lowercase();
        if taken.contains(&lower) || (abbreviations.contains(&domain) && known.contains(&domain)) {
            continue;
        }
        taken.insert(lower);
        kept.push(domain);
    }
    kept
}

/// The abbreviations of a host at a client of this domain, without ports.
pub fn short_names(host: &str, dns_domain: &str) -> Vec<String> {
    abbreviate(host, 0, dns_domain)
}

/// `[::1]` for an IPv6 address, as it stands in URLs.
pub fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

fn push(domains: &mut Vec<String>, host: &str, port: u32) {
    let host = bracketed(host);
    if port != 0 {
        domains.push(format!("{host}:{port}"));
        domains.insert(domains.len() - 1, host);
    } else {
        domains.push(host);
    }
}

fn abbreviate(host: &str, port: u32, dns_domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    if host.parse::<std::net::IpAddr>().is_err() {
        // With the root's dot it is the same name.
        push(&mut names, &format!("{host}."), port);
    }
    let Some(at) = dns_domain.find(".svc.") else { return names };
    let (namespace, suffix) = dns_domain.split_at(at);
    let Some(short) = host.strip_suffix(suffix) else { return names };
    let Some((name, owner)) = short.split_once('.') else { return names };
    if owner == namespace {
        push(&mut names, name, port);
    }
    push(&mut names, &format!("{short}.svc"), port);
    push(&mut names, short, port);
    names
}
