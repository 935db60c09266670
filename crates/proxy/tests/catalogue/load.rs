//! Class L: slow, large, many.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::Host;
use crate::framing::{Verdict, case, run, with};
use crate::recorder::Recorder;
use crate::rig::{
    Failures, GATEWAY, Neighbour, OUTBOUND, PATIENCE, Plan, Rig, alone, beside_others, connect, drain,
    eventually, read_to_end, resident, send, shown,
};
use crate::rows::Row;

pub const ROWS: &[Row] = &[
    Row("L-01", "408 (or silent close) at header timeout ≤10–60 s; other clients unaffected"),
    Row(
        "L-02",
        "idle timer does not fire while bytes flow → `request_timeout` 300 s edge → 408; upstream slot bounded",
    ),
    Row("L-03", "per-connection buffer ≤64 KiB–1 MiB; upstream back-pressured; closed by idle/stream timer"),
    Row("L-04", "close at 10–15 s (listener filter/handshake timeout)"),
    Row("L-05", "431, details `http1.too_many_headers` / `headers_too_large`"),
    Row("L-06", "413 `request_payload_too_large`; 500 `response_payload_too_large`"),
    Row("L-07", "aborted at ratio limit within one chunk; RSS <64 MiB growth"),
    Row("L-08", "refused/closed above ½ limit; admin port still answers; no accept busy-loop"),
    Row("L-09", "rate bounded; TLS1.2 renegotiation refused"),
    Row("L-10", "processed sequentially, fair to others (`max_requests_per_io_cycle` idea)"),
    Row("L-11", "no TIME_WAIT/FD leak; FD count returns to baseline ±2"),
    Row("L-12", "close without response; no crash"),
    Row("L-13", "502 (UPE) ; not streamed"),
    Row("L-14", "metrics series bounded (cap + overflow bucket); RSS flat (Linkerd 2025-43915)"),
];

const MIB: usize = 1 << 20;

/// A client that sends one byte of `more` after the other, then the last again and again, until it is cut off; what it
/// read then.
fn dribble(name: &str, address: SocketAddr, begin: &[u8], more: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(begin).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = vec![];
    let mut chunk = [0; 4096];
    let until = Instant::now() + PATIENCE;
    let mut pieces = more.chunks(1).chain(std::iter::repeat(&more[more.len() - 1..]));
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return bytes,
        }
        let _ = stream.write_all(pieces.next().unwrap());
        assert!(Instant::now() < until, "{name}: never cut off; so far {}", shown(&bytes));
    }
}

#[test]
fn l01_heads_that_never_end() {
    let _turn = beside_others();
    let host = Recorder::http();
    let manager = |manager: &mut serde_json::Value| manager["request_headers_timeout"] = "0.5s".into();
    let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
    for door in &rig.doors {
        let began = Instant::now();
        let mut slow: Vec<TcpStream> = (0..500).map(|_| connect(door.address)).collect();
        let mut neighbour = Neighbour::at(door);
        for piece in [&b"G"[..], b"E", b"T / HTTP/1.1\r\n", b"h", b"o", b"s", b"t"] {
            for stream in &mut slow {
                let _ = stream.write_all(piece);
            }
            neighbour.unharmed("L-01");
        }
        for stream in &mut slow {
            let bytes = read_to_end(stream);
            assert!(
                bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "),
                "L-01 at {}: {}",
                door.name,
                shown(&bytes)
            );
        }
        assert!(began.elapsed() < Duration::from_secs(10), "L-01 at {}: {:?}", door.name, began.elapsed());
        neighbour.unharmed("L-01");
    }
    assert_eq!(shown(&host.bytes()), "``", "L-01");
}

#[test]
fn l02_bodies_that_never_end() {
    let _turn = beside_others();
    let host = Recorder::http();
    let manager = |manager: &mut serde_json::Value| {
        manager["request_timeout"] = "0.5s".into();
        manager["stream_idle_timeout"] = "0.3s".into();
    };
    let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
    let mut failures = Failures::default();
    for door in &rig.doors {
        failures.gather(|| {
            let mut neighbour = Neighbour::at(door);
            let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n");
            let began = Instant::now();
            let bytes = dribble(&format!("L-02 at {}", door.name), door.address, head.as_bytes(), b"x");
            assert!(bytes.starts_with(b"HTTP/1.1 408 "), "L-02 at {}: {}", door.name, shown(&bytes));
            // While bytes flow the stream is not idle.
            assert!(
                began.elapsed() >= Duration::from_millis(450),
                "L-02 at {}: {:?}",
                door.name,
                began.elapsed()
            );
            rig.logged("L-02", 408, "", "request_overall_timeout");
            eventually("L-02: the host's connection ends", || {
                host.connections().iter().all(|taken| taken.ended)
            });
            neighbour.unharmed("L-02");
        });
    }
    failures.none();
}

