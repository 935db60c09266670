//! HTTP/1 as the application wrote it: the case of names, the order of fields, their bytes, also after two proxies.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::chain::Chain;
use crate::peer::{self, Server};

/// As no library would write it.
pub const REQUEST: &[u8] = b"POST /a%2fB/%C3%A9;p?q=%41&x=/../ HTTP/1.1\r\nHoSt: Example.Test\r\nX-B: 1\r\naCCept: */*\r\n\
    x-a: 2, 3\r\nX-b:  padded  \r\nUSER-AGENT: raw\r\ncookie: a=1\r\nCookie: b=2\r\nX-LATIN: caf\xe9\r\nx_under: u\r\n\
    X-Empty:\r\nContent-Length: 4\r\n\r\nbody";
const RESPONSE: &[&str] = &[
    "X-SeCond: 2",
    "content-TYPE: text/x-mirror",
    "X-First: 1",
    "x-second: 3",
    "Set-Cookie: a=1",
    "set-cookie: b=2",
    "ETAG: \"E\"",
];

/// The head, and the body by Content-Length, of the answer to these bytes.
pub fn exchange(address: SocketAddr, request: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    let mut bytes = vec![];
    let mut chunk = [0; 16384];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                let body = bytes.split_off(end + 4);
                return (bytes, body);
            }
        }
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the connection ends in the answer: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// A head's field lines, optional white space around values left out (RFC 9112 §5: not part of them).
pub fn fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let lines = head.split(|b| *b == b'\n').skip(1).map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let parts = lines.filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = String::from_utf8(line[..colon].to_vec()).unwrap();
        Some((name, line[colon + 1..].trim_ascii().to_vec()))
    });
    parts.collect()
}

/// Those whose names (in any case) are among the others'.
pub fn of_names_in(found: &[(String, Vec<u8>)], others: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let known = |name: &str| others.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    found.iter().filter(|(name, _)| known(name)).cloned().collect()
}

/// What came to the mirror, and came back from it, is what was sent.
pub fn judge(what: &str, request: &[u8], head: &[u8], mirrored: &[u8]) {
    let end = mirrored.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let line = |bytes: &[u8]| bytes.split(|b| *b == b'\r').next().unwrap().to_vec();
    assert_eq!(String::from_utf8(line(mirrored)), String::from_utf8(line(request)), "{what}: request line");
    let split = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let sent = fields(&request[..split]);
    assert_eq!(of_names_in(&fields(&mirrored[..end]), &sent), sent, "{what}: request fields");
    assert_eq!(&mirrored[end..], &request[split..], "{what}: body");
    let written: Vec<_> = fields(format!("\n{}", RESPONSE.join("\r\n")).as_bytes());
    assert_eq!(of_names_in(&fields(head), &written), written, "{what}: response fields");
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn http1_is_kept_byte_for_byte() {
    let Some(python) = peer::python(&["socket"], "exactness of HTTP/1") else { return };
    let server = Server::start(&python, "mirror.py");
    let chain = Chain::to(server.address);
    let mut tried = 0;
    let mut names_after = vec![];
    for path in chain.paths.iter().filter(|path| (0..path.kinds.len()).all(|n| !path.kinds[n].http2(false))) {
        let address = path.url.trim_start_matches("http://").parse().unwrap();
        let (head, mirrored) = exchange(address, REQUEST);
        judge(&path.name, REQUEST, &head, &mirrored);
        // A second proxy adds nothing that the first has not.
        let mut names: Vec<String> =
            fields(&mirrored).into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names_after.push(names);
        tried += 1;
    }
    assert_eq!(tried, 6);
    assert!(names_after.windows(2).all(|pair| pair[0] == pair[1]), "{names_after:?}");
    chain.end();
}
