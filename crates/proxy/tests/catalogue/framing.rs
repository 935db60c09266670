//! Class H: HTTP/1 framing. What is refused is answered once and closed, and not a byte of it reaches the host.

use std::io::Write;

use wire::sniff::{Sniff, inspect_http};

use crate::recorder::{Recorder, whole_request};
use crate::rig::{
    Door, Failures, Got, Neighbour, OUTBOUND, Plan, Rig, beside_others, connect, eventually, send, shown,
};
use crate::rows::Row;

pub const ROWS: &[Row] = &[
    Row("H-01", "400, close, `http1.content_length_and_chunked_not_allowed`, flag DPE. **hyper accepts**"),
    Row("H-02", "400, close"),
    Row("H-03", "400 (E: 501 if treated as non-chunked), close"),
    Row("H-04", "501 `http1.invalid_transfer_encoding`"),
    Row("H-05", "501 (hyper: 400); never forwarded"),
    Row("H-06", "400/501, close"),
    Row("H-07", "501/400"),
    Row("H-08", "400"),
    Row("H-09", "400"),
    Row("H-10", "400, close"),
    Row(
        "H-11",
        "400 (E: 400, balsa `disallow_multiple_content_length`; RFC allows collapse; **hyper accepts**)",
    ),
    Row("H-12", "400"),
    Row("H-13", "400 each, close; no busy loop"),
    Row("H-14", "400, no panic/overflow"),
    Row("H-15", "400"),
    Row("H-16", "400 invalid header name"),
    Row("H-17", "400"),
    Row("H-18", "400 after head; connection closed; upstream request aborted, never completed"),
    Row("H-19", "400/close, no wrap"),
    Row("H-20", "400/close"),
    Row("H-21", "close after bounded extension total (16 KiB [R]); CPU bounded"),
    Row("H-22", "431/close; forbidden trailers dropped, never merged into headers"),
    Row("H-23", "400; never truncated at NUL"),
    Row("H-24", "400"),
    Row("H-25", "400 (RFC allows replace-with-SP; [R] reject)"),
    Row("H-26", "400"),
    Row("H-27", "400 [R]; if accepted, must be re-emitted with CRLF"),
    Row("H-28", "400 (505 for 2.0 acceptable)"),
    Row(
        "H-29",
        "E: 426 `low_version` unless enabled; if enabled: TE→400, no CL→empty body, never read-to-close",
    ),
    Row("H-30", "400 each"),
    Row("H-31", "400 / forwarded verbatim only if token"),
    Row("H-32", "400 / 414 (target too long)"),
    Row("H-33", "second message parsed on its own merits or connection closed; first unaffected"),
    Row("H-34", "hop-by-hop list honoured, but never for Host/CL/XFF/XFCC/authorization; 400 [R]"),
];

/// What must become of an input.
pub enum Verdict {
    /// Refused at its head, with one of these statuses, these details and this flag in the access log.
    Refused(&'static [u16], &'static str, &'static str),
    /// Refused in its body: the host may have seen the head, but never a whole request, and its connection ends.
    Aborted(&'static [u16], &'static str),
    /// Answered with these statuses. The host got as many whole requests as there are texts; each holds its texts,
    /// lower-cased, and none of those that begin with `!`.
    Passed(&'static [u16], &'static [&'static [&'static str]]),
}

use Verdict::{Aborted, Passed, Refused};

pub struct Case {
    row: &'static str,
    input: Vec<u8>,
    verdict: Verdict,
}

const CODEC: &str = "http1.codec_error";
const CODING: &str = "http1.invalid_transfer_encoding";
const DPE: &str = "DPE";
const BAD: Verdict = Refused(&[400], "", DPE);

pub fn case(row: &'static str, input: impl AsRef<[u8]>, verdict: Verdict) -> Case {
    Case { row, input: input.as_ref().to_vec(), verdict }
}

/// A GET with these field lines besides Host.
pub fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /x HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n\r\n"].concat()
}

fn post(lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes(), body.as_ref()].concat()
}

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

/// A request after which the connection closes.
fn with_close(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
}

fn request(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: a\r\n\r\n"].concat()
}

