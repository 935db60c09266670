//! Against implementations of HTTP that nobody here wrote: PyPI's `h11`, and `h2` with `hpack`, run by
//! `python/peers.py`. They are looked for in `$FILAMESH_PEERS_PYTHON`, `target/peers/bin/python` and `python3`.

use std::{
    collections::{BTreeSet, HashMap},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config as ProptestConfig, TestRunner},
};
use wire::{
    BodyFraming, HeaderId,
    h1::{self, BodyReader, HeadStorage, Limits, Scheme},
    h2::{Config, Connection, ErrorCode, Event, RequestParts, Scratch, Stream, Trailers},
    id::Random,
};

/// What a peer may take for its work.
const DEADLINE: Duration = Duration::from_secs(60);

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/peers.py")
}

/// A Python that has the packages.
fn python() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin/python");
    let given = std::env::var_os("FILAMESH_PEERS_PYTHON").map(PathBuf::from);
    given.into_iter().chain([here, "python3".into()]).find(|python| {
        let checked = Command::new(python)
            .arg(script())
            .arg("check")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        checked.is_ok_and(|status| status.success())
    })
}

/// A peer and what it says.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: mpsc::Receiver<Vec<u8>>,
}

impl Peer {
    /// Nothing if there is none; then that is said.
    fn start(what: &str, arguments: &[&str]) -> Option<Peer> {
        let Some(python) = python() else {
            eprintln!("SKIPPED: {what} (PyPI h11/h2/hpack not installed)");
            return None;
        };
        let mut child = Command::new(python)
            .arg(script())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut from = child.stdout.take().unwrap();
        let (said, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if said.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Some(Peer { child, input, output })
    }

    /// What it says next; nothing when it has ended.
    fn next(&self) -> Option<Vec<u8>> {
        match self.output.recv_timeout(DEADLINE) {
            Ok(bytes) => Some(bytes),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the peer says nothing"),
        }
    }

    /// What the connection has to say. A peer that has ended does not listen.
    fn send(&mut self, connection: &mut Connection) {
        let length = connection.output().len();
        if length > 0
            && let Some(input) = &mut self.input
        {
            let _ = input.write_all(connection.output()).and_then(|()| input.flush());
        }
        connection.sent(length);
    }

    fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success(), "the peer is not content");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    if text == "-" {
        return vec![];
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What a request is read as.
#[derive(Debug, PartialEq)]
struct Read1 {
    method: Vec<u8>,
    target: Vec<u8>,
    version: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    /// What follows it, if it has ended.
    rest: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Read(Read1),
    More,
    Refused(String),
}

fn theirs(line: &str) -> Verdict {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["read", method, target, version, fields, body, rest] => Verdict::Read(Read1 {
            method: unhex(method),
            target: unhex(target),
            version: unhex(version),
            fields: match fields {
                "-" => vec![],
                _ => fields
                    .split(',')
                    .map(|field| field.split_once('=').unwrap())
                    .map(|(name, value)| (unhex(name), unhex(value)))
                    .collect(),
            },
            body: unhex(body),
            rest: (rest != "unended").then(|| unhex(rest)),
        }),
        ["more"] => Verdict::More,
        ["refused", ..] => Verdict::Refused(line.to_owned()),
        _ => panic!("{line}"),
    }
}

fn ours(bytes: &[u8]) -> Verdict {
    let limits = Limits { allow_http10: true, secure: true, ..Limits::default() };
    let mut storage = HeadStorage::new();
    let length = match h1::parse_request(bytes, &mut storage, &limits) {
        Ok(Some(length)) => length,
        Ok(None) => return Verdict::More,
        Err(reject) => return Verdict::Refused(reject.to_string()),
    };
    let head = storage.request(bytes);
    let mut reader = BodyReader::request(head.framing(), &limits);
    let (mut at, mut body) = (length, vec![]);
    let tunnel = head.framing() == BodyFraming::Tunnel;
    while !tunnel && at < bytes.len() && !reader.is_done() {
        match reader.decode(&bytes[at..]) {
            Ok(step) => {
                at += step.consumed;
                body.extend_from_slice(step.payload);
            }
            Err(reject) => return Verdict::Refused(reject.to_string()),
        }
    }
    let version = if head.version() == h1::Version::Http10 { b"1.0".to_vec() } else { b"1.1".to_vec() };
    Verdict::Read(Read1 {
        method: head.method().to_vec(),
        target: head.target().to_vec(),
        version,
        fields: head.fields().map(|field| (field.name.to_ascii_lowercase(), value(&field))).collect(),
        body,
        rest: (tunnel || reader.is_done()).then(|| bytes[at..].to_vec()),
    })
}

/// h11 gives a coding in lower case.
fn value(field: &h1::Field<'_>) -> Vec<u8> {
    match field.id {
        HeaderId::TransferEncoding => field.value.to_ascii_lowercase(),
        _ => field.value.to_vec(),
    }
}

/// Where we are stricter than h11, and why. Each must be met.
type Deviation = (&'static str, fn(&[u8]) -> bool);
const STRICTER: &[Deviation] = &[
    ("a line that ends in LF alone: two parsers may differ (bad-inputs H-04)", |text| {
        let bare = |(at, byte): (usize, &u8)| *byte == b'\n' && (at == 0 || text[at - 1] != b'\r');
        text.iter().enumerate().any(bare)
    }),
    ("folded lines (RFC 9112 §5.2)", |text| has(text, "\r\n x") || has(text, "\r\n\tx")),
    ("both a length and a coding (RFC 9112 §6.1)", |text| {
        has(text, "content-length:") && has(text, "transfer-encoding:")
    }),
    ("a length twice, if equal (RFC 9110 §8.6)", |text| {
        count(text, "content-length:") > 1 || has(text, "3, 3")
    }),
    ("a length with zeros before it: another base elsewhere", |text| has(text, "content-length: 03")),
    ("a coding in HTTP/1.0 (RFC 9112 §6.1)", |text| {
        has(text, "http/1.0") && has(text, "transfer-encoding:")
    }),
    ("a target in none of the four forms (RFC 9112 §3.2)", |text| has(text, "get x") || has(text, "get *")),
    ("CONNECT without a port, or with a body (RFC 9110 §9.3.6)", |text| has(text, "connect ")),
    ("a Host that is no authority (RFC 9110 §7.2)", |text| {
        has(text, "host: \r\n") || has(text, "host: a b\r\n")
    }),
    ("HTTP/1.0 without Host: Envoy's missing_host_header", |text| {
        has(text, "http/1.0") && !has(text, "host:")
    }),
    ("an expectation nobody knows, or two (RFC 9110 §10.1.1)", |text| {
        has(text, "expect: tea") || count(text, "expect:") > 1
    }),
    ("DEL in a value: a control byte like any other (RFC 9110 §5.5)", |text| has(text, "\x7f")),
    ("Connection takes along what frames or routes (bad-inputs H-34)", |text| has(text, "connection: host")),
    ("a method that is none of Envoy's", |text| text.starts_with(b"get ")),
    ("a version that is neither 1.0 nor 1.1", |text| has(text, "http/1.2") || has(text, "http/2.0")),
];

/// Where we are laxer, and why.
const LAXER: &[Deviation] = &[
    ("an empty line before the request (RFC 9112 §2.2)", |text| text.starts_with(b"\r\n")),
    ("no Host where the target has an authority, as Envoy", |text| {
        !has(text, "host:") && (has(text, "http://a/") || has(text, "connect a:1"))
    }),
];

fn has(text: &[u8], part: &str) -> bool {
    count(text, part) > 0
}

fn count(text: &[u8], part: &str) -> usize {
    let text: Vec<u8> = text.to_ascii_lowercase();
    text.windows(part.len()).filter(|window| *window == part.as_bytes()).count()
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b#c HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "PUT /p HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "CONNECT a HTTP/1.1\r\n",
        "GET x HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / HTTP/2.0\r\n",
        "G(T / HTTP/1.1\r\n",
        "get / HTTP/1.1\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/1.1\n",
        "\r\nGET / HTTP/1.1\r\n",
        "GET /\u{e9} HTTP/1.1\r\n",
        "GET /a\tb HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
    ]);
    let line = prop::sample::select(vec![
        "Host: a\r\n",
        "Host: a\r\n",
        "hOST:\ta:1 \r\n",
        "Host: \r\n",
        "Host: a b\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 3\r\n",
        "content-length:0\r\n",
        "Content-Length: 03\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "TRANSFER-ENCODING: Chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "x: y\r\n",
        "x:\r\n",
        "x: \t \r\n",
        "x y\r\n",
        "x\u{e9}: 1\r\n",
        "x: \u{e9}\r\n",
        "x: a\0\r\n",
        "x: a\rb\r\n",
        " x: 1\r\n",
        "\tx: 1\r\n",
        "x : 1\r\n",
        "x: 1\n",
        ": v\r\n",
        "x: \x7f\r\n",
        "x: a\tb  c\r\n",
        "Connection: close\r\n",
        "Connection: host\r\n",
        "Expect: tea\r\n",
        "Expect: 100-continue\r\n",
        "x!#$%&'*+-.^_`|~: 1\r\n",
        "x(: 1\r\n",
        "Cookie: a; b\r\n",
        "Cookie: c\r\n",
    ]);
    let body = prop::sample::select(vec![
        "",
        "abc",
        "abcGET / HTTP/1.1\r\n\r\n",
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\nrest",
        "3;a=\"b\"\r\nabc\r\n00\r\nx: y\r\n\r\n",
        "03\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "g\r\n",
        "-1\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffffffff\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "0\r\nx y\r\n\r\n",
    ]);
    let good_start =
        prop::sample::select(vec!["GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.1\r\n", "PUT /p HTTP/1.0\r\n"]);
    let good_line = prop::sample::select(vec![
        "x: y\r\n",
        "X-Y:z\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Cookie: a\r\n",
        "Connection: close\r\n",
    ]);
    let start = prop_oneof![3 => good_start, 1 => start];
    let line = prop_oneof![3 => good_line, 1 => line];
    let host = prop_oneof![3 => Just("Host: a\r\n"), 1 => Just("")];
    (start, prop::collection::vec(line, 0..5), host, body).prop_map(|(start, lines, host, body)| {
        [start, host, &lines.concat(), "\r\n", body].concat().into_bytes()
    })
}

