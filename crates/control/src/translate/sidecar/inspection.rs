//! Which inbound ports are sniffed: only those that have chains to tell apart by it, so that a declared server-first
//! protocol never waits for the client.

use std::collections::BTreeMap;

use xds::listener::listener_filter_chain_match_predicate::{MatchSet, Rule};
use xds::listener::{FilterChain, ListenerFilter, ListenerFilterChainMatchPredicate};
use xds::types::Int32Range;

use super::outbound::{http_inspector, tls_inspector};
use crate::translate::chain::{PLAIN_HTTP, TLS};
use crate::translate::values::listener_filter;

#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    tls: bool,
    http: bool,
}

/// Listener filters for these chains; `captured` if connections are redirected to the listener.
pub fn listener_filters(chains: &[FilterChain], captured: bool) -> Vec<ListenerFilter> {
    // Port 0 stands for every port that has no chains of its own.
    let mut ports: BTreeMap<u32, Needs> = BTreeMap::new();
    for matcher in chains.iter().map(|chain| chain.filter_chain_match.as_ref()) {
        let port = matcher.and_then(|matcher| matcher.destination_port).unwrap_or_default();
        let needs = ports.entry(port).or_default();
        needs.tls |= matcher.is_some_and(|matcher| matcher.transport_protocol == TLS);
        needs.http |= matcher.is_some_and(|matcher| {
            matcher.application_protocols.iter().any(|name| PLAIN_HTTP.contains(&name.as_str()))
        });
    }
    let mut filters = Vec::new();
    if captured {
        filters.push(listener_filter(
            "envoy.filters.listener.original_dst",
            &xds::listener_filters::original_dst::v3::OriginalDst::default(),
        ));
    }
    // TLS first: what it recognises the HTTP inspector leaves alone.
    if ports.values().any(|needs| needs.tls) {
        filters.push(limited(tls_inspector(), &ports, |needs| needs.tls));
    }
    if ports.values().any(|needs| needs.http) {
        filters.push(limited(http_inspector(), &ports, |needs| needs.http));
    }
    filters
}

fn limited(
    filter: ListenerFilter,
    ports: &BTreeMap<u32, Needs>,
    wanted: impl Fn(&Needs) -> bool,
) -> ListenerFilter {
    let everywhere = ports.get(&0).is_some_and(&wanted);
    let listed = |with: bool| {
        ports.iter().filter(move |(port, needs)| **port != 0 && wanted(needs) == with).map(|(port, _)| *port)
    };
    let filter_disabled = if everywhere {
        any_of(listed(false).collect())
    } else {
        any_of(listed(true).collect())
            .map(|only| ListenerFilterChainMatchPredicate { rule: Some(Rule::NotMatch(Box::new(only))) })
    };
    ListenerFilter { filter_disabled, ..filter }
}

fn any_of(ports: Vec<u32>) -> Option<ListenerFilterChainMatchPredicate> {
    let mut rules: Vec<_> = ports
        .into_iter()
        .filter_map(|port| {
            let start = i32::try_from(port).ok()?;
            Some(ListenerFilterChainMatchPredicate {
                rule: Some(Rule::DestinationPortRange(Int32Range { start, end: start + 1 })),
            })
        })
        .collect();
    match rules.len() {
        0 => None,
        1 => rules.pop(),
        _ => Some(ListenerFilterChainMatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) }),
    }
}
