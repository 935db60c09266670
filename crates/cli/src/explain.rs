//! `filamesh explain call`: which listener, route and cluster a call would meet, and which line of which file decided.
//!
//! The proxy's own configuration and its own deciding code are asked; nothing is decided here.
use std::net::IpAddr;

use clap::{Args, Subcommand};
use control::shapes::Place;
use model::simulate::{Call, CallResult, Mode, Protocol, Simulation, Tls};
use serde_json::{Value, json};

use crate::exit::{Code, Failure, Outcome};
use crate::mesh::MeshFile;
use crate::output::{Format, document_out, put, to_value};
use crate::proxy_config::{cluster_status, config_dump, resources};
use crate::sidecar::spellings;
use crate::target::{Target, ask, find_workload};

/// Why a call goes where it goes
#[derive(Debug, Args)]
pub struct Explain {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Call(ExplainCall),
}

/// Which listener, filter chain, route and cluster a call would meet, and which line of which file decided
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh explain call --from productpage-v1 http://reviews:9080/reviews/0
  filamesh explain call --from productpage-v1 -H 'end-user: jason' http://reviews:9080/reviews/0
  filamesh explain call --from productpage-v1 tcp://db:5432
  filamesh explain call --at istio-ingressgateway.istio-system http://any.host:8080/productpage")]