fn coding_and_length() -> Vec<Case> {
    let both = || Refused(&[400], "http1.content_length_and_chunked_not_allowed", DPE);
    let coding = |status: &'static [u16]| Refused(status, CODING, DPE);
    let mut cases = vec![
        case("H-01", post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), both()),
        case("H-02", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), both()),
        case(
            "H-03",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            coding(&[400]),
        ),
        case("H-04", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), coding(&[501])),
        case("H-05", post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), coding(&[501])),
        case("H-05", post("Transfer-Encoding: identity", "0\r\n\r\n"), coding(&[501])),
        case(
            "H-06",
            post("Transfer-Encoding: ,chunked\r\nContent-Length: 5", "0\r\n\r\n"),
            Refused(&[400, 501], "", DPE),
        ),
        case("H-07", post("Transfer-Encoding: xchunked", "0\r\n\r\n"), Refused(&[501, 400], "", DPE)),
        case("H-07", post("Transfer-Encoding: chunked\x0b", "0\r\n\r\n"), Refused(&[501, 400], "", DPE)),
        case("H-07", with(b"Transfer-Encoding: \xffchunked\xff"), Refused(&[501, 400], "", DPE)),
        case("H-08", post("Transfer-Encoding : chunked", "0\r\n\r\n"), BAD),
        case("H-09", post("Transfer-\r\nEncoding: chunked", "0\r\n\r\n"), BAD),
        case("H-10", post("Content-Length: 1\r\nContent-Length: 0", "x"), BAD),
        case("H-10", post("Content-Length: 0\r\nContent-Length: 1", "x"), BAD),
        case("H-11", post("Content-Length: 5\r\nContent-Length: 5", "hello"), BAD),
        case("H-12", post("Content-Length: 5, 5", "hello"), BAD),
        case("H-14", post("Content-Length: 18446744073709551616", "x"), BAD),
        case("H-14", post(&format!("Content-Length: {}", "9".repeat(99)), "x"), BAD),
        case(
            "H-15",
            post(
                "content-length: \r\ncontent-length: 43",
                "POST /smuggled HTTP/1.1\r\nHost: b\r\nx: y\r\n\r\n",
            ),
            BAD,
        ),
        case("H-16", with(b"Content-Length\x85: 10"), BAD),
        case("H-16", with(b"Content-Length\xa0: 10"), BAD),
        case("H-17", post("Content-Length 10", "0123456789"), BAD),
    ];
    cases.extend(
        ["+5", "-48", "0x10", "010", "1_0", "1Z", ""]
            .map(|value| case("H-13", post(&format!("Content-Length: {value}"), "hello"), BAD)),
    );
    cases
}