/// What h11 and we make of the same requests is the same, but for what is listed.
#[test]
fn requests_against_h11() {
    const WHAT: &str = "HTTP/1 requests against h11";
    let Some(mut peer) = Peer::start(WHAT, &["h11"]) else { return };
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    let requests: Vec<Vec<u8>> =
        (0..4000).map(|_| any_request().new_tree(&mut runner).unwrap().current()).collect();
    let lines: String = requests.iter().map(|request| hex(request) + "\n").collect();
    let mut input = peer.input.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let mut said = vec![];
    while let Some(bytes) = peer.next() {
        said.extend(bytes);
    }
    writer.join().unwrap();
    peer.end();
    let answers: Vec<String> = BufReader::new(&said[..]).lines().map(Result::unwrap).collect();
    assert_eq!(answers.len(), requests.len());
    let (mut used, mut agreed, mut differ) = (BTreeSet::new(), 0, String::new());
    for (request, answer) in requests.iter().zip(&answers) {
        let (ours, theirs) = (ours(request), theirs(answer));
        let listed = match (&ours, &theirs) {
            (Verdict::Refused(_), Verdict::Refused(_)) => continue,
            (Verdict::Refused(_), _) => STRICTER,
            (_, Verdict::Refused(_)) => LAXER,
            _ if ours == theirs => {
                agreed += 1;
                continue;
            }
            _ => &[],
        };
        let reasons: Vec<_> = listed.iter().filter(|(_, met)| met(request)).collect();
        if reasons.is_empty() {
            differ += &format!("{}\n  ours: {ours:?}\n  h11: {theirs:?}\n", request.escape_ascii());
        }
        used.extend(reasons.iter().map(|(why, _)| *why));
    }
    assert!(differ.is_empty(), "{differ}");
    assert!(agreed > 1000, "{agreed}");
    for (why, _) in STRICTER.iter().chain(LAXER) {
        assert!(used.contains(why), "a deviation that is not met: {why}");
    }
}

