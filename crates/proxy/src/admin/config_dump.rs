//! `/config_dump`: Envoy's `admin.v3.ConfigDump` as JSON, from the resources as they came.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde_json::{Value, json};
use xds::bootstrap::Bootstrap;
use xds::{Any, json as xds_json, type_url};

use crate::admin::Inner;
use crate::admin::pages::{parameter, pretty};

/// The resources a proxy was given, undecoded.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    pub bootstrap: Option<Bootstrap>,
    /// By type URL, then name.
    pub resources: BTreeMap<String, BTreeMap<String, RawResource>>,
}

/// One resource: where it came from and what became of it.
#[derive(Clone, Debug)]
pub struct RawResource {
    pub version: String,
    pub body: Any,
    /// Out of the bootstrap, not from a control plane.
    pub is_static: bool,
    /// Why its latest version was refused; the one shown is in use.
    pub error: Option<String>,
}

impl Raw {
    /// A bootstrap's own resources.
    pub fn of_bootstrap(bootstrap: &Bootstrap) -> Raw {
        let mut raw = Raw { bootstrap: Some(bootstrap.clone()), resources: BTreeMap::new() };
        let resources = bootstrap.static_resources.clone().unwrap_or_default();
        for (index, listener) in resources.listeners.iter().enumerate() {
            let name =
                if listener.name.is_empty() { format!("listener_{index}") } else { listener.name.clone() };
            raw.add_static(type_url::LISTENER, name, xds::pack(listener));
        }
        for cluster in &resources.clusters {
            raw.add_static(type_url::CLUSTER, cluster.name.clone(), xds::pack(cluster));
        }
        raw
    }

    fn add_static(&mut self, type_url: &str, name: String, body: Any) {
        let resource = RawResource { version: String::new(), body, is_static: true, error: None };
        self.resources.entry(type_url.to_owned()).or_default().insert(name, resource);
    }

    /// Takes over a batch of a type as it was applied.
    pub fn apply(
        &mut self,
        type_url: &str,
        resources: &[model::config::Resource],
        removed: &[String],
        refused: &[model::Rejection],
    ) {
        let of_type = self.resources.entry(type_url.to_owned()).or_default();
        for resource in resources {
            match refused.iter().find(|rejection| rejection.resource == resource.name) {
                None => {
                    let raw = RawResource {
                        version: resource.version.clone(),
                        body: resource.body.clone(),
                        is_static: false,
                        error: None,
                    };
                    of_type.insert(resource.name.clone(), raw);
                }
                Some(rejection) => {
                    if let Some(raw) = of_type.get_mut(&resource.name) {
                        raw.error = Some(rejection.reason.clone());
                    }
                }
            }
        }
        for name in removed {
            of_type.remove(name);
        }
    }
}

pub fn dump(inner: &Inner, query: &str) -> String {
    let raw = inner.raw.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let wanted = parameter(query, "name_regex").or(parameter(query, "name"));
    let of = |url: &str| -> Vec<(&String, &RawResource)> {
        let all = raw.resources.get(url).into_iter().flatten();
        all.filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted))).collect()
    };
    let mut configs = vec![];
    if let Some(bootstrap) = &raw.bootstrap {
        configs.push(json!({
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": xds_json::to_json(bootstrap).unwrap_or(Value::Null),
        }));
    }
    configs.push(section(
        "Clusters",
        "cluster",
        &of(type_url::CLUSTER),
        ("static_clusters", "dynamic_active_clusters"),
    ));
    if parameter(query, "include_eds").is_some() {
        configs.push(section(
            "Endpoints",
            "endpoint_config",
            &of(type_url::ENDPOINT),
            ("static_endpoint_configs", "dynamic_endpoint_configs"),
        ));
    }
    configs.push(listeners(&of(type_url::LISTENER)));
    configs.push(section(
        "Routes",
        "route_config",
        &of(type_url::ROUTE),
        ("static_route_configs", "dynamic_route_configs"),
    ));
    // Not in Envoy's dump: what our DNS answers.
    configs.extend(of(type_url::NAME_TABLE).into_iter().map(|(_, table)| body(table)));
    pretty(&json!({ "configs": configs }))
}

fn body(resource: &RawResource) -> Value {
    xds_json::any_to_json(&resource.body).unwrap_or(Value::Null)
}

fn section(kind: &str, field: &str, resources: &[(&String, &RawResource)], parts: (&str, &str)) -> Value {
    let mut out = json!({ "@type": format!("type.googleapis.com/envoy.admin.v3.{kind}ConfigDump") });
    let Some(map) = out.as_object_mut() else { return out };
    for (part, is_static) in [(parts.0, true), (parts.1, false)] {
        let entries: Vec<Value> = resources
            .iter()
            .filter(|(_, resource)| resource.is_static == is_static)
            .map(|(_, resource)| {
                let mut entry = json!({ field: body(resource) });
                add_state(&mut entry, resource);
                entry
            })
            .collect();
        if !entries.is_empty() {
            map.insert(part.to_owned(), entries.into());
        }
    }
    out
}

fn listeners(resources: &[(&String, &RawResource)]) -> Value {
    let mut out = json!({ "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump" });
    let Some(map) = out.as_object_mut() else { return out };
    let fixed: Vec<Value> = resources
        .iter()
        .filter(|(_, resource)| resource.is_static)
        .map(|(_, resource)| json!({ "listener": body(resource) }))
        .collect();
    let dynamic: Vec<Value> = resources
        .iter()
        .filter(|(_, resource)| !resource.is_static)
        .map(|(name, resource)| {
            let mut entry = json!({ "name": name, "active_state": {
                "version_info": resource.version, "listener": body(resource) } });
            if let Some(error) = &resource.error
                && let Some(entry) = entry.as_object_mut()
            {
                entry.insert("error_state".into(), json!({ "details": error }));
                entry.insert("client_status".into(), "NACKED".into());
            }
            entry
        })
        .collect();
    for (part, entries) in [("static_listeners", fixed), ("dynamic_listeners", dynamic)] {
        if !entries.is_empty() {
            map.insert(part.into(), entries.into());
        }
    }
    out
}

fn add_state(entry: &mut Value, resource: &RawResource) {
    let Some(entry) = entry.as_object_mut() else { return };
    if !resource.version.is_empty() {
        entry.insert("version_info".into(), resource.version.clone().into());
    }
    if let Some(error) = &resource.error {
        entry.insert("error_state".into(), json!({ "details": error }));
        entry.insert("client_status".into(), "NACKED".into());
    }
}
