//! Resources applied one by one: isolation of bad ones, warming, reuse of what did not change, bootstrap.
mod common;

use std::sync::Arc;

use common::*;
use model::{Config, NetworkAction, bootstrap};
use serde_json::{Value, json};
use xds::type_url;

fn cluster(name: &str, more: Value) -> model::Resource {
    let mut whole = json!({"name": name, "type": "EDS", "edsClusterConfig": {"edsConfig": {"ads": {}}}});
    for (key, value) in more.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    resource(name, &message::<xds::cluster::Cluster>(whole))
}

fn assignment(name: &str, ips: &[&str]) -> model::Resource {
    let hosts: Vec<Value> = ips.iter().map(|ip| json!({"endpoint": {"address": address(ip, 80)}})).collect();
    resource(
        name,
        &message::<xds::endpoint::ClusterLoadAssignment>(
            json!({"clusterName": name, "endpoints": [{"lbEndpoints": hosts}]}),
        ),
    )
}

fn http_listener(name: &str, table: &str) -> model::Resource {
    let value = json!({"name": name, "address": address("127.0.0.1", 80), "filterChains": [{"filters": [http(rds(table))]}]});
    resource(name, &listener(value))
}

fn table(name: &str, cluster: &str) -> model::Resource {
    let value = json!({"name": name, "virtualHosts": [{"name": "v", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]});
    resource(name, &routes(value))
}

#[test]
fn a_bad_resource_is_refused_by_name_and_the_rest_goes_live() {
    let mut config = Config::new();
    assert!(
        config.apply(type_url::CLUSTER, &[cluster("b", json!({"connectTimeout": "3s"}))], &[]).is_empty()
    );
    assert!(
        config
            .apply(type_url::ENDPOINT, &[assignment("a", &["10.0.0.1"]), assignment("b", &[])], &[])
            .is_empty()
    );
    let batch =
        [cluster("a", json!({})), cluster("b", json!({"lbPolicy": "RING_HASH"})), cluster("c", json!({}))];
    let refused = config.apply(type_url::CLUSTER, &batch, &[]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].to_string(), "b: lb_policy: RING_HASH is not supported yet");
    let snapshot = config.snapshot();
    let entry = |name: &str| snapshot.cluster_id(name).and_then(|id| snapshot.cluster(id));
    assert_eq!(entry("a").unwrap().endpoints.hosts.len(), 1);
    // The previous version of the refused one stays.
    assert_eq!(entry("b").unwrap().cluster.connect_timeout.as_secs(), 3);
    assert!(entry("c").is_none(), "no endpoints yet");
    assert_eq!(config.versions(type_url::CLUSTER).len(), 3);
}

#[test]
fn clusters_and_listeners_warm_until_what_they_refer_to_is_there() {
    let mut config = Config::new();
    config.apply(type_url::CLUSTER, &[cluster("c", json!({}))], &[]);
    config.apply(type_url::LISTENER, &[http_listener("l", "80")], &[]);
    let missing = config.missing();
    assert_eq!(missing.endpoints.iter().map(|n| &**n).collect::<Vec<_>>(), ["c"]);
    assert_eq!(missing.routes.iter().map(|n| &**n).collect::<Vec<_>>(), ["80"]);
    assert!(config.snapshot().listener("l").is_none());
    config.apply(type_url::ENDPOINT, &[assignment("c", &[])], &[]);
    config.apply(type_url::ROUTE, &[table("80", "c")], &[]);
    assert!(config.missing().is_empty());
    let before = config.snapshot();
    let listener = before.listener("l").expect("warm now");
    // A version that refers to other routes waits; the one before goes on.
    config.apply(type_url::LISTENER, &[http_listener("l", "81")], &[]);
    assert!(Arc::ptr_eq(config.snapshot().listener("l").unwrap(), listener));
    config.apply(type_url::ROUTE, &[table("81", "c")], &[]);
    assert!(!Arc::ptr_eq(config.snapshot().listener("l").unwrap(), listener));
    config.apply(type_url::LISTENER, &[], &["l".into()]);
    assert!(config.snapshot().listener("l").is_none());
}

