//! One sidecar-like hop as a static Envoy v3 bootstrap, which Envoy and filamesh read alike.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::site::{Between, Role, Site};

/// What is written and counted for each request.
pub enum Telemetry {
    Off,
    /// Istio's line, and by Envoy's own stats logger the counter and histograms of Istio's metrics: `istio.stats`
    /// itself is in Istio's build of Envoy only.
    Envoy {
        access_log: String,
    },
    /// Istio's line, and Istio's metrics.
    Istio {
        access_log: String,
    },
}

/// Istio's default text format.
const LINE: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn cluster_name(role: Role) -> &'static str {
    match role {
        Role::Inbound => "inbound|9080||",
        Role::Outbound => "outbound|9080||items.bench.svc.cluster.local",
    }
}

pub fn bootstrap(site: &Site, telemetry: &Telemetry) -> Value {
    let (listener, direction) = match site.role {
        Role::Inbound => ("virtualInbound", "INBOUND"),
        Role::Outbound => ("virtualOutbound", "OUTBOUND"),
    };
    json!({
        "node": {
            "id": format!("sidecar~{}~items-v1-0.bench~bench.svc.cluster.local", site.listen.ip()),
            "cluster": "items.bench",
            "metadata": {
                "NAME": "items-v1-0", "NAMESPACE": "bench", "WORKLOAD_NAME": "items-v1", "CLUSTER_ID": "Kubernetes",
                "SERVICE_ACCOUNT": "items", "MESH_ID": "cluster.local",
                "LABELS": {
                    "app": "items", "version": "v1", "service.istio.io/canonical-name": "items",
                    "service.istio.io/canonical-revision": "v1",
                },
            },
        },
        "admin": { "address": address(site.admin) },
        "static_resources": {
            "listeners": [{
                "name": listener,
                "traffic_direction": direction,
                "address": address(site.listen),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": connection_manager(site, telemetry),
                }] }],
            }],
            "clusters": clusters(site),
        },
    })
}

/// Of the service with large replies.
const LARGE: &str = "inbound|9081||";

fn clusters(site: &Site) -> Vec<Value> {
    let large = site.large.map(|large| cluster(LARGE, large, site.between));
    std::iter::once(cluster(cluster_name(site.role), site.upstream, site.between)).chain(large).collect()
}

fn cluster(name: &str, upstream: SocketAddr, between: Between) -> Value {
    let mut endpoint = json!({ "endpoint": { "address": address(upstream) } });
    if between == Between::Multiplexed {
        // What our control plane says of an endpoint whose proxy is one of ours.
        endpoint["metadata"] = json!({ "filter_metadata": { "filamesh": { "hop": "h2" } } });
    }
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        // Istio's: no bound but those of a DestinationRule.
        "circuit_breakers": { "thresholds": [{
            "max_connections": 4_294_967_295_u32, "max_pending_requests": 4_294_967_295_u32,
            "max_requests": 4_294_967_295_u32, "max_retries": 4_294_967_295_u32,
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
    });
    if between == Between::Http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    cluster
}

fn connection_manager(site: &Site, telemetry: &Telemetry) -> Value {
    let cluster = cluster_name(site.role);
    let stat_prefix = match site.role {
        Role::Inbound => "inbound",
        Role::Outbound => "outbound",
    };
    let route = |name: &str, prefix: &str, cluster: &str| {
        json!({
            "name": name, "match": { "prefix": prefix }, "route": { "cluster": cluster, "timeout": "0s" },
        })
    };
    let large = site.large.map(|_| route("large", "/large", LARGE));
    let usual = [("admin", "/admin/"), ("pages", "/pages/"), ("default", "/")];
    let usual = usual.into_iter().map(|(name, prefix)| route(name, prefix, cluster));
    let routes: Vec<Value> = large.into_iter().chain(usual).collect();
    let mut filters = vec![];
    if matches!(telemetry, Telemetry::Istio { .. }) {
        filters.push(json!({
            "name": "istio.stats",
            "typed_config": { "@type": "type.googleapis.com/stats.PluginConfig" },
        }));
    }
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    }));
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat_prefix,
        "codec_type": "AUTO",
        "use_remote_address": false,
        "generate_request_id": true,
        "normalize_path": true,
        "route_config": {
            "name": cluster,
            "validate_clusters": false,
            "virtual_hosts": [
                {
                    "name": "items", "domains": ["bench.local", "bench.local:*"],
                    "routes": routes,
                },
                { "name": "any", "domains": ["*"], "routes": [route("default", "/", cluster)] },
            ],
        },
        "access_log": access_log(telemetry),
        "http_filters": filters,
    })
}

