//! A world as translation sees it: each question is noted, so that a change of its answer is a change of what was made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{MeshConfig, Object};

use super::instances::Instance;
use super::peer_authentication::MutualTls;
use super::policy_parts::{Connections, Hashing};
use super::reads::{Read, Reads, Topic};
use super::service::{Endpoint, EndpointsOf, Service};
use super::{DestinationRule, Settings, VirtualService, World};

/// Of whom something is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Owners<'a> {
    All,
    These(&'a BTreeSet<String>),
}

#[derive(Clone, Copy)]
pub struct View<'w> {
    world: &'w World,
    reads: &'w Reads,
}

impl World {
    /// This world, for something whose reads are noted there.
    pub fn view<'w>(&'w self, reads: &'w Reads) -> View<'w> {
        View { world: self, reads }
    }
}

impl<'w> View<'w> {
    fn note(&self, topic: Topic, subject: &[&str]) {
        self.reads.note(Read::of(topic, subject));
    }

    /// Everything is made anew when it changes, so that nobody has to say that it was asked.
    pub fn mesh(&self) -> &'w MeshConfig {
        &self.world.mesh
    }

    /// Never change.
    pub fn settings(&self) -> &'w Settings {
        &self.world.settings
    }

    /// What a namespace sees of services: its private ones, those exported to it by name, the public ones.
    pub fn services_seen_from(&self, namespace: &str, owners: Owners<'_>) -> Vec<&'w Arc<Service>> {
        let visible = self.world.services.visible();
        match owners {
            Owners::All => {
                self.note(Topic::Services, &[]);
                visible.seen_from(namespace).collect()
            }
            Owners::These(owners) => {
                owners.iter().for_each(|owner| self.note(Topic::ServicesOf, &[owner]));
                visible.seen_from_of(namespace, owners)
            }
        }
    }

    /// The services a namespace owns, oldest first.
    pub fn services_of(&self, namespace: &str) -> &'w [Arc<Service>] {
        self.note(Topic::ServicesOf, &[namespace]);
        self.world.services.of_owner(namespace)
    }

    /// The services of a host, by namespace.
    pub fn services_of_host(&self, host: &str) -> Option<&'w BTreeMap<String, Arc<Service>>> {
        self.note(Topic::Host, &[host]);
        self.world.services.of_host(host)
    }

    /// Whether a service of a wildcard has a host that no service has by itself.
    pub fn is_covered_by_wildcard(&self, host: &str) -> bool {
        self.note(Topic::Services, &[]);
        self.world.services.wildcards().any(|wildcard| api::hosts::is_subset(host, wildcard))
    }

    pub fn endpoints(&self, service: &Service) -> impl Iterator<Item = &'w Endpoint> + use<'w> {
        let of = |part: &EndpointsOf| {
            self.note(Topic::Endpoints, &[&part.key]);
            let ports = part.ports.clone();
            let all = self.world.endpoints.of(&part.key).iter();
            all.filter(move |one| ports.as_ref().is_none_or(|ports| ports.contains(&one.service_port)))
        };
        let parts: Vec<_> = service.endpoints.iter().map(of).collect();
        parts.into_iter().flatten()
    }

    pub fn endpoints_of(&self, service: &Service, port: u32) -> impl Iterator<Item = &'w Endpoint> + use<'w> {
        self.endpoints(service).filter(move |endpoint| endpoint.service_port == port)
    }

    /// The services that have an endpoint at an address, with their endpoints there.
    pub fn served_at<'a>(
        &self,
        address: &'a str,
    ) -> impl Iterator<Item = (&'w Arc<Service>, impl Iterator<Item = &'w Endpoint> + use<'a, 'w>)> + use<'a, 'w>
    {
        self.note(Topic::At, &[address]);
        let view = *self;
        self.world.endpoints.at(address).flat_map(move |key| {
            view.world.services.of_key(key).iter().map(move |service| {
                view.note(Topic::Host, &[&service.host]);
                let all = view.world.endpoints.of(key).iter();
                (service, all.filter(move |endpoint| endpoint.address == address))
            })
        })
    }

    /// Whether something other than HTTP is declared of an address and port.
    pub fn is_not_http(&self, address: &str, port: u32) -> bool {
        self.note(Topic::NotHttp, &[address]);
        self.world.endpoints.is_not_http(address, port)
    }

    /// Whether a service that is called by its endpoints' addresses has one here.
    pub fn is_headless_endpoint(&self, address: &str) -> bool {
        self.note(Topic::Headless, &[address]);
        self.world.endpoints.is_headless(address)
    }

    /// The workload that is registered at this address, completed by its Deployment.
    pub fn registered(&self, namespace: &str, address: &str) -> Option<&'w Instance> {
        self.note(Topic::Registered, &[address]);
        let mut candidates = self.world.instances.at_address(address);
        candidates.find(|instance| instance.is_registered() && instance.namespace == namespace)
    }

    pub fn pod(&self, name: &str, namespace: &str) -> Option<&'w Instance> {
        self.note(Topic::Pod, &[name, namespace]);
        self.world.instances.pod(name, namespace)
    }

    /// VirtualServices bound to a gateway (or `mesh`) that a proxy of the namespace sees, in the order that decides.
    pub fn rules(&self, gateway: &str, namespace: &str, owners: Owners<'_>) -> Vec<&'w Arc<VirtualService>> {
        let bound = self.world.virtual_services.bound(gateway);
        match owners {
            Owners::All => {
                self.note(Topic::Rules, &[gateway]);
                bound.into_iter().flat_map(|visible| visible.seen_from(namespace)).collect()
            }
            Owners::These(owners) => {
                owners.iter().for_each(|owner| self.note(Topic::RulesOf, &[gateway, owner]));
                bound.map(|visible| visible.seen_from_of(namespace, owners)).unwrap_or_default()
            }
        }
    }

    /// The DestinationRules for a service at a client.
    pub fn policies(&self, client: &str, service: &Service) -> Vec<&'w DestinationRule> {
        self.note(Topic::Policy, &[&service.host]);
        self.policies_unnoted(client, service)
    }

    /// What of the one that `choose` picks requests are hashed by.
    pub fn hashing(
        &self,
        client: &str,
        service: &Service,
        choose: impl FnOnce(&[&'w DestinationRule]) -> Option<&'w DestinationRule>,
    ) -> Option<&'w Hashing> {
        self.note(Topic::Hashing, &[&service.host]);
        choose(&self.policies_unnoted(client, service)).map(|rule| &rule.hashing)
    }

    /// What of the one that `choose` picks is about connections as a whole.
    pub fn connections(
        &self,
        client: &str,
        service: &Service,
        choose: impl FnOnce(&[&'w DestinationRule]) -> Option<&'w DestinationRule>,
    ) -> Option<&'w Connections> {
        self.note(Topic::Connections, &[&service.host]);
        choose(&self.policies_unnoted(client, service)).map(|rule| &rule.connections)
    }

    fn policies_unnoted(&self, client: &str, service: &Service) -> Vec<&'w DestinationRule> {
        self.note(Topic::WildcardPolicies, &[]);
        let root = &self.world.mesh.root_namespace;
        self.world.destination_rules.for_service(root, client, &service.host, &service.namespace)
    }

    /// Which mutual TLS a workload demands, by the labels it has.
    pub fn mutual_tls(
        &self,
        namespace: &str,
        has_labels: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> MutualTls {
        let root = &self.world.mesh.root_namespace;
        self.note(Topic::PeerAuthentications, &[namespace]);
        self.note(Topic::PeerAuthentications, &[root]);
        self.world.peer_authentications.of_workload(root, namespace, has_labels)
    }

    /// The Sidecars of a namespace, oldest first.
    pub fn sidecars(&self, namespace: &str) -> impl Iterator<Item = &'w Arc<Object>> + use<'w> {
        self.note(Topic::Sidecars, &[namespace]);
        self.world.sidecars.of(namespace)
    }

    /// Oldest first.
    pub fn gateways(&self) -> impl Iterator<Item = &'w Arc<Object>> + use<'w> {
        self.note(Topic::Gateways, &[]);
        self.world.gateways.values()
    }
}