/// Envoy warms a changed cluster too: whatever its newest version waits for, requests go where they went (measured with
/// 1.40: another `service_name`, and STATIC turned into EDS).
#[test]
fn a_cluster_whose_newest_version_waits_for_endpoints_goes_on_with_the_one_before() {
    let mut config = Config::new();
    let hosts = |config: &mut Config| -> Option<Vec<String>> {
        let snapshot = config.snapshot();
        let entry = snapshot.cluster_id("c").and_then(|id| snapshot.cluster(id))?;
        Some(entry.endpoints.hosts.iter().map(|host| format!("{:?}", host.address)).collect())
    };
    let at = |ip: &str| Some(vec![format!("Ip({ip}:80)")]);
    let service = |name: &str| {
        cluster("c", json!({"edsClusterConfig": {"edsConfig": {"ads": {}}, "serviceName": name}}))
    };
    let fixed = || {
        let hosts = json!([{"lbEndpoints": [{"endpoint": {"address": address("10.0.0.9", 80)}}]}]);
        let whole = json!({"name": "c", "type": "STATIC", "loadAssignment": {"clusterName": "c", "endpoints": hosts}});
        resource("c", &message::<xds::cluster::Cluster>(whole))
    };
    let wanted = |config: &Config| -> Vec<String> {
        config.subscriptions().endpoints.iter().map(ToString::to_string).collect()
    };
    config.apply(type_url::CLUSTER, &[service("one")], &[]);
    assert_eq!(hosts(&mut config), None);
    config.apply(type_url::ENDPOINT, &[assignment("one", &["10.0.0.1"])], &[]);
    assert_eq!(hosts(&mut config), at("10.0.0.1"));
    // What is in use is still subscribed to, and still follows its endpoints.
    config.apply(type_url::CLUSTER, &[service("two")], &[]);
    assert_eq!((hosts(&mut config), wanted(&config)), (at("10.0.0.1"), vec!["one".into(), "two".into()]));
    config.apply(type_url::ENDPOINT, &[assignment("one", &["10.0.0.2"])], &[]);
    assert_eq!(hosts(&mut config), at("10.0.0.2"));
    // A third version comes before the second is warm.
    config.apply(type_url::CLUSTER, &[service("three")], &[]);
    assert_eq!((hosts(&mut config), wanted(&config)), (at("10.0.0.2"), vec!["one".into(), "three".into()]));
    config.apply(type_url::ENDPOINT, &[assignment("three", &["10.0.0.3"])], &[]);
    assert_eq!((hosts(&mut config), wanted(&config)), (at("10.0.0.3"), vec!["three".into()]));
    config.apply(type_url::CLUSTER, &[fixed()], &[]);
    assert_eq!((hosts(&mut config), wanted(&config).len()), (at("10.0.0.9"), 0));
    config.apply(type_url::CLUSTER, &[service("three")], &[]);
    assert_eq!(hosts(&mut config), at("10.0.0.9"), "endpoints of a name that was given up are stale");
    // Removed, it is gone in all its versions.
    config.apply(type_url::CLUSTER, &[], &["c".into()]);
    assert_eq!((hosts(&mut config), wanted(&config).len()), (None, 0));
    config.apply(type_url::CLUSTER, &[service("three")], &[]);
    assert_eq!(hosts(&mut config), None);
}

/// Envoy: "malformed IP address". A host that nobody can reach must not take the place of those in use.
#[test]
fn hosts_of_eds_and_static_clusters_are_addresses() {
    let mut config = Config::new();
    let named = assignment("c", &["web.example"]);
    let refused = config.apply(type_url::ENDPOINT, &[named], &[]);
    assert_eq!(
        refused[0].to_string(),
        "c: endpoints[0].lb_endpoints[0].endpoint.address: \"web.example\" is no IP address, names need type \
         STRICT_DNS or LOGICAL_DNS"
    );
    for (kind, is_refused) in [("STATIC", true), ("STRICT_DNS", false), ("LOGICAL_DNS", false)] {
        let hosts = json!([{"lbEndpoints": [{"endpoint": {"address": address("web.example", 80)}}]}]);
        let whole =
            json!({"name": "c", "type": kind, "loadAssignment": {"clusterName": "c", "endpoints": hosts}});
        let cluster = resource("c", &message::<xds::cluster::Cluster>(whole));
        assert_eq!(!config.apply(type_url::CLUSTER, &[cluster], &[]).is_empty(), is_refused, "{kind}");
    }
}

