//! Class U: upgrades, CONNECT, and hosts that answer what they must not.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::common::Host;
use crate::framing::{Verdict, case, run};
use crate::recorder::Recorder;
use crate::rig::{
    Failures, Neighbour, Plan, Rig, beside_others, connect, drain, eventually, read_to_end, send, shown,
};
use crate::rows::Row;

pub const ROWS: &[Row] = &[
    Row(
        "U-01",
        "bytes held until 101; if backend answers ≠101 they are parsed as a new request (through authz) or the connection is closed",
    ),
    Row("U-02", "403 `upgrade_failed`, NR-like; not forwarded"),
    Row("U-03", "header stripped or 403; never switched by the backend on our behalf"),
    Row(
        "U-04",
        "404/403; `CONNECT` with TE chunked → 501 [S]; `CONNECT` with body bytes before 2xx (CVE-2025-64763) → held/closed",
    ),
    Row("U-05", "stream PROTOCOL_ERROR; authz evaluates without panicking"),
    Row("U-06", "4xx/503 from ztunnel-like inbound; connection to arbitrary IP impossible"),
    Row("U-07", "502 UPE, upstream connection closed"),
    Row("U-08", "502 UPE / UC; connection not pooled; downstream gets one response"),
];

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const ADMIN: &str = "GET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// What a host got right behind the upgrade's head before it answered.
fn early(stream: &mut std::net::TcpStream) -> Vec<u8> {
    // That nothing comes can only be waited for.
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let mut chunk = [0; 1024];
    let length = stream.read(&mut chunk).unwrap_or(0);
    stream.set_read_timeout(None).unwrap();
    chunk[..length].to_vec()
}

#[test]
fn u01_bytes_before_the_101_are_held() {
    let _turn = beside_others();
    let host = Host::start(|connection| {
        let head = connection.request().unwrap();
        assert!(head.starts_with("GET /ws "), "{head}");
        connection.buffer.extend(early(&mut connection.stream));
        let held = connection.buffer.is_empty();
        connection.say(&format!("{SWITCHED}{held} "));
        while connection.buffer.len() < ADMIN.len() {
            let more = connection.read_some();
            if more.is_empty() {
                return;
            }
            connection.buffer.extend(more);
        }
        let buffer = std::mem::take(&mut connection.buffer);
        connection.say(&format!("{}", buffer == ADMIN.as_bytes()));
    });
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        let mut stream = connect(door.address);
        stream.write_all(format!("{ASK}{ADMIN}").as_bytes()).unwrap();
        let text = String::from_utf8(read_to_end(&mut stream)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\ntrue true"),
            "U-01 at {}: {text}",
            door.name
        );
        neighbour.unharmed("U-01");
    }
}

#[test]
fn u01_bytes_after_a_refused_upgrade_are_a_request_of_their_own() {
    let _turn = beside_others();
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            let extra = if head.starts_with("GET /ws ") { early(&mut connection.stream) } else { vec![] };
            assert_eq!(shown(&extra), "``", "came before the answer to the upgrade");
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let plan = Plan::to(host.address);
    let routes = json!([
        { "match": { "prefix": "/admin" }, "direct_response": { "status": 403 } }, plan.routes[0] ]);
    let rig = Rig::new(Plan { routes, ..plan });
    for door in &rig.doors {
        let got = send(door.address, &[format!("{ASK}{ADMIN}").as_bytes()]);
        // Closed after the first, or parsed anew and judged by the routes.
        assert!(
            [vec![200], vec![200, 403]].contains(&got.statuses()),
            "U-01 at {}: {}",
            door.name,
            shown(&got.bytes)
        );
        let requests = host.requests.lock().unwrap().clone();
        assert!(!requests.iter().any(|head| head.contains("/admin")), "U-01: {requests:?}");
    }
}

#[test]
fn u02_upgrade_where_none_is_enabled() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        let asked = ASK
            .replace("Upgrade: websocket", "Upgrade: tls-chat")
            .replace("Connection: Upgrade", "Connection: close, Upgrade");
        let got = send(door.address, &[asked.as_bytes()]);
        assert_eq!(got.statuses(), [403], "U-02 at {}: {}", door.name, shown(&got.bytes));
        assert_eq!(shown(&host.bytes()), "``", "U-02");
        rig.logged("U-02", 403, "", "upgrade_failed");
        neighbour.unharmed("U-02");
    }
}

#[test]
fn u03_h2c_is_never_switched_by_the_host() {
    run(["Connection: close, Upgrade, HTTP2-Settings", "Connection: close, upgrade"]
        .map(|connection| {
            let input = format!("GET /x HTTP/1.1\r\nHost: a\r\n{connection}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
            case("U-03", input, Verdict::Passed(&[200], &[&["!upgrade", "!http2-settings: aamaaabkaaqaap__\r\nconn"]]))
        })
        .into());
}

#[test]
fn u04_connect_without_a_route_for_it() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    let mut failures = Failures::default();
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        for (input, statuses) in [
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", &[404, 403][..]),
            // What follows is never a request of its own: the client believes itself in a tunnel.
            (
                "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
                &[404, 403],
            ),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[501]),
        ] {
            failures.gather(|| {
                let got = send(door.address, &[input.as_bytes()]);
                let name = format!("U-04 at {}: {input:?}", door.name);
                assert_eq!(got.answers.len(), 1, "{name}: {}", shown(&got.bytes));
                assert!(statuses.contains(&got.answers[0].status), "{name}: {}", got.answers[0].head);
                assert_eq!(shown(&host.bytes()), "``", "{name}");
                neighbour.unharmed(&name);
            });
        }
    }
    failures.none();
}

