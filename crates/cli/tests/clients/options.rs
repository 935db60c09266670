//! What a static bootstrap may say of routes, paths and versions, asked for by curl over HTTP/1 and HTTP/2.
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chain::{Kind, Proxy, cluster, listener, manager, routed};
use crate::common::have;
use crate::peer::{Server, run};

const BOTH: &[&str] = &["--http1.1", "--http2-prior-knowledge"];

/// The status (0: none) and the body.
fn curl(arguments: &[&str], url: &str) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "--path-as-is", "-w", "\n%{http_code} %{redirect_url}"]);
    let said = run(command.args(arguments).arg(url), Duration::from_secs(15)).text();
    let (body, last) = said.rsplit_once('\n').unwrap();
    let (code, redirect) = last.split_once(' ').unwrap();
    let body = if redirect.is_empty() { body } else { redirect };
    (code.parse().unwrap(), body.to_owned())
}

/// The target as the origin saw it.
fn seen(body: &str) -> String {
    serde_json::from_str::<Value>(body).unwrap_or_default()["url"].as_str().unwrap_or(body).to_owned()
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn routes() {
    if !have("curl", "what a bootstrap may say of routes") {
        return;
    }
    let Some(origin) = Server::origin("what a bootstrap may say of routes") else { return };
    let routes = json!([
        { "match": { "path": "/direct" },
          "direct_response": { "status": 418, "body": { "inline_string": "teapot" } },
          "response_headers_to_add": [{ "header": { "key": "x-direct", "value": "1" } }] },
        { "match": { "path": "/empty" }, "direct_response": { "status": 200 } },
        { "match": { "path": "/moved" }, "redirect": { "path_redirect": "/to" } },
        { "match": { "path": "/silent" }, "route": { "cluster": "origin", "timeout": "0.2s" } },
        { "match": { "path": "/hang" }, "route": { "cluster": "origin", "timeout": "0.2s" } },
        { "match": { "prefix": "/old/" }, "route": { "cluster": "origin", "prefix_rewrite": "/new/" } },
        { "match": { "safe_regex": { "regex": "/v[0-9]+/.*" } }, "route": { "cluster": "origin",
          "regex_rewrite": { "pattern": { "regex": "^/v([0-9]+)/" }, "substitution": "/\\1/" } } },
    ]);
    for kind in [Kind::Http1, Kind::Http2, Kind::Same] {
        let proxy = Proxy::start(
            &[listener("main", manager(routes.clone()))],
            &[cluster("origin", kind, origin.address)],
        );
        let at = |path: &str| format!("{}{path}", proxy.url("main"));
        for &version in BOTH {
            let what = format!("{} {version}", kind.name());
            assert_eq!(curl(&[version], &at("/direct")), (418, "teapot".to_owned()), "{what}");
            assert_eq!(curl(&[version], &at("/empty")), (200, String::new()), "{what}");
            assert_eq!(curl(&[version, "-I"], &at("/direct")).0, 418, "{what}");
            // Over HTTP/2 curl 7.88 takes the end of its upload that nobody reads for an error.
            if version == "--http1.1" {
                assert_eq!(curl(&[version, "-d", "posted"], &at("/direct")).0, 418, "{what}");
            }
            assert_eq!(curl(&[version], &at("/moved")), (301, at("/to")), "{what}");
            let (status, body) = curl(&[version], &at("/silent"));
            assert_eq!((status, body.as_str()), (504, "upstream request timeout"), "{what}");
            let (status, body) = curl(&[version], &at("/old/x?y=z"));
            assert_eq!((status, seen(&body).as_str()), (200, "/new/x?y=z"), "{what}");
            assert_eq!(seen(&curl(&[version], &at("/v12/x")).1), "/12/x", "{what}");
            assert_eq!(curl(&[version], &at("/nowhere")).0, 404, "{what}");
        }
        // An answer that has begun is cut off, and the client is not told that it is whole.
        for version in BOTH {
            let mut command = Command::new("curl");
            command.args(["-sS", "--max-time", "10", "-o", "/dev/null", version]).arg(at("/hang?id=cut"));
            let said = run(&mut command, Duration::from_secs(15));
            assert!(![Some(0), Some(28)].contains(&said.code), "{version}: {:?} {}", said.code, said.errors);
        }
    }
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn paths() {
    if !have("curl", "what a bootstrap may say of paths") {
        return;
    }
    let Some(origin) = Server::origin("what a bootstrap may say of paths") else { return };
    let with = |name: &str, options: Value| {
        let mut manager = manager(routed("origin"));
        for (key, value) in options.as_object().unwrap() {
            manager[key] = value.clone();
        }
        listener(name, manager)
    };
    let slashes =
        |action: &str| json!({ "normalize_path": true, "path_with_escaped_slashes_action": action });
    let proxy = Proxy::start(
        &[
            with("as it is", json!({})),
            with("normalized", json!({ "normalize_path": true })),
            with("merged", json!({ "normalize_path": true, "merge_slashes": true })),
            with("kept", slashes("KEEP_UNCHANGED")),
            with("refused", slashes("REJECT_REQUEST")),
            with("redirected", slashes("UNESCAPE_AND_REDIRECT")),
            with("unescaped", slashes("UNESCAPE_AND_FORWARD")),
        ],
        &[cluster("origin", Kind::Http1, origin.address)],
    );
    for (name, target, status, expected) in [
        ("as it is", "/a/../b//c/./d%2Fe", 200, "/a/../b//c/./d%2Fe"),
        ("normalized", "/a/../b/./c?x=/../y", 200, "/b/c?x=/../y"),
        ("normalized", "/%61/b//c", 200, "/a/b//c"),
        ("normalized", "/a%2fb", 200, "/a%2fb"),
        ("normalized", "/a/../../b", 200, "/b"),
        ("merged", "/a//b///c/..//d?x=//", 200, "/a/b/d?x=//"),
        ("kept", "/a%2Fb%5Cc", 200, "/a%2Fb%5Cc"),
        ("refused", "/a%2Fb", 400, ""),
        ("refused", "/a/b", 200, "/a/b"),
        ("redirected", "/a%2Fb", 307, "/a/b"),
        ("unescaped", "/a%2Fb/../c", 200, "/a/c"),
    ] {
        for version in BOTH {
            let (found, body) = curl(&[version], &format!("{}{target}", proxy.url(name)));
            assert_eq!(found, status, "{name} {target} {version}: {body}");
            if status == 200 {
                assert_eq!(seen(&body), expected, "{name} {target} {version}");
            } else if status == 307 {
                assert_eq!(body, format!("{}{expected}", proxy.url(name)), "{name} {target} {version}");
            }
        }
    }
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn versions() {
    if !have("curl", "what a bootstrap may say of versions") {
        return;
    }
    let Some(origin) = Server::origin("what a bootstrap may say of versions") else { return };
    let mut only1 = manager(routed("origin"));
    only1["codec_type"] = "HTTP1".into();
    let mut only2 = manager(routed("origin"));
    only2["codec_type"] = "HTTP2".into();
    let mut old = manager(routed("origin"));
    old["http_protocol_options"]["accept_http_10"] = true.into();
    let proxy = Proxy::start(
        &[
            listener("both", manager(routed("origin"))),
            listener("only 1", only1),
            listener("only 2", only2),
            listener("old too", old),
        ],
        &[cluster("origin", Kind::Http1, origin.address)],
    );
    for (name, version, status) in [
        ("both", "--http1.1", 200),
        ("both", "--http2-prior-knowledge", 200),
        ("both", "--http1.0", 426),
        ("only 1", "--http1.1", 200),
        ("only 2", "--http2-prior-knowledge", 200),
        ("old too", "--http1.0", 200),
    ] {
        assert_eq!(curl(&[version], &proxy.url(name)).0, status, "{name} {version}");
    }
    // The other protocol is not served, and nobody waits.
    assert_ne!(curl(&["--http2-prior-knowledge"], &proxy.url("only 1")).0, 200);
    assert_ne!(curl(&["--http1.1"], &proxy.url("only 2")).0, 200);
}