#[test]
fn what_did_not_change_is_the_same_pointer_in_the_next_snapshot() {
    let mut config = Config::new();
    config.apply(type_url::CLUSTER, &[cluster("a", json!({})), cluster("b", json!({}))], &[]);
    config.apply(type_url::ENDPOINT, &[assignment("a", &[]), assignment("b", &[])], &[]);
    let first = config.snapshot();
    assert!(Arc::ptr_eq(&first, &config.snapshot()));
    config.apply(
        type_url::CLUSTER,
        &[cluster("a", json!({})), cluster("b", json!({"connectTimeout": "1s"}))],
        &[],
    );
    let second = config.snapshot();
    let same = |name: &str| {
        let id = first.cluster_id(name).unwrap();
        Arc::ptr_eq(&first.cluster(id).unwrap().cluster, &second.cluster(id).unwrap().cluster)
    };
    assert!(same("a") && !same("b"));
}

#[test]
fn one_changed_virtual_host_leaves_the_others_as_they_are() {
    let hosts = |changed: &str| -> model::Resource {
        let list: Vec<Value> = (0..50)
            .map(|i| {
                let cluster = if i == 20 { changed.to_owned() } else { format!("c{i}") };
                json!({"name": i.to_string(), "domains": [format!("h{i}")],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]})
            })
            .collect();
        resource("r", &routes(json!({"name": "r", "virtualHosts": list})))
    };
    let mut config = Config::new();
    config.apply(type_url::ROUTE, &[hosts("x")], &[]);
    let before = config.snapshot();
    config.apply(type_url::ROUTE, &[hosts("y")], &[]);
    let after = config.snapshot();
    let host = |snapshot: &model::Snapshot, name: &str| {
        snapshot.route_tables().next().unwrap().virtual_host(name.as_bytes()).unwrap().1.clone()
    };
    assert!(Arc::ptr_eq(&host(&before, "h3"), &host(&after, "h3")));
    assert!(!Arc::ptr_eq(&host(&before, "h20"), &host(&after, "h20")));
}