/// A host that sends as much as it can of a body of this length; how much it could.
fn endless(length: usize) -> (Host, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, over) = (sent.clone(), ended.clone());
    let host = Host::start(move |connection| {
        connection.request();
        connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"));
        let block = vec![b'x'; 65536];
        while connection.stream.write_all(&block).is_ok() {
            counter.fetch_add(block.len(), SeqCst);
        }
        over.store(true, SeqCst);
    });
    (host, sent, ended)
}

/// Waits until a number stands still.
fn settled(count: impl Fn() -> usize) -> usize {
    let (mut last, mut since) = (count(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        std::thread::yield_now();
        if count() != last {
            (last, since) = (count(), Instant::now());
        }
    }
    last
}

#[test]
fn l03_readers_that_do_not_read() {
    let _turn = alone();
    let (host, sent, ended) = endless(1 << 30);
    let manager = |manager: &mut serde_json::Value| manager["stream_idle_timeout"] = "2s".into();
    let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        sent.store(0, SeqCst);
        ended.store(false, SeqCst);
        let before = resident();
        let mut stream = connect(door.address);
        socket2::SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let stalled = settled(|| sent.load(SeqCst));
        let held = resident().saturating_sub(before);
        println!("L-03 at {}: {stalled} bytes of 1 GiB left the host, {held} more bytes resident", door.name);
        // The kernel's own socket buffers hold the most of what left the host.
        assert!(stalled < 32 * MIB, "L-03 at {}: the host is not held back: {stalled}", door.name);
        assert!(held < MIB, "L-03 at {}: {held} bytes held", door.name);
        neighbour.unharmed("L-03");
        // And in the end it is given up.
        eventually("L-03: the host's connection ends", || ended.load(SeqCst));
        neighbour.unharmed("L-03");
    }
}

/// Listener filters wait only so long, and then the connection ends.
fn impatient(listener: &mut serde_json::Value) {
    if listener.get("listener_filters_timeout").is_some() {
        listener["listener_filters_timeout"] = "0.4s".into();
        listener["continue_on_listener_filters_timeout"] = false.into();
    }
}

#[test]
fn l04_connections_that_say_nothing() {
    let _turn = beside_others();
    let host = Recorder::http();
    // A gateway's plaintext port inspects nothing; there it is the idle timeout that ends the connection.
    let manager = |manager: &mut serde_json::Value| {
        manager["common_http_protocol_options"] = json!({ "idle_timeout": "0.4s" });
        manager["request_headers_timeout"] = "0.4s".into();
    };
    let rig = Rig::new(Plan { manager, listener: impatient, ..Plan::to(host.address) });
    let hello = crate::grpc::client_hello();
    for door in &rig.doors {
        for begin in [&b""[..], &hello[..1], &hello[..20]] {
            let mut stream = connect(door.address);
            stream.write_all(begin).unwrap();
            let bytes = read_to_end(&mut stream);
            let said = door.name == GATEWAY && !begin.is_empty();
            assert!(bytes.is_empty() || said, "L-04 at {}: {}", door.name, shown(&bytes));
        }
        if door.name == OUTBOUND || door.name == GATEWAY {
            // Byte for byte does not hold it open either.
            let (first, rest) = hello.split_at(1);
            dribble(&format!("L-04 at {}", door.name), door.address, first, rest);
        }
        Neighbour::at(door).unharmed("L-04");
    }
    assert!(rig.count("envoy_listener_downstream_pre_cx_timeout") >= 6, "L-04: counted");
    assert_eq!(shown(&[host.bytes(), rig.raw.bytes()].concat()), "``", "L-04");
}