struct ExplainCall {
    /// The workload that calls
    #[arg(long, value_name = "WORKLOAD", required_unless_present = "at", conflicts_with = "at")]
    from: Option<String>,
    /// The gateway that is called
    #[arg(long, value_name = "GATEWAY")]
    at: Option<String>,
    /// Method
    #[arg(short = 'X', long, default_value = "GET")]
    request: String,
    /// Headers, NAME: VALUE
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// http://HOST:PORT/PATH or tcp://HOST:PORT
    url: String,
    #[command(flatten)]
    target: Target,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(args: &Explain) -> Outcome {
    let What::Call(args) = &args.what;
    let mesh = args.target.find()?;
    let (proxy, mode) = match (&args.from, &args.at) {
        (Some(workload), _) => (workload, Mode::Outbound),
        (None, Some(gateway)) => (gateway, Mode::Gateway),
        (None, None) => return Err(Failure::usage("--from WORKLOAD or --at GATEWAY")),
    };
    let workload = find_workload(&mesh, proxy)?;
    let admin = workload.admin.clone().unwrap_or_default();
    let dump = config_dump(&admin)?;
    let (simulation, call) = (simulation(&dump)?, call(args, mode, &dump, &workload.namespace)?);
    let (result, decision) = simulation.explain(&call);
    let rule = decision.as_ref().and_then(|d| rule(&mesh, &d["provenance"]));
    let endpoints = endpoints(&admin, &result, decision.as_ref())?;
    if matches!(args.output, Format::Json | Format::Yaml) {
        let document = json!({
            "apiVersion": "filamesh.dev/v1alpha1", "kind": "Explanation", "call": to_value(&call)?,
            "result": to_value(&result)?, "decision": decision, "rule": rule, "endpoints": endpoints,
        });
        return document_out(args.output, &document);
    }
    put(&text(args, proxy, &call, &result, decision.as_ref(), rule.as_ref(), &endpoints))
}

/// The proxy's own listeners and routes, compiled as the proxy compiles them.
fn simulation(dump: &Value) -> Result<Simulation, Failure> {
    let listeners = messages(&resources(
        dump,
        "ListenersConfigDump",
        &["staticListeners", "dynamicListeners"],
        "listener",
    ))?;
    let routes = messages(&resources(
        dump,
        "RoutesConfigDump",
        &["staticRouteConfigs", "dynamicRouteConfigs"],
        "routeConfig",
    ))?;
    Ok(Simulation::new(&listeners, &routes).0)
}

fn messages<M: xds::Name + Default>(values: &[Value]) -> Result<Vec<M>, Failure> {
    let read = |value: &Value| {
        let mut value = value.clone();
        if let Value::Object(map) = &mut value {
            map.remove("@type");
        }
        xds::json::from_json(&value)
            .map_err(|e| Failure::new(Code::Failure, format!("the proxy's config dump is not readable: {e}")))
    };
    values.iter().map(read).collect()
}

fn call(args: &ExplainCall, mode: Mode, dump: &Value, namespace: &str) -> Result<Call, Failure> {
    let wrong = || Failure::usage(format!("{}: http://HOST:PORT/PATH or tcp://HOST:PORT", args.url));
    let (scheme, rest) = args.url.split_once("://").ok_or_else(wrong)?;
    let (protocol, tls, default_port) = match scheme {
        "http" => (Protocol::Http, Tls::Plaintext, 80),
        "tcp" => (Protocol::Tcp, Tls::Plaintext, 0),
        "https" | "tls" => (Protocol::Tcp, Tls::Tls, 443),
        _ => return Err(wrong()),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (authority, default_port),
    };
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    let mut headers: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for header in &args.headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| Failure::usage(format!("-H {header}: NAME: VALUE")))?;
        headers.entry(name.trim().to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    let host_header =
        headers.remove("host").and_then(|mut v| v.pop()).unwrap_or_else(|| authority.to_owned());
    let sni = if tls == Tls::Tls { host.to_owned() } else { String::new() };
    Ok(Call {
        name: args.url.clone(),
        mode,
        address: address(host, port, mode, dump, namespace),
        port,
        protocol,
        tls,
        alpn: String::new(),
        sni,
        host: host_header,
        path: path.to_owned(),
        method: args.request.to_ascii_uppercase(),
        headers,
        mtls_secret: None,
    })
}

/// RFC 5737: documentation.
const NOBODY: &str = "203.0.113.1";

/// The address the caller's DNS would give; a name it does not have goes to an address of nobody's.
fn address(host: &str, port: u16, mode: Mode, dump: &Value, namespace: &str) -> String {
    if host.parse::<IpAddr>().is_ok() {
        return host.to_owned();
    }
    if mode == Mode::Gateway {
        let listeners =
            resources(dump, "ListenersConfigDump", &["staticListeners", "dynamicListeners"], "listener");
        let at = listeners.iter().map(|l| &l["address"]["socketAddress"]);
        return at
            .filter(|a| a["portValue"] == port)
            .find_map(|a| a["address"].as_str())
            .unwrap_or("0.0.0.0")
            .to_owned();
    }
    let configs = dump["configs"].as_array().into_iter().flatten();
    let table = configs.into_iter().find(|c| c["@type"].as_str().is_some_and(|t| t.ends_with("NameTable")));
    let Some(known) = table.and_then(|t| t["table"].as_object()) else { return NOBODY.to_owned() };
    let answers = |(name, info): &(&String, &Value)| {
        let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        let info = xds::nds::name_table::NameInfo {
            registry: text("registry"),
            shortname: text("shortname"),
            namespace: text("namespace"),
            ..Default::default()
        };
        spellings(name, &info, namespace).iter().any(|n| n == host)
    };
    let found = known.iter().find(answers).and_then(|(_, info)| info["ips"][0].as_str());
    found.unwrap_or(NOBODY).to_owned()
}

/// The object and the place in its file that the route came from.
fn rule(mesh: &MeshFile, provenance: &Value) -> Option<Value> {
    let path = provenance["istio"].as_str()?;
    let parts: Vec<&str> = path.split('/').collect();
    let [.., namespace, kind, name] = parts.as_slice() else { return None };
    let word = kind.replace('-', "");
    let kind = api::kinds::named(&word).map_or(word.clone(), str::to_owned);
    let rule = provenance["rule"].as_str().unwrap_or("spec");
    let object = format!("{kind}/{namespace}/{name}");
    let place: Option<Place> = ask(mesh, &format!("resolve?object={object}&path={}", encode(rule))).ok();
    Some(json!({"object": object, "path": rule, "place": place.and_then(|p| serde_json::to_value(p).ok())}))
}

fn encode(text: &str) -> String {
    text.replace('[', "%5B").replace(']', "%5D")
}

/// Hosts of the clusters the call may go to, with their health.
fn endpoints(admin: &str, result: &CallResult, decision: Option<&Value>) -> Result<Vec<Value>, Failure> {
    let mut clusters: Vec<String> = vec![result.cluster.clone()];
    if let Some(weights) = decision.and_then(|d| d["weights"].as_array()) {
        clusters = weights.iter().filter_map(|w| w[0].as_str()).map(str::to_owned).collect();
    }
    let status = cluster_status(admin)?;
    let all = status["clusterStatuses"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for name in clusters.iter().filter(|c| !c.is_empty()) {
        let cluster = all.iter().find(|c| c["name"] == name.as_str());
        let hosts = cluster.map(|c| c["hostStatuses"].as_array().cloned().unwrap_or_default());
        let hosts: Option<Vec<String>> = hosts.map(|hosts| {
            let address = |h: &Value| {
                let socket = &h["address"]["socketAddress"];
                format!("{}:{}", socket["address"].as_str().unwrap_or("?"), socket["portValue"])
            };
            hosts.iter().map(address).collect()
        });
        found.push(json!({"cluster": name, "known": hosts.is_some(), "hosts": hosts.unwrap_or_default()}));
    }
    Ok(found)
}

fn text(
    args: &ExplainCall,
    proxy: &str,
    call: &Call,
    result: &CallResult,
    decision: Option<&Value>,
    rule: Option<&Value>,
    endpoints: &[Value],
) -> String {
    let mut out = format!("{} {}  from {proxy}\n", call.method, args.url);
    if call.mode == Mode::Gateway {
        out = format!("{} {}  at {proxy}\n", call.method, args.url);
    }
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            out += &format!("  {label:<15}{value}\n");
        }
    };
    line("destination", format!("{}:{}", call.address, call.port));
    line("listener", result.listener.clone());
    line("filter chain", result.filter_chain.clone());
    line("route config", result.route_config.clone());
    line("virtual host", result.virtual_host.clone());
    if let Some(index) = decision.and_then(|d| d["route_index"].as_u64()) {
        let name = if result.route.is_empty() { String::new() } else { format!(" \"{}\"", result.route) };
        line("route", format!("#{index}{name}"));
    }
    if let Some(rule) = rule {
        let place = &rule["place"];
        let file = match place["file"].as_str() {
            Some(file) if place["line"] == 0 => format!("  {file}"),
            Some(file) => format!("  {file}:{}:{}", place["line"], place["column"]),
            None => String::new(),
        };
        let part = |key: &str| rule[key].as_str().unwrap_or_default();
        line("decided by", format!("{} {}{file}", part("object"), part("path")));
    } else if result.route == "default" {
        line("decided by", "no VirtualService: the service's default route".to_owned());
    }
    let total: f64 = endpoints.len() as f64;
    let weights = decision.and_then(|d| d["weights"].as_array());
    for endpoint in endpoints {
        let cluster = endpoint["cluster"].as_str().unwrap_or_default();
        let share = weights.and_then(|all| {
            let sum: f64 = all.iter().filter_map(|w| w[1].as_f64()).sum();
            let own = all.iter().find(|w| w[0] == cluster)?[1].as_f64()?;
            (total > 1.0 && sum > 0.0).then(|| format!("{:.1} %  ", own * 100.0 / sum))
        });
        let hosts: Vec<&str> =
            endpoint["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let state = if !endpoint["known"].as_bool().unwrap_or(false) {
            "  no such cluster: 503, flag NC".to_owned()
        } else if hosts.is_empty() && !cluster.contains("Passthrough") {
            "  no endpoints: 503, flag UH".to_owned()
        } else {
            format!("  {}", hosts.join(", "))
        };
        line("cluster", format!("{}{cluster}{state}", share.unwrap_or_default()));
    }
    if let Some(status) = decision.and_then(|d| d["status"].as_u64()) {
        line(
            "answer",
            format!(
                "{status} by the proxy itself ({})",
                decision.map_or("", |d| d["verdict"].as_str().unwrap_or(""))
            ),
        );
    }
    line("error", result.error.clone());
    out
}
