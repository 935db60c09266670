//! Configurations that change, listeners that come and go, proxies that stop.
mod common;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::*;
use model::config::{Config, Resource};
use proxy::{
    Admin, Application, Binding, NodeIdentity, ProxyOptions, Runtime, Source, StaticError, start_static,
};
use serde_json::{Value, json};

fn resource<M: xds::Name + Default>(value: &Value, name: &str) -> Resource {
    let message: M = xds::json::from_json(value).unwrap();
    Resource { name: name.into(), version: "1".into(), body: xds::pack(&message) }
}

fn set_cluster(config: &mut Config, name: &str, hosts: &[SocketAddr]) {
    let added = [resource::<xds::cluster::Cluster>(&cluster(name, hosts), name)];
    assert_eq!(config.apply(xds::type_url::CLUSTER, &added, &[]), []);
}

fn set_listener(config: &mut Config, value: &Value) {
    let added = [resource::<xds::listener::Listener>(value, "main")];
    assert_eq!(config.apply(xds::type_url::LISTENER, &added, &[]), []);
}

fn listener_to(cluster: &str, address: SocketAddr) -> Value {
    let mut listener = http_listener(http(to(cluster)));
    listener["address"]["socket_address"]["port_value"] = address.port().into();
    listener
}

/// The configuration changes a hundred times under load, and nobody notices.
#[test]
fn a_change_under_load_fails_no_request() {
    let (a, b) = (Host::saying("a"), Host::saying("b"));
    let address = nobody();
    let runtime = Runtime::start(ProxyOptions { workers: 2, ..ProxyOptions::default() }).unwrap();
    let handle = runtime.handle();
    let mut config = Config::new();
    let mut go = |cluster: &str, hosts: &[SocketAddr]| {
        set_cluster(&mut config, cluster, hosts);
        set_listener(&mut config, &listener_to(cluster, address));
        let applied = handle.apply(config.snapshot());
        assert!(applied.everywhere && applied.errors.is_empty(), "{applied:?}");
    };
    go("a", &[a.address]);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked) = (stop.clone(), asked.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(SeqCst) {
                    let answer = client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
                    assert_eq!(answer.status, 200);
                    asked.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for round in 1..51 {
        let before = asked.load(SeqCst);
        go("b", &[b.address]);
        let hosts = [a.address, b.address];
        go("a", hosts.get(..1 + round % 2).unwrap());
        eventually("requests go on", || asked.load(SeqCst) > before);
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    // A new connection sees the last of them; the old ones keep the chain they came by.
    assert_eq!(Client::connect(address).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").body, "a");
    runtime.stop();
}

#[test]
fn a_removed_listener_takes_no_more_connections() {
    let host = Host::saying("a");
    let address = nobody();
    let runtime = Runtime::start(ProxyOptions::default()).unwrap();
    let mut config = Config::new();
    set_cluster(&mut config, "a", &[host.address]);
    set_listener(&mut config, &listener_to("a", address));
    runtime.handle().apply(config.snapshot());
    let mut client = Client::connect(address);
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);
    let shown = |runtime: &Runtime| {
        let mut text = vec![];
        telemetry::metrics::prometheus(runtime.handle().registry(), &Default::default(), &mut text);
        let text = String::from_utf8(text).unwrap();
        (
            text.contains("envoy_listener_downstream_cx_total{"),
            text.contains("envoy_http_downstream_rq_total{"),
        )
    };
    assert_eq!(shown(&runtime), (true, true));
    config.apply(xds::type_url::LISTENER, &[], &["main".into()]);
    runtime.handle().apply(config.snapshot());
    eventually("closed", || std::net::TcpStream::connect(address).is_err());
    assert_eq!(shown(&runtime), (false, false), "a removed listener leaves the scrape");
    // What was accepted goes on.
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);
    // Back again, it is shown again.
    set_listener(&mut config, &listener_to("a", nobody()));
    runtime.handle().apply(config.snapshot());
    let again = config.snapshot().listeners().next().unwrap().address;
    assert_eq!(Client::connect(again).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);
    assert_eq!(shown(&runtime), (true, true));
}

#[test]
fn a_port_in_use_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = listener_to("a", taken.local_addr().unwrap());
    let started = start_static(&bootstrap(&listener, &[cluster("a", &[])]), ProxyOptions::default());
    let Err(error @ StaticError::Listen(_)) = started else { panic!("it started") };
    let text = error.to_string();
    assert!(text.contains("main: 127.0.0.1:") && text.contains("already in use"), "{text}");
    assert!(!text.contains('\n'));
}

