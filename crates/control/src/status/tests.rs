//! What pages and waits cost those who are served meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::answer::Query;
use super::{server, wait};
use crate::lock::lock;
use crate::node::Node;
use crate::push::Shared;
use crate::push::published::Published;
use crate::source::applied::source::AppliedSource;
use crate::source::applied::store::Store;

const DEADLINE: Duration = Duration::from_secs(10);

fn shared() -> Arc<Shared> {
    let (events, _) = std::sync::mpsc::channel();
    Arc::new(Shared::new(Published::default(), events, |_| {}))
}

fn node(number: usize) -> Node {
    let id = format!("sidecar~10.0.0.1~p{number}.default~default.svc.cluster.local");
    Node::read(&xds::core::Node { id, ..Default::default() }).unwrap()
}

fn ask(server: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

/// Review B21: a server of one thread, and pages that do not get on: here as somebody holds a lock that they need, in life
/// as they decode everything that thousands of proxies hold.
#[test]
fn a_page_that_takes_long_holds_up_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared();
    let store = Store::open(directory.path()).unwrap();
    let applied = Arc::new(AppliedSource::new(store, shared.store.clone(), |_| 0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = shared.clone();
    let server = std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::spawn(server::serve(listener, served, applied));
            let _ = stopped.await;
        });
        runtime.shutdown_background();
    });
    let peer = shared.connect(node(0));
    let held = lock(&peer.connection);
    let pages = [
        "/debug/syncz",
        "/debug/endpointz",
        "/debug/config_dump?proxyID=p0.default",
        "/filamesh/v1/proxies",
        "/metrics",
    ];
    let mut asked = Vec::new();
    for page in pages {
        let mut stream = ask(address, page);
        // Another is served while the page is made: that it is not made yet is seen from its connection.
        let other = answer(ask(address, "/healthz"));
        assert!(other.as_ref().is_ok_and(|text| text.ends_with("ok\n")), "{page} holds up others: {other:?}");
        stream.set_nonblocking(true).unwrap();
        let early = stream.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(
            early,
            Err(std::io::ErrorKind::WouldBlock),
            "{page} needs no lock: the test tests nothing"
        );
        stream.set_nonblocking(false).unwrap();
        asked.push((page, stream));
    }
    drop(held);
    for (page, stream) in asked {
        let text = answer(stream).unwrap();
        assert!(text.starts_with("HTTP/1.1 "), "{page}: {text}");
    }
    let _ = stop.send(());
    server.join().unwrap();
}

/// Processor time of this thread so far.
fn cpu() -> Duration {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Review B23: whoever waits looks at every stream, and is woken by each acknowledgement of each. Whatever comes, looking
/// takes a third of one thread at most.
#[test]
fn waiting_with_many_proxies_costs_a_part_of_a_thread() {
    let shared = shared();
    for number in 0..2000 {
        shared.connect(node(number));
    }
    let done = AtomicBool::new(false);
    let (spent, took) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                shared.progressed();
                std::thread::yield_now();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let query = Query::parse("generation=7&timeout_ms=1500");
        let (before, began) = (cpu(), Instant::now());
        let answer = runtime.block_on(wait::answer(&query, &shared));
        let (spent, took) = (cpu() - before, began.elapsed());
        done.store(true, Ordering::Relaxed);
        assert_eq!(answer.status(), http::StatusCode::GATEWAY_TIMEOUT);
        (spent, took)
    });
    assert!(spent * 2 < took, "{spent:?} of processor time in {took:?}");
}

/// Proxies that join while somebody waits are not waited for; those that come back are.
#[test]
fn a_wait_is_for_the_proxies_there_were() {
    let shared = shared();
    shared.connect(node(0));
    let lost = shared.connect(node(1));
    let audience = wait::Audience::now(&shared);
    shared.disconnect(&lost);
    shared.connect(node(2));
    let pending = || {
        let live = wait::live(&shared, &audience, &Published::default(), &wait::Wanted::Generation(1), 1);
        assert_eq!((live.live, live.of), (0, live.pending.len()), "none of them is live");
        live.pending
    };
    assert_eq!(pending(), [node(0).id]);
    shared.connect(node(1));
    assert_eq!(pending(), [node(0).id, node(1).id]);
}
