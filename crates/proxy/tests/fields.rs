//! Nothing is accepted and silently ignored. Three lists are held against the sources themselves: which fields of Envoy's
//! messages are taken (`model/src/fields.txt`), what the model makes of them (its `pub` fields), and what the proxy reads.
//! A field that nobody reads is refused, said by name, or on the list here with the reason why nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Fields of messages that `fields.txt` lets through and no code of the model names.
const UNNAMED: &[(&str, &str, &str)] = &[
    ("Bootstrap", "dynamic_resources", "read by whoever speaks ADS, before there is a configuration"),
    ("Bootstrap.DynamicResources", "lds_config cds_config ads_config", "the same"),
    ("ConfigSource", "api_config_source", "refused where routes are asked for by it; endpoints come by ADS"),
    (
        "ApiConfigSource",
        "api_type cluster_names grpc_services",
        "part of what is refused or of the bootstrap",
    ),
    ("GrpcService", "envoy_grpc", "the same"),
    ("EnvoyInternalAddress", "server_listener_name endpoint_id", "refused as a whole (proto.rs)"),
    ("SdsSecretConfig", "sds_config", "secrets come by ADS, the only source there is"),
    ("LocalReplyConfig", "body_format", "refused as a whole (http_connection.rs)"),
    ("ExtensionConfigSource", "default_config type_urls", "refused as a whole (filter.rs)"),
    ("RouteMatch.TlsContextMatchOptions", "validated", "refused as a whole (route_match.rs)"),
    (
        "RouteAction",
        "hash_policy",
        "chosen by hash are hosts only where lb_policy says so, and those policies are refused",
    ),
    ("RouteAction.HashPolicy", "cookie connection_properties query_parameter", "the same"),
    ("RouteAction.HashPolicy.Cookie", "ttl attributes", "the same"),
    ("RouteAction.HashPolicy.ConnectionProperties", "source_ip", "the same"),
    ("Cluster", "ring_hash_lb_config maglev_lb_config", "settings of policies that are refused"),
    ("Cluster.EdsClusterConfig", "eds_config", "endpoints come by ADS, the only source there is"),
    ("Cluster.RingHashLbConfig", "minimum_ring_size hash_function maximum_ring_size", "as the policy"),
    ("Cluster.MaglevLbConfig", "table_size", "as the policy"),
    ("Cluster.SlowStartConfig", "slow_start_window", "refused as a whole (cluster.rs)"),
];

