//! The hosts whose health a worker checks, and when each is asked next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::health_check::{HealthCheck, Judgement};

use crate::call::state::CheckId;
use crate::clock::Time;
use crate::net::sockets::Key;
use crate::upstream::cluster::ClusterState;
use crate::upstream::cluster_core::ClusterConfig;
use crate::upstream::health::HostHealth;
use crate::upstream::host::HostRef;

/// The hosts this worker checks.
#[derive(Default)]
pub struct Checks {
    pub(super) hosts: BTreeMap<CheckId, HostCheck>,
    pub(super) by_address: HashMap<(Arc<str>, SocketAddr), CheckId>,
    /// When each is asked next; one that is being asked has no time here.
    pub(super) due: BTreeSet<(Time, CheckId)>,
    pub(super) next: CheckId,
}

/// A host that is checked.
pub struct HostCheck {
    pub(super) cluster: Rc<ClusterState>,
    pub config: Rc<ClusterConfig>,
    pub(super) address: SocketAddr,
    pub(super) told: model::endpoints::HostCheck,
    pub(super) health: Arc<HostHealth>,
    /// Where it is asked.
    pub target: HostRef,
    pub(super) judgement: Judgement,
    pub(super) due: Option<Time>,
    /// The process waits for its first check before it serves.
    pub(super) awaited: bool,
    pub tcp: TcpCheck,
}

/// The connection of a host's checks.
#[derive(Default)]
pub struct TcpCheck {
    pub connection: Option<Key>,
    /// The host is being asked.
    pub(super) asking: bool,
    pub(super) heard: Vec<u8>,
}

impl HostCheck {
    pub fn check(&self) -> Option<&HealthCheck> {
        self.config.health_check.as_ref()
    }
}

impl Checks {
    pub fn get(&mut self, id: CheckId) -> Option<&mut HostCheck> {
        self.hosts.get_mut(&id)
    }

    pub fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(time, _)| *time)
    }

    pub(super) fn schedule(&mut self, id: CheckId, at: Time) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.due = Some(at);
            self.due.insert((at, id));
        }
    }

    pub(super) fn take_due(&mut self, now: Time) -> Option<CheckId> {
        let (time, id) = *self.due.first().filter(|(time, _)| *time <= now)?;
        self.due.remove(&(time, id));
        if let Some(host) = self.hosts.get_mut(&id) {
            host.due = None;
        }
        Some(id)
    }
}
