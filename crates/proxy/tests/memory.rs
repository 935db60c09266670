//! What the proxy holds for peers that do not keep up, and what it does when that is too much.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::*;
use proxy::ProxyOptions;

/// A host that sends without end and counts what has left it.
fn endless() -> (Host, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let host = Host::start(move |connection| {
        let Some(head) = connection.request() else { return };
        if head.contains("/small") {
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            return;
        }
        connection.say("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        let piece = "x".repeat(16 * 1024);
        while connection.say(&piece) {
            counter.fetch_add(piece.len(), SeqCst);
        }
    });
    (host, sent)
}

/// Until nothing more leaves the host: everybody between it and the client is full.
fn settled(sent: &AtomicUsize) -> usize {
    let mut last = 0;
    let mut same = 0;
    eventually("the host is held back", || {
        let now = sent.load(SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        std::thread::sleep(std::time::Duration::from_millis(2));
        same > 50
    });
    last
}

/// Envoy's overload manager: 503, `envoy overloaded`, flag OM; and it ends when the memory is free again.
#[test]
fn a_spent_budget_refuses_requests_and_nothing_else() {
    let (host, sent) = endless();
    let options = ProxyOptions { memory_budget: Some(2 * 1024 * 1024), ..ProxyOptions::default() };
    let proxy = Proxy::with(http_listener(http(to("a"))), &[cluster("a", &[host.address])], options);
    let mut neighbour = proxy.client();
    assert_eq!(neighbour.ask("GET /small HTTP/1.1\r\nhost: a\r\n\r\n").status, 200);
    let mut stalled = vec![];
    eventually("the budget is spent", || {
        if stalled.len() < 64 {
            let mut client = proxy.client();
            client.say("GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
            stalled.push(client);
        }
        std::thread::sleep(std::time::Duration::from_millis(15));
        let answer = proxy.get("/small");
        if answer.status == 503 {
            assert_eq!(
                (answer.body.as_str(), answer.header("x-envoy-local-overloaded")),
                ("envoy overloaded", Some("true"))
            );
        }
        answer.status == 503
    });
    // Who is refused a request is told to go; requests under way are not cut.
    assert_eq!(neighbour.ask("GET /small HTTP/1.1\r\nhost: a\r\n\r\n").status, 503);
    assert!(proxy.count("envoy_http_downstream_rq_overload_close", &[]) >= 2);
    let before = settled(&sent);
    let mut piece = vec![0; 1 << 20];
    for client in &mut stalled {
        // The last of them may have been refused already.
        let read = std::io::Read::read_exact(&mut client.stream, &mut piece);
        assert!(read.is_ok() || piece.starts_with(b"HTTP/1.1 503"), "{read:?}");
    }
    eventually("those under way go on", || sent.load(SeqCst) > before);
    drop(stalled);
    eventually("memory is free again", || {
        std::thread::sleep(std::time::Duration::from_millis(15));
        proxy.get("/small").status == 200
    });
}

static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

/// The allocator keeps what is freed between what is used: after a burst of clients it is asked, once, to give that back.
#[test]
fn after_a_burst_memory_is_given_back_once() {
    let host = Host::saying("ok");
    let options = ProxyOptions {
        give_back: Some(|| {
            GIVEN_BACK.fetch_add(1, SeqCst);
        }),
        ..ProxyOptions::default()
    };
    let proxy = Proxy::with(http_listener(http(to("a"))), &[cluster("a", &[host.address])], options);
    for _ in 0..20 {
        proxy.get("/");
    }
    let burst: Vec<Client> = (0..600).map(|_| proxy.client()).collect();
    assert_eq!(burst.len(), 600);
    assert_eq!(GIVEN_BACK.load(SeqCst), 0, "while it lasts there is other work");
    drop(burst);
    eventually("memory is given back", || GIVEN_BACK.load(SeqCst) == 1);
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(GIVEN_BACK.load(SeqCst), 1, "a few requests are no burst");
}