/// A host that answers its first request on each connection with these bytes, and ends the connection or not.
fn faulty(bytes: Vec<u8>, ends: bool) -> Host {
    Host::start(move |connection| {
        while let Some(head) = connection.request() {
            if head.starts_with("GET /well ") {
                connection.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell");
                continue;
            }
            if connection.stream.write_all(&bytes).is_err() || ends {
                return;
            }
        }
    })
}

/// What a faulty host's answer becomes.
pub struct Fault {
    row: &'static str,
    answer: Vec<u8>,
    ends: bool,
    statuses: &'static [u16],
    /// One of these flags is in the log.
    flags: &'static [&'static str],
}

pub fn judge(faults: Vec<Fault>) {
    let _turn = beside_others();
    let mut failures = Failures::default();
    for fault in faults {
        let host = faulty(fault.answer.clone(), fault.ends);
        let rig = Rig::new(Plan::to(host.address));
        for door in &rig.doors {
            let name = format!("{} at {}: {}", fault.row, door.name, shown(&fault.answer));
            failures.gather(|| fault_at(&name, &rig, door.address, &host, &fault));
            failures.gather(|| Neighbour::at(door).unharmed(&name));
        }
    }
    failures.none();
}

fn fault_at(name: &str, rig: &Rig, door: SocketAddr, host: &Host, fault: &Fault) {
    use std::sync::atomic::Ordering::SeqCst;
    rig.log_lines();
    // A connection that proved good, and is in the pool.
    let close = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let well = send(door, &[close("/well").as_bytes()]);
    assert_eq!(well.statuses(), [200], "{name}: before");
    let before = host.connections.load(SeqCst);
    let got = send(door, &[close("/ill").as_bytes()]);
    let last: Vec<u16> = got.statuses().into_iter().filter(|status| *status >= 200).collect();
    assert_eq!(last.len(), 1, "{name}: {}", shown(&got.bytes));
    assert!(fault.statuses.contains(&last[0]), "{name}: {}", shown(&got.bytes));
    let mut lines = vec![];
    eventually(&format!("{name}: in the log with {:?}", fault.flags), || {
        lines.extend(rig.log_lines());
        lines.iter().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields[0] == last[0].to_string()
                && (fault.flags.is_empty() || fields[1].split(',').any(|flag| fault.flags.contains(&flag)))
        })
    });
    // Its connection is not used again.
    let well = send(door, &[close("/well").as_bytes()]);
    assert_eq!(well.statuses(), [200], "{name}: after");
    assert_eq!(host.connections.load(SeqCst), before + 1, "{name}: pooled after it, or more than one try");
}

pub fn fault(row: &'static str, answer: impl AsRef<[u8]>) -> Fault {
    Fault { row, answer: answer.as_ref().to_vec(), ends: false, statuses: &[502], flags: &["UPE"] }
}

#[test]
fn u07_a_101_nobody_asked_for() {
    judge(vec![fault("U-07", SWITCHED), fault("U-07", "HTTP/1.1 101 Switching Protocols\r\n\r\n")]);
}

#[test]
fn u08_hosts_that_answer_what_they_must_not() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1000);
    judge(vec![
        fault(
            "U-08",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        fault("U-08", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
        Fault { flags: &["UPE", "UC"], ends: true, ..fault("U-08", &hints) },
        Fault {
            statuses: &[200],
            flags: &["UPE", "UC"],
            ends: true,
            ..fault("U-08", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
        },
        Fault {
            statuses: &[200],
            flags: &["UPE", "UC"],
            ends: true,
            ..fault("U-08", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe")
        },
    ]);
}

#[test]
fn u08_a_host_that_is_reset_behind_its_head() {
    let _turn = beside_others();
    let host = Host::start(|connection| {
        connection.request();
        connection.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nh");
        let linger = socket2::SockRef::from(&connection.stream);
        linger.set_linger(Some(Duration::ZERO)).unwrap();
    });
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let mut stream = connect(door.address);
        stream.write_all(b"GET /ill HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let got = drain(stream);
        // The reset may overtake the head; then there is one to make up.
        assert!(
            [[200], [503], [502]].contains(&[got.answers[0].status]) && got.answers.len() == 1,
            "U-08: {}",
            shown(&got.bytes)
        );
        rig.logged("U-08", got.answers[0].status, "UC", "");
        Neighbour::at(door).unharmed("U-08");
    }
}
