//! Connections that are not HTTP.
mod common;

use common::*;
use serde_json::{Value, json};

fn tcp(extra: Value) -> Value {
    let mut filter =
        typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", json!({ "stat_prefix": "tcp" }));
    for (key, value) in extra.as_object().unwrap() {
        filter[key] = value.clone();
    }
    let mut listener = listener("main", filter);
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().unwrap();
    filters
        .insert(0, json!({ "name": "istio.stats", "typed_config": typed("stats.PluginConfig", json!({})) }));
    listener
}

/// Says everything back in capitals when the client has ended, then ends.
fn shouter() -> Host {
    Host::start(|connection| {
        let mut all = vec![];
        loop {
            let bytes = connection.read_some();
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        connection.say(&String::from_utf8(all).unwrap().to_uppercase());
    })
}

#[test]
fn each_direction_ends_by_itself_and_is_counted() {
    let host = shouter();
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = json!([{ "name": "file", "typed_config":
        typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({
            "path": file.path().to_str().unwrap(),
            "log_format": { "text_format_source": { "inline_string":
                "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST%\n" } } })) }]);
    let proxy =
        Proxy::start(tcp(json!({ "cluster": "up", "access_log": log })), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("hello ");
    client.say("there");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"HELLO THERE");
    for (metric, count) in [
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_received_bytes_total", 11),
        ("istio_tcp_sent_bytes_total", 11),
    ] {
        eventually(metric, || proxy.count(metric, &["reporter=\"source\""]) == count);
    }
    proxy.handle().flush_logs();
    let line = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(line, format!("- 11 11 up {}\n", host.address));
}

#[test]
fn weights_are_kept_per_connection() {
    let (a, b) = (Host::saying("a"), Host::saying("b"));
    let clusters = json!({ "weighted_clusters": { "clusters": [
        { "name": "a", "weight": 1 }, { "name": "b", "weight": 3 } ] } });
    let proxy = Proxy::start(tcp(clusters), &[cluster("a", &[a.address]), cluster("b", &[b.address])]);
    let hits = (0..400).filter(|_| proxy.client().ask("GET / HTTP/1.1\r\n\r\n").body == "a").count();
    // 100 expected; 5 standard deviations are 43.
    assert!((57..143).contains(&hits), "{hits}");
}

#[test]
fn a_host_that_refuses_ends_the_connection_unless_another_may_be_tried() {
    let host = shouter();
    for (attempts, served) in [(1, false), (3, true)] {
        let listener = tcp(json!({ "cluster": "up", "max_connect_attempts": attempts }));
        let hosts = if served { vec![nobody(), host.address] } else { vec![nobody()] };
        let proxy = Proxy::start(listener, &[cluster("up", &hosts)]);
        let mut client = proxy.client();
        client.say("x");
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        assert_eq!(client.rest() == b"X", served);
    }
}

/// TLS for which there is no other chain goes through by its server name, undecrypted.
#[test]
fn tls_passes_by_its_server_name() {
    let (a, b) = (shouter(), shouter());
    let chain = |names: Value, cluster: &str| {
        json!({ "filter_chain_match": { "server_names": names, "transport_protocol": "tls" }, "filters": [{
            "name": "tcp", "typed_config": typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                json!({ "stat_prefix": cluster, "cluster": cluster })) }] })
    };
    let listener = json!({
        "name": "main",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "listener_filters": [{ "name": "tls", "typed_config":
            typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({})) }],
        "filter_chains": [chain(json!(["a.local"]), "a"), chain(json!(["*.wild.local"]), "b")],
    });
    let proxy = Proxy::start(listener, &[cluster("a", &[a.address]), cluster("b", &[b.address])]);
    for (name, host) in [("a.local", Some(&a)), ("x.wild.local", Some(&b)), ("other.local", None)] {
        let before = host.map(|host| host.connections.load(std::sync::atomic::Ordering::SeqCst));
        let mut client = proxy.client();
        std::io::Write::write_all(&mut client.stream, &client_hello(name)).unwrap();
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        client.rest();
        let after = host.map(|host| host.connections.load(std::sync::atomic::Ordering::SeqCst));
        assert_eq!(after, before.map(|count| count + 1), "{name}");
    }
    eventually("no chain", || proxy.count("envoy_listener_no_filter_chain_match", &[]) == 1);
}

/// The least a TLS client says: a hello of printable bytes with a server name.
fn client_hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let two = |length: usize| (length as u16).to_be_bytes();
    let mut extension = vec![0, 0];
    extension.extend(two(name.len() + 5));
    extension.extend(two(name.len() + 3));
    extension.push(0);
    extension.extend(two(name.len()));
    extension.extend(name);
    let mut body = vec![3, 3];
    body.extend([b'r'; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01, 1, 0]);
    body.extend(two(extension.len()));
    body.extend(extension);
    let mut handshake = vec![1, 0];
    handshake.extend(two(body.len()));
    handshake.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(two(handshake.len()));
    record.extend(handshake);
    record
}
