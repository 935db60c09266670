//! What the mesh's DNS answers a client: every visible service, also by the short names that work from its namespace.

use std::collections::BTreeMap;

use xds::nds::NameTable;
use xds::nds::name_table::NameInfo;

use super::context::Context;
use crate::scope::Scope;
use crate::world::service::{Registry, Resolution, Service, UNSPECIFIED};

/// Keys: the full name of every service, and of a headless one's Pods. Short names are completed by the client; for
/// Kubernetes services the table says of what.
pub fn build(context: &Context<'_>, scope: &Scope) -> NameTable {
    let mut table: BTreeMap<String, NameInfo> = BTreeMap::new();
    let services = scope.egress.iter().flat_map(|listener| &listener.services).chain(&scope.services);
    for service in services {
        let addresses = addresses(context, service);
        if !addresses.is_empty() {
            for host in std::iter::once(&service.host).chain(&service.aliases) {
                let info = table.entry(host.clone()).or_insert_with(|| info(service));
                for address in &addresses {
                    if !info.ips.contains(address) {
                        info.ips.push(address.clone());
                    }
                }
            }
        }
        if service.is_headless() {
            pods(context, &mut table, service);
        }
    }
    NameTable { table }
}

fn addresses(context: &Context<'_>, service: &Service) -> Vec<String> {
    if service.resolution == Resolution::Alias {
        return Vec::new();
    }
    let own = service.addresses_for(context.uses_automatic_addresses());
    let mut addresses: Vec<String> =
        own.filter(|address| !address.contains('/')).map(str::to_owned).collect();
    if addresses.is_empty() && service.is_headless() && service.address == UNSPECIFIED {
        // Without an address of its own, all of its Pods.
        let mut pods: Vec<String> = context
            .view
            .endpoints(service)
            .filter(|endpoint| endpoint.address.parse::<std::net::IpAddr>().is_ok())
            .map(|endpoint| endpoint.address.clone())
            .collect();
        pods.sort();
        pods.dedup();
        addresses = pods;
    }
    addresses
}

fn pods(context: &Context<'_>, table: &mut BTreeMap<String, NameInfo>, service: &Service) {
    for endpoint in context.view.endpoints(service) {
        // StatefulSets: the Pod's own name under the service's.
        let name = if endpoint.hostname.is_empty() { &endpoint.workload } else { &endpoint.hostname };
        if name.is_empty() {
            continue;
        }
        let shortname = format!("{name}.{}", service.name);
        let entry = table
            .entry(format!("{name}.{}", service.host))
            .or_insert_with(|| NameInfo { shortname, ..info(service) });
        if !entry.ips.contains(&endpoint.address) {
            entry.ips.push(endpoint.address.clone());
        }
    }
}

fn info(service: &Service) -> NameInfo {
    match service.registry {
        Registry::Kubernetes => NameInfo {
            registry: "Kubernetes".into(),
            shortname: service.name.clone(),
            namespace: service.namespace.clone(),
            ..Default::default()
        },
        Registry::ServiceEntry => NameInfo { registry: "External".into(), ..Default::default() },
    }
}
