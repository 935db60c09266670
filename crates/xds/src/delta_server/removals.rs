//! When what is gone is taken from the client: last, and only what nothing it holds refers to.
//!
//! Listeners go first, route tables when the listeners that named them are acknowledged to be gone, then clusters, and
//! endpoints behind their clusters. A listener or route table whose newest version is refused stays in its last accepted
//! one. What that refers to is *kept* until the refusal ends; everything else goes on.

use std::time::Instant;

use super::held::Holds;
use super::lane::{Lane, Take};
use super::references::refers_to;
use super::{Connection, INTRODUCTION, Kind, Response};

impl Connection {
    /// What is to be taken from the client, as soon as nothing it holds needs it.
    pub(super) fn removals(&mut self, now: Instant) -> Option<Response> {
        self.part_removals();
        let introduced = now >= self.opened + INTRODUCTION;
        let gone = |kind| {
            let lane = self.lane(kind);
            if lane.is_opened() {
                lane.is_settled() && !lane.has_pending() && !lane.has_removals()
            } else {
                introduced
            }
        };
        let due = |kind| match kind {
            Kind::Listener | Kind::NameTable => true,
            Kind::Route => gone(Kind::Listener),
            Kind::Cluster => gone(Kind::Listener) && gone(Kind::Route),
            Kind::Endpoint if self.lane(Kind::Cluster).is_opened() => {
                !self.lane(Kind::Cluster).has_removals()
            }
            Kind::Endpoint => introduced,
        };
        let kind = Kind::ALL
            .into_iter()
            .find(|&kind| self.lane(kind).has_removals() && self.lane(kind).has_room() && due(kind))?;
        Some(self.send(kind, Take::Removals, now))
    }

    /// Parts removals into those that may go and those that something refused keeps. Done anew only when what the client
    /// holds otherwise than it should has changed.
    fn part_removals(&mut self) {
        let now = Kind::ALL.map(|kind| self.lane(kind).held.changes());
        if now == self.parted {
            return;
        }
        self.parted = now;
        let [clusters, endpoints, listeners, routes, _] = &mut self.lanes;
        if [&*clusters, &*endpoints, &*routes].iter().all(|lane| lane.takes_nothing_away()) {
            return;
        }
        routes.keep(|name, _| uses(listeners, name));
        clusters.keep(|name, _| uses(listeners, name) || uses(routes, name));
        let kept = clusters.kept();
        endpoints.keep(|name, _| {
            let of_cluster = |cluster: &str| match clusters.held.get(cluster) {
                Some(Holds::Entry(entry)) => entry.endpoints.as_deref() == Some(name),
                _ => cluster == name,
            };
            kept.iter().any(|cluster| of_cluster(cluster))
        });
        // What is kept is no longer waited for.
        self.settle_rounds(self.opened);
    }
}

/// Whether something the client holds instead of what it refused may refer to the name.
fn uses(lane: &Lane, name: &str) -> bool {
    lane.held.iter().filter(|(holder, _)| !lane.has_removal(holder)).any(|(_, holds)| match holds {
        Holds::Nothing => false,
        // Kept from an earlier stream: nobody here knows what stands in it.
        Holds::Unknown | Holds::Version(_) => true,
        Holds::Entry(entry) => refers_to(&entry.body(), name),
        Holds::OneOf(entries, _) => entries.iter().any(|entry| refers_to(&entry.body(), name)),
    })
}
