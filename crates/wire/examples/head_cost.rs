//! What a head costs: parse, decide, rewrite a typical request head of about 400 bytes, and its response. Prints
//! nanoseconds per message, best of several rounds. Run with `--release`.

use std::{hint::black_box, io::Write, time::Instant};

use wire::{
    HeaderId,
    h1::{self, Edits, HeadStorage, Limits, ResponseTo},
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
    writeln!(stdout, "response head, {} bytes: parse, edits and rewrite {response:.0} ns", RESPONSE.len())
}

/// Nanoseconds per call, the best of twenty rounds.
fn best(mut work: impl FnMut()) -> f64 {
    const CALLS: u32 = 50_000;
    (0..20)
        .map(|_| {
            let start = Instant::now();
            (0..CALLS).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .fold(f64::INFINITY, f64::min)
}
