//! Rules of a VirtualService that nothing can reach, because earlier ones take everything. Istio warns of them.

use super::rules::Rules;
use crate::networking::{HttpMatchRequest, StringMatch, VirtualService};

pub(super) fn check(service: &VirtualService, rules: &mut Rules<'_, '_>) {
    rules.field("http", |rules| http(service, rules));
    let tls: Vec<_> = service.tls.iter().map(|route| route.matches.as_slice()).collect();
    rules.field("tls", |rules| duplicates(&tls, rules));
    let tcp: Vec<_> = service.tcp.iter().map(|route| route.matches.as_slice()).collect();
    rules.field("tcp", |rules| duplicates(&tcp, rules));
}

fn http(service: &VirtualService, rules: &mut Rules<'_, '_>) {
    let matches: Vec<_> = service.http.iter().map(|route| route.matches.as_slice()).collect();
    duplicates(&matches, rules);
    let mut prefixes: Vec<(&str, &HttpMatchRequest, usize)> = Vec::new();
    for (index, route) in service.http.iter().enumerate() {
        for (position, request) in route.matches.iter().enumerate() {
            let Some(StringMatch::Prefix(prefix)) = &request.uri else {
                continue;
            };
            let cover = prefixes.iter().find(|(cover, by, _)| {
                *by != request
                    && prefix.starts_with(cover)
                    && by.port == request.port
                    && by.gateways == request.gateways
                    && !request.ignore_uri_case
            });
            if let Some((cover, _, rule)) = cover {
                let message = format!(
                    "is never reached: the prefix {cover:?} of rule {rule} takes everything before it"
                );
                warn(index, Some(position), &message, rules);
            }
            if is_only_prefix(request) {
                prefixes.push((prefix, request, index));
            }
        }
    }
}

/// A condition on nothing but the path's beginning.
fn is_only_prefix(request: &HttpMatchRequest) -> bool {
    let only = HttpMatchRequest {
        name: request.name.clone(),
        uri: request.uri.clone(),
        port: request.port,
        gateways: request.gateways.clone(),
        stat_prefix: request.stat_prefix.clone(),
        ..Default::default()
    };
    only == *request
}

/// Two rules without any match, and matches that are there twice.
fn duplicates<M: PartialEq>(routes: &[&[M]], rules: &mut Rules<'_, '_>) {
    let mut without_match = false;
    let mut seen: Vec<(&M, usize)> = Vec::new();
    for (index, matches) in routes.iter().enumerate() {
        if matches.is_empty() {
            if without_match {
                warn(index, None, "is never reached: only the last rule can be without a match", rules);
            }
            without_match = true;
            continue;
        }
        for (position, one) in matches.iter().enumerate() {
            match seen.iter().find(|(other, _)| *other == one) {
                Some((_, rule)) => {
                    let message = format!("is never reached: rule {rule} has the same match before it");
                    warn(index, Some(position), &message, rules);
                }
                None => seen.push((one, index)),
            }
        }
    }
}

fn warn(rule: usize, position: Option<usize>, message: &str, rules: &mut Rules<'_, '_>) {
    rules.item(rule, |rules| match position {
        Some(position) => rules.field("match", |rules| rules.item(position, |rules| rules.warning(message))),
        None => rules.warning(message),
    });
}
