//! What configuration asks for and does not get: said by name, once, when it is taken up. (What must not be left undone is
//! refused by `model`; what an HTTP/2 or a cluster's setting asks for is named where it is taken up.)

use model::filter::HttpFilter;
use model::http1::HeaderCase;
use model::network::StatsConfig;
use model::{FilterChain, HttpConnection, Listener, NetworkAction};

use crate::options::Shared;

/// A listener is opened, or changed.
pub fn listener(shared: &Shared, listener: &Listener) {
    say(
        shared,
        &listener.name,
        &[
            (
                listener.transparent,
                "transparent: connections to hosts come from this proxy's address, not from the client's",
            ),
            (listener.freebind, "freebind: an address that is not there yet can not be listened on"),
        ],
    );
}

/// A connection met this chain for the first time.
pub fn chain(shared: &Shared, chain: &FilterChain, listener: &str) {
    if let Some(config) = stats(chain) {
        say(
            shared,
            listener,
            &[(
                !config.metrics.is_empty(),
                "istio.stats counts its metrics with their usual labels: overrides of metrics and tags are not applied",
            )],
        );
    }
    if let NetworkAction::Http(settings) = &chain.action {
        say(shared, listener, &connection(settings));
        for what in crate::http2::unheeded(&settings.http2) {
            shared.warn_once(what, listener);
        }
    }
}

fn stats(chain: &FilterChain) -> Option<&StatsConfig> {
    match &chain.action {
        NetworkAction::Http(settings) => settings.filters.iter().find_map(|filter| match &filter.kind {
            HttpFilter::Stats(config) => Some(&**config),
            _ => None,
        }),
        _ => chain.filters.stats.as_deref(),
    }
}

/// More fields than a parsed head has places for.
const MOST_HEADERS: u32 = 250;

fn connection(settings: &HttpConnection) -> [(bool, &'static str); 6] {
    let http1 = &settings.http1;
    [
        (
            http1.header_case == HeaderCase::Proper,
            "proper_case_words: names of headers are sent as they came",
        ),
        (!http1.allow_absolute_url, "allow_absolute_url: requests in absolute form are taken all the same"),
        (
            http1.stream_error_on_invalid_message,
            "stream_error_on_invalid_http_message: after an invalid HTTP/1 request the connection is closed",
        ),
        (
            settings.router.respect_expected_timeout,
            "respect_expected_rq_timeout: x-envoy-expected-rq-timeout-ms of clients is not honoured",
        ),
        (
            settings.limits.max_headers_count > MOST_HEADERS,
            "max_headers_count: a request may have 250 fields at most",
        ),
        (
            settings.filters.iter().any(|filter| matches!(filter.kind, HttpFilter::GrpcStats)),
            "envoy.filters.http.grpc_stats: messages and statuses of gRPC are not counted by service and method",
        ),
    ]
}

fn say(shared: &Shared, whom: &str, told: &[(bool, &'static str)]) {
    for (_, what) in told.iter().filter(|(asked, _)| *asked) {
        shared.warn_once(what, whom);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is said of a connection manager with these settings, by the name before the colon.
    fn said(more: Value, filter: Option<Value>) -> Vec<String> {
        const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http";
        let router = json!({ "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{HTTP}.router.v3.Router") } });
        let filters: Vec<Value> = filter.into_iter().chain([router]).collect();
        let mut manager = json!({ "stat_prefix": "s", "http_filters": filters,
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "route_config": { "name": "r" } });
        for (key, value) in more.as_object().unwrap() {
            manager[key] = value.clone();
        }
        let listener = json!({ "name": "l",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 1 } },
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] });
        let message =
            xds::json::from_json(&json!({ "static_resources": { "listeners": [listener] } })).unwrap();
        let snapshot = model::bootstrap::from_bootstrap(&message).unwrap().config.snapshot();
        let listener = snapshot.listeners().next().unwrap();
        let NetworkAction::Http(settings) = &listener.chains[0].action else { panic!() };
        let told = connection(settings).into_iter().filter(|(asked, _)| *asked);
        told.map(|(_, what)| what.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_asked_for_and_not_done_is_named() {
        let stats = json!({ "name": "stats",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig" } });
        let none: [&str; 0] = [];
        assert_eq!(said(json!({}), None), none);
        assert_eq!(said(json!({}), Some(stats)), ["envoy.filters.http.grpc_stats"]);
        let many = json!({ "common_http_protocol_options": { "max_headers_count": 1000 } });
        assert_eq!(said(many, None), ["max_headers_count"]);
        let most = json!({ "common_http_protocol_options": { "max_headers_count": 250 } });
        assert_eq!(said(most, None), none);
        assert_eq!(said(json!({ "delayed_close_timeout": "7s" }), None), none);
        let http1 = json!({ "http_protocol_options": { "allow_absolute_url": false } });
        assert_eq!(said(http1, None), ["allow_absolute_url"]);
    }
}
