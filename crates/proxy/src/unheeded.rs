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
