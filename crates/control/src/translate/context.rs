//! What every step of a translation looks at.

use std::cell::RefCell;
use std::collections::BTreeSet;

use api::MeshConfig;
use api::mesh_config::InterceptionMode;
use api::networking::Destination;

use super::{Options, names};
use crate::proxy::{Facts, Profile, ProxyKind};
use crate::scope::{self, Scope, Unmatched};
use crate::world::service::Service;
use crate::world::{Connections, DestinationRule, Hashing, Note, View};
use xds::node::Feature;

pub struct Context<'a> {
    /// The world; what is read of it is noted.
    pub view: View<'a>,
    /// The proxy; what is asked of it is noted.
    pub facts: &'a Facts<'a>,
    pub options: &'a Options,
    notes: RefCell<BTreeSet<Note>>,
}

impl<'a> Context<'a> {
    pub fn new(view: View<'a>, facts: &'a Facts<'a>, options: &'a Options) -> Self {
        Self { view, facts, options, notes: RefCell::default() }
    }

    pub fn mesh(&self) -> &'a MeshConfig {
        self.view.mesh()
    }

    pub fn scope(&self) -> Scope {
        match self.facts.kind() {
            ProxyKind::Sidecar => Scope::of_sidecar(self.view, self.facts),
            ProxyKind::Gateway => Scope::of_gateway(self.view, self.facts),
        }
    }

    /// The Sidecar of this proxy.
    pub fn sidecar(&self) -> Option<std::sync::Arc<api::Object>> {
        let namespace = self.facts.namespace();
        scope::sidecar_of(self.view, namespace, |labels| self.facts.has_labels(labels))
    }

    /// The rule for a host in scope: one that selects this proxy, else one for everybody.
    pub fn destination_rule(&self, scope: &Scope, host: &str) -> Option<&'a DestinationRule> {
        let service = scope.service(host)?;
        self.choose(&self.view.policies(self.facts.namespace(), service))
    }

    /// What requests to a host in scope are hashed by.
    pub fn hashing(&self, scope: &Scope, host: &str) -> Option<&'a Hashing> {
        let service = scope.service(host)?;
        self.view.hashing(self.facts.namespace(), service, |rules| self.choose(rules))
    }

    /// What is said of connections to a host in scope that are forwarded whole.
    pub fn connections(&self, scope: &Scope, host: &str) -> Option<&'a Connections> {
        let service = scope.service(host)?;
        self.view.connections(self.facts.namespace(), service, |rules| self.choose(rules))
    }

    fn choose<'r>(&self, rules: &[&'r DestinationRule]) -> Option<&'r DestinationRule> {
        let selecting = rules.iter().find(|rule| {
            rule.namespace == self.facts.namespace()
                && rule.selector.as_ref().is_some_and(|own| self.facts.has_labels(&own.match_labels))
        });
        selecting.or_else(|| rules.iter().rev().find(|rule| rule.selector.is_none())).copied()
    }

    pub fn note(&self, note: Note) {
        self.notes.borrow_mut().insert(note);
    }

    pub fn take_notes(&self) -> Vec<Note> {
        self.notes.take().into_iter().collect()
    }

    /// Whether filters of Istio's own build are understood.
    pub fn has_istio_filters(&self) -> bool {
        matches!(self.options.profile, Profile::Istio | Profile::Mesh)
    }

    /// Whether whoever this is for does it. A proxy of ours names what it does in its node; Envoys do all of it.
    pub fn does(&self, feature: Feature) -> bool {
        match self.options.profile {
            Profile::Vanilla | Profile::Istio => true,
            Profile::Grpc => !matches!(feature, Feature::UpstreamTls | Feature::ProxyProtocol),
            Profile::Mesh => {
                let told = self.facts.metadata(xds::node::FEATURES).unwrap_or_default();
                told.split_ascii_whitespace().any(|name| name == feature.name())
            }
        }
    }

    /// Whether this is for a gRPC client without a proxy.
    pub fn is_grpc(&self) -> bool {
        self.options.profile == Profile::Grpc
    }

    /// Whether this is for a proxy of ours that sends the multiplexed hop.
    pub fn sends_hops(&self) -> bool {
        self.options.profile == Profile::Mesh
            && self.facts.metadata(xds::node::HOP).as_deref() == Some(xds::node::HOP_H2)
    }

    /// The `NS.svc.DOMAIN` short names are completed with at the client.
    pub fn dns_domain(&self) -> String {
        format!("{}.svc.{}", self.facts.namespace(), self.view.settings().domain)
    }

    pub fn is_ipv6(&self) -> bool {
        self.facts.is_ipv6()
    }

    pub fn wildcard(&self) -> &'static str {
        if self.is_ipv6() { "::" } else { "0.0.0.0" }
    }

    pub fn loopback(&self) -> &'static str {
        if self.is_ipv6() { "::1" } else { "127.0.0.1" }
    }

    pub fn interception(&self) -> InterceptionMode {
        let written = self.facts.metadata("INTERCEPTION_MODE");
        let written = written.as_deref().and_then(InterceptionMode::parse);
        written.unwrap_or(self.mesh().default_config.interception_mode)
    }

    pub fn idle_timeout(&self) -> Option<xds::Duration> {
        let text = self.facts.metadata("IDLE_TIMEOUT")?;
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let number: i64 = number.parse().ok()?;
        let seconds = match unit {
            "s" => number,
            "m" => number.checked_mul(60)?,
            "h" => number.checked_mul(3600)?,
            _ => return None,
        };
        Some(super::values::seconds(seconds))
    }

    pub fn http10(&self) -> bool {
        self.facts.metadata("HTTP10").as_deref() == Some("1")
    }

    /// Whether automatic addresses are what the client's DNS answers with: always where we give them out, else if the
    /// proxy says so.
    pub fn uses_automatic_addresses(&self) -> bool {
        let by_istio =
            self.options.env.get("PILOT_ENABLE_IP_AUTOALLOCATE").is_some_and(|value| value == "false");
        let by_proxy = || {
            let flag = |name| self.facts.metadata_flag(name);
            flag("DNS_CAPTURE") & flag("DNS_AUTO_ALLOCATE")
        };
        self.view.settings().assign_addresses || (by_istio && by_proxy())
    }

    pub fn address_of<'s>(&self, service: &'s Service) -> &'s str {
        service.address_for(self.uses_automatic_addresses())
    }

    /// Where unmatched TCP traffic goes.
    pub fn unmatched_cluster(&self, unmatched: &Unmatched) -> String {
        match unmatched {
            Unmatched::Allow | Unmatched::AllowByHost => names::PASSTHROUGH.to_owned(),
            Unmatched::Refuse => names::BLACK_HOLE.to_owned(),
            Unmatched::Proxy(destination) => destination_cluster(destination, None, 0),
        }
    }
}

/// The cluster of a destination: its port, else the service's only one, else the listener's
/// (`istio-behaviour` rule 14). An ExternalName stands for the host it names.
pub fn destination_cluster(
    destination: &Destination,
    service: Option<&Service>,
    listener_port: u32,
) -> String {
    if destination.host.is_empty() {
        return names::UNKNOWN_SERVICE.to_owned();
    }
    let host = service.and_then(|service| service.external_name.as_deref()).unwrap_or(&destination.host);
    let port = match (&destination.port, service.map(|service| service.ports.as_slice())) {
        (Some(port), _) => port.number,
        (None, Some([only])) => only.number,
        (None, _) => listener_port,
    };
    names::outbound(port, &destination.subset, host)
}