#[test]
fn l05_too_many_and_too_large_headers() {
    const MANY: Verdict = Verdict::Refused(&[431], "http1.too_many_headers", "DPE");
    const LARGE: Verdict = Verdict::Refused(&[431], "http1.headers_too_large", "DPE");
    let base = with("X: ").len();
    run(vec![
        case("L-05", with("X: y\r\n".repeat(100).trim_end()), MANY),
        case("L-05", with(format!("X: {}", "y".repeat(60 * 1024 + 1 - base))), LARGE),
        case("L-05", with(format!("X: {}", "y".repeat(70 * 1024))), LARGE),
        case("L-05", with(format!("{}: y", "x".repeat(64 * 1024))), LARGE),
    ]);
}

/// Connects and reports how many connections were closed at once; a process of its own, with its own descriptors.
#[test]
#[ignore = "the other half of l08"]
fn l08_connector() {
    let Ok(target) = std::env::var("CATALOGUE_CONNECT") else { return };
    let (address, count) = target.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let mut streams: Vec<TcpStream> =
        (0..count.parse().unwrap()).map_while(|_| TcpStream::connect(address).ok()).collect();
    println!("opened {}", streams.len());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    println!("closed {}", streams.iter_mut().map(|stream| usize::from(!open(stream))).sum::<usize>());
}

struct Connector {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Connector {
    fn start(address: SocketAddr, count: usize) -> Connector {
        use std::io::BufRead;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "load::l08_connector", "--ignored", "--nocapture"])
            .env("CATALOGUE_CONNECT", format!("{address} {count}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Connector { child, lines }
    }

    fn number(&mut self, after: &str) -> usize {
        loop {
            let line = self.lines.next().expect("a connector's word").unwrap();
            // The harness may have begun the line.
            if let Some((_, number)) = line.split_once(after) {
                return number.trim().parse().unwrap();
            }
        }
    }
}

/// Processor time this process used.
fn busy() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(time.tv_sec()).unwrap(), u32::try_from(time.tv_usec()).unwrap() * 1000)
    };
    of(usage.user_time()) + of(usage.system_time())
}

