//! Shared connections to hosts: how many there are, and how they come and go.

use wire::h2::Config;

use crate::common::{Proxy, http_listener, to};
use crate::peer::{Peer, Seen};
use crate::rig::{Rig, host, http2_cluster, manager};

const BURST: usize = 400;

fn get(number: usize) -> String {
    format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// RFC 9113 §6.5.2 leaves the number of streams open until SETTINGS come: what a host met for the first time may not take
/// waits until it has said so, and neither storms it with connections nor is refused.
#[test]
fn a_burst_at_a_cold_host_shares_one_connection() {
    let rig = Rig::new();
    let mut client = Peer::connect_with(rig.proxy.address, Config::default());
    // Its own first answer is the sign that the client may open more than a hundred streams.
    while client.codec.peer_settings().max_concurrent_streams < BURST as u32 {
        client.poll(std::time::Duration::from_millis(5));
    }
    let streams: Vec<_> = (0..BURST).map(|number| client.open(&get(number), true)).collect();
    let mut host = rig.host_with(Config { max_concurrent_streams: 1000, ..Config::default() });
    let mut paths = std::collections::BTreeSet::new();
    while paths.len() < BURST {
        let Seen::Request { stream, head, .. } = host.request() else { unreachable!() };
        paths.insert(head.split(' ').nth(1).unwrap().to_owned());
        host.respond(stream, 204, "", true);
    }
    for stream in streams {
        assert_eq!(client.answer(stream).status, 204);
    }
    assert_eq!(rig.proxy.count("envoy_cluster_upstream_cx_http2_total", &[]), 1);
    assert_eq!(rig.proxy.count("envoy_cluster_upstream_rq_total", &[]), BURST as u64);
}

/// A host that takes only so many at once gets a further connection for the rest.
#[test]
fn what_does_not_fit_on_a_connection_goes_on_another() {
    let rig = Rig::new();
    let mut client = rig.client();
    let only = client.open(&get(0), true);
    let mut host = rig.host_with(Config { max_concurrent_streams: 1, ..Config::default() });
    let answered = host.request().stream();
    host.respond(answered, 204, "", true);
    // The host's settings came before its answer.
    assert_eq!(client.answer(only).status, 204);
    let first = client.open(&get(1), true);
    let one = host.request().stream();
    let second = client.open(&get(2), true);
    let mut other = rig.host_with(Config { max_concurrent_streams: 1, ..Config::default() });
    let two = other.request().stream();
    other.respond(two, 204, "", true);
    assert_eq!(client.answer(second).status, 204);
    host.respond(one, 204, "", true);
    assert_eq!(client.answer(first).status, 204);
}

/// Envoy's `max_requests_per_connection`: a shared connection that has carried so many takes no more and ends with them.
#[test]
fn a_connection_that_is_used_up_ends_with_its_last_request() {
    let (listener, address) = host();
    let mut cluster = http2_cluster("app", &[address]);
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster["typed_extension_protocol_options"][options]["common_http_protocol_options"] =
        serde_json::json!({ "max_requests_per_connection": 2 });
    let proxy = Proxy::start(http_listener(manager(to("app"))), &[cluster]);
    let mut client = Peer::connect(proxy.address);
    let streams: Vec<_> = (0..3).map(|number| client.open(&get(number), true)).collect();
    let mut first = Peer::accept(&listener, Config::default());
    let mut second = Peer::accept(&listener, Config::default());
    let (one, two) = (first.request().stream(), first.request().stream());
    let three = second.request().stream();
    for (peer, stream, asked) in [(0, one, 0), (0, two, 1), (1, three, 2)] {
        let peer = if peer == 0 { &mut first } else { &mut second };
        peer.respond(stream, 204, "", true);
        assert_eq!(client.answer(streams[asked]).status, 204);
    }
    // Nothing follows on the first but its end.
    first.end();
    assert_eq!(proxy.count("envoy_cluster_upstream_cx_max_requests", &[]), 1);
}
