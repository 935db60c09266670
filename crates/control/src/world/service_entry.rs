//! ServiceEntries as services: one for each host and address.

use api::networking::{Location, Resolution as Written, ServiceEntry};
use api::protocol::istio_port;
use api::{Object, Spec};

use super::instances::{self, Instances};
use super::service::{Endpoint, EndpointsKey, EndpointsOf, Port, Registry, Resolution, Service, UNSPECIFIED};
use super::{Age, Visibility};

const UNIX: &str = "unix://";

/// The services of a ServiceEntry, in the order written.
pub(super) fn services(object: &Object, export_to: &[String]) -> Vec<Service> {
    let Spec::ServiceEntry(entry) = &object.spec else { return Vec::new() };
    let namespace = object.namespace();
    let ports: Vec<Port> = entry
        .ports
        .iter()
        .map(|port| Port {
            name: port.name.clone(),
            number: port.number,
            protocol: istio_port(&port.protocol, &port.name),
            target: None,
        })
        .collect();
    let addresses = addresses(entry);
    let mut services = Vec::new();
    for host in &entry.hosts {
        let endpoints = vec![EndpointsOf { key: key(object, host), ports: None }];
        for address in &addresses {
            services.push(Service {
                host: host.to_lowercase(),
                name: host.clone(),
                namespace: namespace.to_owned(),
                object: Some(object.identity().clone()),
                registry: Registry::ServiceEntry,
                age: Age::of_istio(object),
                visibility: Visibility::new(&entry.export_to, export_to, namespace),
                address: address.clone(),
                more_addresses: Vec::new(),
                automatic_address: None,
                ports: ports.clone(),
                resolution: match entry.resolution {
                    Written::None => Resolution::Passthrough,
                    Written::Static => Resolution::Endpoints,
                    Written::Dns => Resolution::Dns,
                    Written::DnsRoundRobin => Resolution::DnsRoundRobin,
                    Written::DynamicDns => Resolution::DynamicDns,
                },
                mesh_external: entry.location == Location::MeshExternal,
                labels: object.meta.labels.clone(),
                selector: entry
                    .workload_selector
                    .as_ref()
                    .map(|selector| selector.labels.clone())
                    .unwrap_or_default(),
                external_name: None,
                aliases: Vec::new(),
                subject_alt_names: entry.subject_alt_names.clone(),
                publish_not_ready: false,
                traffic_distribution: String::new(),
                endpoints: endpoints.clone(),
            });
        }
    }
    services
}

/// The endpoints of all hosts of a ServiceEntry by their keys.
pub(super) fn endpoints(object: &Object, instances: &Instances) -> Vec<(EndpointsKey, Vec<Endpoint>)> {
    let Spec::ServiceEntry(entry) = &object.spec else { return Vec::new() };
    let of_host =
        |host: &String| (key(object, host), endpoints_of_host(entry, host, object.namespace(), instances));
    entry.hosts.iter().map(of_host).collect()
}

fn key(object: &Object, host: &str) -> EndpointsKey {
    format!("entry/{}/{}/{host}", object.namespace(), object.name()).into()
}

/// Addresses and networks as they are bound: a network of one address is that address.
fn addresses(entry: &ServiceEntry) -> Vec<String> {
    let mut addresses = Vec::new();
    for written in &entry.addresses {
        match written.split_once('/') {
            None if written.parse::<std::net::IpAddr>().is_ok() => addresses.push(written.clone()),
            Some((address, "32")) if address.parse::<std::net::Ipv4Addr>().is_ok() => {
                addresses.push(address.to_owned());
            }
            Some((address, "128")) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                addresses.push(address.to_owned());
            }
            Some((address, length))
                if address.parse::<std::net::IpAddr>().is_ok() && length.parse::<u8>().is_ok() =>
            {
                addresses.push(written.clone());
            }
            _ => {}
        }
    }
    if addresses.is_empty() {
        addresses.push(UNSPECIFIED.to_owned());
    }
    addresses
}

fn endpoints_of_host(entry: &ServiceEntry, host: &str, namespace: &str, known: &Instances) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    let by_dns = matches!(entry.resolution, Written::Dns | Written::DnsRoundRobin);
    for port in &entry.ports {
        match &entry.workload_selector {
            Some(selector) => {
                for instance in known.select(namespace, &selector.labels).filter(|instance| instance.ready) {
                    let number = instance.entry_port(&port.name, port.number, port.target_port);
                    endpoints.push(socket(instance.endpoint(number, port.number)));
                }
            }
            // A name to resolve, and nothing else said: the host is the name.
            None if by_dns && entry.endpoints.is_empty() => {
                let number = if port.target_port > 0 { port.target_port } else { port.number };
                let mut itself = instances::of_entry(&Default::default(), "", namespace);
                itself.addresses = vec![host.to_owned()];
                endpoints.push(itself.endpoint(number, port.number));
            }
            None => {
                for written in &entry.endpoints {
                    let instance = instances::of_entry(written, "", namespace);
                    let number = instance.entry_port(&port.name, port.number, port.target_port);
                    endpoints.push(socket(instance.endpoint(number, port.number)));
                }
            }
        }
    }
    endpoints
}

/// `unix:///path` becomes the path, without a port.
fn socket(mut endpoint: Endpoint) -> Endpoint {
    if let Some(path) = endpoint.address.strip_prefix(UNIX) {
        endpoint.address = path.to_owned();
        endpoint.port = 0;
    }
    endpoint
}