const EXCHANGES: usize = 100;

fn config(seed: u64) -> Arc<Config> {
    Arc::new(Config {
        huffman: seed.is_multiple_of(2),
        encoder_table_size: [4096, 0, 300][seed as usize % 3],
        header_table_size: [4096, 256, 0][(seed / 2) as usize % 3],
        ..Config::default()
    })
}

/// Feeds bytes in pieces of any size.
fn feed(
    connection: &mut Connection,
    scratch: &mut Scratch,
    random: &mut Random,
    bytes: &[u8],
    mut on: impl FnMut(&mut Connection, Event<'_>),
) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(rest.len().min(1 + random.below(20_000) as usize));
        rest = after;
        while let Some(event) = connection.next(&mut piece, scratch, Duration::ZERO).unwrap() {
            on(connection, event);
        }
    }
}

/// Their client, our server, which echoes: fields, bodies through windows, trailers, resets, tables of all sizes.
#[test]
fn our_server_and_h2s_client() {
    for seed in 0..6 {
        let (count, text) = (EXCHANGES.to_string(), seed.to_string());
        let Some(mut peer) = Peer::start("our HTTP/2 server against h2", &["h2-client", &count, &text])
        else {
            return;
        };
        let mut server = Connection::server(config(seed), Duration::ZERO);
        let (mut scratch, mut random) = (Scratch::new(), Random::from_seed(seed));
        let (mut asked, mut resets) = (0, 0);
        peer.send(&mut server);
        while let Some(bytes) = peer.next() {
            feed(&mut server, &mut scratch, &mut random, &bytes, |server, event| match event {
                Event::Request { stream, head, end } => {
                    asked += 1;
                    let mut lines = vec![];
                    for field in head.fields().filter(|field| field.name.starts_with(b"x-")) {
                        lines.extend([field.name, b": ", field.value, b"\r\n"].concat());
                    }
                    server.respond_parts(stream, 200, &lines, end).unwrap();
                }
                Event::Data { stream, bytes, end, .. } => {
                    server.data(stream, bytes, end).unwrap();
                    server.consume(stream, bytes.len());
                }
                Event::Trailers { stream, trailers, .. } => server.trailers(stream, &trailers).unwrap(),
                Event::Reset { code, .. } => {
                    assert_eq!(code, ErrorCode::CANCEL);
                    resets += 1;
                }
                Event::Refused { reject, .. } => panic!("{reject}"),
                _ => {}
            });
            peer.send(&mut server);
        }
        peer.end();
        assert_eq!((asked, server.open_streams()), (EXCHANGES, 0));
        assert!(resets > 0);
    }
}

