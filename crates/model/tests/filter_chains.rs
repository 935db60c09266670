//! The nested tables against Envoy's algorithm written down naively: sets of chains, narrowed step by step.
mod common;

use std::net::{IpAddr, SocketAddr};

use common::*;
use model::{Config, ConnectionView, TransportProtocol};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, Clone, Default)]
struct Rule {
    port: Option<u16>,
    prefixes: Vec<(&'static str, u8)>,
    names: Vec<&'static str>,
    transport: &'static str,
    protocols: Vec<&'static str>,
    source_type: u8,
    sources: Vec<(&'static str, u8)>,
    source_ports: Vec<u16>,
}

impl Rule {
    fn json(&self) -> Value {
        let ranges = |ranges: &[(&str, u8)]| -> Vec<Value> {
            ranges.iter().map(|(ip, len)| json!({"addressPrefix": ip, "prefixLen": len})).collect()
        };
        let kind = ["ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL"][usize::from(self.source_type)];
        let mut rule = json!({"prefixRanges": ranges(&self.prefixes), "serverNames": self.names,
            "transportProtocol": self.transport, "applicationProtocols": self.protocols,
            "sourceType": kind, "sourcePrefixRanges": ranges(&self.sources), "sourcePorts": self.source_ports});
        if let Some(port) = self.port {
            rule["destinationPort"] = json!(port);
        }
        rule
    }
}

#[derive(Debug, Clone)]
struct Connection {
    destination: &'static str,
    port: u16,
    source: &'static str,
    source_port: u16,
    name: &'static str,
    tls: bool,
    offers: Vec<&'static str>,
}

fn contains((network, length): (&str, u8), ip: &str) -> bool {
    let (IpAddr::V4(network), IpAddr::V4(ip)) = (network.parse().unwrap(), ip.parse().unwrap()) else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    u32::from(network) & mask == u32::from(ip) & mask
}

/// Keeps the chains that score best; a chain without the criterion scores 0, one that does not fit nothing.
fn narrow(chains: Vec<usize>, score: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
    let best = chains.iter().filter_map(|c| score(*c)).max();
    chains.into_iter().filter(|c| score(*c).is_some() && score(*c) == best).collect()
}

fn oracle(rules: &[Rule], c: &Connection) -> Option<usize> {
    let all = (0..rules.len()).collect();
    let prefix = |ranges: &[(&'static str, u8)], ip: &str| match ranges.is_empty() {
        true => Some(0),
        false => ranges.iter().filter(|r| contains(**r, ip)).map(|r| usize::from(r.1) + 1).max(),
    };
    let chains = narrow(all, |i| match rules[i].port {
        None => Some(0),
        Some(port) => (port == c.port).then_some(1),
    });
    let chains = narrow(chains, |i| prefix(&rules[i].prefixes, c.destination));
    let chains = narrow(chains, |i| match rules[i].names.is_empty() {
        true => Some(0),
        false => rules[i]
            .names
            .iter()
            .filter_map(|n| match n.strip_prefix('*') {
                _ if *n == c.name => Some(1000),
                Some(suffix) => {
                    (c.name.ends_with(suffix) && c.name.len() > suffix.len()).then_some(suffix.len())
                }
                None => None,
            })
            .max(),
    });
    let chains = narrow(chains, |i| match rules[i].transport {
        "" => Some(0),
        transport => ((transport == "tls") == c.tls).then_some(1),
    });
    let chains = narrow(chains, |i| match rules[i].protocols.is_empty() {
        true => Some(0),
        // The client's order decides.
        false => c.offers.iter().position(|o| rules[i].protocols.contains(o)).map(|p| 100 - p),
    });
    let local = c.source == c.destination || c.source.starts_with("127.");
    let chains = narrow(chains, |i| match rules[i].source_type {
        0 => Some(0),
        1 => local.then_some(1),
        _ => (!local).then_some(1),
    });
    let chains = narrow(chains, |i| prefix(&rules[i].sources, c.source));
    let chains = narrow(chains, |i| match rules[i].source_ports.is_empty() {
        true => Some(0),
        false => rules[i].source_ports.contains(&c.source_port).then_some(1),
    });
    chains.first().copied()
}

fn pick<T: Clone + std::fmt::Debug + 'static>(values: &[T], most: usize) -> BoxedStrategy<Vec<T>> {
    proptest::sample::subsequence(values.to_vec(), 0..=most).boxed()
}

fn rule() -> impl Strategy<Value = Rule> {
    let ranges = [("10.0.0.0", 8u8), ("10.1.0.0", 16), ("10.1.2.3", 32), ("0.0.0.0", 0)];
    let sources = [("127.0.0.0", 8u8), ("10.0.0.0", 8), ("10.1.2.3", 32)];
    (
        prop_oneof![2 => Just(None), 1 => Just(Some(80u16)), 1 => Just(Some(443))],
        pick(&ranges, 2),
        pick(&["a.example.com", "*.example.com", "*.com", "b.org"], 2),
        prop_oneof![Just(""), Just("tls"), Just("raw_buffer")],
        pick(&["http/1.1", "h2", "istio"], 2),
        prop_oneof![3 => Just(0u8), 1 => Just(1), 1 => Just(2)],
        pick(&sources, 1),
        pick(&[1000u16, 2000], 1),
    )
        .prop_map(|(port, prefixes, names, transport, protocols, source_type, sources, source_ports)| {
            Rule { port, prefixes, names, transport, protocols, source_type, sources, source_ports }
        })
}

fn connection() -> impl Strategy<Value = Connection> {
    (
        prop_oneof![Just("10.1.2.3"), Just("10.1.9.9"), Just("10.9.9.9"), Just("192.0.2.1")],
        prop_oneof![Just(80u16), Just(443), Just(8080)],
        prop_oneof![Just("10.1.2.3"), Just("127.0.0.1"), Just("10.7.7.7"), Just("198.51.100.1")],
        prop_oneof![Just(1000u16), Just(3000)],
        prop_oneof![Just(""), Just("a.example.com"), Just("x.y.example.com"), Just("z.com"), Just("b.org")],
        any::<bool>(),
        prop_oneof![Just(vec![]), Just(vec!["h2", "http/1.1"]), Just(vec!["istio"]), Just(vec!["http/1.1"])],
    )
        .prop_map(|(destination, port, source, source_port, name, tls, offers)| Connection {
            destination,
            port,
            source,
            source_port,
            name,
            tls,
            offers,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_tables_pick_what_envoys_algorithm_picks(
        rules in proptest::collection::vec(rule(), 1..6),
        connections in proptest::collection::vec(connection(), 12),
    ) {
        let chains: Vec<Value> =
            rules.iter().enumerate().map(|(i, r)| tcp_chain(&i.to_string(), r.json(), "c")).collect();
        let message = listener(json!({"name": "l", "address": address("0.0.0.0", 1), "filterChains": chains}));
        let mut config = Config::new();
        let refused = config.apply(xds::type_url::LISTENER, &[resource("l", &message)], &[]);
        // Chains that match alike are refused, by name.
        prop_assume!(!refused.iter().any(|r| r.reason.contains("same matching rules")));
        prop_assert!(refused.is_empty(), "{:?}", refused);
        let snapshot = config.snapshot();
        let listener = snapshot.listener("l").expect("it was applied");
        for c in &connections {
            let source = SocketAddr::new(c.source.parse().unwrap(), c.source_port);
            let view = ConnectionView {
                destination: SocketAddr::new(c.destination.parse().unwrap(), c.port),
                source,
                direct_source: source,
                transport: if c.tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer },
                server_name: c.name,
                application_protocols: &c.offers,
            };
            let met = listener.filter_chain(&view).chain().map(|c| c.name.to_string());
            prop_assert_eq!(met, oracle(&rules, c).map(|i| i.to_string()), "{:?}", c);
        }
    }
}

#[test]
fn two_chains_that_match_alike_are_refused_by_their_positions() {
    let message = listener(json!({"name": "l", "address": address("0.0.0.0", 1), "filterChains": [
        tcp_chain("a", json!({"serverNames": ["x.org", "y.org"]}), "c"),
        tcp_chain("b", json!({"serverNames": ["Y.org"]}), "c"),
    ]}));
    let refused = Config::new().apply(xds::type_url::LISTENER, &[resource("l", &message)], &[]);
    assert_eq!(refused[0].to_string(), "l: filter_chains[1] has the same matching rules as filter_chains[0]");
}
