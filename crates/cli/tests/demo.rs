//! The demo as a newcomer meets it: Bookinfo under load, steered by Istio's own files.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use common::client::{Load, get, tally, version};
use common::{Running, networking, start_time, until};

const STAR: &str = "glyphicon glyphicon-star\"";

fn share(counts: &BTreeMap<String, usize>, key: &str) -> f64 {
    let all: usize = counts.values().sum();
    counts.get(key).copied().unwrap_or(0) as f64 / all as f64
}

/// Applies a file and waits until the answers follow it; returns how long that took.
fn apply(mesh: &Running, file: &str) {
    let path = networking(file);
    mesh.filamesh(&["apply", "-f", path.to_str().unwrap()]);
}

/// Scenarios 1 to 5 of Istio's Bookinfo tasks and the two of article 000, in one mesh under 200 requests a
/// second of which none may fail and in which no process may change.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn bookinfo_is_steered_by_istios_own_files() {
    let mesh = Running::start(&["demo", "--no-load"]);
    println!("ready after {} ms (from exec {:?})", mesh.ready["startup_ms"], mesh.took);
    assert!(mesh.took < Duration::from_secs(1), "ready in under 1 s, not {:?}", mesh.took);
    let gateway = mesh.text("/gateway").to_owned();
    let page = mesh.text("/page").to_owned();
    let reviews = format!("{gateway}/api/v1/products/0/reviews");
    let pids: Vec<(i32, Option<u64>)> = mesh.pids().into_iter().map(|p| (p, start_time(p))).collect();
    assert!(pids.iter().all(|(_, started)| started.is_some()), "every process named is there: {pids:?}");
    assert_eq!(mesh.ready["workloads"].as_array().map(Vec::len), Some(6));

    // 1: ingress.
    let (status, body) = get(&page, &[]);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<title>Simple Bookstore App</title>"));
    assert_eq!(get(&format!("{gateway}/nothing-here"), &[]).0, 404);
    // Without a rule all three versions answer.
    let counts = tally(&reviews, &[], 300, version);
    for v in ["v1", "v2", "v3"] {
        assert!((0.2..0.5).contains(&share(&counts, v)), "{counts:?}");
    }

    let load = Load::start(&page, 200.0);

    // 2: all to v1: no page of a hundred shows a star, one second after the change at the latest.
    apply(&mesh, "destination-rule-all.yaml");
    apply(&mesh, "virtual-service-all-v1.yaml");
    live_within_a_second(&reviews, &[], |v| v == "v1");
    let starred = tally(&page, &[], 100, |_, body| body.contains(STAR).to_string());
    assert_eq!(starred, BTreeMap::from([("false".to_owned(), 100)]));

    // 3: the user jason sees black stars of v2, others none.
    apply(&mesh, "virtual-service-reviews-test-v2.yaml");
    let jason = [("cookie", "session=jason")];
    live_within_a_second(&reviews, &jason, |v| v == "v2");
    let seen =
        tally(&page, &jason, 50, |_, body| (body.contains(STAR) && body.contains("stars black")).to_string());
    assert_eq!(seen, BTreeMap::from([("true".to_owned(), 50)]));
    let seen = tally(&page, &[("cookie", "session=mary")], 50, |_, body| body.contains(STAR).to_string());
    assert_eq!(seen, BTreeMap::from([("false".to_owned(), 50)]));

    // 4: weights. Three standard deviations of the binomial distribution on each side.
    for (file, to, percent) in [
        ("virtual-service-reviews-90-10.yaml", "v2", 10.0),
        ("virtual-service-reviews-80-20.yaml", "v2", 20.0),
        ("virtual-service-reviews-50-v3.yaml", "v3", 50.0),
        ("virtual-service-reviews-v3.yaml", "v3", 100.0),
    ] {
        apply(&mesh, file);
        live_within_a_second(&reviews, &[], |v| v == to);
        let counts = tally(&reviews, &[], 2000, version);
        let p: f64 = percent / 100.0;
        let tolerance = 3.0 * (p * (1.0 - p) / 2000.0).sqrt() + 1e-9;
        let found = share(&counts, to);
        assert!((found - p).abs() <= tolerance, "{file}: {counts:?}");
        println!("{file}: {:.1} % to {to}", found * 100.0);
    }

    // 5: article 000: a canary of 5 % over 20 000 requests, then iPhones.
    apply_own(&mesh, "virtual-service-reviews-95-5.yaml");
    live_within_a_second(&reviews, &[], |v| v == "v1");
    let counts = tally(&reviews, &[], 20_000, version);
    println!("95/5 over 20 000: {counts:?}");
    assert!((0.04..=0.06).contains(&share(&counts, "v2")), "{counts:?}");
    assert_eq!(counts.len(), 2, "only v1 and v2 answered: {counts:?}");
    apply_own(&mesh, "virtual-service-reviews-iphone-v2.yaml");
    let iphone = [("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)")];
    live_within_a_second(&reviews, &iphone, |v| v == "v2");
    assert_eq!(tally(&reviews, &iphone, 500, version), BTreeMap::from([("v2".to_owned(), 500)]));
    let android = [("user-agent", "Mozilla/5.0 (Linux; Android 14)")];
    assert_eq!(tally(&reviews, &android, 500, version), BTreeMap::from([("v1".to_owned(), 500)]));

    let (sent, failures) = load.end();
    println!("{sent} requests beside all changes, {} failed", failures.len());
    assert!(sent > 1000);
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
    for (pid, started) in pids {
        assert_eq!(start_time(pid), started, "process {pid} was restarted");
    }
    // All proxies hold the newest configuration and refused nothing.
    let status: serde_json::Value =
        serde_json::from_str(&mesh.filamesh(&["proxy-status", "-o", "json"])).unwrap();
    assert_eq!(status["items"].as_array().map(Vec::len), Some(7), "six sidecars and the gateway: {status}");
    for proxy in status["items"].as_array().unwrap() {
        assert_eq!(proxy["refused"], serde_json::json!([]), "{proxy}");
    }
}

