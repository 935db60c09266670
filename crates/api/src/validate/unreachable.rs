//! Rules of a VirtualService that nothing can reach, because earlier ones take everything. Istio warns of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
    // Services have thousands of rules: what covers a prefix is looked up, not searched.
    let mut covers: HashMap<(&str, Option<u32>, &[String]), usize> = HashMap::new();
    for (index, route) in service.http.iter().enumerate() {
        for (position, request) in route.matches.iter().enumerate() {
            let Some(StringMatch::Prefix(prefix)) = &request.uri else {
                continue;
            };
            let plain = is_only_prefix(request);
            let shorter = prefix.char_indices().map(|(end, _)| end);
            let whole = (!plain).then_some(prefix.len());
            let cover = shorter.chain(whole).filter_map(|end| prefix.get(..end)).find_map(|cover| {
                let rule = covers.get(&(cover, request.port, request.gateways.as_slice()))?;
                Some((cover, *rule))
            });
            if let Some((cover, rule)) = cover.filter(|_| !request.ignore_uri_case) {
                let message = format!(
                    "is never reached: the prefix {cover:?} of rule {rule} takes everything before it"
                );
                warn(index, Some(position), &message, rules);
            }
            if plain {
                covers.entry((prefix, request.port, &request.gateways)).or_insert(index);
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
fn duplicates<M: std::fmt::Debug>(routes: &[&[M]], rules: &mut Rules<'_, '_>) {
    let mut without_match = false;
    // The debug form tells everything apart that equality does.
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, matches) in routes.iter().enumerate() {
        if matches.is_empty() {
            if without_match {
                warn(index, None, "is never reached: only the last rule can be without a match", rules);
            }
            without_match = true;
            continue;
        }
        for (position, one) in matches.iter().enumerate() {
            match seen.entry(format!("{one:?}")) {
                Entry::Occupied(earlier) => {
                    let message =
                        format!("is never reached: rule {} has the same match before it", earlier.get());
                    warn(index, Some(position), &message, rules);
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(index);
                }
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
