//! Heads made up by a generator cross the hop unchanged, whatever their fields, their case and their white space.

use proptest::prelude::*;

use super::*;

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec![
            "Accept", "accept", "ACCEPT", "X-A", "x-a", "X-a", "Cookie", "cookie", "TE", "Te", "Via", "Keep-Alive",
            "Content-Type", "X-Request-Id", "x-filamesh-hop", "X-Forwarded-For", "Authorization", "X-B3-TraceId",
        ]).prop_map(str::to_owned),
        2 => "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}",
    ]
}

fn line() -> impl Strategy<Value = String> {
    let space = || prop_oneof![6 => Just(" "), 1 => Just(""), 1 => Just("\t"), 1 => Just("  \t ")];
    let value = prop_oneof![4 => "[!-~]{0,12}", 1 => Just("trailers".to_owned()), 1 => "[!-~\u{e9}]{1,3}[ \t!-~]{0,5}[!-~]"];
    (token(), space(), value, prop_oneof![5 => Just(""), 1 => Just("\t"), 1 => Just("  ")])
        .prop_map(|(name, before, value, after)| format!("{name}:{before}{value}{after}\r\n"))
}

/// Lines with one of `fixed` among them, somewhere.
fn lines(fixed: Vec<String>) -> impl Strategy<Value = String> {
    (prop::collection::vec(line(), 0..14), any::<prop::sample::Index>(), Just(fixed).prop_shuffle()).prop_map(
        |(mut lines, at, fixed)| {
            for line in fixed {
                lines.insert(at.index(lines.len() + 1), line);
            }
            lines.concat()
        },
    )
}

fn any_request() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "GET /",
        "POST /a/b?c=d",
        "HEAD /",
        "OPTIONS *",
        "GET http://abs:1/x",
        "GET http://abs",
        "DELETE /x",
        "CONNECT h:1",
    ]);
    let version = prop::sample::select(vec!["1.1", "1.1", "1.1", "1.0"]);
    let host = prop::sample::select(vec!["Host: h\r\n", "host: h:80\r\n", "HOST:h\r\n", "Host: \th \r\n"]);
    let more = prop::sample::select(vec![
        vec![],
        vec![],
        vec!["Content-Length: 3\r\n"],
        vec!["content-length: 0\r\n"],
        vec!["Transfer-Encoding: chunked\r\n"],
        vec!["transfer-encoding:  CHUNKED\r\n"],
        vec!["Connection: close\r\n"],
        vec!["Connection: x-a, Keep-Alive\r\n"],
        vec!["Upgrade: WebSocket\r\n", "Connection: Upgrade\r\n"],
        vec!["upgrade: foo/2, bar\r\n", "connection: upgrade, x-a\r\n"],
        vec!["UPGRADE:websocket\t\r\n", "connection: upgrade\r\n"],
        vec!["Expect: 100-continue\r\n", "Content-Length: 9\r\n"],
    ]);
    (start, version, host, more).prop_flat_map(|(start, version, host, more)| {
        let fixed = more.into_iter().chain([host]).map(str::to_owned).collect();
        lines(fixed).prop_map(move |lines| format!("{start} HTTP/{version}\r\n{lines}\r\n"))
    })
}