fn chunks() -> Vec<Case> {
    let aborted = || Aborted(&[400], CODEC);
    let mut cases: Vec<Case> = ["0_2e", "0x0", "-0x0", "+5", "           0", ""]
        .map(|size| case("H-18", chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")), aborted()))
        .into();
    cases.extend(
        ["FFFFFFFFFFFFFFFFF", "10000000000000000"]
            .map(|size| case("H-19", chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")), aborted())),
    );
    cases.extend(
        [
            "a\r\n0123456789\n0\r\n\r\n",
            "5;a\r\rhello\r\n0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\rXhello\r\n0\r\n\r\n",
        ]
        .map(|body| case("H-20", chunked(body), aborted())),
    );
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(65536));
    cases.push(case("H-21", chunked(extension), aborted()));
    let many = format!("1;{}\r\na\r\n", "x".repeat(4096)).repeat(10_000);
    cases.push(case("H-21", chunked(many), aborted()));

    let many = format!("0\r\n{}\r\n", "x: 0123456789\r\n".repeat(70_000));
    cases.push(case("H-22", chunked(many), Aborted(&[431], "http1.too_many_headers")));
    let large = format!("0\r\nx: {}\r\n\r\n", "0123456789".repeat(90_000));
    cases.push(case("H-22", chunked(large), Aborted(&[431], "http1.trailers_too_large")));
    let forbidden =
        "3\r\nabc\r\n0\r\nContent-Length: 0\r\nX-Sum: 1\r\nHost: evil\r\nAuthorization: x\r\n\r\n";
    cases.push(case(
        "H-22",
        post("Connection: close\r\nTransfer-Encoding: chunked", forbidden),
        Passed(&[200], &[&["host: a\r\n", "\r\nx-sum: 1\r\n", "!content-length", "!evil", "!authorization"]]),
    ));
    cases
}

fn lines() -> Vec<Case> {
    let mut cases = vec![
        case("H-23", with("Header: v\0\ralue"), BAD),
        case("H-23", "GET / HTTP/1.1\r\nHost: google.com\0.kallus.org\r\n\r\n", BAD),
        case("H-23", with("Test: a\0b"), BAD),
        case("H-23", with("Test: a\0"), BAD),
        case("H-24", with("Visible: :/\rSmuggled: :)"), BAD),
        case("H-24", "GET / HTTP/1.1\r\nHost: a\r\n\rZ\r\n\r\n", BAD),
        case("H-25", with("X: a\r\n b"), BAD),
        case("H-26", "GET / HTTP/1.1\r\n\tContent-Length: 1\r\nHost: a\r\n\r\nx", BAD),
        case("H-26", with(": ignored"), BAD),
        case("H-26", with(":\r\nI: am chopped off"), BAD),
        case("H-26", with("a field line without colon"), BAD),
        case("H-27", "GET / HTTP/1.1\nHost: a\n\n", BAD),
        case("H-30", "GET / HTTP/1.1\r\n\r\n", Refused(&[400], "missing_host_header", "-")),
        case("H-30", "GET / HTTP/1.1\r\nHost: \r\n\r\n", Refused(&[400], "", "")),
        case("H-30", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused(&[400], "", DPE)),
        case("H-31", format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(8192)), BAD),
        case("H-31", request("\0 / HTTP/1.1"), BAD),
        case("H-31", request("G=\":<>(e),[T];?\" / HTTP/1.1"), BAD),
        case("H-31", request("get /x HTTP/1.1"), BAD),
        case("H-31", request("M-SEARCH /x HTTP/1.1"), BAD),
        case("H-31", with_close("PROPFIND /x HTTP/1.1"), Passed(&[200], &[&["propfind /x http/1.1\r\n"]])),
        case("H-32", request("GET ! HTTP/1.1"), BAD),
        case(
            "H-32",
            "GET http://a/p?q HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
            Passed(&[200], &[&["get /p?q http/1.1\r\n", "\r\nhost: a\r\n", "!host: b"]]),
        ),
        case(
            "H-32",
            with_close("GET //evil/ HTTP/1.1"),
            Passed(&[200], &[&["get //evil/ http/1.1\r\n", "\r\nhost: a\r\n"]]),
        ),
        case("H-32", request("GET /b\u{fc}cher HTTP/1.1"), BAD),
        case("H-32", request("GET /a b HTTP/1.1"), BAD),
        case(
            "H-32",
            request(format!("GET /{} HTTP/1.1", "a".repeat(100 * 1024))),
            Refused(&[400, 414], "", DPE),
        ),
    ];
    for byte in b" \"(),/;<=>?@[]{}\\\x01\x7f" {
        cases.push(case("H-26", with([b"X", &[*byte][..], b"y: 1"].concat()), BAD));
    }
    for version in ["HTTP/1.32", "HTTP/", "HTTP/\r\r1.1", "HTTP/4294967295.255", "HTTP/2.0"] {
        cases.push(case("H-28", request(format!("GET / {version}")), Refused(&[400, 505], "", DPE)));
    }
    for host in ["a,b", "a b", "[::1", "a:99999", "user@a"] {
        cases.push(case("H-30", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), BAD));
    }
    cases
}

fn messages() -> Vec<Case> {
    let low = || Refused(&[426], "low_version", "-");
    let get = "GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut cases = vec![
        case("H-29", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", low()),
        case("H-29", "GET / HTTP/1.0\r\n\r\n", low()),
        case(
            "H-29",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused(&[426, 400], "", ""),
        ),
        case("H-29", "POST / HTTP/1.0\r\nHost: a\r\n\r\nuntil the end", low()),
        case(
            "H-33",
            format!("GET /first HTTP/1.1\r\nHost: a\r\n\r\n{get}"),
            Passed(&[200, 200], &[&["get /first http/1.1\r\n"], &["get /second http/1.1\r\n"]]),
        ),
        case(
            "H-33",
            chunked(format!("5\r\nhello\r\n0\r\n\r\n\0{get}")),
            Passed(&[200, 400], &[&["post /x http/1.1\r\n", "5\r\nhello\r\n0\r\n\r\n"]]),
        ),
        case(
            "H-33",
            "GET /first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\ngarbage \0\r\n\r\n",
            Passed(&[200], &[&["get /first http/1.1\r\n", "!garbage"]]),
        ),
        case("H-34", with("Expect: 200-maybe"), Refused(&[417], "expectation_failed", "-")),
        case(
            "H-34",
            post("Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2", "hi"),
            Passed(&[200], &[&["post /x http/1.1\r\n", "expect: 100-continue\r\n", "\r\n\r\nhi"]]),
        ),
        case(
            "H-34",
            with("Connection: close, X-Secret\r\nX-Secret: 1\r\nX-Plain: 2"),
            Passed(&[200], &[&["!x-secret", "x-plain: 2\r\n"]]),
        ),
    ];
    for name in ["Content-Length", "Host", "x-forwarded-for", "x-forwarded-client-cert", "authorization"] {
        let input = post(&format!("Connection: close, {name}\r\nContent-Length: 2"), "hi");
        cases.push(case("H-34", input, BAD));
    }
    cases
}

/// How the bytes of a case come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    AtOnce,
    ByteByByte,
    /// Behind a request that is fine, in the same segment.
    Behind,
}

