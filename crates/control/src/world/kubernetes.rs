//! Kubernetes Services and the endpoints behind them, and the services that registered workloads imply.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};

use api::kubernetes::{EndpointSlice, PortReference, ServiceType, TransportProtocol};
use api::protocol::{Protocol, kubernetes_port};
use api::{Object, Spec, kubernetes};

use super::instances::{Instance, Instances, Source};
use super::service::{Endpoint, EndpointsKey, EndpointsOf, Port, Registry, Resolution, Service, UNSPECIFIED};
use super::{Age, Visibility};
use crate::workload::{Workload, WorkloadKey};

/// Istio's annotation for what Services have no field for.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// What a Kubernetes Service says of itself; `None` if the object is none.
pub(super) fn service(object: &Object, domain: &str, export_to: &[String]) -> Option<Service> {
    let Spec::Service(spec) = &object.spec else { return None };
    let (name, namespace) = (object.name(), object.namespace());
    let written: Vec<String> = match object.meta.annotations.get(EXPORT_TO) {
        Some(list) => list.split(',').map(|entry| entry.trim().to_owned()).collect(),
        None => Vec::new(),
    };
    let external = is_external(spec);
    let resolution = match () {
        () if external => Resolution::Alias,
        () if spec.is_headless() => Resolution::Passthrough,
        () => Resolution::Endpoints,
    };
    let mut addresses = spec.cluster_ips.iter().filter(|ip| !ip.is_empty() && *ip != "None").cloned();
    let address = addresses.next().unwrap_or_else(|| UNSPECIFIED.to_owned());
    let endpoints = if external { Vec::new() } else { all_of(name, namespace) };
    Some(Service {
        host: host(name, namespace, domain),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        object: Some(object.identity().clone()),
        registry: Registry::Kubernetes,
        age: Age::of_kubernetes(object),
        visibility: Visibility::new(&written, export_to, namespace),
        address,
        more_addresses: addresses.collect(),
        automatic_address: None,
        ports: ports_of(spec),
        resolution,
        mesh_external: false,
        labels: object.meta.labels.clone(),
        selector: spec.selector.clone(),
        external_name: external.then(|| spec.external_name.clone()),
        aliases: Vec::new(),
        subject_alt_names: Vec::new(),
        publish_not_ready: spec.publish_not_ready_addresses,
        traffic_distribution: spec.traffic_distribution.clone(),
        endpoints,
    })
}

/// The service that these workloads name and no object says anything of: its ports are theirs.
pub(super) fn implied(members: &[&Workload]) -> kubernetes::Service {
    let mut ports: BTreeMap<u16, String> = BTreeMap::new();
    for port in members.iter().flat_map(|member| &member.ports) {
        let known = ports.entry(port.port).or_default();
        if known.is_empty() {
            known.clone_from(&port.name);
        }
    }
    let ports = ports.into_iter().map(|(number, name)| kubernetes::ServicePort {
        name,
        port: number,
        target_port: PortReference::Number(number),
        ..Default::default()
    });
    kubernetes::Service { ports: ports.collect(), ..Default::default() }
}

/// The same as a service.
pub(super) fn implied_service(
    name: &str,
    namespace: &str,
    spec: &kubernetes::Service,
    domain: &str,
    export_to: &[String],
) -> Service {
    Service {
        host: host(name, namespace, domain),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        object: None,
        registry: Registry::Kubernetes,
        age: Age::Last,
        visibility: Visibility::new(&[], export_to, namespace),
        address: UNSPECIFIED.to_owned(),
        more_addresses: Vec::new(),
        automatic_address: None,
        ports: ports_of(spec),
        resolution: Resolution::Endpoints,
        mesh_external: false,
        labels: BTreeMap::new(),
        selector: BTreeMap::new(),
        external_name: None,
        aliases: Vec::new(),
        subject_alt_names: Vec::new(),
        publish_not_ready: false,
        traffic_distribution: String::new(),
        endpoints: all_of(name, namespace),
    }
}

/// Whether it is another name of a host.
pub(super) fn is_external(spec: &kubernetes::Service) -> bool {
    spec.type_ == ServiceType::ExternalName && !spec.external_name.is_empty()
}

pub(super) fn host(name: &str, namespace: &str, domain: &str) -> String {
    format!("{name}.{namespace}.svc.{domain}")
}

pub(super) fn key(name: &str, namespace: &str) -> EndpointsKey {
    format!("k8s/{namespace}/{name}").into()
}

fn all_of(name: &str, namespace: &str) -> Vec<EndpointsOf> {
    vec![EndpointsOf { key: key(name, namespace), ports: None }]
}

pub(super) fn ports_of(spec: &kubernetes::Service) -> Vec<Port> {
    let port = |port: &kubernetes::ServicePort| Port {
        name: port.name.clone(),
        number: port.port.into(),
        protocol: protocol_of(port),
        target: Some(port.target_port.clone()),
    };
    spec.ports.iter().map(port).collect()
}