fn any_response() -> impl Strategy<Value = (String, ResponseTo)> {
    let start = prop::sample::select(vec![
        "1.1 200 OK",
        "1.0 200 OK",
        "1.1 204 No Content",
        "1.1 304 Not Modified",
        "1.1 404 Nope",
        "1.1 500",
        "1.1 502 ",
        "1.1 103 Early Hints",
        "1.1 418 I'm a teapot",
        "1.0 999 \u{e9}",
        "1.1 101 Switching Protocols",
    ]);
    let more = prop::sample::select(vec![
        vec!["content-length: 0\r\n"],
        vec!["Content-Length: 3\r\n"],
        vec!["Transfer-Encoding: chunked\r\n"],
        vec!["Connection: close, x-a\r\n", "content-length: 4\r\n"],
        vec!["Upgrade: WebSocket\r\n", "Connection: Upgrade\r\n"],
    ]);
    let to = prop::sample::select(vec![
        ResponseTo::default(),
        ResponseTo { head: true, ..ResponseTo::default() },
        ResponseTo { connect: true, ..ResponseTo::default() },
        ResponseTo { upgrade: true, ..ResponseTo::default() },
    ]);
    (start, more, to).prop_flat_map(|(start, more, to)| {
        lines(more.into_iter().map(str::to_owned).collect())
            .prop_map(move |lines| (format!("HTTP/{start}\r\n{lines}\r\n"), to))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_request_is_what_it_was(text in any_request(), added in prop::option::of(token())) {
        let parsed = h1::parse_request(text.as_bytes(), &mut HeadStorage::new(), &LIMITS);
        prop_assume!(matches!(parsed, Ok(Some(_))));
        let mut storage = HeadStorage::new();
        h1::parse_request(text.as_bytes(), &mut storage, &LIMITS).unwrap();
        let head = storage.request(text.as_bytes());
        // An upgrade with a body, or without a path, does not cross as one.
        let crosses = head.framing() == h1::BodyFraming::None && head.path() != b"*";
        prop_assume!(head.upgrade().is_none() || crosses);
        // HTTP/2 has no length for what becomes a tunnel.
        prop_assume!(head.upgrade().is_none() || head.known(HeaderId::ContentLength).is_none());
        let (restored, direct) = request_over(text.as_bytes(), |head, edits| {
            if let Some(name) = &added && !["TE", "Te", "Keep-Alive", "x-filamesh-hop"].contains(&name.as_str()) {
                edits.set(head, name.as_bytes(), b"added");
            }
        });
        prop_assert!(restored.restored, "{} {}", text, restored.shape);
        prop_assert_eq!(escaped(&written(&restored)), escaped(&direct), "{}", restored.shape);
        assert_as_parsed(&restored, &direct);
    }

    #[test]
    fn any_response_is_what_it_was((text, to) in any_response()) {
        let mut storage = HeadStorage::new();
        let parsed = h1::parse_response(text.as_bytes(), &mut storage, &LIMITS, to);
        prop_assume!(matches!(parsed, Ok(Some(_))));
        prop_assume!(storage.response(text.as_bytes()).framing() != h1::BodyFraming::UntilClose);
        let (restored, direct) = response_over(text.as_bytes(), to, |_, _| {});
        prop_assert!(restored.restored, "{} {}", text, restored.shape);
        prop_assert_eq!(escaped(&written_response(&restored)), escaped(&direct), "{}", restored.shape);
    }

    /// Whatever the value, the head is one that HTTP/1 reads as it is read here.
    #[test]
    fn any_value_of_the_field_leaves_a_head_that_http1_reads_alike(
        value in prop_oneof!["[ -~]{0,40}", "1[Hh]ost[,=/:a-zA-Z0-9st-]{0,30}", "[01](@20[0-9],)?(/[0-9]:[A-Z]{0,4},)?([Hh]ost|[aA]ccept|[uU]pgrade|,|:9:WebSocket|=s/t|transfer-encoding){0,9}"],
        upgrade: bool,
    ) {
        let more = [("accept", "a"), ("cookie", "1"), ("cookie", "2")];
        let fields = if upgrade {
            [&[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a")][..], &more].concat()
        } else {
            [GET, &more].concat()
        };
        if let Some(restored) = lying(value.trim(), &fields, !upgrade) {
            let out = written(&restored);
            let mut storage = HeadStorage::new();
            prop_assert_eq!(h1::parse_request(&out, &mut storage, &LIMITS), Ok(Some(out.len())), "{}", out.escape_ascii());
            let (next, head) = (storage.request(&out), restored.request());
            prop_assert_eq!(
                (next.method(), next.path(), next.authority(), next.framing(), next.upgrade()),
                (head.method(), head.path(), head.authority(), head.framing(), head.upgrade())
            );
        }
    }
}
