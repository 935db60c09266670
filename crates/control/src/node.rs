//! Who is at the other end of a stream: the node message, as meant.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;
use xds::core;
use xds::delta_server::Capabilities;
use xds::limits::NODE_ID_BYTES;

use crate::proxy::{Profile, Proxy, ProxyKind};
use crate::workload::{Workload, WorkloadPort};

/// What the node message of a stream's first request says.
#[derive(Debug, Clone)]
pub struct Node {
    pub id: String,
    /// The Pod's name, or the one the workload was given.
    pub name: String,
    pub proxy: Arc<Proxy>,
    pub profile: Profile,
    /// What it is able to as a client of ADS.
    pub able: Capabilities,
    /// What it calls itself, with its version.
    pub version: String,
    /// What it registers. Only our own sidecars do.
    pub workload: Option<Workload>,
    /// It goes away for good.
    pub leaving: bool,
}

/// Why a node is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("the first request of the stream names no node")]
    Missing,
    #[error("node id `{0}`: expected TYPE~ADDRESS~NAME.NAMESPACE~DOMAIN")]
    Id(String),
    #[error("a proxy of type `{0}` is not served; sidecar and router are")]
    Kind(String),
    #[error("GENERATOR={0} is not served: the only generator that can be named is grpc")]
    Generator(String),
    #[error("node metadata {key}: {reason}")]
    Metadata { key: &'static str, reason: String },
}

impl Node {
    pub fn read(node: &core::Node) -> Result<Self, NodeError> {
        let bad_id = || NodeError::Id(node.id.escape_debug().take(NODE_ID_BYTES).collect());
        // It is written into logs and pages as it is.
        if node.id.len() > NODE_ID_BYTES || node.id.escape_debug().ne(node.id.chars()) {
            return Err(bad_id());
        }
        let mut parts = node.id.split('~');
        let (Some(kind), Some(address), Some(name), Some(_domain), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad_id());
        };
        let kind = match kind {
            "sidecar" => ProxyKind::Sidecar,
            "router" => ProxyKind::Gateway,
            other => return Err(NodeError::Kind(other.to_owned())),
        };
        let address: IpAddr = address.parse().map_err(|_| bad_id())?;
        let metadata = metadata(node);
        let profile = match text(&metadata, "GENERATOR") {
            None => profile(node),
            Some("grpc") if kind == ProxyKind::Sidecar => Profile::Grpc,
            Some("grpc") => {
                let reason = "grpc is for nodes of type sidecar".to_owned();
                return Err(NodeError::Metadata { key: "GENERATOR", reason });
            }
            Some(other) => return Err(NodeError::Generator(other.to_owned())),
        };
        let (pod, of_id) = name.rsplit_once('.').ok_or_else(bad_id)?;
        let namespace = text(&metadata, "NAMESPACE").unwrap_or(of_id).to_owned();
        let labels = labels(&metadata)?;
        let workload = workload(&metadata, pod, &namespace, address, &labels)?.map(|workload| Workload {
            // A gateway faces clients that nobody vouches for: it believes no hop.
            hop: kind == ProxyKind::Sidecar && text(&metadata, xds::node::HOP) == Some(xds::node::HOP_H2),
            ..workload
        });
        let proxy = Proxy {
            kind,
            ip: address.to_string(),
            ips: addresses(&metadata),
            namespace,
            id: name.to_owned(),
            labels,
            locality: node.locality.as_ref().map(locality).unwrap_or_default(),
            metadata: BTreeMap::new(),
        };
        let leaving = metadata.get(xds::node::LEAVING) == Some(&Json::Bool(true));
        let proxy = Arc::new(Proxy { metadata: settings(metadata), ..proxy });
        let (name, id) = (pod.to_owned(), node.id.clone());
        let able = Capabilities::of_user_agent(&node.user_agent_name);
        Ok(Self { id, name, proxy, profile, able, version: version(node), workload, leaving })
    }
}

/// What of the metadata is kept for as long as the stream lasts: settings, which are numbers, flags and short texts. The
/// rest is 10 to 20 KB from an Istio Envoy (labels, annotations, containers, its own configuration), and was read above.
fn settings(metadata: BTreeMap<String, Json>) -> BTreeMap<String, Json> {
    let is_setting = |value: &Json| match value {
        Json::String(text) => text.len() <= SETTING_BYTES,
        Json::Bool(_) | Json::Number(_) => true,
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    };
    metadata.into_iter().filter(|(_, value)| is_setting(value)).collect()
}

/// Longer texts are no settings.
const SETTING_BYTES: usize = 256;

/// From what the client says it is able to, never from its version (control-plane.md §1.6).
fn profile(node: &core::Node) -> Profile {
    if node.user_agent_name == xds::node::USER_AGENT {
        return Profile::Mesh;
    }
    let istio =
        node.extensions.iter().any(|e| e.name == "istio.stats" || e.name == "istio.metadata_exchange");
    if istio { Profile::Istio } else { Profile::Vanilla }
}