/// What endpoints of Kubernetes Services are made from.
pub(super) struct Served<'a> {
    pub instances: &'a Instances,
    /// The service's EndpointSlices, in the order of their names.
    pub slices: Option<&'a BTreeMap<String, Arc<Object>>>,
    /// The workloads that name the service.
    pub named: Option<&'a BTreeSet<WorkloadKey>>,
}

impl Served<'_> {
    /// What the slices say; without any, what the selector finds. Registered workloads count either way.
    pub fn endpoints(&self, spec: &kubernetes::Service, namespace: &str) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for object in self.slices.iter().flat_map(|slices| slices.values()) {
            if let Spec::EndpointSlice(slice) = &object.spec {
                self.of_slice(spec, slice, &mut endpoints);
            }
        }
        if !spec.selector.is_empty() {
            for instance in self.instances.select(namespace, &spec.selector) {
                // The slices are about Pods; whoever is no Pod is in none of them.
                if self.slices.is_none() || !instance.is_pod() {
                    self.of_instance(spec, instance, &mut endpoints);
                }
            }
        }
        for workload in self.named.into_iter().flatten() {
            let instance = self.instances.of(&Source::Workload(workload.clone()));
            instance.iter().for_each(|instance| self.of_instance(spec, instance, &mut endpoints));
        }
        deduplicate(endpoints)
    }

    fn of_slice(&self, spec: &kubernetes::Service, slice: &EndpointSlice, endpoints: &mut Vec<Endpoint>) {
        for endpoint in &slice.endpoints {
            let conditions = &endpoint.conditions;
            let ready = conditions.ready.unwrap_or(true);
            if !ready && !spec.publish_not_ready_addresses {
                continue;
            }
            if let Some(address) = endpoint.addresses.first() {
                let pod = self.instances.at_address(address).find(|instance| instance.is_pod());
                for slice_port in &slice.ports {
                    let Some(number) = slice_port.port else { continue };
                    // Slices name the service's port they serve; a single unnamed one needs no name.
                    let served = spec.ports.iter().filter(|port| port.name == slice_port.name);
                    for service_port in served {
                        let mut made = match pod {
                            Some(pod) => pod.endpoint(number.into(), service_port.port.into()),
                            None => bare(address, number.into(), service_port.port.into()),
                        };
                        if pod.is_some() {
                            made.address.clone_from(address);
                        }
                        made.healthy = true;
                        if !endpoint.hostname.is_empty() {
                            made.hostname.clone_from(&endpoint.hostname);
                        }
                        if made.locality.zone.is_empty() {
                            made.locality.zone.clone_from(&endpoint.zone);
                        }
                        endpoints.push(made);
                    }
                }
            }
        }
    }

    fn of_instance(&self, spec: &kubernetes::Service, instance: &Instance, endpoints: &mut Vec<Endpoint>) {
        // A DNS name or a socket cannot stand behind a Kubernetes Service.
        if instance.address().parse::<std::net::IpAddr>().is_err() {
            return;
        }
        if !instance.ready && !spec.publish_not_ready_addresses {
            return;
        }
        for port in &spec.ports {
            if let Some(number) = instance.kubernetes_port(port.port, &port.name, &port.target_port) {
                endpoints.push(instance.endpoint(number, port.port.into()));
            }
        }
    }
}

impl Instance {
    pub(super) fn endpoint(&self, port: u32, service_port: u32) -> Endpoint {
        Endpoint {
            address: self.address().to_owned(),
            port,
            service_port,
            labels: self.labels.clone(),
            namespace: self.namespace.clone(),
            workload: self.name.clone(),
            service_account: self.service_account.clone(),
            locality: self.locality.clone(),
            weight: self.weight,
            mutual_tls: self.mutual_tls,
            hop: self.hop,
            healthy: true,
            hostname: self.hostname.clone(),
            network: self.network.clone(),
        }
    }
}

/// An address nothing more is known about.
fn bare(address: &str, port: u32, service_port: u32) -> Endpoint {
    static NO_LABELS: LazyLock<Arc<BTreeMap<String, String>>> = LazyLock::new(Arc::default);
    Endpoint {
        address: address.to_owned(),
        port,
        service_port,
        labels: NO_LABELS.clone(),
        namespace: String::new(),
        workload: String::new(),
        service_account: String::new(),
        locality: Default::default(),
        weight: 0,
        mutual_tls: false,
        hop: false,
        healthy: true,
        hostname: String::new(),
        network: String::new(),
    }
}

/// Two slices may overlap while one replaces the other.
fn deduplicate(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut seen = HashSet::with_capacity(endpoints.len());
    let keep: Vec<bool> = endpoints
        .iter()
        .map(|endpoint| seen.insert((endpoint.address.as_str(), endpoint.port, endpoint.service_port)))
        .collect();
    let mut keep = keep.into_iter();
    endpoints.retain(|_| keep.next().unwrap_or(true));
    endpoints
}

fn protocol_of(port: &kubernetes::ServicePort) -> Protocol {
    let udp = port.protocol == TransportProtocol::Udp;
    kubernetes_port(port.port, &port.name, udp, port.app_protocol.as_deref())
}
