//! Header operations (`istio-behaviour` rule 17).

use std::collections::BTreeMap;

use api::networking::{HeaderOperations, Headers};
use xds::core::header_value_option::HeaderAppendAction;
use xds::core::{HeaderValue, HeaderValueOption};
use xds::route::Route;
use xds::route::weighted_cluster::{ClusterWeight, cluster_weight};

/// One level of operations, in Envoy's words.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
    /// The authority written as a header, if any.
    pub authority: Option<String>,
}

impl Operations {
    pub fn of(headers: Option<&Headers>) -> Self {
        let Some(headers) = headers else { return Self::default() };
        let request = headers.request.clone().unwrap_or_default();
        let response = headers.response.clone().unwrap_or_default();
        Self {
            authority: authority(&request.set).or_else(|| authority(&request.add)),
            request_add: add(&request),
            request_remove: remove(&request),
            response_add: add(&response),
            response_remove: remove(&response),
        }
    }

    pub fn apply_to_route(self, route: &mut Route) {
        route.request_headers_to_add.extend(self.request_add);
        route.request_headers_to_remove.extend(self.request_remove);
        route.response_headers_to_add.extend(self.response_add);
        route.response_headers_to_remove.extend(self.response_remove);
    }

    pub fn apply_to_weight(self, weight: &mut ClusterWeight) {
        weight.request_headers_to_add = self.request_add;
        weight.request_headers_to_remove = self.request_remove;
        weight.response_headers_to_add = self.response_add;
        weight.response_headers_to_remove = self.response_remove;
        weight.host_rewrite_specifier =
            self.authority.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral);
    }
}

/// `set` before `add`, each by name.
fn add(operations: &HeaderOperations) -> Vec<HeaderValueOption> {
    let option = |(key, value): (&String, &String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: key.clone(), value: value.clone(), ..Default::default() }),
        append_action: action as i32,
        ..Default::default()
    };
    let changeable = |(key, _): &(&String, &String)| !is_internal(key);
    let set = operations.set.iter().filter(changeable);
    let added = operations.add.iter().filter(changeable);
    set.map(|entry| option(entry, HeaderAppendAction::OverwriteIfExistsOrAdd))
        .chain(added.map(|entry| option(entry, HeaderAppendAction::AppendIfExistsOrAdd)))
        .collect()
}

fn remove(operations: &HeaderOperations) -> Vec<String> {
    operations.remove.iter().filter(|key| !is_internal(key)).cloned().collect()
}

/// What cannot be changed as a header.
fn is_internal(key: &str) -> bool {
    key.starts_with(':') || key.eq_ignore_ascii_case("host")
}

fn authority(headers: &BTreeMap<String, String>) -> Option<String> {
    let mut found = headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(":authority") || key.eq_ignore_ascii_case("host"));
    found.next_back().map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
}
