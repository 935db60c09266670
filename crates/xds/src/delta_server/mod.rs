//! The server end of one delta ADS stream, without I/O: requests and sets of resources in, responses out.
//!
//! Rules (`§` are Envoy's protocol text; the measured ones were tried against Envoy 1.40):
//!
//! * A resource goes out when its content hash differs from what the client holds, and only then; what a client
//!   offers in `initial_resource_versions` counts as held.
//! * CDS goes before EDS, EDS before LDS, LDS before RDS. EDS never waits for the ACK of CDS: Envoy withholds that
//!   ACK until EDS comes, and does not ask for EDS again when a cluster merely changed (measured).
//! * Make before break: a new cluster is warm before a route to it goes out; an old one goes when listeners and
//!   routes are acknowledged. Where one of those is refused, the client still uses its last accepted version: what
//!   that one refers to stays, all else goes.
//! * A NACK condemns only what it surely names; what it leaves unknown is sent again, apart. A refused version is never
//!   sent again on the stream.
//! * A nonce that is not outstanding acknowledges nothing; what a request subscribes or unsubscribes counts
//!   whatever its nonce is.
//! * Newer sets replace older ones while a client is slow: it gets the newest when it has taken what was under way.
//!
//! | module | what |
//! |---|---|
//! | `capabilities` | what the client is able to |
//! | [`set`] | resources encoded once, shared by all streams of a class |
//! | `lane` | the state of one type on one stream |
//! | `asking` | the names a client asks for |
//! | `held` | what a client holds where that is not what it should |
//! | `answer` | what an ACK or NACK means for what was sent |
//! | `nack` | what a NACK's text is about |
//! | `refusals` | what was refused on the stream |
//! | `removals` | when what is gone is taken from the client |
//! | `status` | how far a type is |
//! | `references` | whether one resource refers to another |
//! | `field` | protobuf fields written by hand |
//! | [`frame`] | requests out of bytes, responses into bytes |

mod answer;
mod asking;
mod capabilities;
mod field;
pub mod frame;
mod held;
mod lane;
mod nack;
mod references;
mod refusals;
mod removals;
pub mod set;
mod status;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::discovery::DeltaDiscoveryRequest;
use crate::limits::{FOREIGN_ANSWERS, FOREIGN_NAMES, ROUNDS};

pub use asking::TooManyNames;
pub use capabilities::Capabilities;
use lane::{Lane, Take};
pub use nack::Refused;
pub use set::{Entry, Kind, Layer, ResourceSet, TypeSet};
pub use status::LaneStatus;

/// How long a route waits for the clusters it may lead to when those never become warm.
const WARMING: Duration = Duration::from_secs(2);

/// How long a reconnecting client has to say which listeners and routes it holds, before clusters it should no
/// longer have are taken from it. Longer than any delay of a network: a cluster that stays does no harm.
pub(crate) const INTRODUCTION: Duration = Duration::from_secs(30);

/// The state of one stream.
#[derive(Debug)]
pub struct Connection {
    able: Capabilities,
    lanes: [Lane; Kind::COUNT],
    /// What the lanes bring the client to.
    current: Arc<ResourceSet>,
    next: Option<Next>,
    foreign: VecDeque<Response>,
    opened: Instant,
    /// LDS and RDS wait until then, unless CDS is acknowledged before.
    warming_until: Option<Instant>,
    /// The last nonce given out.
    nonce: u64,
    rounds: VecDeque<Round>,
    live: u64,
    /// What the lanes held when removals were last parted into those due and those that wait.
    parted: [u64; Kind::COUNT],
}

#[derive(Debug)]
struct Next {
    set: Arc<ResourceSet>,
    /// When the oldest change that the client has not got was made.
    since: Instant,
}

/// A set that was sent in full and is live once everything up to `nonce` is acknowledged.
#[derive(Debug)]
struct Round {
    generation: u64,
    nonce: u64,
    /// The oldest change in it. `None`: the client needed nothing of it.
    since: Option<Instant>,
}

/// A message to the client.
#[derive(Debug, Clone)]
pub struct Response {
    pub type_url: Cow<'static, str>,
    pub nonce: u64,
    pub resources: Vec<Arc<Entry>>,
    pub removed: Vec<String>,
}

/// What a request brought to light.
#[derive(Debug, Default)]
pub struct Heard {
    /// The nonce was not outstanding.
    pub expired: bool,
    /// The type the request was about, if it is served.
    pub kind: Option<Kind>,
    /// Whether it was a NACK of what was sent.
    pub rejected: bool,
    /// What was refused.
    pub refused: Vec<Refused>,
    /// Names in the refused response of which nobody knows whether they were applied.
    pub unknown: Vec<Box<str>>,
    /// How old each change is that became live on the client with this.
    pub converged: Vec<Duration>,
}