/// What one of our requests carries, and what came back.
struct Asked {
    lines: Vec<u8>,
    body: Vec<u8>,
    trailers: bool,
    head: Vec<u8>,
    received: Vec<u8>,
    after: bool,
}

fn any_lines(random: &mut Random) -> Vec<u8> {
    let mut lines = vec![];
    for _ in 0..random.below(14) {
        let value = match random.below(5) {
            0 => vec![],
            1 => b"again".to_vec(),
            2 => random.uuid().to_vec(),
            3 => vec![b'v'; 1 + random.below(3000) as usize],
            _ => (0..1 + random.below(60)).map(|_| 0x21 + random.below(0x5e) as u8).collect(),
        };
        lines.extend(format!("x-{}: ", random.below(12)).into_bytes());
        lines.extend(value);
        lines.extend(b"\r\n");
    }
    lines
}

/// Our client, their server.
#[test]
fn our_client_and_h2s_server() {
    for seed in 0..6 {
        let text = seed.to_string();
        let Some(mut peer) = Peer::start("our HTTP/2 client against h2", &["h2-server", &text]) else {
            return;
        };
        let mut client = Connection::client(config(seed), Duration::ZERO);
        let (mut scratch, mut random) = (Scratch::new(), Random::from_seed(seed));
        let mut open: HashMap<Stream, Asked> = HashMap::new();
        let (mut asked, mut done, mut early) = (0, 0, 0);
        while done < EXCHANGES {
            while asked < EXCHANGES && open.len() < 20 && client.can_open().is_ok() {
                asked += 1;
                let lines = any_lines(&mut random);
                let length = [0, 1, 500, 70_000][random.below(4) as usize];
                let path = format!("/p?{asked}");
                let parts = RequestParts {
                    method: b"POST",
                    scheme: Scheme::Http,
                    authority: b"a:1",
                    path: path.as_bytes(),
                    lines: &lines,
                };
                let stream = client.open_parts(&parts, false, 0).unwrap();
                let body: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
                let trailers = random.below(3) == 0;
                client.data(stream, &body, !trailers).unwrap();
                if trailers {
                    client.trailers(stream, &Trailers::from_section(b"X-Sum: 7\r\n\r\n")).unwrap();
                }
                if random.below(10) == 0 {
                    client.reset(stream, ErrorCode::CANCEL);
                    done += 1;
                    continue;
                }
                let (head, received) = (vec![], vec![]);
                open.insert(stream, Asked { lines, body, trailers, head, received, after: false });
            }
            peer.send(&mut client);
            if done == EXCHANGES {
                break;
            }
            let bytes = peer.next().expect("the server goes on");
            feed(&mut client, &mut scratch, &mut random, &bytes, |client, event| {
                let ended = match event {
                    Event::Response { head, .. } if head.is_interim() => {
                        assert_eq!((head.status(), head.header(b"x-early")), (103, Some(&b"1"[..])));
                        early += 1;
                        None
                    }
                    Event::Response { stream, head, end, .. } => {
                        assert_eq!(head.status(), 200);
                        for field in head.fields() {
                            let line = [field.name, b": ", field.value, b"\r\n"].concat();
                            open.get_mut(&stream).unwrap().head.extend(line);
                        }
                        end.then_some(stream)
                    }
                    Event::Data { stream, bytes, end, .. } => {
                        open.get_mut(&stream).unwrap().received.extend_from_slice(bytes);
                        client.consume(stream, bytes.len());
                        end.then_some(stream)
                    }
                    Event::Trailers { stream, trailers, .. } => {
                        assert_eq!(trailers.section(), b"x-sum: 7\r\n\r\n");
                        open.get_mut(&stream).unwrap().after = true;
                        Some(stream)
                    }
                    Event::Reset { .. } | Event::GoAway { .. } => panic!("{event:?}"),
                    _ => None,
                };
                if let Some(stream) = ended {
                    let asked = open.remove(&stream).unwrap();
                    assert_eq!(asked.head.escape_ascii().to_string(), asked.lines.escape_ascii().to_string());
                    assert!(asked.received == asked.body && asked.after == asked.trailers);
                    done += 1;
                }
            });
        }
        client.leave_now(ErrorCode::NO_ERROR);
        peer.send(&mut client);
        peer.end();
        assert!(early > 0 && client.open_streams() == 0);
    }
}
