//! What a cluster asks for beside reaching its hosts. Sources: Envoy's documentation of each field, named at each test,
//! and what Envoy 1.40 answers with the same configuration.
mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

use common::*;
use model::config::{Config, Resource};
use proxy::{ProxyOptions, Runtime};
use serde_json::{Value, json};

fn resource<M: xds::Name + Default>(value: &Value, name: &str) -> Resource {
    let message: M = xds::json::from_json(value).unwrap();
    Resource { name: name.into(), version: "1".into(), body: xds::pack(&message) }
}

/// `ClusterLoadAssignment.Policy.drop_overloads`.
#[test]
fn a_share_of_requests_is_dropped_before_a_host_is_picked() {
    let host = Host::saying("ok");
    for (percent, body, header) in [
        (100, "unconditional drop overload", "x-envoy-unconditional-drop-overload"),
        (99, "drop overload", "x-envoy-drop-overload"),
    ] {
        let mut dropping = cluster("up", &[host.address]);
        dropping["load_assignment"]["policy"] =
            json!({ "drop_overloads": [{ "category": "x", "drop_percentage": { "numerator": percent } }] });
        let proxy = Proxy::start(http_listener(http(to("up"))), &[dropping]);
        let answers: Vec<Answer> = (0..20).map(|_| proxy.get("/")).collect();
        let dropped: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
        assert!(dropped.len() >= 10, "{percent}: {} of 20", dropped.len());
        assert!(dropped.len() == 20 || percent == 99);
        for answer in dropped {
            assert_eq!((answer.body.as_str(), answer.header(header)), (body, Some("true")));
        }
        let flag = if percent == 100 { "\"UDO\"" } else { "\"DO\"" };
        eventually(flag, || proxy.count("istio_requests_total", &[&format!("response_flags={flag}")]) >= 10);
    }
}

/// `RetryPolicy.retry_priority`: previous_priorities, after every `update_frequency` attempts.
#[test]
fn a_priority_that_failed_is_left_alone() {
    let (first, second) =
        (Host::answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), Host::saying("second"));
    let group = |host: &Host, priority: u32| {
        json!({ "priority": priority, "lb_endpoints": [{ "endpoint": { "address": { "socket_address": {
            "address": "127.0.0.1", "port_value": host.address.port() } } } }] })
    };
    for (frequency, attempts) in [(1, 1), (2, 2)] {
        let before = first.requests.lock().unwrap().len();
        let mut both = cluster("up", &[]);
        both["load_assignment"]["endpoints"] = json!([group(&first, 0), group(&second, 1)]);
        let policy = json!({ "retry_on": "5xx", "num_retries": 3, "retry_back_off": { "base_interval": "0.001s" },
            "retry_priority": { "name": "envoy.retry_priorities.previous_priorities", "typed_config": typed(
                "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                json!({ "update_frequency": frequency })) } });
        let routes =
            json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "retry_policy": policy } }]);
        let proxy = Proxy::start(http_listener(http(routes)), &[both]);
        assert_eq!(proxy.get("/").body, "second", "{frequency}");
        assert_eq!(first.requests.lock().unwrap().len() - before, attempts, "{frequency}");
    }
}

/// `HttpProtocolOptions.max_stream_duration` of a cluster: of each try.
#[test]
fn a_try_lasts_no_longer_than_the_cluster_says() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            if head.contains("/drip") {
                connection.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello");
            } else if connection.number > 1 {
                connection.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain");
            }
        }
    });
    let mut short = cluster("up", &[host.address]);
    short["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "common_http_protocol_options": { "max_stream_duration": "0.2s" },
                "explicit_http_config": { "http_protocol_options": {} } })) });
    let policy =
        json!({ "retry_on": "reset", "num_retries": 1, "retry_back_off": { "base_interval": "0.001s" } });
    let routes = json!([
        { "match": { "prefix": "/again" }, "route": { "cluster": "up", "retry_policy": policy } },
        { "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s" } } ]);
    let proxy = Proxy::start(http_listener(http(routes.clone())), &[short.clone()]);
    assert_eq!(proxy.get("/again").body, "again");
    let silent = Host::start(|connection| while connection.request().is_some() {});
    short["load_assignment"] = cluster("up", &[silent.address])["load_assignment"].clone();
    let proxy = Proxy::start(http_listener(http(routes.clone())), &[short.clone()]);
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (408, "upstream max stream duration reached"));
    assert_eq!(proxy.count("envoy_cluster_upstream_rq_max_duration_reached", &["\"up\""]), 1);
    eventually("flag", || proxy.count("istio_requests_total", &["response_flags=\"UMSDR\""]) == 1);
    short["load_assignment"] = cluster("up", &[host.address])["load_assignment"].clone();
    let proxy = Proxy::start(http_listener(http(routes)), &[short]);
    let mut client = proxy.client();
    client.say("GET /drip HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(String::from_utf8(client.rest()).unwrap().ends_with("hello"), "cut off where it stopped");
}

