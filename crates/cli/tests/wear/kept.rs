//! The most reported failure of proxies, 503 UC: a host closes a kept connection as it is used again. Beside a real Envoy,
//! from the same bootstrap and at the same time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::common::*;
use crate::subject::{Subject, bootstrap};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CLIENTS: u32 = 8;
const ROUNDS: u32 = 60;

/// When a host closes a connection that it said nothing about.
#[derive(Clone, Copy)]
enum Closes {
    /// So long after its last answer.
    Idle(Duration),
    /// So long after this many answers, requests or not.
    Used(usize, Duration),
}

fn host(closes: Closes) -> Host {
    Host::start(move |connection| {
        let mut answers = 0;
        loop {
            let patience = match closes {
                Closes::Idle(idle) => idle,
                Closes::Used(most, after) if answers >= most => after,
                Closes::Used(..) => PATIENCE,
            };
            if patience.is_zero() && answers > 0 {
                return;
            }
            let patience = if answers == 0 { PATIENCE } else { patience };
            connection.stream.set_read_timeout(Some(patience)).unwrap();
            if connection.request().is_none() || !connection.say(OK) {
                return;
            }
            answers += 1;
            if matches!(closes, Closes::Used(most, after) if answers >= most && after.is_zero()) {
                return;
            }
        }
    })
}

/// Asks again and again around the time at which the host closes, and counts what it gets. `around`: from how long after
/// an answer, in which steps.
fn ask(address: SocketAddr, from: Duration, step: Duration) -> BTreeMap<u16, usize> {
    let counted = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let counted = &counted;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..ROUNDS {
                    let method = ["GET", "POST", "PUT"][((number + round) % 3) as usize];
                    let body = if method == "GET" { "" } else { "body" };
                    let length = body.len();
                    let request =
                        format!("{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
                    let answer = client.ask(&request);
                    *counted.lock().unwrap().entry(answer.status).or_default() += 1;
                    if answer.header("connection") == Some("close") {
                        client = Client::connect(address);
                    }
                    let until = Instant::now() + from + step * (round % 16);
                    while let Some(left) = until.checked_duration_since(Instant::now()) {
                        std::thread::sleep(left);
                    }
                }
            });
        }
    });
    counted.into_inner().unwrap()
}

#[test]
#[ignore = "end to end: run by ./test on the release build, beside a real Envoy"]
fn a_host_that_closes_kept_connections_costs_no_request() {
    let millis = Duration::from_millis;
    let step = Duration::from_micros(500);
    let forms = [
        ("idle 15 ms", Closes::Idle(millis(15)), millis(11)),
        ("idle 40 ms", Closes::Idle(millis(40)), millis(36)),
        ("idle 3 ms", Closes::Idle(millis(3)), millis(0)),
        ("closed with its answer", Closes::Idle(Duration::ZERO), millis(0)),
        ("closed with its 3rd answer", Closes::Used(3, Duration::ZERO), millis(0)),
        ("closed 4 ms after its 5th answer", Closes::Used(5, millis(4)), millis(0)),
    ];
    let theirs = crate::common::envoy::find("a real Envoy side by side");
    let mut failures = vec![];
    for (form, closes, from) in forms {
        let hosts = [host(closes), host(closes)];
        let from_bootstrap = |host: &Host| {
            let mut manager = http(to("up"));
            // Of Istio's build of Envoy alone.
            manager["http_filters"].as_array_mut().unwrap().retain(|filter| filter["name"] != "istio.stats");
            bootstrap(&http_listener(manager), &[cluster("up", &[host.address])])
        };
        let ours = Subject::ours(&from_bootstrap(&hosts[0]), 2);
        let envoy = theirs.as_ref().map(|program| Subject::envoy(program, &from_bootstrap(&hosts[1]), 2));
        let (ours, envoy) = std::thread::scope(|scope| {
            let address = envoy.as_ref().map(|subject| subject.address);
            let envoy = address.map(|address| scope.spawn(move || ask(address, from, step)));
            (ask(ours.address, from, step), envoy.map(|running| running.join().unwrap()))
        });
        let share = |counted: &BTreeMap<u16, usize>| {
            let all: usize = counted.values().sum();
            let failed = all - counted.get(&200).copied().unwrap_or(0);
            format!("{failed} of {all} ({:.2} %)", 100.0 * failed as f64 / all as f64)
        };
        println!(
            "{form}: failures of ours {}, of Envoy {}",
            share(&ours),
            envoy.as_ref().map_or_else(|| "not there".to_owned(), share)
        );
        if ours.keys().any(|status| *status != 200) {
            failures.push(format!("{form}: {ours:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}