impl Connection {
    pub fn new(able: Capabilities, set: Arc<ResourceSet>, now: Instant) -> Self {
        Self {
            able,
            lanes: Kind::ALL.map(|kind| Lane::new(kind, able)),
            live: 0,
            rounds: VecDeque::from([Round { generation: set.generation, nonce: 0, since: None }]),
            current: set,
            next: None,
            foreign: VecDeque::new(),
            opened: now,
            warming_until: None,
            nonce: 0,
            parted: [0; Kind::COUNT],
        }
    }

    /// Takes a request in.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest, now: Instant) -> Result<Heard, TooManyNames> {
        let Some(kind) = Kind::of(&request.type_url) else {
            self.foreign(request)?;
            return Ok(Heard::default());
        };
        let names_all = self.able.names_all_refusals;
        let lane = &mut self.lanes[kind.index()];
        let mut heard = Heard { kind: Some(kind), ..Heard::default() };
        if lane.is_asked() && !request.response_nonce.is_empty() {
            match lane.answered(request, &self.current, names_all) {
                Some(verdict) => {
                    (heard.refused, heard.unknown) = (verdict.refused, verdict.unknown);
                    heard.rejected = request.error_detail.is_some();
                }
                None => heard.expired = true,
            }
        }
        if lane.is_opened() {
            lane.subscribe(request, &self.current)?;
        } else if !lane.is_asked() || request.response_nonce.is_empty() {
            // An answer to what came unasked asks for nothing yet.
            lane.open(request, &self.current)?;
        }
        if kind == Kind::Cluster && self.able.takes_endpoints_unasked {
            self.lanes[Kind::Endpoint.index()].open_unasked();
        }
        if kind == Kind::Cluster && self.lane(kind).is_settled() {
            // Nothing unknown is left of it either.
            self.warming_until = None;
        }
        if self.lanes[kind.index()].has_pending() {
            self.reopen_round();
        }
        heard.converged = self.settle_rounds(now);
        self.lanes.iter_mut().for_each(Lane::catches_up);
        Ok(heard)
    }

    /// Sets what the client should hold from now on.
    pub fn update(&mut self, set: Arc<ResourceSet>) {
        if Arc::ptr_eq(&set, &self.current) && self.next.is_none() {
            return;
        }
        let since = self.next.as_ref().map_or(set.since, |n| n.since.min(set.since));
        self.next = Some(Next { set, since });
    }

    /// The next message. `None`: nothing to send now; ask again after a request, an update or at
    /// [`Connection::deadline`].
    pub fn next(&mut self, now: Instant) -> Option<Response> {
        if let Some(mut response) = self.foreign.pop_front() {
            self.nonce += 1;
            response.nonce = self.nonce;
            return Some(response);
        }
        loop {
            if let Some(response) = self.pending(now) {
                return Some(response);
            }
            if self.lanes.iter().any(Lane::has_pending) || !self.begin_round() {
                break;
            }
        }
        self.removals(now)
    }

    /// When something may become due without a request or an update.
    pub fn deadline(&self) -> Option<Instant> {
        let introduction = self.lane(Kind::Cluster).has_removals()
            && !(self.lane(Kind::Listener).is_opened() && self.lane(Kind::Route).is_opened());
        let warming = self
            .warming_until
            .filter(|_| self.lane(Kind::Listener).has_pending() || self.lane(Kind::Route).has_pending());
        [warming, introduction.then(|| self.opened + INTRODUCTION)].into_iter().flatten().min()
    }

    /// Whether the client has answered which listeners and routes there are of those it asks for.
    pub(crate) fn has_introduced_ways(&self) -> bool {
        [Kind::Listener, Kind::Route].into_iter().all(|kind| {
            let lane = self.lane(kind);
            lane.is_opened() && lane.is_settled() && !lane.has_pending()
        })
    }

    /// The newest generation that is live on the client; 0 until the first is.
    pub fn live_generation(&self) -> u64 {
        self.live
    }

    /// What of the set in use the client refuses.
    pub fn refused(&self) -> Vec<Refused> {
        self.lanes.iter().flat_map(|lane| lane.refused_now(&self.current)).collect()
    }

    /// How far each type is.
    pub fn status(&self) -> [LaneStatus; Kind::COUNT] {
        let behind = self.next.is_some();
        Kind::ALL.map(|kind| self.lane(kind).status(&self.current, behind))
    }

    /// When the oldest change of each type was made that the client has neither acknowledged nor refused.
    pub fn behind(&self) -> [Option<Instant>; Kind::COUNT] {
        Kind::ALL.map(|kind| {
            let next = self.next.as_ref().filter(|next| next.set.differs(&self.current, kind));
            [self.lane(kind).behind(), next.map(|next| next.since)].into_iter().flatten().min()
        })
    }

    /// The set whose resources the client is being given.
    pub fn current(&self) -> &Arc<ResourceSet> {
        &self.current
    }

    fn lane(&self, kind: Kind) -> &Lane {
        // An array of one lane per kind.
        &self.lanes[kind.index()]
    }

    /// Goes over to the newest set. `false`: there is none.
    fn begin_round(&mut self) -> bool {
        let Some(Next { set, since }) = self.next.take() else { return false };
        for lane in &mut self.lanes {
            lane.turn_to(&self.current, &set);
            lane.falls_behind(since);
        }
        self.current = set;
        let busy = self.lanes.iter().any(|l| l.has_pending() || l.has_removals());
        if self.rounds.len() >= ROUNDS {
            self.rounds.pop_front();
        }
        let generation = self.current.generation;
        // Its last nonce is known when everything pending is sent; until then later ones push it up.
        self.rounds.push_back(Round { generation, nonce: 0, since: busy.then_some(since) });
        // What is for others is live already, and so is what a refusal holds back.
        self.settle_rounds(since);
        true
    }

    /// What was asked for now is part of the set in use: that is not live before the client has it.
    fn reopen_round(&mut self) {
        let generation = self.current.generation;
        if self.rounds.back().is_none_or(|round| round.generation != generation) {
            self.rounds.push_back(Round { generation, nonce: 0, since: None });
            self.live = self.live.min(generation.saturating_sub(1));
        }
    }

    /// Additions and changes, in the order of the kinds.
    fn pending(&mut self, now: Instant) -> Option<Response> {
        for kind in Kind::ALL {
            let lane = &self.lanes[kind.index()];
            if !lane.may_send() {
                continue;
            }
            let waits = matches!(kind, Kind::Listener | Kind::Route)
                && self.warming_until.is_some_and(|until| now < until);
            if waits {
                continue;
            }
            return Some(self.send(kind, Take::Pending, now));
        }
        None
    }

    fn send(&mut self, kind: Kind, what: Take, now: Instant) -> Response {
        self.nonce += 1;
        let taken = self.lanes[kind.index()].take(what, self.nonce, self.able);
        if kind == Kind::Cluster {
            self.clusters_sent(&taken.resources, taken.added, now);
        }
        if taken.again {
            // Whatever it was sent for first, no set is live that holds it.
            self.rounds.iter_mut().for_each(|round| round.nonce = self.nonce);
        } else if let Some(round) = self.rounds.back_mut() {
            round.nonce = self.nonce;
        }
        let type_url = Cow::Borrowed(kind.type_url());
        Response { type_url, nonce: self.nonce, resources: taken.resources, removed: taken.removed }
    }

    /// Lets endpoints follow their clusters.
    fn clusters_sent(&mut self, clusters: &[Arc<Entry>], added: bool, now: Instant) {
        if self.able.warms_changed_clusters && added {
            self.warming_until = Some(now + WARMING);
        }
        if !self.able.warms_changed_clusters && !self.able.takes_endpoints_unasked {
            return;
        }
        let endpoints = &mut self.lanes[Kind::Endpoint.index()];
        for name in clusters.iter().filter_map(|c| c.endpoints.as_deref()) {
            let Some(entry) = self.current.find(Kind::Endpoint, name) else { continue };
            if self.able.warms_changed_clusters {
                endpoints.send_again(entry);
            } else {
                endpoints.send_unasked(entry);
            }
        }
    }

    /// Which rounds are acknowledged by now.
    fn settle_rounds(&mut self, now: Instant) -> Vec<Duration> {
        let mut converged = Vec::new();
        if self.lanes.iter().any(Lane::is_unknown) {
            return converged;
        }
        let oldest = self.lanes.iter().filter_map(Lane::oldest_nonce).min().unwrap_or(u64::MAX);
        let sending = self.lanes.iter().any(|l| l.has_pending() || l.has_removals());
        while let Some(round) = self.rounds.front() {
            let last = self.rounds.len() == 1;
            if round.nonce >= oldest || (last && sending) {
                break;
            }
            self.live = self.live.max(round.generation);
            converged.extend(round.since.map(|since| now.saturating_duration_since(since)));
            self.rounds.pop_front();
        }
        converged
    }

    /// Says at once that nothing of a type that is not served exists, so that nobody waits for it.
    fn foreign(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), TooManyNames> {
        let names = &request.resource_names_subscribe;
        if names.len() > FOREIGN_NAMES {
            return Err(TooManyNames(FOREIGN_NAMES));
        }
        let asks = request.response_nonce.is_empty() || !names.is_empty();
        if asks && self.foreign.len() < FOREIGN_ANSWERS {
            self.foreign.push_back(Response {
                type_url: Cow::Owned(request.type_url.clone()),
                nonce: 0,
                resources: Vec::new(),
                removed: names.clone(),
            });
        }
        Ok(())
    }
}
