//! `filamesh proxy-config`: what one proxy holds, in istioctl's columns, from its own config dump.
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::exit::{Failure, Outcome};
use crate::http_client;
use crate::output::{Format, Table, list};
use crate::target::{self, Target};

/// What one proxy holds: listeners, routes, clusters, endpoints
#[derive(Debug, Args)]
#[command(
    visible_alias = "pc",
    after_help = "Examples:
  filamesh proxy-config route productpage-v1
  filamesh pc cluster reviews-v2.default -o json
  filamesh pc endpoint istio-ingressgateway.istio-system"
)]
pub struct ProxyConfig {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Listeners and the filter chains in them
    #[command(visible_alias = "listeners", visible_alias = "l")]
    Listener(Of),
    /// Route configurations, virtual hosts and routes
    #[command(visible_alias = "routes", visible_alias = "r")]
    Route(Of),
    /// Clusters
    #[command(visible_alias = "clusters", visible_alias = "c")]
    Cluster(Of),
    /// Endpoints and their health
    #[command(visible_alias = "endpoints", visible_alias = "ep")]
    Endpoint(Of),
    /// The whole dump, as Envoy's /config_dump
    All(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// NAME, NAME.NAMESPACE or NAMESPACE/NAME
    proxy: String,
    #[command(flatten)]
    target: Target,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(args: &ProxyConfig) -> Outcome {
    match &args.what {
        What::Listener(of) => {
            let items = resources(
                &dump(of)?,
                "ListenersConfigDump",
                &["staticListeners", "dynamicListeners"],
                "listener",
            );
            list(of.output, "ListenerList", &items, name, || listeners(&items))
        }
        What::Route(of) => {
            let items = resources(
                &dump(of)?,
                "RoutesConfigDump",
                &["staticRouteConfigs", "dynamicRouteConfigs"],
                "routeConfig",
            );
            list(of.output, "RouteConfigurationList", &items, name, || routes(&items))
        }
        What::Cluster(of) => {
            let items = resources(
                &dump(of)?,
                "ClustersConfigDump",
                &["staticClusters", "dynamicActiveClusters"],
                "cluster",
            );
            list(of.output, "ClusterList", &items, name, || clusters(&items))
        }
        What::Endpoint(of) => {
            let admin = admin(of)?;
            let status = cluster_status(&admin)?;
            let items = each(&status["clusterStatuses"]).cloned().collect::<Vec<_>>();
            list(of.output, "ClusterStatusList", &items, name, || endpoints(&items))
        }
        What::All(of) => {
            let format = if of.output == Format::Yaml { Format::Yaml } else { Format::Json };
            crate::output::document_out(format, &dump(of)?)
        }
    }
}

fn admin(of: &Of) -> Result<String, Failure> {
    let mesh = of.target.find()?;
    target::admin_of(&mesh, &of.proxy)
}

fn dump(of: &Of) -> Result<Value, Failure> {
    config_dump(&admin(of)?)
}

/// A proxy's whole dump. Envoy prints names as in the proto; here they are those of proto3 JSON.
pub fn config_dump(admin: &str) -> Result<Value, Failure> {
    http_client::get_json(&format!("http://{admin}/config_dump?include_eds")).map(camel)
}

/// Clusters with their hosts, as Envoy's `/clusters?format=json`.
pub fn cluster_status(admin: &str) -> Result<Value, Failure> {
    http_client::get_json(&format!("http://{admin}/clusters?format=json")).map(camel)
}

/// Keys in lowerCamelCase. One with a dot is a name (a filter's), not a field's.
pub fn camel(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let key = if key.contains('.') { key } else { camel_key(&key) };
                (key, camel(value))
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(camel).collect(),
        other => other,
    }
}

fn camel_key(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut upper = false;
    for c in key.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// The resources of one kind out of an `envoy.admin.v3.ConfigDump`.
pub fn resources(dump: &Value, section: &str, groups: &[&str], field: &str) -> Vec<Value> {
    let of_type = |config: &&Value| config["@type"].as_str().is_some_and(|t| t.ends_with(section));
    let mut found: Vec<Value> = Vec::new();
    for config in each(&dump["configs"]).filter(of_type) {
        for group in groups {
            for entry in each(&config[*group]) {
                // A dynamic listener keeps its resource one level deeper.
                let resource =
                    [&entry[field], &entry["activeState"][field]].into_iter().find(|v| v.is_object());
                found.extend(resource.cloned());
            }
        }
    }
    found.sort_by_key(name);
    found
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    path.iter().fold(value, |v, key| &v[*key]).as_str().unwrap_or_default()
}

fn name(value: &Value) -> String {
    text(value, &["name"]).to_owned()
}

fn socket(address: &Value) -> (String, String) {
    let socket = &address["socketAddress"];
    let port = socket["portValue"].as_u64().map(|p| p.to_string()).unwrap_or_default();
    (text(socket, &["address"]).to_owned(), port)
}

fn listeners(items: &[Value]) -> Table {
    let mut table = Table::new(&["ADDRESS", "PORT", "MATCH", "DESTINATION", "NAME"]).wide_from(4);
    for listener in items {
        let (address, port) = socket(&listener["address"]);
        let default = &listener["defaultFilterChain"];
        let chains = each(&listener["filterChains"]).map(|c| (matches(&c["filterChainMatch"]), c));
        let last = default.is_object().then(|| ("default".to_owned(), default));
        for (matched, chain) in chains.chain(last) {
            table.row(vec![address.clone(), port.clone(), matched, destination(chain), name(listener)]);
        }
    }
    table
}

fn matches(chain: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(port) = chain["destinationPort"].as_u64() {
        parts.push(format!("port {port}"));
    }
    let strings = |key: &str| each(&chain[key]).filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    let prefixes: Vec<String> = each(&chain["prefixRanges"])
        .map(|r| format!("{}/{}", text(r, &["addressPrefix"]), r["prefixLen"].as_u64().unwrap_or(32)))
        .collect();
    if !prefixes.is_empty() {
        parts.push(format!("addr {}", prefixes.join(",")));
    }
    for (label, found) in [
        ("sni", strings("serverNames")),
        ("trans", text(chain, &["transportProtocol"]).to_owned()),
        ("app", strings("applicationProtocols")),
    ] {
        if !found.is_empty() {
            parts.push(format!("{label} {found}"));
        }
    }
    if parts.is_empty() { "ALL".to_owned() } else { parts.join("; ") }
}

fn destination(chain: &Value) -> String {
    for filter in each(&chain["filters"]) {
        let config = &filter["typedConfig"];
        if config["rds"].is_object() {
            return format!("Route: {}", text(config, &["rds", "routeConfigName"]));
        }
        if config["routeConfig"].is_object() {
            return format!("Inline route: {}", text(config, &["routeConfig", "name"]));
        }
        if let Some(cluster) = config["cluster"].as_str() {
            return format!("Cluster: {cluster}");
        }
        if config["weightedClusters"].is_object() {
            let parts: Vec<String> = each(&config["weightedClusters"]["clusters"])
                .map(|c| format!("{} {}", text(c, &["name"]), c["weight"].as_u64().unwrap_or(0)))
                .collect();
            return format!("Clusters: {}", parts.join(", "));
        }
    }
    "-".to_owned()
}

fn routes(items: &[Value]) -> Table {
    let mut table = Table::new(&["NAME", "VHOST NAME", "DOMAINS", "MATCH", "ACTION", "VIRTUAL SERVICE"]);
    for config in items {
        for host in each(&config["virtualHosts"]) {
            let domains: Vec<&str> = each(&host["domains"]).filter_map(Value::as_str).collect();
            let shown = match domains.as_slice() {
                [] => "-".to_owned(),
                [only] => (*only).to_owned(),
                [one, two] => format!("{one}, {two}"),
                [one, two, rest @ ..] => format!("{one}, {two} + {} more", rest.len()),
            };
            for route in each(&host["routes"]) {
                table.row(vec![
                    name(config),
                    name(host),
                    shown.clone(),
                    route_match(&route["match"]),
                    action(route),
                    rule(route),
                ]);
            }
        }
    }
    table
}

fn route_match(matched: &Value) -> String {
    let mut parts = Vec::new();
    for key in ["prefix", "path", "pathSeparatedPrefix"] {
        if let Some(value) = matched[key].as_str() {
            parts.push(if key == "prefix" { format!("{value}*") } else { value.to_owned() });
        }
    }
    if let Some(regex) = matched["safeRegex"]["regex"].as_str() {
        parts.push(format!("~{regex}"));
    }
    parts.extend(each(&matched["headers"]).map(|h| format!("header {}", text(h, &["name"]))));
    parts.extend(each(&matched["queryParameters"]).map(|q| format!("query {}", text(q, &["name"]))));
    parts.join(" & ")
}

fn action(route: &Value) -> String {
    if let Some(cluster) = route["route"]["cluster"].as_str() {
        return cluster.to_owned();
    }
    let weighted = &route["route"]["weightedClusters"]["clusters"];
    if weighted.is_array() {
        let parts: Vec<String> = each(weighted)
            .map(|c| format!("{} {}", c["weight"].as_u64().unwrap_or(0), text(c, &["name"])))
            .collect();
        return parts.join(", ");
    }
    if route["redirect"].is_object() {
        return "redirect".to_owned();
    }
    match route["directResponse"]["status"].as_u64() {
        Some(status) => format!("answer {status}"),
        None => "-".to_owned(),
    }
}

/// `reviews.default`, from the path Istio writes into a route's metadata.
fn rule(route: &Value) -> String {
    let path = text(route, &["metadata", "filterMetadata", "istio", "config"]);
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [.., "namespaces", namespace, _, name] => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

fn clusters(items: &[Value]) -> Table {
    let mut table = Table::new(&["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"]);
    for cluster in items {
        let full = name(cluster);
        let (direction, port, subset, host) = match full.split('|').collect::<Vec<_>>().as_slice() {
            [direction, port, subset, host] => (*direction, *port, *subset, *host),
            _ => ("-", "-", "-", full.as_str()),
        };
        let kind = cluster["type"].as_str().unwrap_or("STATIC");
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        table.row(vec![
            dash(host),
            dash(port),
            dash(subset),
            dash(direction),
            kind.to_owned(),
            rule(cluster),
        ]);
    }
    table
}

fn endpoints(items: &[Value]) -> Table {
    let mut table = Table::new(&["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
    for cluster in items {
        for host in each(&cluster["hostStatuses"]) {
            let (address, port) = socket(&host["address"]);
            let status = text(host, &["healthStatus", "edsHealthStatus"]);
            let ejected = host["healthStatus"]["failedOutlierCheck"].as_bool().unwrap_or(false);
            table.row(vec![
                format!("{address}:{port}"),
                if status.is_empty() { "HEALTHY".to_owned() } else { status.to_owned() },
                if ejected { "EJECTED" } else { "OK" }.to_owned(),
                name(cluster),
            ]);
        }
    }
    table
}