enum Unread {
    /// A method of the model decides by it, and the proxy asks that.
    Decided(&'static str),
    /// Said by name in these words, which are looked for in the proxy.
    Said(&'static str),
    /// Nothing is lost, because.
    Harmless(&'static str),
}
use Unread::{Decided, Harmless, Said};

const TLS: Unread = Said("TLS to upstreams is not spoken yet");
const SERVER_TLS: Unread = Said("TLS");

/// Fields of the model that the proxy does not read itself.
const UNREAD: &[(&str, &str, Unread)] = &[
    ("AccessLog", "omit_empty_values", Decided("AccessLog::compile")),
    ("Bootstrap", "reject_fragments", Decided("taken apart in static_config.rs")),
    (
        "Cluster",
        "ignore_health_on_host_removal",
        Harmless("a host that is removed is gone at once, as that asks for"),
    ),
    ("Cluster", "eds_name", Decided("Config::snapshot")),
    ("Cluster", "lb panic_threshold locality_weighted", Decided("HostPlan::new")),
    ("Cluster", "transport_matches", Decided("Cluster::transport_to")),
    ("Cluster", "auto_sni auto_san_validation", TLS),
    (
        "HealthCheck",
        "no_traffic_interval no_traffic_healthy_interval unhealthy_interval unhealthy_edge_interval \
         healthy_edge_interval initial_jitter interval_jitter_percent unhealthy_threshold healthy_threshold",
        Decided("Judgement::judge, HealthCheck::wait, HealthCheck::first_wait"),
    ),
    ("RetryBudget", "percent min_concurrency", Decided("Breakers::allows_retry")),
    (
        "Dns",
        "respect_ttl",
        Harmless("the system's resolver does not tell a name's TTL: dns_refresh_rate counts"),
    ),
    ("Subscriptions", "secrets", Decided("the ADS client asks for them")),
    ("Endpoints", "localities overprovisioning priorities", Decided("HostPlan::new")),
    ("LocalityGroup", "region zone sub_zone", Decided("shown, and matched by HostPlan::new")),
    ("Host", "locality check", Decided("HostPlan::new")),
    ("FilterChain", "provenance", Decided("explained")),
    ("Http1", "enable_trailers", Harmless("trailers are always passed on")),
    ("UpstreamHttp1", "enable_trailers", Harmless("trailers are always passed on")),
    (
        "PeerMetadata",
        "from_upstream",
        Harmless("a host's labels are those of its endpoint; the headers are removed"),
    ),
    ("PeerMetadata", "skip_external", Harmless("hosts outside of the mesh are never told (Host::mesh)")),
    ("Tracing", "overall max_path_tag_length", Harmless("providers are refused, so nothing is traced")),
    ("Route", "random_sampling", Harmless("providers are refused, so nothing is traced")),
    (
        "Listener",
        "additional_addresses default_chain",
        Decided("Listener::addresses, Listener::filter_chain"),
    ),
    ("NetworkFilters", "metadata_exchange", Harmless("spoken over TLS alone, by an ALPN of its own")),
    (
        "MetricOverride",
        "dimensions tags_to_remove drop",
        Said("overrides of metrics and tags are not applied"),
    ),
    ("Fraction", "per_million", Decided("Fraction::hits")),
    ("RetryPolicy", "on backoff retries", Decided("retry::decide")),
    (
        "RetryOn",
        "server_errors gateway_errors reset reset_before_request connect_failure rate_limited conflict refused_stream \
         retriable_statuses retriable_headers grpc_cancelled grpc_deadline_exceeded grpc_internal \
         grpc_resource_exhausted grpc_unavailable",
        Decided("retry::decide"),
    ),
    ("Backoff", "base", Decided("Backoff::wait")),
    ("Route", "provenance", Decided("explained")),
    ("Forward", "grpc_timeout_header_max grpc_timeout_header_offset", Decided("Forward::stream_duration")),
    (
        "RouteTable",
        "most_specific_header_mutations_wins provenance",
        Decided("RouteTable::request_headers_at"),
    ),
    ("DownstreamTls", "common require_client_certificate", SERVER_TLS),
    ("UpstreamTls", "common sni auto_host_sni auto_sni_san_validation", TLS),
    ("CommonTls", "certificates trusted_ca subject_names min_version max_version cipher_suites", TLS),
    ("RouteUpgrade", "enabled terminate", Decided("HttpConnection::upgrade")),
    ("ConnectionView", "destination direct_source application_protocols", Decided("given to the model")),
    ("VirtualHost", "require_tls domains provenance", Decided("RouteTable::decide")),
    ("Filter", "disabled id", Decided("Filter::on")),
    ("Told", "disabled settings", Decided("Filter::on")),
    ("Route", "response_headers", Decided("RouteTable::response_headers_at")),
    ("RouteTable", "response_headers", Decided("RouteTable::response_headers_at")),
    ("Split", "response_headers", Decided("RouteTable::response_headers_at")),
    ("VirtualHost", "response_headers", Decided("RouteTable::response_headers_at")),
];

/// Structs that are no configuration: what decisions are given and give.
const NO_CONFIGURATION: &[&str] =
    &["Call", "CallResult", "FilterExplanation", "RouteDecision", "RouteExplanation", "RoutePlace", "Tried"];

fn sources(root: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.to_string_lossy().contains("tests")
            {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                into.push((path, code));
            }
        }
    }
    let mut found = vec![];
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), &mut found);
    assert!(!found.is_empty(), "{root}");
    found
}