/// A proxy whose clusters change.
struct Changing {
    config: Config,
    runtime: Runtime,
    address: SocketAddr,
}

impl Changing {
    fn start(mut listener: Value) -> Changing {
        let address = nobody();
        listener["address"]["socket_address"]["port_value"] = address.port().into();
        let runtime = Runtime::start(ProxyOptions { workers: 1, ..ProxyOptions::default() }).unwrap();
        let mut config = Config::new();
        let added = [resource::<xds::listener::Listener>(&listener, "main")];
        assert_eq!(config.apply(xds::type_url::LISTENER, &added, &[]), []);
        Changing { config, runtime, address }
    }

    fn set(&mut self, cluster: &Value) {
        let added = [resource::<xds::cluster::Cluster>(cluster, "up")];
        assert_eq!(self.config.apply(xds::type_url::CLUSTER, &added, &[]), []);
        let applied = self.runtime.handle().apply(self.config.snapshot());
        assert!(applied.everywhere && applied.errors.is_empty(), "{applied:?}");
    }
}

/// `CommonLbConfig.close_connections_on_host_set_change`: kept connections are not used again when hosts come or go.
#[test]
fn connections_are_drained_when_the_hosts_change() {
    for drains in [true, false] {
        let (host, other) = (Host::saying("a"), Host::saying("b"));
        let mut proxy = Changing::start(http_listener(http(to("up"))));
        let of = |hosts: &[SocketAddr]| {
            let mut value = cluster("up", hosts);
            value["common_lb_config"] = json!({ "close_connections_on_host_set_change": drains });
            value
        };
        proxy.set(&of(&[host.address]));
        let mut client = Client::connect(proxy.address);
        let mut ask = || client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").body;
        assert_eq!((ask(), ask()), ("a".into(), "a".into()));
        assert_eq!(host.connections.load(SeqCst), 1);
        proxy.set(&of(&[host.address, other.address]));
        assert_eq!([ask(), ask()].iter().filter(|body| *body == "a").count(), 1);
        assert_eq!(host.connections.load(SeqCst), if drains { 2 } else { 1 }, "{drains}");
    }
}

/// `Cluster.close_connections_on_host_health_failure`: connections that are not HTTP end with their host's health.
#[test]
fn tcp_connections_end_when_their_host_fails() {
    for closes in [true, false] {
        let host = Host::start(|connection| {
            while let bytes @ [_, ..] = connection.read_some().as_slice() {
                connection.stream.write_all(bytes).unwrap();
            }
        });
        let tcp = typed(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            json!({ "stat_prefix": "tcp", "cluster": "up" }),
        );
        let mut proxy = Changing::start(listener("main", tcp));
        let mut value = cluster("up", &[host.address]);
        value["close_connections_on_host_health_failure"] = closes.into();
        proxy.set(&value);
        let mut client = Client::connect(proxy.address);
        let mut echoed = [0; 4];
        client.say("ping");
        client.stream.read_exact(&mut echoed).unwrap();
        value["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["health_status"] = "UNHEALTHY".into();
        proxy.set(&value);
        if closes {
            assert_eq!(client.rest(), b"");
        } else {
            client.say("pong");
            client.stream.read_exact(&mut echoed).unwrap();
            assert_eq!(&echoed, b"pong");
        }
    }
}
