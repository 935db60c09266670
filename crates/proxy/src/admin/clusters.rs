//! `/clusters`: the hosts of every cluster and how they fare, in Envoy's two forms.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use model::cluster::ClusterKind;
use model::endpoints::HostAddress;
use serde_json::json;

use crate::admin::text::pretty;
use crate::runtime::ProxyHandle;
use crate::upstream::host::HostReport;

/// A cluster with the hosts the configuration names, completed by what workers know of them.
struct Row {
    name: Arc<str>,
    kind: ClusterKind,
    limits: [model::cluster::Breakers; 2],
    hosts: BTreeMap<SocketAddr, HostReport>,
}

fn rows(handle: &ProxyHandle) -> Vec<Row> {
    let snapshot = handle.snapshot();
    let mut known: BTreeMap<Arc<str>, BTreeMap<SocketAddr, HostReport>> = BTreeMap::new();
    for report in handle.hosts() {
        let hosts = known.entry(report.cluster.clone()).or_default();
        match hosts.get_mut(&report.address) {
            Some(sum) => sum.add(&report),
            None => drop(hosts.insert(report.address, report)),
        }
    }
    let mut rows: Vec<Row> = snapshot
        .clusters()
        .map(|(_, entry)| {
            let cluster = &entry.cluster;
            let mut hosts = known.remove(&cluster.name).unwrap_or_default();
            for host in &entry.endpoints.hosts {
                if let HostAddress::Ip(address) = host.address {
                    hosts.entry(address).or_insert_with(|| HostReport::unused(&cluster.name, address, host));
                }
            }
            Row { name: cluster.name.clone(), kind: cluster.kind, limits: cluster.breakers, hosts }
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Envoy's text form: `cluster::host::name::value` lines.
pub fn text(handle: &ProxyHandle) -> String {
    let mut out = String::new();
    for row in rows(handle) {
        let name = &row.name;
        // Writing to a string can not fail.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        line(format_args!("{name}::observability_name::{name}"));
        for (priority, limits) in ["default", "high"].iter().zip(&row.limits) {
            line(format_args!("{name}::{priority}_priority::max_connections::{}", limits.max_connections));
            line(format_args!(
                "{name}::{priority}_priority::max_pending_requests::{}",
                limits.max_pending_requests
            ));
            line(format_args!("{name}::{priority}_priority::max_requests::{}", limits.max_requests));
            line(format_args!("{name}::{priority}_priority::max_retries::{}", limits.max_retries));
        }
        line(format_args!("{name}::added_via_api::true"));
        for (address, host) in &row.hosts {
            let values: [(&str, String); 11] = [
                ("cx_active", host.connections.to_string()),
                ("cx_connect_fail", host.failed_connects.to_string()),
                ("rq_active", host.active.to_string()),
                ("rq_error", host.errors.to_string()),
                ("rq_success", host.total_requests.saturating_sub(host.errors).to_string()),
                ("rq_total", host.total_requests.to_string()),
                ("hostname", host.hostname.to_string()),
                ("health_flags", health_flags(host)),
                ("weight", host.weight.to_string()),
                ("priority", "0".to_owned()),
                ("success_rate", "-1".to_owned()),
            ];
            for (key, value) in values {
                line(format_args!("{name}::{address}::{key}::{value}"));
            }
        }
    }
    out
}

/// In Envoy's order.
fn health_flags(host: &HostReport) -> String {
    let flags = [
        (host.fails_checks, "/failed_active_hc"),
        (host.ejected, "/failed_outlier_check"),
        (!host.healthy, "/failed_eds_health"),
    ];
    let set: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
    if set.is_empty() { "healthy".to_owned() } else { set }
}

/// Envoy's `admin.v3.Clusters` as JSON.
pub fn json(handle: &ProxyHandle) -> String {
    let statuses: Vec<_> = rows(handle)
        .iter()
        .map(|row| {
            let hosts: Vec<_> = row
                .hosts
                .iter()
                .map(|(address, host)| {
                    let counter = |name: &str, value: u64| json!({ "name": name, "value": value.to_string() });
                    let gauge = |name: &str, value: u64| {
                        json!({ "name": name, "value": value.to_string(), "type": "GAUGE" })
                    };
                    let mut health = json!({ "eds_health_status": if host.healthy { "HEALTHY" } else { "UNHEALTHY" } });
                    let flags = [
                        ("failed_active_health_check", host.fails_checks),
                        ("failed_outlier_check", host.ejected),
                    ];
                    for (flag, _) in flags.into_iter().filter(|(_, set)| *set) {
                        health[flag] = true.into();
                    }
                    json!({
                        "address": { "socket_address": {
                            "address": address.ip().to_string(), "port_value": address.port() } },
                        "stats": [
                            counter("cx_connect_fail", host.failed_connects),
                            gauge("cx_active", host.connections.into()),
                            counter("rq_error", host.errors),
                            counter("rq_success", host.total_requests.saturating_sub(host.errors)),
                            counter("rq_total", host.total_requests),
                            gauge("rq_active", host.active.into()),
                        ],
                        "health_status": health,
                        "weight": host.weight,
                        "hostname": &*host.hostname,
                    })
                })
                .collect();
            json!({
                "name": &*row.name,
                "added_via_api": true,
                "host_statuses": hosts,
                "observability_name": &*row.name,
                "type": format!("{:?}", row.kind),
            })
        })
        .collect();
    pretty(&json!({ "cluster_statuses": statuses }))
}