fn is_word(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where the word stands in the text, by itself.
fn finds<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
        !is_word(before) && !is_word(bytes.get(at + word.len()).copied())
    })
}

/// Whether the field is read: `.name`, and not called.
fn is_read(text: &str, field: &str) -> bool {
    finds(text, field).any(|at| {
        let bytes = text.as_bytes();
        at.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'.')
            && bytes.get(at + field.len()) != Some(&b'(')
    })
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split_whitespace()
}

/// The `pub` fields of the model's `pub` structs.
fn model_fields() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, text) in sources("../model/src") {
        let mut within: Option<String> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub struct ")
                && line.ends_with('{')
            {
                within = rest.split(['<', ' ', '{']).next().map(str::to_owned);
            } else if line == "}" {
                within = None;
            } else if let (Some(name), Some(rest)) = (&within, line.strip_prefix("    pub "))
                && let Some((field, _)) = rest.split_once(':')
            {
                found.entry(name.clone()).or_default().push(field.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_field_the_model_makes_is_read_or_its_silence_is_accounted_for() {
    let proxy: String = sources("src").into_iter().map(|(_, text)| text).collect();
    let listed: BTreeMap<(&str, &str), &Unread> = UNREAD
        .iter()
        .flat_map(|(of, fields, why)| words(fields).map(move |field| ((*of, field), why)))
        .collect();
    let mut wrong = vec![];
    let fields = model_fields();
    for (of, fields) in fields.iter().filter(|(of, _)| !NO_CONFIGURATION.contains(&of.as_str())) {
        for field in fields {
            match (is_read(&proxy, field), listed.get(&(of.as_str(), field.as_str()))) {
                (false, None) => wrong.push(format!("{of}.{field} is read by nobody and not accounted for")),
                (true, Some(Said(what))) => {
                    wrong.push(format!("{of}.{field} is read; is it still {what:?}?"))
                }
                (false, Some(Said(what))) if !proxy.contains(what) => {
                    wrong.push(format!("{of}.{field}: nobody says {what:?}"));
                }
                (_, Some(Decided(why) | Harmless(why))) if why.is_empty() => {
                    wrong.push(format!("{of}.{field}: why?"))
                }
                _ => {}
            }
        }
    }
    for (of, field) in listed.keys() {
        if !fields.get(*of).is_some_and(|fields| fields.iter().any(|known| known == field)) {
            wrong.push(format!("{of}.{field} is listed and does not exist"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `max_headers_count` in the generated code's oneofs is `MaxHeadersCount`.
fn camel(field: &str) -> String {
    let part = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
    field.split('_').filter(|word| !word.is_empty()).map(part).collect()
}

#[test]
fn every_field_that_is_taken_is_named_by_the_model_or_accounted_for() {
    let model: String = sources("../model/src").into_iter().map(|(_, text)| text).collect();
    let table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/src/fields.txt")).unwrap();
    let mut wrong = vec![];
    let mut met = vec![];
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (message, fields) = line.split_once(':').unwrap();
        for field in words(fields.split('|').next().unwrap()) {
            let camel = camel(field);
            let named = finds(&model, field).next().is_some() || finds(&model, &camel).next().is_some();
            let listed = UNNAMED.iter().find(|(of, fields, why)| {
                message.ends_with(&format!(".v3.{of}"))
                    && words(fields).any(|known| known == field)
                    && !why.is_empty()
            });
            match (named, listed) {
                (false, None) => wrong.push(format!("{message}.{field} is taken and named nowhere")),
                (_, Some((of, ..))) => met.push((*of, field.to_owned())),
                (true, None) => {}
            }
        }
    }
    for (of, fields, _) in UNNAMED {
        for field in words(fields) {
            if !met.iter().any(|(met, known)| met == of && known == field) {
                wrong.push(format!("{of}.{field} is listed and not taken"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
