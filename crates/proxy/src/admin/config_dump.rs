//! `/config_dump`: Envoy's `admin.v3.ConfigDump` as JSON, from the resources as they came.

use std::sync::PoisonError;

use serde_json::{Value, json};
use xds::{json as xds_json, type_url};

use crate::admin::inner::Inner;
use crate::admin::raw::RawResource;
use crate::admin::text::{parameter, pretty};

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
