//! A static bootstrap file into a [`Config`].
use std::net::SocketAddr;

use xds::type_url;

use crate::config::{Config, Resource};
use crate::fields;
use crate::proto::{self, Place};
use crate::refusal::{At, Compiled, Rejection};

/// What a bootstrap says.
#[derive(Debug)]
pub struct Bootstrap {
    /// Its static listeners and clusters, which ADS can neither replace nor remove.
    pub config: Config,
    pub admin: Option<SocketAddr>,
    /// A request whose path has a fragment is refused: Envoy's way, unless its runtime says otherwise (Istio's does).
    pub reject_fragments: bool,
}

/// Everything in the bootstrap is honoured or refused by its path; nothing goes live if anything is refused.
pub fn from_bootstrap(message: &xds::bootstrap::Bootstrap) -> Result<Bootstrap, Vec<Rejection>> {
    let mut rejections = Vec::new();
    let bytes = xds::Message::encode_to_vec(message);
    if let Err(refusal) = fields::check("envoy.config.bootstrap.v3.Bootstrap", &bytes) {
        rejections.push(refusal.reject("bootstrap"));
    }
    let admin = admin(message).unwrap_or_else(|refusal| {
        rejections.push(refusal.reject("bootstrap"));
        None
    });
    let mut config = Config::new();
    let resources = message.static_resources.clone().unwrap_or_default();
    let mut add = |section: &str, type_url: &str, name: String, body: xds::Any| {
        let resource = Resource { name, version: String::new(), body };
        if let Err(refusal) = config.add(type_url, &resource, true) {
            rejections.push(refusal.reject(format!("static_resources.{section} {}", resource.name)));
        }
    };
    for cluster in &resources.clusters {
        add("clusters", type_url::CLUSTER, cluster.name.clone(), xds::pack(cluster));
    }
    for (i, listener) in resources.listeners.iter().enumerate() {
        // A static listener needs no name; Envoy makes one up.
        let mut listener = listener.clone();
        if listener.name.is_empty() {
            listener.name = format!("listener_{i}");
        }
        add("listeners", type_url::LISTENER, listener.name.clone(), xds::pack(&listener));
    }
    match rejections.is_empty() {
        true => Ok(Bootstrap { config, admin, reject_fragments: reject_fragments(message) }),
        false => Err(rejections),
    }
}

/// The runtime's last layer that says it.
fn reject_fragments(message: &xds::bootstrap::Bootstrap) -> bool {
    use xds::bootstrap::runtime_layer::LayerSpecifier;
    const FLAG: &str = "envoy.reloadable_features.http_reject_path_with_fragment";
    let layers = message.layered_runtime.iter().flat_map(|runtime| &runtime.layers);
    let mut said = layers.filter_map(|layer| match &layer.layer_specifier {
        Some(LayerSpecifier::StaticLayer(values)) => values.fields.get(FLAG)?.kind.as_ref(),
        None => None,
    });
    said.next_back().is_none_or(|value| match value {
        xds::value::Kind::BoolValue(value) => *value,
        xds::value::Kind::StringValue(value) => value != "false",
        _ => true,
    })
}

fn admin(message: &xds::bootstrap::Bootstrap) -> Compiled<Option<SocketAddr>> {
    let Some(address) = message.admin.as_ref().and_then(|a| a.address.as_ref()) else { return Ok(None) };
    match proto::place(Some(address)).at("address").at("admin")? {
        Place::Ip(address) => Ok(Some(address)),
        _ => refuse!("must be an IP address").at("address").at("admin"),
    }
}