fn version(node: &core::Node) -> String {
    use core::node::UserAgentVersionType as Version;
    let version = match &node.user_agent_version_type {
        Some(Version::UserAgentVersion(text)) => text.clone(),
        Some(Version::UserAgentBuildVersion(build)) => match &build.version {
            Some(v) => format!("{}.{}.{}", v.major_number, v.minor_number, v.patch),
            None => String::new(),
        },
        None => String::new(),
    };
    format!("{} {version}", node.user_agent_name).trim().to_owned()
}

fn locality(locality: &core::Locality) -> String {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    let text = parts.map(String::as_str).join("/");
    text.trim_end_matches('/').to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    ports: Vec<WorkloadPort>,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default)]
    proxy_pid: Option<u32>,
    #[serde(default)]
    start_time: Option<u64>,
    #[serde(default)]
    admin: Option<String>,
}

fn workload(
    metadata: &BTreeMap<String, Json>,
    pod: &str,
    namespace: &str,
    address: IpAddr,
    labels: &BTreeMap<String, String>,
) -> Result<Option<Workload>, NodeError> {
    let Some(value) = metadata.get(xds::node::WORKLOAD) else { return Ok(None) };
    let bad = |e: serde_json::Error| NodeError::Metadata { key: xds::node::WORKLOAD, reason: e.to_string() };
    let registered: Registered = match value {
        Json::String(text) => serde_json::from_str(text).map_err(bad)?,
        value => Registered::deserialize(value).map_err(bad)?,
    };
    Ok(Some(Workload {
        name: text(metadata, "WORKLOAD_NAME").unwrap_or(pod).to_owned(),
        namespace: namespace.to_owned(),
        service: registered.service.filter(|s| !s.is_empty()),
        version: registered.version.filter(|v| !v.is_empty()),
        labels: labels.clone(),
        service_account: text(metadata, "SERVICE_ACCOUNT").unwrap_or_default().to_owned(),
        cluster: text(metadata, "CLUSTER_ID").unwrap_or_default().to_owned(),
        address,
        ports: registered.ports,
        pid: registered.pid,
        proxy_pid: registered.proxy_pid,
        start_time: registered.start_time,
        admin: registered.admin,
        hop: false,
    }))
}

fn labels(metadata: &BTreeMap<String, Json>) -> Result<BTreeMap<String, String>, NodeError> {
    match metadata.get("LABELS") {
        None | Some(Json::Null) => Ok(BTreeMap::new()),
        Some(labels) => BTreeMap::deserialize(labels)
            .map_err(|e| NodeError::Metadata { key: "LABELS", reason: e.to_string() }),
    }
}

/// `INSTANCE_IPS`, comma-separated.
fn addresses(metadata: &BTreeMap<String, Json>) -> Vec<String> {
    let listed = text(metadata, "INSTANCE_IPS").unwrap_or_default();
    listed.split(',').map(str::trim).filter(|ip| !ip.is_empty()).map(str::to_owned).collect()
}

fn text<'m>(metadata: &'m BTreeMap<String, Json>, key: &str) -> Option<&'m str> {
    metadata.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
}

fn metadata(node: &core::Node) -> BTreeMap<String, Json> {
    let fields = node.metadata.iter().flat_map(|m| &m.fields);
    fields.map(|(key, value)| (key.clone(), json(value))).collect()
}

/// Whole numbers become integers: a struct has no other numbers than floating ones. Decoding has bounded the depth.
fn json(value: &xds::Value) -> Json {
    use xds::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(b)) => Json::Bool(*b),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::NumberValue(number)) => {
            let whole = number.fract() == 0.0 && number.abs() < 9e15;
            // Checked: it is whole and fits.
            #[allow(clippy::cast_possible_truncation)]
            if whole { Json::from(*number as i64) } else { Json::from(*number) }
        }
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(json).collect()),
        Some(Kind::StructValue(fields)) => {
            Json::Object(fields.fields.iter().map(|(k, v)| (k.clone(), json(v))).collect())
        }
    }
}

/// The metadata of a node, from JSON: the other direction, for clients and tests.
pub fn metadata_struct(fields: &serde_json::Map<String, Json>) -> xds::Struct {
    xds::Struct { fields: fields.iter().map(|(k, v)| (k.clone(), value(v))).collect() }
}

