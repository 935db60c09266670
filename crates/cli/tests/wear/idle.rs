//! HTTP/2 connections that say nothing, ten thousand of them: they wake nobody, and are closed after their time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::*;
use crate::frames;
use crate::program::until;
use crate::subject::{Subject, bootstrap};

/// Descriptors that this process and the program need besides.
const OTHERS: u64 = 400;

/// As many clients as the limits allow, each of which has been answered once.
fn clients(subject: &Subject, wanted: u64) -> Vec<frames::Peer> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // Of the program's descriptors five eighths are for clients.
    let affordable = wanted.min(hard.saturating_sub(OTHERS)).min(hard / 8 * 5);
    if affordable < wanted {
        eprintln!("NOTE: {affordable} connections instead of {wanted}, for want of descriptors ({hard})");
    }
    let open = |_| {
        let mut client = frames::Peer::client(subject.address, &[]);
        assert!(client.say(frames::get(1, &[])));
        assert!(client.until(|frame| frame.kind == frames::HEADERS).is_some(), "an answer");
        client
    };
    (0..affordable).map(open).collect()
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn ten_thousand_idle_http2_connections_wake_nobody_and_are_closed_after_their_time() {
    const WATCHED: Duration = Duration::from_secs(20);
    const IDLE: Duration = Duration::from_secs(60);
    let mut manager = http(json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 204 } }]));
    manager["common_http_protocol_options"] = json!({ "idle_timeout": "60s" });
    let subject = Subject::ours(&bootstrap(&http_listener(manager), &[]), 2);
    let mut clients = clients(&subject, 10_000);
    let held = clients.len();
    let used = Instant::now();
    // What a connection keeps for its next stream is given back a little after its last one.
    subject.steady("nobody is woken", Subject::woken);
    let (before, threads) = (subject.woken(), subject.threads());
    std::thread::sleep(WATCHED);
    let woken = subject.woken() - before;
    let a_minute = woken as f64 * 60.0 / WATCHED.as_secs_f64();
    println!("{held} idle HTTP/2 connections: {a_minute:.0} wake-ups a minute in all");
    for (before, now) in threads.iter().zip(subject.threads()) {
        if now.slept > before.slept {
            println!("  {}: {} in {WATCHED:?}", now.name, now.slept - before.slept);
        }
    }
    assert!(a_minute < 60.0, "{a_minute:.0} wake-ups a minute");
    let open = || subject.stat("http.test.downstream_cx_active");
    assert_eq!(open(), held as u64);
    assert!(used.elapsed() < Duration::from_secs(50), "it took too long to see");
    until("all are closed", IDLE + Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(250));
        open() == 0
    });
    let closed = used.elapsed();
    println!("all closed {closed:.1?} after the last was used");
    assert!(closed < Duration::from_secs(70), "{closed:?}");
    assert_eq!(subject.stat("http.test.downstream_cx_idle_timeout"), held as u64);
    let goaways = clients.iter_mut().filter_map(|client| client.until(|frame| frame.kind == frames::GOAWAY));
    assert_eq!(goaways.filter(|frame| frame.code() == 0).count(), held, "each was told");
    println!("{} descriptors left", subject.descriptors());
}