fn access_log(telemetry: &Telemetry) -> Value {
    let file = |path: &str| {
        json!({
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": path,
                "log_format": { "text_format_source": { "inline_string": LINE } },
            },
        })
    };
    match telemetry {
        Telemetry::Off => json!([]),
        Telemetry::Istio { access_log } => json!([file(access_log)]),
        Telemetry::Envoy { access_log } => json!([file(access_log), stats_logger()]),
    }
}

fn stats_logger() -> Value {
    let tag = |name: &str, value: &str| json!({ "name": name, "value_format": value });
    let histogram = |name: &str, unit: &str, value: &str| {
        let tags =
            [tag("response_code", "%RESPONSE_CODE%"), tag("destination_service", "%UPSTREAM_CLUSTER_RAW%")];
        json!({ "stat": { "name": name, "tags": tags }, "unit": unit, "value_format": value })
    };
    json!({
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
            "stat_prefix": "istio",
            "counters": [{
                "stat": { "name": "requests_total", "tags": [
                    tag("response_code", "%RESPONSE_CODE%"), tag("response_flags", "%RESPONSE_FLAGS%"),
                    tag("request_protocol", "%PROTOCOL%"), tag("destination_service", "%UPSTREAM_CLUSTER_RAW%"),
                    tag("source_workload", "unknown"), tag("source_workload_namespace", "unknown"),
                    tag("destination_workload", "items-v1"), tag("connection_security_policy", "none"),
                ] },
                "value_fixed": 1,
            }],
            "histograms": [
                histogram("request_duration_milliseconds", "Milliseconds", "%DURATION%"),
                histogram("request_bytes", "Bytes", "%BYTES_RECEIVED%"),
                histogram("response_bytes", "Bytes", "%BYTES_SENT%"),
            ],
        },
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(role: Role, between: Between) -> Site {
        Site {
            listen: "127.0.0.1:1".parse().unwrap(),
            upstream: "127.0.0.1:2".parse().unwrap(),
            large: None,
            admin: "127.0.0.1:3".parse().unwrap(),
            directory: "d".into(),
            files: 1024,
            role,
            between,
        }
    }

    #[test]
    fn routes_lead_to_the_cluster() {
        for role in [Role::Inbound, Role::Outbound] {
            let all = bootstrap(&site(role, Between::Http2), &Telemetry::Off);
            let resources = &all["static_resources"];
            let manager = &resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
            let cluster = &resources["clusters"][0];
            let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
            assert_eq!(route["cluster"], cluster["name"]);
            assert_eq!(cluster["load_assignment"]["cluster_name"], cluster["name"]);
        }
    }

    #[test]
    fn large_replies_have_a_route_and_a_cluster_of_their_own() {
        let large = Some("127.0.0.1:4".parse().unwrap());
        let all =
            bootstrap(&Site { large, ..site(Role::Inbound, Between::Http1) }, &Telemetry::Off).to_string();
        assert_eq!(all.matches(LARGE).count(), 3, "route, cluster, assignment: {all}");
        assert!(all.contains("\"prefix\":\"/large\""), "{all}");
        assert!(
            !bootstrap(&site(Role::Inbound, Between::Http1), &Telemetry::Off).to_string().contains(LARGE)
        );
    }

    #[test]
    fn the_protocol_towards_the_upstream() {
        let options = |between| {
            let all = bootstrap(&site(Role::Outbound, between), &Telemetry::Off);
            all["static_resources"]["clusters"][0]["typed_extension_protocol_options"].clone()
        };
        assert!(options(Between::Http1).is_null());
        assert!(options(Between::Multiplexed).is_null());
        assert!(options(Between::Http2).to_string().contains("http2_protocol_options"));
    }

    #[test]
    fn telemetry_is_what_differs() {
        let site = site(Role::Inbound, Between::Http1);
        let manager = |telemetry| {
            bootstrap(&site, &telemetry)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
                ["typed_config"]
                .take()
        };
        let log = || "l".to_owned();
        let count = |value: &Value| value.as_array().map(Vec::len);
        let table = [
            (Telemetry::Off, 0, 1),
            (Telemetry::Envoy { access_log: log() }, 2, 1),
            (Telemetry::Istio { access_log: log() }, 1, 2),
        ];
        for (telemetry, logs, filters) in table {
            let manager = manager(telemetry);
            assert_eq!(count(&manager["access_log"]), Some(logs));
            assert_eq!(count(&manager["http_filters"]), Some(filters));
        }
    }
}
