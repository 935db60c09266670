//! What eight workers do with few connections. Counts, not times: the machine may have two cores.

use std::time::Duration;

use serde_json::json;

use crate::common::*;
use crate::frames;
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