#[test]
fn draining_ends_connections_with_their_answer() {
    let host = Host::start(|connection| {
        while let Some(head) = connection.request() {
            if head.contains("/slow") {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = Proxy::start(http_listener(http(to("up"))), &[cluster("up", &[host.address])]);
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").header("connection"), None);
    busy.say("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    eventually("under way", || host.last_request().contains("/slow"));
    proxy.handle().drain();
    assert_eq!(idle.rest(), b"");
    let answer = busy.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(busy.rest(), b"");
    proxy.proxy.runtime.stop();
}

/// A sidecar on a laptop: inbound on the workload's own address, the application behind it on loopback, reached by a
/// socket made elsewhere.
#[test]
fn what_is_for_the_workloads_own_address_goes_to_the_application() {
    let application = Host::saying("app");
    let own: std::net::IpAddr = "127.77.3.4".parse().unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let sockets = move |_| {
        counter.fetch_add(1, SeqCst);
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).map(OwnedFd::from)
    };
    let mut inbound = http_listener(http(to("inbound|80||")));
    inbound["name"] = "virtualInbound".into();
    inbound["traffic_direction"] = "INBOUND".into();
    let binding = Binding::Address(SocketAddr::new(own, application.address.port()));
    let options = ProxyOptions {
        bindings: [("virtualInbound".to_owned(), vec![binding])].into_iter().collect(),
        application: Some(Application {
            addresses: vec![own],
            target: "127.0.0.1".parse().unwrap(),
            sockets: Some(Arc::new(sockets)),
        }),
        ..ProxyOptions::default()
    };
    let original = json!({ "name": "inbound|80||", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "1s" });
    let proxy = Proxy::with(inbound, &[original], options);
    assert_eq!(proxy.address, SocketAddr::new(own, application.address.port()));
    assert_eq!(proxy.get("/").body, "app");
    assert_eq!(made.load(SeqCst), 1);
}

/// Connections to mesh peers come from the workload's own address, others do not.
#[test]
fn peers_see_the_workloads_address() {
    let host = Host::start(|connection| {
        while connection.request().is_some() {
            let peer = connection.stream.peer_addr().unwrap().ip().to_string();
            connection.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{peer}", peer.len()));
        }
    });
    let listener = TcpListener::bind(("127.77.9.9", 0)).unwrap();
    let inside = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, peer) = listener.accept().unwrap();
        let mut client = Client { stream, buffer: vec![] };
        read_head(&mut client.stream, &mut client.buffer).unwrap();
        let peer = peer.ip().to_string();
        client.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{peer}", peer.len()));
    });
    let routes = json!([
        { "match": { "path": "/in" }, "route": { "cluster": "in" } },
        { "match": { "path": "/out" }, "route": { "cluster": "out" } },
    ]);
    let options = ProxyOptions {
        source: Some(Source {
            address: "127.77.0.7".parse().unwrap(),
            network: ("127.77.0.0".parse().unwrap(), 16),
        }),
        ..ProxyOptions::default()
    };
    let clusters = [cluster("in", &[inside]), cluster("out", &[host.address])];
    let proxy = Proxy::with(http_listener(http(routes)), &clusters, options);
    assert_eq!(proxy.get("/in").body, "127.77.0.7");
    assert_eq!(proxy.get("/out").body, "127.0.0.1");
}

#[test]
fn names_of_dns_clusters_are_resolved() {
    let host = Host::saying("named");
    let mut named = cluster("up", &[host.address]);
    named["type"] = "STRICT_DNS".into();
    named["dns_lookup_family"] = "V4_ONLY".into();
    named["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] =
        "localhost".into();
    let proxy = Proxy::start(http_listener(http(to("up"))), &[named]);
    assert_eq!(proxy.get("/").body, "named");
}

#[test]
fn the_admin_shows_what_is_in_use() {
    let host = Host::saying("x");
    let runtime = Runtime::start(ProxyOptions::default()).unwrap();
    let admin = Admin::new(runtime.handle(), NodeIdentity { id: "me".into(), ..NodeIdentity::default() });
    admin.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = admin.address().unwrap();
    let server = admin.clone();
    std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(server.serve());
    });
    let ask = |method: &str, path: &str| {
        Client::connect(address).ask(&format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    };
    assert_eq!(
        (ask("GET", "/ready").status, ask("GET", "/ready").body.as_str()),
        (503, "PRE_INITIALIZING\n")
    );

    let listen = nobody();
    let mut config = Config::new();
    let mut apply = |url: &str, added: Vec<Resource>| {
        let refused = config.apply(url, &added, &[]);
        admin.applied(url, &added, &[], &refused);
    };
    apply(
        xds::type_url::CLUSTER,
        vec![resource::<xds::cluster::Cluster>(&cluster("a", &[host.address]), "a")],
    );
    let main = resource::<xds::listener::Listener>(&listener_to("a", listen), "main");
    let mut broken = main.clone();
    broken.body.value = vec![0xff];
    apply(xds::type_url::LISTENER, vec![main]);
    apply(xds::type_url::LISTENER, vec![broken]);
    runtime.handle().apply(config.snapshot());
    admin.set_ready(true);
    assert_eq!(Client::connect(listen).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);

    assert_eq!(ask("GET", "/ready").body, "LIVE\n");
    let dump: Value = serde_json::from_str(&ask("GET", "/config_dump").body).unwrap();
    let dumped = |part: usize| dump["configs"][part].clone();
    assert_eq!(dumped(0)["dynamic_active_clusters"][0]["cluster"]["name"], "a");
    let listener = &dumped(1)["dynamic_listeners"][0];
    assert_eq!(listener["active_state"]["listener"]["name"], "main");
    assert_eq!(listener["client_status"], "NACKED");
    let clusters = ask("GET", "/clusters").body;
    assert!(clusters.contains(&format!("a::{}::rq_total::1\n", host.address)), "{clusters}");
    let clusters: Value = serde_json::from_str(&ask("GET", "/clusters?format=json").body).unwrap();
    assert_eq!(
        clusters["cluster_statuses"][0]["host_statuses"][0]["health_status"]["eds_health_status"],
        "HEALTHY"
    );
    assert_eq!(ask("GET", "/listeners").body, format!("main::{listen}\n"));
    assert!(ask("GET", "/stats").body.contains("cluster.a.upstream_rq_total: 1\n"));
    let metrics = ask("GET", "/stats/prometheus").body;
    assert!(metrics.contains("istio_requests_total{"));
    for (updates, count) in [
        ("cluster_manager_cds_update_success", 1),
        ("cluster_manager_cds_update_rejected", 0),
        ("listener_manager_lds_update_attempt", 2),
        ("listener_manager_lds_update_success", 1),
        ("listener_manager_lds_update_rejected", 1),
    ] {
        assert!(metrics.contains(&format!("envoy_{updates} {count}\n")), "{updates}: {metrics}");
    }
    assert_eq!(ask("GET", "/quitquitquit").status, 405);
    assert_eq!(ask("GET", "/nothing").status, 404);
    let elsewhere = Client::connect(address).ask("GET /stats HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert_eq!(elsewhere.status, 403);
    assert_eq!(ask("POST", "/drain_listeners").status, 200);
    eventually("closed", || std::net::TcpStream::connect(listen).is_err());
    assert_eq!(ask("GET", "/ready").body, "DRAINING\n");
}

/// A kept-alive connection is served by the newest configuration from its next request on.
#[test]
fn an_old_connection_follows_the_new_configuration() {
    let (a, b) = (Host::saying("a"), Host::saying("b"));
    let address = nobody();
    let runtime = Runtime::start(ProxyOptions::default()).unwrap();
    let mut config = Config::new();
    set_cluster(&mut config, "a", &[a.address]);
    set_cluster(&mut config, "b", &[b.address]);
    set_listener(&mut config, &listener_to("a", address));
    runtime.handle().apply(config.snapshot());
    let mut client = Client::connect(address);
    let mut ask = || client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(ask().body, "a");
    set_listener(&mut config, &listener_to("b", address));
    runtime.handle().apply(config.snapshot());
    assert_eq!(ask().body, "b");
    config.apply(xds::type_url::LISTENER, &[], &["main".into()]);
    runtime.handle().apply(config.snapshot());
    // Its listener is gone: one last answer.
    assert_eq!(ask().header("connection"), Some("close"));
}

/// A listener whose filter is of a type nobody knows, packed so many times.
fn packed(address: SocketAddr, times: usize) -> Resource {
    let mut any = xds::Any { type_url: "type.googleapis.com/nobody.Knows".into(), value: vec![] };
    for _ in 0..times {
        let type_url = "type.googleapis.com/google.protobuf.Any".into();
        any = xds::Any { type_url, value: xds::Message::encode_to_vec(&any) };
    }
    let message: xds::listener::Listener = xds::json::from_json(&listener_to("a", address)).unwrap();
    let mut message = message;
    let filter = &mut message.filter_chains[0].filters[0];
    filter.config_type = Some(xds::listener::filter::ConfigType::TypedConfig(any));
    Resource { name: "main".into(), version: "2".into(), body: xds::pack(&message) }
}

/// Bad inputs: what is bad is refused by its name, all else of the push is taken, what was in use stays in use.
#[test]
fn a_bad_push_costs_nothing_but_itself() {
    use xds::type_url::{CLUSTER, LISTENER};
    let (a, b) = (Host::saying("a"), Host::saying("b"));
    let address = nobody();
    let runtime = Runtime::start(ProxyOptions::default()).unwrap();
    let mut config = Config::new();
    set_cluster(&mut config, "a", &[a.address]);
    set_listener(&mut config, &listener_to("a", address));
    runtime.handle().apply(config.snapshot());
    let with = |name: &str, more: Value| {
        let mut value = cluster(name, &[b.address]);
        for (key, more) in more.as_object().unwrap() {
            value[key] = more.clone();
        }
        resource::<xds::cluster::Cluster>(&value, name)
    };
    let main = resource::<xds::listener::Listener>(&listener_to("a", address), "main");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = main.clone();
        change(&mut changed.body.value);
        vec![changed]
    };
    let mut tls = listener_to("a", address);
    tls["filter_chains"][0]["transport_socket"] = json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {} } });
    let tls = resource::<xds::listener::Listener>(&tls, "main");
    let bad = [
        (
            "X-01",
            CLUSTER,
            vec![with("bad", json!({ "lb_policy": "RING_HASH" })), with("good", json!({}))],
            "bad",
            "lb_policy",
        ),
        (
            "X-03",
            CLUSTER,
            vec![with("a", json!({})), with("new", json!({})), with("a", json!({}))],
            "a",
            "more than once",
        ),
        ("X-03", LISTENER, vec![tls], "main", "certificate"),
        ("X-03", LISTENER, vec![packed(address, 0)], "main", "nobody.Knows"),
        ("X-03", LISTENER, changed(&|body| body.extend([0xf8, 0x7f, 1])), "main", "unknown field"),
        ("X-04", LISTENER, changed(&|body| body.truncate(body.len() / 2)), "main", "decode"),
        ("X-04", LISTENER, vec![packed(address, 1_000)], "main", "protobuf.Any"),
    ];
    for (id, url, added, name, reason) in bad {
        let refused = config.apply(url, &added, &[]);
        assert!(runtime.handle().apply(config.snapshot()).everywhere, "{id}");
        let [refused] = refused.as_slice() else { panic!("{id}: {refused:?}") };
        assert!(refused.resource == name && refused.reason.contains(reason), "{id}: {refused}");
        let answer = Client::connect(address).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!((answer.status, answer.body.as_str()), (200, "a"), "{id}");
    }
    let names: Vec<_> = config.versions(CLUSTER).into_keys().collect();
    assert_eq!(names, ["a", "good", "new"]);

    for at in 0..main.body.value.len() * 8 {
        let refused = Config::new().apply(LISTENER, &changed(&|body| body[at / 8] ^= 1 << (at % 8)), &[]);
        assert!(refused.iter().all(|refused| refused.resource == "main"), "bit {at}: {refused:?}");
    }

    // the route leads nowhere for as long as its cluster is gone.
    let ask = || Client::connect(address).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status;
    config.apply(CLUSTER, &[], &["a".into()]);
    runtime.handle().apply(config.snapshot());
    assert_eq!(ask(), 503);
    set_cluster(&mut config, "a", &[a.address]);
    runtime.handle().apply(config.snapshot());
    assert_eq!(ask(), 200);
}

