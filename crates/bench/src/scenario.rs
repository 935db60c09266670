//! What can be measured: the loads, who meets which, and what lies behind the proxies.

use clap::ValueEnum;
use serde::Serialize;

use crate::contenders::contender::Contender::{self, *};

/// What to measure, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// One hop, HTTP/1, 1 KiB replies, as many as the proxy can
    H1,
    /// The same, 5000 requests a second
    Rate,
    /// One hop, HTTP/1, bodies of 1 KiB
    Post,
    /// One hop, HTTP/1, 64 KiB replies
    #[value(name = "64k")]
    #[serde(rename = "64k")]
    Large,
    /// Two hops without TLS, HTTP/1 or multiplexed between the proxies
    Plain2,
    /// One hop, HTTP/2, small calls as gRPC makes them
    H2,
    /// Small requests beside an upload without end, a thousand slow readers and changes of configuration
    Interference,
    /// Idle HTTP/2 connections, a log nobody reads, answers nobody reads
    Wear,
    /// Memory at rest and with idle connections
    Idle,
    /// System calls of a request
    Syscalls,
    /// From a file's change to the last proxy
    Propagation,
    /// From a fresh clone to the demo's "ready": minutes of both cores, and so never part of all
    Newcomer,
    All,
}

impl Scenario {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A load that contenders meet.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub scenario: Scenario,
    /// In tables and goals.
    pub name: &'static str,
    pub what: &'static str,
    pub pattern: Pattern,
    /// In the order of the tables.
    pub contenders: &'static [Contender],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// Our own generator. `rate`: requests a second in an open loop; `None`: a closed loop. `body`: bytes.
    Http1 { connections: usize, rate: Option<f64>, body: usize },
    /// h2load, closed loop: this many streams at a time on each connection.
    Grpc { connections: usize, streams: usize },
}

/// How the contenders stand between the load and the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// HTTP/1 on both sides, replies of so many bytes.
    Hop { reply: usize },
    /// Client, proxy A, proxy B, upstream, no TLS. HTTP/1 outside; replies of 1 KiB.
    Pair,
    /// HTTP/2 on both sides.
    Grpc,
}

/// Shapes that the same running contenders meet, in one interleaved run.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub setting: Setting,
    pub shapes: &'static [Shape],
}

pub const GROUPS: [Group; 4] = [
    Group { setting: Setting::Hop { reply: 1024 }, shapes: &[H1, RATE, POST] },
    Group { setting: Setting::Hop { reply: 64 * 1024 }, shapes: &[LARGE] },
    Group { setting: Setting::Pair, shapes: &[PLAIN2] },
    Group { setting: Setting::Grpc, shapes: &[H2_MANY, H2_SINGLE] },
];

const H1: Shape = Shape {
    scenario: Scenario::H1,
    name: "h1",
    what: "GET, 1 KiB reply, HTTP/1, 64 connections, closed loop",
    pattern: Pattern::Http1 { connections: 64, rate: None, body: 0 },
    contenders: &[Direct, Envoy, EnvoyLog, Nginx, Haproxy, Filamesh, FilameshBare, Floor, Relay],
};

const RATE: Shape = Shape {
    scenario: Scenario::Rate,
    name: "rate",
    what: "GET, 1 KiB reply, HTTP/1, 64 connections, open loop at 5000/s",
    pattern: Pattern::Http1 { connections: 64, rate: Some(5000.0), body: 0 },
    contenders: H1.contenders,
};

const POST: Shape = Shape {
    scenario: Scenario::Post,
    name: "post",
    what: "POST of 1 KiB, 1 KiB reply, HTTP/1, 64 connections, closed loop",
    pattern: Pattern::Http1 { connections: 64, rate: None, body: 1024 },
    contenders: &[Envoy, Nginx, Haproxy, Filamesh, Floor],
};

const LARGE: Shape = Shape {
    scenario: Scenario::Large,
    name: "64k",
    what: "GET, 64 KiB reply, HTTP/1, 32 connections, closed loop",
    pattern: Pattern::Http1 { connections: 32, rate: None, body: 0 },
    contenders: &[Envoy, Nginx, Haproxy, Filamesh, Floor, Relay],
};

const PLAIN2: Shape = Shape {
    scenario: Scenario::Plain2,
    name: "plain2",
    what: "two hops, GET, 1 KiB reply, HTTP/1, 64 connections, closed loop; CPU of both proxies; \
           -mux: all requests over few connections between the two",
    pattern: Pattern::Http1 { connections: 64, rate: None, body: 0 },
    contenders: &[Envoy, EnvoyMux, Filamesh, FilameshMux, Floor, FloorMux],
};

const H2_MANY: Shape = Shape {
    scenario: Scenario::H2,
    name: "h2-32",
    what: "HTTP/2 call, 100 B in, 128 B and trailers out, 4 connections of 32 streams, closed loop (h2load)",
    pattern: Pattern::Grpc { connections: 4, streams: 32 },
    contenders: &[Direct, Envoy, Nginx, Haproxy, Filamesh, Floor],
};

const H2_SINGLE: Shape = Shape {
    scenario: Scenario::H2,
    name: "h2-1",
    what: "HTTP/2 call, 100 B in, 128 B and trailers out, 64 connections of 1 stream, closed loop (h2load)",
    pattern: Pattern::Grpc { connections: 64, streams: 1 },
    contenders: H2_MANY.contenders,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_line_has_ours_and_envoy() {
        let shapes: Vec<&Shape> = GROUPS.iter().flat_map(|group| group.shapes).collect();
        let mut names: Vec<&str> = shapes.iter().map(|shape| shape.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for shape in shapes {
            for needed in [Filamesh, Envoy, Floor] {
                assert!(shape.contenders.contains(&needed), "{}: {}", shape.name, needed.name());
            }
        }
    }

    #[test]
    fn multiplexed_contenders_come_in_pairs_only() {
        for group in GROUPS {
            for shape in group.shapes {
                let any = shape.contenders.iter().any(|contender| contender.multiplexes());
                assert_eq!(any, group.setting == Setting::Pair, "{}", shape.name);
            }
        }
    }
}
