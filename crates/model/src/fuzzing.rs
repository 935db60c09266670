//! Entry points for fuzzers: bytes from outside, in any state.
use xds::type_url;

use crate::{Config, Resource};

/// The first byte picks the type, the rest is the resource. Returns what was refused.
pub fn fuzz_apply(data: &[u8]) -> Vec<String> {
    let Some((kind, bytes)) = data.split_first() else { return Vec::new() };
    let types =
        [type_url::LISTENER, type_url::ROUTE, type_url::CLUSTER, type_url::ENDPOINT, type_url::NAME_TABLE];
    let url = types.get(usize::from(*kind) % types.len()).copied().unwrap_or(type_url::LISTENER);
    let mut config = Config::new();
    let body = xds::Any { type_url: url.to_owned(), value: bytes.to_vec() };
    let resource = Resource { name: "l".into(), version: String::new(), body };
    let refused = config.apply(url, &[resource], &[]);
    let snapshot = config.snapshot();
    for listener in snapshot.listeners() {
        listener.inspectors(80);
    }
    refused.iter().map(ToString::to_string).collect()
}