/// As capture hands it over: a listening socket made elsewhere, whose connections are handed on by their destination.
#[test]
fn a_given_socket_serves_the_listener_of_the_destination() {
    let host = Host::saying("by address");
    let given = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    given.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    given.listen(16).unwrap();
    let address = given.local_addr().unwrap().as_socket().unwrap();
    let options = ProxyOptions {
        bindings: [("virtualOutbound".to_owned(), vec![Binding::Socket(Arc::new(given))])]
            .into_iter()
            .collect(),
        ..ProxyOptions::default()
    };
    let runtime = Runtime::start(options).unwrap();
    let mut config = Config::new();
    set_cluster(&mut config, "a", &[host.address]);
    let mut by_address = listener_to("a", address);
    by_address["bind_to_port"] = false.into();
    set_listener(&mut config, &by_address);
    let outbound = json!({
        "name": "virtualOutbound",
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": 15001 } },
        "use_original_dst": true,
        "default_filter_chain": { "filters": [{ "name": "tcp", "typed_config":
            typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                json!({ "stat_prefix": "BlackHoleCluster", "cluster": "BlackHoleCluster" })) }] },
    });
    let added = [resource::<xds::listener::Listener>(&outbound, "virtualOutbound")];
    assert_eq!(config.apply(xds::type_url::LISTENER, &added, &[]), []);
    let applied = runtime.handle().apply(config.snapshot());
    assert!(applied.errors.is_empty(), "{:?}", applied.errors);
    assert_eq!(Client::connect(address).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").body, "by address");
    // Nobody's destination: into the black hole.
    config.apply(xds::type_url::LISTENER, &[], &["main".into()]);
    runtime.handle().apply(config.snapshot());
    assert_eq!(Client::connect(address).rest(), b"");
}

/// Few long connections are dealt out evenly: each of the workers gets its turn.
#[test]
fn connections_of_a_sidecar_are_shared_by_its_workers() {
    let connections = || {
        let host = Host::saying("x");
        let binding = Binding::Address("127.0.0.1:0".parse().unwrap());
        let options = ProxyOptions {
            workers: 3,
            bindings: [("main".to_owned(), vec![binding])].into_iter().collect(),
            ..ProxyOptions::default()
        };
        let proxy = Proxy::with(http_listener(http(to("up"))), &[cluster("up", &[host.address])], options);
        let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
        for client in &mut clients {
            assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").status, 200);
        }
        host.connections.load(SeqCst)
    };
    // Each worker keeps its own connection to the host, unless so long passes between two requests that it is lent.
    eventually("three workers have asked", || connections() == 3);
}
