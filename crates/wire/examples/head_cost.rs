//! What a head costs: parse, decide, rewrite a typical request head of about 400 bytes, and its response. Prints
//! nanoseconds per message, best of several rounds. Run with `--release`.

use std::{
    hint::black_box,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use wire::{
    HeaderId,
    h1::{self, Edits, HeadStorage, Limits, ResponseTo, Scheme},
    h2::{Config, Connection, Event, Scratch, hop},
    id::Random,
    path::{Normalization, canonicalize},
};

const REQUEST: &[u8] = b"GET /productpage?u=normal HTTP/1.1\r\n\
Host: productpage.default.svc.cluster.local:9080\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br\r\n\
Connection: keep-alive\r\n\
Cookie: session=0123456789abcdef\r\n\
Cache-Control: no-cache\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Connection: keep-alive\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 4294\r\n\r\n";

fn main() -> std::io::Result<()> {
    let limits = Limits::default();
    let (mut storage, mut edits, mut out) = (HeadStorage::new(), Edits::new(), Vec::with_capacity(4096));
    let mut random = Random::from_seed(1);
    let mut stdout = std::io::stdout();

    let floor = best(|| {
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; 100];
        let mut parsed = httparse::Request::new(&mut []);
        let _ = black_box(parsed.parse_with_uninit_headers(black_box(REQUEST), &mut fields));
    });
    writeln!(stdout, "request head: httparse alone {floor:.0} ns")?;
    let parse = best(|| {
        let _ = black_box(h1::parse_request(black_box(REQUEST), &mut storage, &limits));
    });
    writeln!(stdout, "request head, {} bytes: parse {parse:.0} ns", REQUEST.len())?;

    let whole = best(|| {
        let Ok(Some(_)) = h1::parse_request(black_box(REQUEST), &mut storage, &limits) else { return };
        let head = storage.request(REQUEST);
        let canonical = canonicalize(head.path(), Normalization::BASE);
        edits.clear();
        if canonical.is_ok_and(|canonical| canonical.target != head.target()) {
            edits.target(b"/other");
        }
        edits.set_known(&head, HeaderId::XForwardedProto, b"http");
        if head.known(HeaderId::XRequestId).is_none() {
            edits.append_known(HeaderId::XRequestId, &random.uuid());
        }
        edits.append_number(HeaderId::XEnvoyAttemptCount, 1);
        out.clear();
        h1::write_request(&head, &edits, &mut out);
        black_box(&out);
    });
    writeln!(stdout, "request head: parse, path, edits and rewrite {whole:.0} ns")?;

    let response = best(|| {
        let to = ResponseTo::default();
        let Ok(Some(_)) = h1::parse_response(black_box(RESPONSE), &mut storage, &limits, to) else { return };
        let head = storage.response(RESPONSE);
        edits.clear();
        edits.set_known(&head, HeaderId::Server, b"istio-envoy");
        edits.append_number(HeaderId::XEnvoyUpstreamServiceTime, 12);
        out.clear();
        h1::write_response(&head, &edits, &mut out);
        black_box(&out);
    });
    writeln!(stdout, "response head, {} bytes: parse, edits and rewrite {response:.0} ns", RESPONSE.len())?;
    hop(&mut stdout, "request", REQUEST)?;
    // Host in another place, and another line: written anew.
    let moved = REQUEST.to_ascii_lowercase();
    let moved = String::from_utf8_lossy(&moved).replace("http/1.1", "HTTP/1.1").replace("get /", "GET /");
    let moved = moved.replace("user-agent: ", "user-agent:");
    hop(&mut stdout, "request with lines moved", moved.as_bytes())
}

/// What restoring HTTP/1 exactly adds to a hop over HTTP/2.
fn hop(stdout: &mut std::io::Stdout, what: &str, text: &[u8]) -> std::io::Result<()> {
    let mut storage = HeadStorage::new();
    let _ = h1::parse_request(text, &mut storage, &Limits::default());
    let (head, edits, mut value) = (storage.request(text), Edits::new(), Vec::new());
    let shape = best(|| {
        value.clear();
        hop::shape_request(black_box(&head), &edits, &mut value);
        black_box(&value);
    });
    let over = |value: &[u8], restore: bool| {
        let config = Arc::new(Config::default());
        let (mut near, mut far) =
            (Connection::client(config.clone(), Duration::ZERO), Connection::server(config, Duration::ZERO));
        let (mut scratch, mut text, mut storage) = (Scratch::new(), Vec::new(), HeadStorage::new());
        best(|| {
            let opened = near.open_with_hop(&head, &edits, Scheme::Http, true, 0, value);
            let mut input = near.output();
            let mut stream = None;
            while let Ok(Some(event)) = far.next(&mut input, &mut scratch, Duration::ZERO) {
                if let Event::Request { stream: found, .. } = event {
                    stream = Some(found);
                }
            }
            near.sent(near.output().len());
            scratch.take_head(&mut text, &mut storage);
            if restore {
                black_box(hop::restore_request(&mut text, &mut storage));
            }
            // Neither side is to know of it any longer.
            if let (Ok(near_stream), Some(stream)) = (opened, stream) {
                let _ = far.respond_parts(stream, 200, b"", true);
                let mut input = far.output();
                while let Ok(Some(_)) = near.next(&mut input, &mut scratch, Duration::ZERO) {}
                black_box(near_stream);
            }
            far.sent(far.output().len());
        })
    };
    let (without, unrestored, with) = (over(b"", false), over(&value, false), over(&value, true));
    writeln!(
        stdout,
        "hop, {what}: shape {shape:.0} ns, the field {:.0} ns, restored {:.0} ns (all else {without:.0} ns)",
        unrestored - without,
        with - unrestored,
    )
}

/// Nanoseconds per call, the best of many rounds too short to be interrupted all of them.
fn best(mut work: impl FnMut()) -> f64 {
    const CALLS: u32 = 500;
    (0..1000)
        .map(|_| {
            let start = Instant::now();
            (0..CALLS).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .fold(f64::INFINITY, f64::min)
}