/// "Accepted and silently ignored" must not happen.
#[test]
fn a_field_that_is_not_honoured_is_refused_by_its_path() {
    let refused = |type_url: &str, resource: model::Resource| {
        let refused = Config::new().apply(type_url, &[resource], &[]);
        refused.first().map_or_else(String::new, ToString::to_string)
    };
    let cases = [
        (
            type_url::CLUSTER,
            cluster(
                "c",
                json!({"healthChecks": [{"timeout": "1s", "tlsOptions": {"alpnProtocols": ["h2"]}}]}),
            ),
            "c: health_checks[0].tls_options: is not supported",
        ),
        (
            type_url::CLUSTER,
            cluster("c", json!({"healthChecks": [{"timeout": "1s"}, {"timeout": "1s"}]})),
            "c: health_checks: a cluster has one health check at most",
        ),
        (
            type_url::CLUSTER,
            cluster("c", json!({"healthChecks": [{"timeout": "1s"}]})),
            "c: health_checks[0].unhealthy_threshold: is required",
        ),
        (
            type_url::CLUSTER,
            cluster("c", json!({"commonLbConfig": {"consistentHashingLbConfig": {}}})),
            "c: common_lb_config.consistent_hashing_lb_config: is not supported",
        ),
        (
            type_url::LISTENER,
            resource(
                "l",
                &listener(json!({"name": "l", "address": address("127.0.0.1", 1), "socketOptions": [{}],
            "filterChains": [{"filters": [tcp_proxy("c")]}]})),
            ),
            "l: socket_options[0]: is not supported",
        ),
        (
            type_url::LISTENER,
            resource(
                "l",
                &listener(json!({"name": "l", "address": address("127.0.0.1", 1),
            "filterChains": [{}, {"filters": [{"name": "x", "typedConfig": {"@type": type_url::CLUSTER, "name": "a",
                "healthChecks": [{}, {"altPort": 1}]}}]}]})),
            ),
            "l: filter_chains[1].filters[0].typed_config.health_checks[1].alt_port: is not supported",
        ),
        (
            type_url::ROUTE,
            resource(
                "r",
                &routes(json!({"name": "r", "virtualHosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"safeRegex": {"regex": "("}}, "route": {"cluster": "c"}}]}]})),
            ),
            "r: virtual_hosts[0].v.routes[0].match.safe_regex: invalid regex \"(\"",
        ),
        (
            type_url::SECRET,
            resource("s", &message::<xds::tls::Secret>(json!({"name": "s"}))),
            "s: resources of type",
        ),
        (
            type_url::CLUSTER,
            model::Resource { name: "other".into(), ..cluster("c", json!({})) },
            "other: the resource calls itself \"c\"",
        ),
        (
            type_url::CLUSTER,
            table("r", "c"),
            "r: expected type.googleapis.com/envoy.config.cluster.v3.Cluster, found",
        ),
    ];
    for (type_url, resource, reason) in cases {
        let found = refused(type_url, resource);
        assert!(found.starts_with(reason), "{found}\n  expected {reason}");
    }
    // A field number of a newer Envoy.
    let mut unknown = cluster("c", json!({}));
    unknown.body.value.extend_from_slice(&[0xfa, 0x3f, 0x01, 0x00]);
    assert_eq!(
        refused(type_url::CLUSTER, unknown),
        "c: unknown field 1023 of envoy.config.cluster.v3.Cluster"
    );
    let mut filter = listener(
        json!({"name": "l", "address": address("127.0.0.1", 1), "filterChains": [{"filters": [tcp_proxy("c")]}]}),
    );
    let xds::listener::filter::ConfigType::TypedConfig(any) =
        filter.filter_chains[0].filters[0].config_type.as_mut().unwrap();
    any.type_url = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy".into();
    assert_eq!(
        refused(type_url::LISTENER, resource("l", &filter)),
        format!("l: filter_chains[0].filters[0].typed_config: {} is not supported", any_url(&filter))
    );
}

fn any_url(listener: &xds::listener::Listener) -> String {
    let config = listener.filter_chains[0].filters[0].config_type.as_ref().unwrap();
    let xds::listener::filter::ConfigType::TypedConfig(any) = config;
    any.type_url.clone()
}

/// The benchmark rig's bootstrap for one HTTP/1 hop, without its statistics sink.
#[test]
fn a_static_bootstrap_is_taken_whole_or_refused_by_path() {
    let log = json!({"name": "file", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/dev/stdout",
        "logFormat": {"textFormatSource": {"inlineString": "[%START_TIME%]\n"}}}});
    let mut manager = http(json!({"codecType": "AUTO", "generateRequestId": true, "useRemoteAddress": false,
        "normalizePath": true, "http2ProtocolOptions": {"maxConcurrentStreams": 4096}, "accessLog": [log],
        "routeConfig": {"name": "r", "virtualHosts": [
            {"name": "v", "domains": ["bench.local", "bench.local:*"],
                "routes": [{"match": {"prefix": "/admin/"}, "route": {"cluster": "up", "timeout": "0s"}}]},
            {"name": "any", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}]}}));
    manager["name"] = json!("envoy.filters.network.http_connection_manager");
    let whole = |more: Value| {
        let mut value = json!({"admin": {"address": address("127.0.0.1", 9901)}, "staticResources": {
            "listeners": [{"name": "in", "address": address("127.0.0.1", 8080), "listenerFiltersTimeout": "0s",
                "filterChains": [{"filters": [manager]}]}],
            "clusters": [{"name": "up", "type": "STATIC", "connectTimeout": "5s", "lbPolicy": "LEAST_REQUEST",
                "circuitBreakers": {"thresholds": [{"maxConnections": 100000}]},
                "loadAssignment": {"clusterName": "up", "endpoints": [{"lbEndpoints": [
                    {"endpoint": {"address": address("127.0.0.1", 9000)}}]}]}}]}});
        for (key, field) in more.as_object().expect("an object") {
            value[key] = field.clone();
        }
        message::<xds::bootstrap::Bootstrap>(value)
    };
    let mut taken = bootstrap::from_bootstrap(&whole(json!({}))).expect("all of it is honoured");
    assert_eq!(taken.admin, Some("127.0.0.1:9901".parse().unwrap()));
    let snapshot = taken.config.snapshot();
    let listener = snapshot.listener("in").expect("the listener");
    assert!(listener.bind_to_port && listener.sniff_timeout.is_none());
    let NetworkAction::Http(http) = &listener.chains[0].action else { panic!("an HTTP chain") };
    let table = snapshot.routes(&http.routes).unwrap();
    assert_eq!(table.decide(&get("bench.local", "/admin/x"), 0).explain().virtual_host, Some("v"));
    assert_eq!(snapshot.clusters().next().unwrap().1.endpoints.hosts.len(), 1);
    // ADS leaves it alone.
    let refused = taken.config.apply(type_url::CLUSTER, &[cluster("up", json!({}))], &[]);
    assert_eq!(refused[0].to_string(), "up: the bootstrap has a resource of this name");

    let refused =
        bootstrap::from_bootstrap(&whole(json!({"clusterManager": {"localClusterName": "x"}}))).unwrap_err();
    assert_eq!(refused[0].to_string(), "bootstrap: cluster_manager: is not supported");
}

/// Envoy: exact address, then the wildcard address, then the listener itself.
#[test]
fn an_original_destination_meets_its_listener() {
    let of = |name: &str, ip: &str, port: u16, original: bool| {
        let value = json!({"name": name, "address": address(ip, port), "useOriginalDst": original,
            "bindToPort": original, "filterChains": [{"filters": [tcp_proxy("c")]}]});
        resource(name, &listener(value))
    };
    let mut config = Config::new();
    let batch = [
        of("virtualOutbound", "0.0.0.0", 15001, true),
        of("exact", "10.0.0.1", 80, false),
        of("any", "0.0.0.0", 80, false),
        of("six", "::", 81, false),
    ];
    assert!(config.apply(type_url::LISTENER, &batch, &[]).is_empty());
    let snapshot = config.snapshot();
    let accepted = snapshot.listener("virtualOutbound").unwrap();
    let cases = [
        ("10.0.0.1:80", "exact"),
        ("10.0.0.2:80", "any"),
        ("[::ffff:10.0.0.1]:80", "exact"),
        ("10.0.0.1:443", "virtualOutbound"),
        ("[fd00::1]:81", "six"),
        ("[fd00::1]:80", "virtualOutbound"),
    ];
    for (destination, name) in cases {
        assert_eq!(
            &*snapshot.listener_for(accepted, destination.parse().unwrap()).name,
            name,
            "{destination}"
        );
    }
    let exact = snapshot.listener("exact").unwrap();
    assert_eq!(&*snapshot.listener_for(exact, "10.0.0.2:80".parse().unwrap()).name, "exact");
}

#[test]
fn a_host_picks_its_transport_and_labels_by_its_metadata() {
    let raw = json!({"name": "envoy.transport_sockets.raw_buffer", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}});
    let tls = json!({"name": "envoy.transport_sockets.tls", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "outbound_.80_._.a"}});
    let matches = json!({"transportSocketMatches": [
        {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transportSocket": tls},
        {"name": "tlsMode-disabled", "match": {}, "transportSocket": raw}],
        "metadata": {"filterMetadata": {"istio": {"services": [{"host": "a.ns.svc", "name": "a", "namespace": "ns"}]}}}});
    let hosts = json!({"clusterName": "c", "endpoints": [{"lbEndpoints": [
        {"endpoint": {"address": address("10.0.0.1", 80)}, "metadata": {"filterMetadata": {
            "envoy.transport_socket_match": {"tlsMode": "istio"}, "istio": {"workload": "web-v1;ns;web;v1;Kubernetes"}}}},
        {"endpoint": {"address": address("10.0.0.2", 80)}, "healthStatus": "DRAINING"}]}]});
    let mut config = Config::new();
    config.apply(type_url::CLUSTER, &[cluster("c", matches)], &[]);
    config.apply(
        type_url::ENDPOINT,
        &[resource("c", &message::<xds::endpoint::ClusterLoadAssignment>(hosts))],
        &[],
    );
    let snapshot = config.snapshot();
    let entry = snapshot.clusters().next().unwrap().1;
    let [meshed, plain] = entry.endpoints.hosts.as_slice() else { panic!("two hosts") };
    assert!(
        matches!(entry.cluster.transport_to(meshed), model::transport::UpstreamTransport::Tls(t) if &*t.sni == "outbound_.80_._.a")
    );
    assert!(matches!(entry.cluster.transport_to(plain), model::transport::UpstreamTransport::RawBuffer));
    assert_eq!(meshed.tls_mode(), Some("istio"));
    let labels = meshed.workload.as_ref().unwrap();
    assert_eq!((&*labels.canonical_name, &*labels.canonical_revision), ("web", "v1"));
    assert_eq!(plain.health, model::endpoints::HostHealth::Unhealthy);
    assert_eq!(&*entry.cluster.service.as_ref().unwrap().host, "a.ns.svc");
}

/// Envoy: "Server sent a delta RDS update attempting to remove a resource. Ignoring."
#[test]
fn what_is_in_use_cannot_be_removed_and_what_is_no_longer_used_is_forgotten() {
    let mut config = Config::new();
    config.apply(type_url::CLUSTER, &[cluster("c", json!({}))], &[]);
    config.apply(type_url::LISTENER, &[http_listener("l", "80")], &[]);
    config.apply(type_url::ENDPOINT, &[assignment("c", &["10.0.0.1"]), assignment("early", &[])], &[]);
    config.apply(type_url::ROUTE, &[table("80", "c")], &[]);
    config.snapshot();
    config.apply(type_url::ENDPOINT, &[], &["c".into()]);
    config.apply(type_url::ROUTE, &[], &["80".into()]);
    assert!(config.missing().is_empty());
    assert!(config.snapshot().listener("l").is_some());
    config.apply(type_url::CLUSTER, &[], &["c".into()]);
    config.apply(type_url::LISTENER, &[], &["l".into()]);
    let snapshot = config.snapshot();
    assert!(snapshot.clusters().next().is_none() && snapshot.route_tables().next().is_none());
    // Back again, it waits for fresh endpoints; what came before its cluster is still there.
    config.apply(type_url::CLUSTER, &[cluster("c", json!({})), cluster("early", json!({}))], &[]);
    assert_eq!(config.missing().endpoints.iter().map(|n| &**n).collect::<Vec<_>>(), ["c"]);
}

/// Istio's NDS; `*.` is its form of a wildcard service entry.
#[test]
fn a_name_table_answers_exact_names_and_wildcards() {
    let value = json!({"table": {"Web.default.svc.cluster.local": {"ips": ["10.0.0.1", "fd00::1"]},
        "*.example.com": {"ips": ["240.240.0.1", "no address"]}}});
    let mut config = Config::new();
    let nds = resource("", &message::<xds::nds::NameTable>(value));
    assert!(config.apply(type_url::NAME_TABLE, &[nds], &[]).is_empty());
    let snapshot = config.snapshot();
    let of = |name: &str| snapshot.host_names().addresses(name).map_or(0, <[_]>::len);
    let cases = [
        ("web.default.svc.cluster.local", 2),
        ("a.example.com", 1),
        ("b.a.example.com", 1),
        ("example.com", 0),
        ("x", 0),
    ];
    for (name, count) in cases {
        assert_eq!(of(name), count, "{name}");
    }
}

/// A format with an operator nobody knows, or a flag, is refused where it stands; Envoy refuses the same.
#[test]
fn an_access_log_that_cannot_be_written_is_refused_with_its_path() {
    let file = |format: Value| {
        let url = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
        let mut config = json!({"@type": url, "path": "/dev/stdout"});
        for (key, value) in format.as_object().expect("an object") {
            config[key] = value.clone();
        }
        json!({"name": "log", "typedConfig": config})
    };
    let stderr = |format: Value| {
        let url = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog";
        json!({"name": "log", "typedConfig": {"@type": url, "logFormat": format}})
    };
    let text = |line: &str| json!({"textFormatSource": {"inlineString": line}});
    let cases = [
        (
            file(json!({"logFormat": text("ok %NOPE%\n")})),
            "access_log[0].typed_config.log_format: access log format, byte 3: unknown operator %NOPE%",
        ),
        (file(json!({"format": "%REQ(%"})), "access_log[0].typed_config.format: "),
        (
            file(json!({"jsonFormat": {"a": {"b": "%NOPE%"}}})),
            "access_log[0].typed_config.json_format: access log format, key \"a\"",
        ),
        (stderr(text("%NOPE%")), "access_log[0].typed_config.log_format: "),
        (
            json!({"name": "log", "filter": {"responseFlagFilter": {"flags": ["NR", "XX"]}},
                "typedConfig": file(json!({}))["typedConfig"]}),
            "access_log[0].filter.response_flag_filter.flags[1]: \"XX\" is no response flag",
        ),
    ];
    for (log, reason) in cases {
        let refused = connection(json!({"accessLog": [log]})).expect_err(reason);
        let path = "filter_chains[0].filters[0].typed_config.";
        assert!(refused.starts_with(&format!("{path}{reason}")), "{refused}");
    }
    let good = file(json!({"logFormat": {"jsonFormat": {"code": "%RESPONSE_CODE%", "n": 1}}}));
    assert_eq!(connection(json!({"accessLog": [good]})).unwrap().access_logs.len(), 1);
}
