//! One stream: what it is to hold, how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Instant;

use xds::delta_server::{Connection, Kind, LaneStatus, Refused, ResourceSet};

use crate::lock::lock;
use crate::node::Node;
use crate::proxy::ProxyKind;
use crate::registrations::{StreamId, millis_now};
use crate::shapes::{self, ProxyStatus, SyncState, TypeSync};

/// Shared by the stream's task, the engine and the status pages.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: StreamId,
    pub(crate) node: Node,
    pub(crate) connected_at: u64,
    slot: Mutex<Slot>,
    /// The generation of the newest set it was offered.
    offered: AtomicU64,
    /// Absent until the first set is there.
    pub(crate) connection: Mutex<Option<Connection>>,
}

/// The newest set that the stream's task has not taken yet.
#[derive(Debug, Default)]
struct Slot {
    newest: Option<Arc<ResourceSet>>,
    waker: Option<Waker>,
}

impl Peer {
    pub(crate) fn new(id: StreamId, node: Node) -> Self {
        Self {
            id,
            node,
            connected_at: millis_now(),
            slot: Mutex::default(),
            offered: AtomicU64::new(0),
            connection: Mutex::new(None),
        }
    }

    /// Replaces what it is to hold and wakes its task.
    pub(crate) fn offer(&self, set: Arc<ResourceSet>) {
        self.offered.store(set.generation, Ordering::Release);
        let waker = {
            let mut slot = lock(&self.slot);
            slot.newest = Some(set);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The newest set, once; without one the task is woken when there is.
    pub(crate) fn take(&self, cx: &Context<'_>) -> Option<Arc<ResourceSet>> {
        let mut slot = lock(&self.slot);
        let newest = slot.newest.take();
        if newest.is_none() {
            slot.waker = Some(cx.waker().clone());
        }
        newest
    }

    /// The newest generation that is live on it; 0: none yet. Whoever has acknowledged the newest set there was for it has
    /// `newest`, too: nothing in what came since was for it.
    pub(crate) fn live_generation(&self, newest: u64) -> u64 {
        // Before its connection is looked at: a set that comes in between only makes it look behind.
        let offered = self.offered.load(Ordering::Acquire);
        match lock(&self.connection).as_ref().map(Connection::live_generation) {
            None => 0,
            Some(live) if live >= offered => live.max(newest),
            Some(live) => live,
        }
    }

    pub(crate) fn current(&self) -> Option<Arc<ResourceSet>> {
        lock(&self.connection).as_ref().map(|c| c.current().clone())
    }

    /// When the oldest change of each type was made that it has not answered yet.
    pub(crate) fn behind(&self) -> [Option<Instant>; Kind::COUNT] {
        lock(&self.connection).as_ref().map(Connection::behind).unwrap_or_default()
    }

    pub(crate) fn refused(&self) -> Vec<shapes::Refused> {
        let refused = lock(&self.connection).as_ref().map(Connection::refused);
        refused.unwrap_or_default().into_iter().map(shape).collect()
    }

    pub(crate) fn status(&self, newest: u64) -> ProxyStatus {
        let generation = self.live_generation(newest);
        let connection = lock(&self.connection);
        let lanes = connection.as_ref().map(Connection::status);
        let refused = connection.as_ref().map(Connection::refused).unwrap_or_default();
        drop(connection);
        ProxyStatus {
            proxy: self.node.id.clone(),
            name: self.node.name.clone(),
            namespace: self.node.proxy.namespace.clone(),
            kind: match self.node.proxy.kind {
                ProxyKind::Sidecar => "sidecar".into(),
                ProxyKind::Gateway => "router".into(),
            },
            profile: format!("{:?}", self.node.profile).to_lowercase(),
            version: self.node.version.clone(),
            connected_at: self.connected_at,
            generation,
            types: lanes.into_iter().flatten().map(|lane| sync(&lane)).collect(),
            refused: refused.into_iter().map(shape).collect(),
        }
    }
}

fn sync(lane: &LaneStatus) -> TypeSync {
    let state = match lane {
        LaneStatus { asked: false, .. } => SyncState::NotSent,
        LaneStatus { synced: true, .. } => SyncState::Synced,
        LaneStatus { .. } => SyncState::Stale,
    };
    TypeSync {
        kind: lane.kind.short().to_owned(),
        state,
        resources: lane.resources,
        last_ack: lane.last_ack.map(crate::shapes::millis),
    }
}

pub(crate) fn shape(refused: Refused) -> shapes::Refused {
    shapes::Refused {
        kind: refused.kind.short().to_owned(),
        resource: refused.name,
        version: refused.version,
        reason: refused.reason,
    }
}
