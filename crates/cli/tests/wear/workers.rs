//! What eight workers do with few connections. Counts, not times: the machine may have two cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::json;

use crate::common::*;
use crate::frames;
use crate::program::until;
use crate::subject::{Subject, Thread, bootstrap};

const WORKERS: usize = 8;

/// How many of the workers have run for more than a tenth of what the busiest has since.
fn at_work(subject: &Subject, before: &[Thread]) -> usize {
    let workers = |threads: Vec<Thread>| -> Vec<Thread> {
        let mut workers: Vec<Thread> =
            threads.into_iter().filter(|thread| thread.name.starts_with("worker-")).collect();
        workers.sort_by(|left, right| left.name.cmp(&right.name));
        assert_eq!(workers.len(), WORKERS);
        workers
    };
    let (before, now) = (workers(before.to_vec()), workers(subject.threads()));
    let ran: Vec<Duration> = now.iter().zip(&before).map(|(now, before)| now.ran - before.ran).collect();
    let most = ran.iter().copied().max().unwrap_or_default();
    ran.iter().filter(|ran| **ran * 10 > most).count()
}

/// A few long connections land on as many workers: none carries two while another has none. Many times, for the kernel
/// deals connections out by a hash.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn few_long_http2_connections_do_not_share_a_worker_while_others_idle() {
    let manager = http(json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 204 } }]));
    let subject = Subject::ours(&bootstrap(&http_listener(manager), &[]), WORKERS);
    for (connections, times) in [(2, 8), (4, 8), (8, 8)] {
        for _ in 0..times {
            let mut clients: Vec<_> = (0..connections)
                .map(|_| {
                    let mut client = frames::Peer::client(subject.address, &[]);
                    assert!(client.say(frames::get(1, &[])));
                    assert!(client.until(|frame| frame.kind == frames::HEADERS).is_some());
                    client
                })
                .collect();
            subject.settle();
            let before = subject.threads();
            for round in 0..100_u32 {
                let asks: Vec<u8> = (0..10).flat_map(|n| frames::get(20 * round + 2 * n + 3, &[])).collect();
                clients.iter_mut().for_each(|client| assert!(client.say(&asks)));
                for client in &mut clients {
                    for _ in 0..10 {
                        assert!(client.until(|frame| frame.kind == frames::HEADERS).is_some());
                    }
                }
            }
            let at_work = at_work(&subject, &before);
            assert_eq!(at_work, connections, "workers of {WORKERS} for {connections} connections");
        }
        println!(
            "{connections} HTTP/2 connections: {connections} workers of {WORKERS} at work, {times} times"
        );
    }
}

/// A host that is asked now and then is asked over the connection that is there, whichever worker made it.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_host_of_a_quiet_cluster_does_not_get_a_connection_from_every_worker() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, ever) = (open.clone(), most.clone());
    let host = Host::start(move |connection| {
        ever.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        while connection.request().is_some() && connection.say(ok) {}
        now.fetch_sub(1, SeqCst);
    });
    let clusters = [cluster("up", &[host.address])];
    let subject = Subject::ours(&bootstrap(&http_listener(http(to("up"))), &clusters), WORKERS);
    let mut clients: Vec<Client> = (0..WORKERS).map(|_| subject.client()).collect();
    let before = subject.threads();
    const ROUNDS: usize = 3;
    for _ in 0..ROUNDS {
        for client in &mut clients {
            assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);
            // A few requests a second are quiet.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    let (made, most) = (host.connections.load(SeqCst), most.load(SeqCst));
    println!(
        "{} requests by {} workers: {made} connections made to the host, {most} at once",
        ROUNDS * WORKERS,
        at_work(&subject, &before)
    );
    assert!(made <= 2 && most <= 2, "{most} connections at once, {made} made");
    // It is one connection still, whoever has had it, and none is left behind by those who lent it.
    until("one is counted", PATIENCE, || subject.stat("cluster.up.upstream_cx_active") == made as u64);
    assert_eq!(subject.stat("cluster.up.upstream_cx_total"), made as u64);
    assert_eq!(subject.stat("cluster.up.upstream_cx_destroy"), 0);
    // As many at once as there are requests at once; each worker's own after that.
    let all = || {
        clients.iter_mut().for_each(|client| client.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    };
    (0..200).for_each({
        let mut all = all;
        move |_| all()
    });
    assert!(open.load(SeqCst) <= WORKERS, "{} connections", open.load(SeqCst));
}
