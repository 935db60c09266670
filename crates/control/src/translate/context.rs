//! What every step of a translation looks at.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use api::mesh_config::InterceptionMode;
use api::networking::Destination;

use super::{Options, Profile, Proxy, ProxyKind, names};
use crate::scope::{Scope, Unmatched};
use crate::world::service::Service;
use crate::world::{Note, World};

pub struct Context<'a> {
    pub world: &'a World,
    pub proxy: &'a Proxy,
    pub options: &'a Options,
    /// The proxy's labels as they count for selectors.
    pub labels: BTreeMap<String, String>,
    notes: RefCell<BTreeSet<Note>>,
}

impl<'a> Context<'a> {
    pub fn new(world: &'a World, proxy: &'a Proxy, options: &'a Options) -> Self {
        Self { world, proxy, options, labels: labels(world, proxy), notes: RefCell::default() }
    }

    pub fn scope(&self) -> Scope<'a> {
        match self.proxy.kind {
            ProxyKind::Sidecar => Scope::of_sidecar(self.world, &self.proxy.namespace, &self.labels),
            ProxyKind::Gateway => Scope::of_gateway(self.world, &self.proxy.namespace, &self.labels),
        }
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

    /// Whether this is for filamesh's own proxy, which does not do all of it yet.
    pub fn is_live(&self) -> bool {
        self.options.profile == Profile::Mesh && !self.options.identity
    }

    /// Whether this is for a proxy of ours that sends the multiplexed hop.
    pub fn sends_hops(&self) -> bool {
        self.options.profile == Profile::Mesh && self.proxy.meta(xds::node::HOP) == Some(xds::node::HOP_H2)
    }

    /// The `NS.svc.DOMAIN` short names are completed with at the client.
    pub fn dns_domain(&self) -> String {
        format!("{}.svc.{}", self.proxy.namespace, self.world.settings.domain)
    }

    pub fn is_ipv6(&self) -> bool {
        let addresses =
            || std::iter::once(self.proxy.address()).chain(self.proxy.ips.iter().map(String::as_str));
        addresses().any(|address| !address.is_empty())
            && addresses().filter(|address| !address.is_empty()).all(|address| address.contains(':'))
    }

    pub fn wildcard(&self) -> &'static str {
        if self.is_ipv6() { "::" } else { "0.0.0.0" }
    }

    pub fn loopback(&self) -> &'static str {
        if self.is_ipv6() { "::1" } else { "127.0.0.1" }
    }

    pub fn interception(&self) -> InterceptionMode {
        let written = self.proxy.meta("INTERCEPTION_MODE").and_then(InterceptionMode::parse);
        written.unwrap_or(self.world.mesh.default_config.interception_mode)
    }

    pub fn idle_timeout(&self) -> Option<xds::Duration> {
        let text = self.proxy.meta("IDLE_TIMEOUT")?;
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
        self.proxy.meta("HTTP10") == Some("1")
    }

    /// Whether automatic addresses are what the client's DNS answers with: always where we give them out, else if the
    /// proxy says so.
    pub fn uses_automatic_addresses(&self) -> bool {
        let by_istio =
            self.options.env.get("PILOT_ENABLE_IP_AUTOALLOCATE").is_some_and(|value| value == "false");
        self.world.settings.assign_addresses
            || (by_istio && self.proxy.meta_flag("DNS_CAPTURE") && self.proxy.meta_flag("DNS_AUTO_ALLOCATE"))
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

/// The labels a proxy has: what its workload registered, completed by its Deployment, else what it says.
pub fn labels(world: &World, proxy: &Proxy) -> BTreeMap<String, String> {
    let registered = world.registered_labels(&proxy.namespace, proxy.address());
    registered.cloned().unwrap_or_else(|| proxy.labels.clone())
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