fn apply_own(mesh: &Running, file: &str) {
    let path = format!("{}/../../samples/bookinfo/networking/{file}", env!("CARGO_MANIFEST_DIR"));
    mesh.filamesh(&["apply", "-f", &path]);
}

/// A version that follows the new rule answers within a second of the change.
fn live_within_a_second(url: &str, headers: &[(&str, &str)], follows: impl Fn(&str) -> bool) {
    let began = Instant::now();
    until("the change is live", Duration::from_secs(1), || {
        let (status, body) = get(url, headers);
        follows(&version(status, &body))
    });
    println!("live after {:?}", began.elapsed());
}

/// Review B31: clients that stay take all descriptors of a sample application. It waits for one to go, and does not ask
/// the kernel for a connection without a pause.
#[test]
fn a_sample_without_descriptors_waits_for_one() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let limited = "ulimit -n 24; exec \"$0\" sample bookinfo ratings --listen 127.0.0.1 --port \"$1\"";
    let mut sample =
        Command::new("sh").args(["-c", limited, common::program(), &port.to_string()]).spawn().unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", port));
    until("it listens", Duration::from_secs(10), || connect().is_ok());
    let clients: Vec<TcpStream> = (0..40).map(|_| connect().unwrap()).collect();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", sample.id())).unwrap().count();
    until("it has no descriptors left", Duration::from_secs(10), || descriptors() >= 24);
    let cpu = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", sample.id())).unwrap();
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
    };
    // Of two seconds: a turn in a circle would take most of them, also on a busy machine.
    let (before, began) = (cpu(), Instant::now());
    until("two seconds", Duration::from_secs(4), || began.elapsed() > Duration::from_secs(2));
    let spent = cpu() - before;
    drop(clients);
    let answered = get(&format!("http://127.0.0.1:{port}/ratings/0"), &[]);
    sample.kill().unwrap();
    sample.wait().unwrap();
    assert!(spent < Duration::from_millis(200), "{spent:?} of processor time in {:?}", began.elapsed());
    assert_eq!(answered.0, 200, "{}", answered.1);
}
