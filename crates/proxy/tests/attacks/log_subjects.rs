//! Operators of a log's format whose subject a request or connection does not have (Envoy 2026-47220: it crashed).

use std::io::Write;
use std::net::Shutdown;

use serde_json::{Value, json};

use crate::common::cost::alone;
use crate::common::*;
use crate::{all_of, connect};

const FORMAT: &str = "%REQUESTED_SERVER_NAME% %REQ(:AUTHORITY)% %REQ(HOST)% %REQ(X-NONE?X-NO)% %RESP(X-NONE)% \
    %TRAILER(X-NONE)% %GRPC_STATUS% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% \
    %UPSTREAM_TRANSPORT_FAILURE_REASON% %DOWNSTREAM_PEER_URI_SAN% %CONNECTION_TERMINATION_DETAILS% %ROUTE_NAME%\n";

fn log(path: &std::path::Path) -> Value {
    json!([{ "name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog",
        json!({ "path": path.to_str().unwrap(), "log_format": { "text_format_source": { "inline_string": FORMAT } } })) }])
}

/// The columns of a log's only line.
fn line(proxy: &Proxy, file: &tempfile::NamedTempFile) -> Vec<String> {
    let mut text = String::new();
    eventually("a line", || {
        proxy.handle().flush_logs();
        text = std::fs::read_to_string(file.path()).unwrap();
        text.ends_with('\n')
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().split(' ').map(str::to_owned).collect()
}

/// What the line of a request says that is answered here.
fn of_request(request: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut manager = http(json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]));
    manager["access_log"] = log(file.path());
    manager["http_protocol_options"] = json!({ "accept_http_10": true });
    let proxy = Proxy::start(http_listener(manager), &[]);
    let mut client = connect(proxy.address);
    client.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut client, &mut first).unwrap();
    line(&proxy, &file)
}

#[test]
fn a_request_without_what_the_log_asks_for_prints_dashes() {
    let _alone = alone();
    let nothing = vec!["-"; 14];
    assert_eq!(of_request("GET / HTTP/1.0\r\n\r\n"), nothing, "HTTP/1.0 without Host");
    assert_eq!(of_request("GET / HTTP/1.1\r\n\r\n"), nothing, "HTTP/1.1 without Host");
    assert_eq!(of_request("nonsense\r\n\r\n"), nothing, "no request at all");
    let mut named = nothing.clone();
    (named[1], named[2]) = ("a", "a");
    assert_eq!(of_request("GET / HTTP/1.1\r\nhost: a\r\n\r\n"), named, "no TLS, so no server name");
}

/// The least a TLS client says, with this server name.
fn hello(name: &str) -> Vec<u8> {
    let two = |length: usize| (length as u16).to_be_bytes().to_vec();
    let list = [vec![0], two(name.len()), name.as_bytes().to_vec()].concat();
    let name = if name.is_empty() {
        vec![]
    } else {
        [vec![0, 0], two(list.len() + 2), two(list.len()), list].concat()
    };
    let body = [&[3, 3], &[b'r'; 32][..], &[0, 0, 2, 0x13, 1, 1, 0], &two(name.len()), &name].concat();
    let handshake = [vec![1, 0], two(body.len()), body].concat();
    [vec![22, 3, 1], two(handshake.len()), handshake].concat()
}

/// RFC 6066 §3: a literal address is no server name.
#[test]
fn a_connection_without_a_server_name_or_with_an_address_for_one_prints_a_dash() {
    let _alone = alone();
    for (name, printed) in [("", "-"), ("127.0.0.1", "-"), ("::1", "-"), ("a.local", "a.local")] {
        let host = Host::start(|connection| while !connection.read_some().is_empty() {});
        let file = tempfile::NamedTempFile::new().unwrap();
        let filter = typed(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            json!({ "stat_prefix": "tcp", "cluster": "up", "access_log": log(file.path()) }),
        );
        let mut listener = listener("main", filter);
        listener["listener_filters"] = json!([{ "name": "tls", "typed_config":
            typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({})) }]);
        let proxy = Proxy::start(listener, &[cluster("up", &[host.address])]);
        let mut client = connect(proxy.address);
        client.write_all(&hello(name)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        all_of(&mut client).unwrap();
        let line = line(&proxy, &file);
        assert_eq!(line[0], printed, "{name}: {line:?}");
        assert_eq!(line[1..7], ["-"; 6], "{name}: {line:?}");
    }
}
