//! Who a proxy says it is when it asks for configuration: Istio's node id and metadata.
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use xds::node::Feature;
use xds::value::Kind;

/// A proxy's identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `sidecar` or `router`.
    pub kind: &'static str,
    pub name: String,
    pub namespace: String,
    pub ip: IpAddr,
    pub labels: BTreeMap<String, String>,
    /// Empty: the control plane's choice.
    pub service_account: String,
    /// Further metadata: Istio's keys and our own.
    pub metadata: Map<String, Value>,
}

impl Identity {
    /// `sidecar~IP~NAME.NS~NS.svc.cluster.local`
    pub fn id(&self) -> String {
        format!(
            "{}~{}~{}.{}~{}.svc.cluster.local",
            self.kind, self.ip, self.name, self.namespace, self.namespace
        )
    }

    /// `APP.NAMESPACE`, as Istio's agent sets `--service-cluster`.
    pub fn cluster(&self) -> String {
        let app = self.labels.get("app").unwrap_or(&self.name);
        format!("{app}.{}", self.namespace)
    }

    pub fn metadata(&self) -> xds::Struct {
        let mut all = json!({
            "NAME": self.name, "NAMESPACE": self.namespace, "WORKLOAD_NAME": self.name,
            "INSTANCE_IPS": self.ip.to_string(), "LABELS": self.labels, "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local", "INTERCEPTION_MODE": "REDIRECT",
            (xds::node::HOP): xds::node::HOP_H2,
            (xds::node::FEATURES): features(),
        });
        if let Value::Object(map) = &mut all {
            if !self.service_account.is_empty() {
                map.insert("SERVICE_ACCOUNT".to_owned(), self.service_account.clone().into());
            }
            map.extend(self.metadata.clone());
        }
        structure(&all)
    }

    pub fn node(&self) -> xds::core::Node {
        use xds::core::node::UserAgentVersionType;
        xds::core::Node {
            id: self.id(),
            cluster: self.cluster(),
            metadata: Some(self.metadata()),
            user_agent_name: xds::node::USER_AGENT.to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                env!("CARGO_PKG_VERSION").to_owned(),
            )),
            ..Default::default()
        }
    }
}

fn features() -> String {
    model::FEATURES.map(Feature::name).join(" ")
}

fn structure(value: &Value) -> xds::Struct {
    match value {
        Value::Object(map) => {
            xds::Struct { fields: map.iter().map(|(k, v)| (k.clone(), protobuf(v))).collect() }
        }
        _ => xds::Struct::default(),
    }
}

fn protobuf(value: &Value) -> xds::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(items) => {
            Kind::ListValue(xds::ListValue { values: items.iter().map(protobuf).collect() })
        }
        Value::Object(_) => Kind::StructValue(structure(value)),
    };
    xds::Value { kind: Some(kind) }
}