fn value(json: &Json) -> xds::Value {
    use xds::value::Kind;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(xds::ListValue { values: items.iter().map(value).collect() }),
        Json::Object(fields) => Kind::StructValue(metadata_struct(fields)),
    };
    xds::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(id: &str, metadata: Json) -> core::Node {
        let Json::Object(fields) = metadata else { panic!("an object") };
        core::Node { id: id.into(), metadata: Some(metadata_struct(&fields)), ..Default::default() }
    }

    /// istio-behaviour.md, node identity; control-plane.md §1.2.
    #[test]
    fn what_a_sidecar_of_ours_says() {
        let mut node = node(
            "sidecar~127.77.0.5~reviews-v1.shop~shop.svc.cluster.local",
            json!({
                "NAMESPACE": "shop", "WORKLOAD_NAME": "reviews-v1", "SERVICE_ACCOUNT": "bookinfo-reviews",
                "LABELS": {"app": "reviews"}, "CLUSTER_ID": "Kubernetes", "FILAMESH_HOP": "h2",
                "FILAMESH_WORKLOAD": {"service": "reviews", "version": "v1", "pid": 7, "proxyPid": 8,
                    "ports": [{"port": 9080, "targetPort": 9081, "name": "http"}], "admin": "127.77.0.5:15000"},
            }),
        );
        node.user_agent_name = "filamesh".into();
        let read = Node::read(&node).unwrap();
        assert_eq!(read.profile, Profile::Mesh);
        assert_eq!((read.proxy.kind, read.proxy.ip.as_str()), (ProxyKind::Sidecar, "127.77.0.5"));
        let workload = read.workload.unwrap();
        assert_eq!((workload.name.as_str(), workload.namespace.as_str()), ("reviews-v1", "shop"));
        assert_eq!(workload.service.as_deref(), Some("reviews"));
        assert_eq!(workload.ports[0], WorkloadPort { port: 9080, target_port: 9081, name: "http".into() });
        assert_eq!((workload.pid, workload.proxy_pid, workload.hop), (Some(7), Some(8), true));
        assert!(!read.leaving);
    }

    #[test]
    fn the_profile_follows_from_what_the_client_is_able_to() {
        let id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local";
        let mut envoy = node(id, json!({}));
        assert_eq!(Node::read(&envoy).unwrap().profile, Profile::Vanilla);
        assert!(Node::read(&envoy).unwrap().workload.is_none(), "an Envoy does not register");
        envoy.extensions.push(core::Extension { name: "istio.stats".into(), ..Default::default() });
        assert_eq!(Node::read(&envoy).unwrap().profile, Profile::Istio);
        let grpc = node("sidecar~10.0.0.1~a.b~c", json!({"GENERATOR": "grpc"}));
        assert_eq!(Node::read(&grpc).unwrap().profile, Profile::Grpc);
    }

    /// What is kept for as long as the stream lasts.
    #[test]
    fn settings_are_kept_and_the_bulk_of_the_metadata_is_not() {
        let metadata = json!({
            "DNS_CAPTURE": "true", "IDLE_TIMEOUT": "5s", "HTTP10": 1, "ANNOTATIONS": {"a": "b"},
            "APP_CONTAINERS": ["a"], "PLATFORM": "x".repeat(1000), "LABELS": {"app": "a"},
        });
        let read = Node::read(&node("sidecar~10.0.0.1~a.b~c", metadata)).unwrap();
        let kept: Vec<&str> = read.proxy.metadata.keys().map(String::as_str).collect();
        assert_eq!(kept, ["DNS_CAPTURE", "HTTP10", "IDLE_TIMEOUT"]);
        assert_eq!(read.proxy.labels["app"], "a");
    }

    /// Only Envoy is sent endpoints again with a changed cluster, only our proxy before it asks.
    #[test]
    fn what_a_client_is_able_to_follows_from_what_it_calls_itself() {
        let able = |name: &str| {
            let mut node = node("sidecar~10.0.0.1~a.b~c", json!({}));
            node.user_agent_name = name.into();
            Node::read(&node).unwrap().able
        };
        assert_eq!(able("envoy"), Capabilities::ENVOY);
        assert_eq!(able("filamesh"), Capabilities::MESH);
        for other in ["", "gRPC Go", "Envoy?"] {
            assert_eq!(able(other), Capabilities::NONE, "{other}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (id, metadata, expected) in [
            ("", json!({}), "expected TYPE~ADDRESS"),
            ("sidecar~10.0.0.1~a\n.b~c", json!({}), "a\\n.b"),
            ("sidecar~10.0.0.1~a.b~\u{1b}[2J", json!({}), "\\u{1b}"),
            (&format!("sidecar~10.0.0.1~a.b~{}", "c".repeat(NODE_ID_BYTES)), json!({}), "expected TYPE"),
            ("sidecar~nowhere~a.b~c", json!({}), "expected TYPE~ADDRESS"),
            ("sidecar~10.0.0.1~a~c", json!({}), "expected TYPE~ADDRESS"),
            ("ztunnel~10.0.0.1~a.b~c", json!({}), "`ztunnel`"),
            ("sidecar~10.0.0.1~a.b~c", json!({"GENERATOR": "api"}), "GENERATOR=api"),
            ("router~10.0.0.1~a.b~c", json!({"GENERATOR": "grpc"}), "type sidecar"),
            ("sidecar~10.0.0.1~a.b~c", json!({"LABELS": ["a"]}), "LABELS"),
            ("sidecar~10.0.0.1~a.b~c", json!({"FILAMESH_WORKLOAD": {"ports": 1}}), "FILAMESH_WORKLOAD"),
        ] {
            let error = Node::read(&node(id, metadata)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