#[test]
fn l08_idle_connections_without_number() {
    use nix::sys::resource::{Resource, getrlimit};
    let _turn = alone();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    let door = rig.door(GATEWAY);
    let mut neighbour = Neighbour::at(door);
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // More than is taken (five eighths), and no more than 20 000: the ports of one address end.
    let total = usize::try_from(files).unwrap().min(20_000) / 4 * 4;
    println!("L-08: {total} connections, {files} descriptors allowed");
    let before = resident();
    let mut connectors: Vec<Connector> = (0..2).map(|_| Connector::start(door.address, total / 2)).collect();
    let opened: usize = connectors.iter_mut().map(|connector| connector.number("opened ")).sum();
    assert_eq!(opened, total, "L-08: the kernel takes them all");
    let taken = settled(|| rig.count("envoy_listener_downstream_cx_active") as usize);
    let held = resident().saturating_sub(before);
    println!("L-08: {taken} held, {} bytes resident each", held / taken.max(1));
    // Those there are served; idle ones cost no processor time.
    neighbour.unharmed("L-08");
    let (from, used) = (Instant::now(), busy());
    while from.elapsed() < Duration::from_millis(500) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let used = busy() - used;
    assert!(used < Duration::from_millis(100), "L-08: {used:?} of processor time in 500 ms of idleness");
    for connector in &mut connectors {
        connector.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
    let closed: usize = connectors.iter_mut().map(|connector| connector.number("closed ")).sum();
    for mut connector in connectors {
        assert!(connector.child.wait().unwrap().success());
    }
    let most = usize::try_from(files).unwrap() / 8 * 5;
    assert!(
        taken <= most && closed >= total.saturating_sub(most),
        "L-08: {taken} held, {closed} of {total} closed"
    );
    eventually("L-08: all gone", || rig.count("envoy_listener_downstream_cx_active") <= 1);
    Neighbour::at(door).unharmed("L-08");
}

#[test]
fn l10_ten_thousand_requests_at_once() {
    const MANY: usize = 10_000;
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        host.forget();
        let mut neighbour = Neighbour::at(door);
        let stream = connect(door.address);
        let mut writer = stream.try_clone().unwrap();
        let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let text = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(MANY - 1) + last;
        let writing = std::thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
        let reading = std::thread::spawn(move || drain(stream));
        // Others get their turn in between.
        let mut between = 0;
        while !reading.is_finished() {
            neighbour.unharmed("L-10");
            between += 1;
        }
        writing.join().unwrap();
        let got = reading.join().unwrap();
        assert_eq!(got.answers.len(), MANY, "L-10 at {}", door.name);
        assert!(got.answers.iter().all(|answer| answer.status == 200), "L-10 at {}", door.name);
        let requests = host.requests();
        assert_eq!(requests.len(), MANY, "L-10 at {}", door.name);
        assert!(requests[MANY - 1].starts_with(b"GET /last "), "L-10 at {}: in order", door.name);
        assert!(between > 10, "L-10 at {}: the neighbour was answered {between} times in between", door.name);
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn l11_connections_come_and_go() {
    let _turn = alone();
    let host = Host::saying("ok");
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let ask = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(send(door.address, &[ask]).statuses(), [200]);
        let before = descriptors();
        let began = Instant::now();
        for _ in 0..2_000 {
            assert_eq!(send(door.address, &[ask]).statuses(), [200], "L-11 at {}", door.name);
        }
        println!("L-11 at {}: {:.0} connections a second", door.name, 2000.0 / began.elapsed().as_secs_f64());
        eventually("L-11: descriptors return", || descriptors() <= before + 2);
    }
}

#[test]
fn l12_proxy_protocol() {
    let turn = beside_others();
    let host = Recorder::http();
    // Nobody here reads it: asked for, it is refused by name.
    let refused = std::panic::catch_unwind(|| {
        let listener = |listener: &mut serde_json::Value| {
            listener["listener_filters"] = json!([{ "name": "envoy.filters.listener.proxy_protocol" }]);
        };
        Rig::new(Plan { listener, ..Plan::to(host.address) });
    });
    let text = refused.err().and_then(|panic| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    assert!(text.contains("envoy.filters.listener.proxy_protocol"), "L-12: {text}");
    // Come unasked, it is no HTTP: nothing is said to whoever speaks no version of it, 400 to bytes that are no text.
    let rig = Rig::new(Plan::to(host.address));
    // A sidecar's inspectors take it for what is not HTTP at all.
    let text = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let got = send(rig.door(GATEWAY).address, &[text]);
    assert_eq!((shown(&got.bytes), shown(&host.bytes())), ("``".into(), "``".into()), "L-12");
    drop(turn);
    run(vec![case(
        "L-12",
        &b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02\r\n\r\n"[..],
        Verdict::Refused(&[400], "", "DPE"),
    )]);
}

#[test]
fn l13_hosts_without_measure() {
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(1000));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200 * 1024));
    let answers = [
        many.as_bytes(),
        large.as_bytes(),
        b"<html>no status line</html>\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"\0\0\0\r\n\r\n",
    ];
    crate::upgrades::judge(answers.map(|answer| crate::upgrades::fault("L-13", answer)).into());
}

#[test]
fn l14_names_without_number() {
    const MANY: usize = 30_000;
    let _turn = alone();
    let host = Host::saying("ok");
    let rig = Rig::new(Plan::to(host.address));
    let lines = || {
        let mut out = vec![];
        telemetry::metrics::prometheus(rig.handle().registry(), &Default::default(), &mut out);
        out.iter().filter(|byte| **byte == b'\n').count()
    };
    let mut stream = connect(rig.door(OUTBOUND).address);
    let mut ask = |number: usize| {
        let text = format!(
            "GET /p{number}?q={number} HTTP/1.1\r\nHost: h{number}.test\r\nx-envoy-upstream-alt-stat-name: s{number}\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).unwrap();
        let mut seen = vec![];
        let mut chunk = [0; 4096];
        while !seen.ends_with(b"\r\n\r\nok") {
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "L-14: {}", shown(&seen));
            seen.extend_from_slice(&chunk[..length]);
        }
    };
    // What is kept by name is bounded; past the bound, nothing grows.
    for number in 0..MANY / 2 {
        ask(number);
    }
    let (series, before) = (lines(), resident());
    for number in MANY / 2..MANY {
        ask(number);
    }
    let grown = resident().saturating_sub(before);
    println!(
        "L-14: {MANY} hosts and paths, {series} lines of metrics, then {} and {grown} bytes more",
        lines()
    );
    assert_eq!(lines(), series, "L-14: more series");
    assert!(grown < 4 * MIB, "L-14: {grown} bytes more");
}
