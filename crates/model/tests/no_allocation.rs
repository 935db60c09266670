//! The request path allocates nothing: a decision is counted under an allocator that counts.
//!
//! The one test of this binary, so that no other thread allocates meanwhile.
#![allow(unsafe_code)] // A global allocator cannot be written without it.
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

use common::*;
use model::lb::{HostPlan, Tried, pick};
use model::{Config, ConnectionView, TransportProtocol};
use serde_json::json;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_connection_and_a_request_are_decided_without_an_allocation() {
    let mut config = Config::new();
    let chains = json!([
        tcp_chain("t", json!({"serverNames": ["*.x.org"], "transportProtocol": "tls"}), "c"),
        {"filterChainMatch": {"applicationProtocols": ["http/1.1"]}, "filters": [http(rds("80"))]}]);
    let message = listener(
        json!({"name": "l", "address": address("0.0.0.0", 80), "useOriginalDst": true, "filterChains": chains}),
    );
    assert!(config.apply(xds::type_url::LISTENER, &[resource("l", &message)], &[]).is_empty());
    let table = routes(json!({"name": "80", "ignorePortInHostMatching": true, "virtualHosts": [
        {"name": "v", "domains": ["a.org", "*.b.org"], "routes": [
            {"match": {"prefix": "/x", "headers": [{"name": "end-user", "stringMatch": {"exact": "jason"}}],
                "queryParameters": [{"name": "q", "stringMatch": {"safeRegex": {"regex": "[0-9]+"}}}]}, "route": {"cluster": "c"}},
            {"match": {"safeRegex": {"regex": "/y/[a-z]+"}}, "route": {"cluster": "c"}},
            {"match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [{"name": "c", "weight": 1}, {"name": "d", "weight": 1}]}}}]}]}));
    assert!(config.apply(xds::type_url::ROUTE, &[resource("80", &table)], &[]).is_empty());
    let cluster: xds::cluster::Cluster = common::message(
        json!({"name": "c", "type": "STATIC", "lbPolicy": "LEAST_REQUEST",
        "loadAssignment": {"clusterName": "c", "endpoints": [{"lbEndpoints": [
            {"endpoint": {"address": address("10.0.0.1", 80)}}, {"endpoint": {"address": address("10.0.0.2", 80)}}]}]}}),
    );
    assert!(config.apply(xds::type_url::CLUSTER, &[resource("c", &cluster)], &[]).is_empty());
    let snapshot = config.snapshot();
    let listener = snapshot.listener("l").unwrap();
    let destination: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let view = ConnectionView {
        destination,
        source: destination,
        direct_source: destination,
        transport: TransportProtocol::RawBuffer,
        server_name: "A.y.ORG",
        application_protocols: &["http/1.1"],
    };
    let table = snapshot.route_tables().next().unwrap();
    let entry = snapshot.clusters().next().unwrap().1;
    let plan = HostPlan::new(&entry.cluster, &entry.endpoints, |_| true);
    let mut rotation = plan.rotation();
    let requests = [
        get("A.org:8080", "/x?q=12").with("end-user", "jason"),
        get("z.B.org", "/y/abc?q"),
        get("a.org", "/other"),
        get("unknown.org", "/"),
    ];
    let mut decide = || {
        let chain = snapshot.listener_for(listener, destination).filter_chain(&view).chain().is_some();
        let routed = requests.iter().filter(|r| table.decide(*r, 3).route.is_some()).count();
        let host = pick(&plan, &mut rotation, Tried::default(), |_| 0, || 5);
        (chain, routed, host)
    };
    // Once before: the regex engine sets up its scratch memory at first use.
    assert_eq!((decide().0, decide().1), (true, 3));
    let before = COUNT.with(Cell::get);
    for _ in 0..100 {
        std::hint::black_box(decide());
    }
    assert_eq!(COUNT.with(Cell::get) - before, 0);
}
