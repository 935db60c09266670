//! Whatever bytes come as a resource: it is taken or refused by name, never a panic.
mod common;

use common::*;
use model::fuzzing::fuzz_apply;
use proptest::prelude::*;
use serde_json::json;

/// A listener that uses most of what there is, to be damaged.
fn sample() -> Vec<u8> {
    let inline = json!({"routeConfig": {"name": "r", "virtualHosts": [{"name": "v", "domains": ["*.a.org", "b.*"], "routes": [
        {"match": {"safeRegex": {"regex": "/a.*"}, "headers": [{"name": "x", "stringMatch": {"contains": "y"}}],
            "queryParameters": [{"name": "q", "presentMatch": true}]},
            "requestHeadersToAdd": [{"header": {"key": "x-a", "value": "%REQ(b)%"}}],
            "route": {"weightedClusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}, "timeout": "3.5s",
                "retryPolicy": {"retryOn": "5xx", "retryBackOff": {"baseInterval": "0.025s"}}}},
        {"match": {"prefix": "/"}, "redirect": {"hostRedirect": "x.org", "portRedirect": 443}}]}]}});
    let value = json!({"name": "l", "address": address("10.0.0.1", 80), "listenerFilters": [inspector("TlsInspector")],
        "filterChains": [
            {"filterChainMatch": {"destinationPort": 80, "serverNames": ["*.x.org"], "prefixRanges": [
                {"addressPrefix": "10.0.0.0", "prefixLen": 8}]}, "transportSocket": tls_socket("default", true),
                "filters": [http(inline)]},
            tcp_chain("t", json!({"sourceType": "EXTERNAL"}), "c")]});
    xds::Message::encode_to_vec(&listener(value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_apply(&data);
    }

    #[test]
    fn a_damaged_listener_never_panics(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample();
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // The first byte says which type it is.
        bytes.insert(0, 0);
        fuzz_apply(&bytes);
    }
}

#[test]
fn the_sample_is_whole_and_known_hard_inputs_are_survived() {
    let mut bytes = vec![0];
    bytes.extend(sample());
    assert_eq!(fuzz_apply(&bytes), Vec::<String>::new());
    // A message nested a thousand deep (an Any in an Any).
    let mut nested = Vec::new();
    for _ in 0..1000 {
        let mut outer = vec![0x0a];
        xds_varint(nested.len(), &mut outer);
        outer.extend(&nested);
        nested = outer;
    }
    for kind in 0..5u8 {
        let mut bytes = vec![kind];
        bytes.extend(&nested);
        fuzz_apply(&bytes);
        fuzz_apply(&[kind, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    }
}

fn xds_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
