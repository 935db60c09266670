//! Requests, well-formed and not, from a seed.

use wire::id::Random;

/// What one connection is sent.
pub struct Case {
    pub number: usize,
    pub bytes: Vec<u8>,
    /// Requests in it, as their sender counts.
    pub requests: usize,
    /// Where it is cut into segments.
    pub cuts: Vec<usize>,
}

pub fn cases(seed: u64, count: usize) -> Vec<Case> {
    (0..count).map(|number| case(seed, number)).collect()
}

fn case(seed: u64, number: usize) -> Case {
    let mut random = Random::from_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
    let mut choose = Choice(&mut random);
    let mut bytes = vec![];
    let requests = 1 + choose.below(3);
    for index in 0..requests {
        request(&mut choose, number, index, &mut bytes);
    }
    if choose.one_in(3) {
        mangle(&mut choose, &mut bytes);
    }
    // So that a connection that is well ends by itself.
    bytes.extend_from_slice(
        format!("GET /end-{number} HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    let mut cuts: Vec<usize> = (0..choose.below(5)).map(|_| choose.below(bytes.len())).collect();
    cuts.sort_unstable();
    cuts.dedup();
    // What is smuggled in bodies and odd lines may count as requests.
    let requests = bytes
        .windows(7)
        .filter(|window| *window == b" HTTP/1" || *window == b" http/1")
        .count()
        .max(requests + 1);
    Case { number, bytes, requests, cuts }
}

pub struct Choice<'r>(pub &'r mut Random);

impl Choice<'_> {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub fn of<'t, T: ?Sized>(&mut self, all: &[&'t T]) -> &'t T {
        all[self.below(all.len())]
    }
}

const METHODS: &[&str] = &[
    "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "M-SEARCH", "G@T", "X",
    "CONNECT",
];

const TARGETS: &[&str] = &[
    "/a?b=c",
    "/a/../b",
    "/%2e%2e/x",
    "//x//y",
    "/a;b=c",
    "*",
    "http://abs.test/p?q",
    "HTTP://ABS.test:80/P",
    "http://abs.test",
    "https://abs.test/p",
    "/a#fragment",
    "/a%2fb",
    "/a\\b",
    "/%zz",
    "/a|b",
    "/a\"b",
    "a",
    "",
    "/\u{e9}",
    "/a\tb",
    "/a b",
    "/./a/.",
    "ftp://abs.test/x",
    "http:///x",
    "http://user@abs.test/",
    "/?",
    "?x",
    "http://abs.test?q",
    "/a/%2E/b",
    "/%41%7e",
    "/..",
];

const VERSIONS: &[&str] = &[
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "http/1.1",
    "HTTP/1.10",
    "HTTP/1.1 ",
    "HTTP/1,1",
    "HTTP/11",
    "HTTP/0.9",
    "ICE/1.1",
    "",
];

const HOSTS: &[&str] = &[
    "Host: b.test:8080\r\n",
    "Host: B.Test\r\n",
    "Host: b.test.\r\n",
    "Host: [::1]:80\r\n",
    "Host: 127.0.0.1\r\n",
    "",
    "Host:\r\n",
    "Host: a,b\r\n",
    "Host: a b\r\n",
    "Host: [::1\r\n",
    "Host: a:99999\r\n",
    "Host: user@a\r\n",
    "Host: a\r\nHost: a\r\n",
    "Host: a\r\nHost: b\r\n",
    "host:a\r\n",
    "Host: a:\r\n",
    "Host: a/b\r\n",
    "Host: a_b\r\n",
    "Host: a%41\r\n",
    "Host: \u{e9}\r\n",
];

const FINE: &[&str] = &[
    "User-Agent: test/1\r\n",
    "X-Empty:\r\n",
    "X-NoSpace:v\r\n",
    "X_Under: 1\r\n",
    "X-Tab:\tv\t\r\n",
    "X-High: \u{e9}\r\n",
    "Cookie: a=1\r\nCookie: b=2\r\n",
    "X-Dup: 1\r\nX-Dup: 2\r\n",
    "Accept: */*\r\n",
    "TE: trailers\r\n",
    "Via: 1.1 other\r\n",
    "X-Forwarded-For: 1.2.3.4\r\n",
    "X-Forwarded-Proto: https\r\n",
    "X-Request-Id: fixed\r\n",
    "Date: now\r\n",
    "Trailer: X-T\r\n",
    "Content-Type: application/grpc\r\n",
    "Accept-Encoding: gzip\r\n",
    "Authorization: Basic eA==\r\n",
    "Keep-Alive: 5\r\n",
    "Proxy-Connection: keep-alive\r\n",
    "Connection: keep-alive\r\n",
    "Connection: Keep-Alive, X-Hop\r\nX-Hop: 1\r\n",
    "Connection: te\r\nTE: trailers\r\n",
    "X-Colon: a:b:c\r\n",
    "X-Quote: \"a, b\"\r\n",
    "X-Spaces:   a   b  \r\n",
    "~tilde: 1\r\n",
    "x-envoy-retry-on: 5xx\r\n",
    "x-envoy-upstream-rq-timeout-ms: 9000\r\n",
    "x-envoy-internal: true\r\n",
    "Forwarded: for=1.2.3.4\r\n",
    "Content-Encoding: gzip\r\n",
    "Upgrade-Insecure-Requests: 1\r\n",
    "X-Forwarded-Host: other\r\n",
    "Max-Forwards: 3\r\n",
];

const ODD: &[&str] = &[
    "X-Nul: a\0b\r\n",
    "X-Cr: a\rb\r\n",
    "X-Lf: a\nb\r\n",
    "X-Fold: a\r\n b\r\n",
    "no colon here\r\n",
    "X-Space : v\r\n",
    ": empty\r\n",
    " X-Lead: v\r\n",
    "X(Y): v\r\n",
    "X-Del: \x7f\r\n",
    "X-Ctl: \x01\r\n",
    "Connection: close\r\n",
    "Connection: Host\r\n",
    "Connection: content-length\r\n",
    "Connection: x-forwarded-for\r\n",
    "TE: gzip\r\n",
    "Connection: upgrade\r\nUpgrade: h2c\r\n",
    "Connection: upgrade\r\nUpgrade: other\r\n",
    "Upgrade: websocket\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "Expect: 200-maybe\r\n",
    "X-Bare: lf\n",
    "Connection: upgrade\r\n",
    "X\u{e9}: v\r\n",
    "Connection: ,,close\r\n",
    "Connection: close, keep-alive\r\n",
    "x-envoy-original-path: /x\r\n",
    ":path: /other\r\n",
    "X\tY: v\r\n",
    "Connection: X-Forwarded-Proto\r\n",
    "Connection: trailers, te\r\nTE: gzip, trailers\r\n",
    "Connection: keep-alive\r\nConnection: close\r\n",
    "HTTP2-Settings: AAMA\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
];

const LENGTHS: &[&str] = &[
    "+5",
    "-5",
    "05",
    "5 ",
    "5,5",
    "5\r\nContent-Length: 5",
    "5\r\nContent-Length: 6",
    "",
    "0x5",
    "18446744073709551616",
    "5 5",
    "5;",
    "4_",
];

const CODINGS: &[&str] = &[
    "Chunked",
    "chunked, chunked",
    "gzip, chunked",
    "identity",
    "chunked, identity",
    ",chunked",
    "chunked,",
    "xchunked",
    "chunked;q=1",
    "\x0bchunked",
    "chunked\r\nTransfer-Encoding: chunked",
    "chunked\r\nContent-Length: 5",
    "chunked\r\nTransfer-Encoding: identity",
    "",
];

const CHUNKS: &[&str] = &[
    "5;ext\r\nhello\r\n0\r\n\r\n",
    "5;a=\"b\"\r\nhello\r\n0;z\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    "005\r\nhello\r\n000\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: evil\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "A\r\n0123456789\r\n0\r\n\r\n",
    "0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloXX0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "g\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
];

fn request(choose: &mut Choice<'_>, number: usize, index: usize, out: &mut Vec<u8>) {
    let mut push = |text: &str| latin(text, out);
    let body = choose.below(4);
    let method = match choose.below(8) {
        0 => choose.of(METHODS),
        _ if body == 0 => "GET",
        _ => "POST",
    };
    let own = format!("/case-{number}-{index}");
    let target = if choose.one_in(4) { choose.of(TARGETS) } else { &own };
    let version = if choose.one_in(20) { choose.of(VERSIONS) } else { "HTTP/1.1" };
    push(&format!("{method} {target} {version}\r\n"));
    push(if choose.one_in(10) { choose.of(HOSTS) } else { "Host: a.test\r\n" });
    for _ in 0..choose.below(5) {
        push(choose.of(FINE));
    }
    if choose.one_in(5) {
        push(choose.of(ODD));
    }
    if choose.one_in(60) {
        push(&"X-Many: 1\r\n".repeat(90 + choose.below(20)));
    }
    if choose.one_in(60) {
        push(&format!("X-Long: {}\r\n", "y".repeat(8000 + choose.below(60_000))));
    }
    let content = "0123456789".repeat(choose.below(4))
        + choose.of(&["", "x", "\r\n", "GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n"]);
    match body {
        0 => push("\r\n"),
        1 => {
            let odd = choose.of(LENGTHS);
            let length = if choose.one_in(4) { odd.to_owned() } else { content.len().to_string() };
            push(&format!("Content-Length: {length}\r\n\r\n{content}"));
        }
        2 => {
            let coding = if choose.one_in(4) { choose.of(CODINGS) } else { "chunked" };
            push(&format!("Transfer-Encoding: {coding}\r\n\r\n"));
            if choose.one_in(2) {
                push(choose.of(CHUNKS));
            } else {
                let rest = if content.is_empty() {
                    String::new()
                } else {
                    format!("{:x}\r\n{content}\r\n", content.len())
                };
                push(&format!("{rest}0\r\n\r\n"));
            }
        }
        _ => {
            // Announced longer or shorter than it is.
            let length = content.len() + choose.below(3);
            push(&format!("Content-Length: {}\r\n\r\n{content}", length.saturating_sub(1)));
        }
    }
}

/// Text as Latin-1, so that one character is one byte.
fn latin(text: &str, out: &mut Vec<u8>) {
    out.extend(text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')));
}

/// A few bytes changed, taken out, put in or doubled.
fn mangle(choose: &mut Choice<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..1 + choose.below(2) {
        let at = choose.below(bytes.len());
        let byte =
            *choose.of(&[&b'\r', &b'\n', &b' ', &b':', &0, &b'\t', &0xff, &b'a', &b';', &b',', &b'0', &b'/']);
        match choose.below(4) {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            _ => {
                let end = (at + 1 + choose.below(30)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}