/// Everything below this is also sent byte by byte.
const SMALL: usize = 700;

const FIRST: &[u8] = b"GET /before HTTP/1.1\r\nHost: before.test\r\n\r\n";

/// Sends each case to each listener in every manner, and judges it.
pub fn run(cases: Vec<Case>) {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    let mut as_tcp = vec![];
    let mut failures = Failures::default();
    let mut payloads = 0;
    for door in &rig.doors {
        let mut neighbour = Neighbour::at(door);
        rig.log_lines();
        for case in &cases {
            payloads += 1;
            for manner in [Manner::AtOnce, Manner::ByteByByte, Manner::Behind] {
                if manner == Manner::ByteByByte && case.input.len() > SMALL {
                    continue;
                }
                let name = format!("{} at {} {manner:?} {}", case.row, door.name, shown(&case.input));
                host.forget();
                let tcp = door.name == OUTBOUND && manner != Manner::Behind && !shows_http(&case.input);
                if tcp {
                    as_tcp.push(case.row);
                }
                failures.gather(|| {
                    if tcp {
                        passes_as_tcp(&name, &rig, door, &case.input);
                    } else {
                        judge(&name, &rig, door, &host, case, manner);
                    }
                    neighbour.unharmed(&name);
                });
            }
        }
    }
    as_tcp.dedup();
    println!("{payloads} payloads to {} listeners", rig.doors.len());
    println!(
        "first bytes that show no HTTP/1.1, passed on as TCP where the protocol is found out: {as_tcp:?}"
    );
    failures.none();
    eventually("nothing is left under way", || rig.handle().active() == 0);
}

fn shows_http(input: &[u8]) -> bool {
    use wire::h1::Version;
    matches!(inspect_http(input), Sniff::Http1(Version::Http11) | Sniff::Http2Preface | Sniff::HttpTooLong)
}

/// Not HTTP, says the inspector: then the bytes are nobody's business and arrive as they are.
fn passes_as_tcp(name: &str, rig: &Rig, door: &Door, input: &[u8]) {
    rig.raw.forget();
    let mut stream = connect(door.address);
    stream.write_all(input).unwrap();
    eventually(name, || rig.raw.bytes().len() >= input.len());
    assert_eq!(rig.raw.bytes(), input, "{name}");
}

fn judge(name: &str, rig: &Rig, door: &Door, host: &Recorder, case: &Case, manner: Manner) {
    let behind = manner == Manner::Behind;
    let whole = [if behind { FIRST } else { b"" }, &case.input].concat();
    let pieces: Vec<&[u8]> = match manner {
        Manner::ByteByByte => whole.chunks(1).collect(),
        _ => vec![&whole],
    };
    let mut got: Got = send(door.address, &pieces);
    let mut requests = host.requests();
    if behind {
        assert!(!got.answers.is_empty(), "{name}: no answer at all");
        assert_eq!(got.answers.remove(0).status, 200, "{name}: the request before it");
        assert!(
            !requests.is_empty() && requests.remove(0).starts_with(b"GET /before "),
            "{name}: the request before it"
        );
    }
    match case.verdict {
        Refused(statuses, details, flag) => {
            refused(name, &got, statuses);
            let before = if behind { host.requests()[0].len() } else { 0 };
            let bytes = host.bytes();
            assert_eq!(shown(&bytes[before..]), "``", "{name}: something of it reached the host");
            rig.logged(name, got.answers[0].status, flag, details);
        }
        Aborted(statuses, details) => {
            refused(name, &got, statuses);
            assert!(requests.is_empty(), "{name}: completed as {}", shown(&requests.concat()));
            rig.logged(name, got.answers[0].status, DPE, details);
            eventually(&format!("{name}: the host's connection ends"), || {
                host.connections().iter().all(|taken| {
                    taken.ended || whole_request(&taken.bytes).is_some() || taken.bytes.is_empty()
                })
            });
        }
        Passed(statuses, texts) => {
            assert_eq!(got.statuses(), statuses, "{name}: {}", shown(&got.bytes));
            assert_eq!(requests.len(), texts.len(), "{name}: {requests:?}");
            for (request, texts) in requests.iter().zip(texts) {
                let request = String::from_utf8_lossy(request).to_ascii_lowercase();
                for text in *texts {
                    match text.strip_prefix('!') {
                        Some(text) => assert!(!request.contains(text), "{name}: `{text}` in {request}"),
                        None => assert!(request.contains(text), "{name}: no `{text}` in {request}"),
                    }
                }
            }
            let requests: usize = host.requests().iter().map(Vec::len).sum();
            assert_eq!(host.bytes().len(), requests, "{name}: the host got more than requests");
        }
    }
}

/// One answer, which says that the connection closes.
fn refused(name: &str, got: &Got, statuses: &[u16]) {
    assert_eq!(got.answers.len(), 1, "{name}: {}", shown(&got.bytes));
    let answer = &got.answers[0];
    assert!(statuses.contains(&answer.status), "{name}: {} instead of {statuses:?}", answer.status);
    assert_eq!(answer.header("connection"), Some("close"), "{name}: {}", answer.head);
}

#[test]
fn h01_to_h17_coding_and_length() {
    run(coding_and_length());
}

#[test]
fn h18_to_h22_chunks_and_trailers() {
    run(chunks());
}

#[test]
fn h23_to_h32_lines() {
    run(lines());
}

#[test]
fn h29_h33_h34_messages() {
    run(messages());
}

/// As Envoy 1.40 has it: 403, unless the peers before this proxy are trusted to have taken TLS off.
#[test]
fn h32_an_https_target_on_a_plaintext_connection_is_for_those_who_trust_their_peers() {
    let _turn = beside_others();
    let host = Recorder::http();
    let rig = Rig::new(Plan::to(host.address));
    for door in &rig.doors {
        let got = send(door.address, &[b"GET https://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]);
        let status = if door.name == "gateway" { 403 } else { 200 };
        assert_eq!(got.statuses(), [status], "H-32 at {}: {}", door.name, shown(&got.bytes));
    }
}

#[test]
fn h29_where_http10_is_enabled() {
    let _turn = beside_others();
    let host = Recorder::http();
    let manager = |manager: &mut serde_json::Value| {
        manager["http_protocol_options"] = serde_json::json!({ "accept_http_10": true });
    };
    let rig = Rig::new(Plan { manager, ..Plan::to(host.address) });
    // Where the protocol is found out, Istio's chains for plaintext HTTP do not name http/1.0.
    for door in rig.doors.iter().filter(|door| door.name != OUTBOUND) {
        let mut neighbour = Neighbour::at(door);
        let coded = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for (input, status) in [
            ("GET /x HTTP/1.0\r\nHost: a\r\n\r\n", 200),
            ("GET /x HTTP/1.0\r\n\r\n", 400),
            (coded, 400),
            ("POST /x HTTP/1.0\r\nHost: a\r\n\r\nnever a body", 200),
        ] {
            host.forget();
            let got = send(door.address, &[input.as_bytes()]);
            assert_eq!(got.statuses(), [status], "H-29 at {}: {input:?} {}", door.name, shown(&got.bytes));
            let requests = host.requests();
            assert_eq!(requests.len(), usize::from(status == 200), "H-29 at {}: {input:?}", door.name);
            assert!(
                !String::from_utf8_lossy(&host.bytes()).contains("never"),
                "H-29: read to the end as a body"
            );
            neighbour.unharmed("H-29");
        }
    }
}
