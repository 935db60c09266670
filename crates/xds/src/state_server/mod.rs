//! The server end of one state-of-the-world ADS stream: for gRPC's `xds:///` and for Envoys configured with `api_type:
//! GRPC`. What is sent when is decided by a [`Connection`], as for delta streams; this puts the other protocol before it.
//!
//! Rules (`§` are Envoy's protocol text, "xDS REST and gRPC protocol"):
//!
//! * A request names all that is wanted of a type; what it names no longer is given up. No name in the first request of
//!   CDS or LDS asks for everything.
//! * A response of CDS or LDS holds all of the type that the client is to have: what is missing in it is gone. Responses of
//!   RDS and EDS hold what changed; that something of those is gone cannot be said.
//!   The next waits for its answer: a NACK is about what was new in one response, and every response repeats the rest.
//! * What the client refuses stays in the response in its last accepted version: left out, it would be gone.
//! * The version of a type is a hash over the names and versions of all that was sent of it. A client that comes back is sent
//!   everything all the same: the version it offers is of what it asked for then, and a refused response may have been
//!   applied in part (delta says both by name; use that where there is a choice).
//! * A cluster that a client asks for by name stays until it asks for it no longer, or has had long enough to: gRPC makes
//!   calls that have begun by its routes of before, after it has acknowledged those of now.
//! * A client that comes back and asks for clusters by name is answered after it has the routes of now: a cluster that is
//!   missing in the response is gone for it, and calls fail if its routes of before still lead there.
//! * An answer to a nonce answers all responses of the type before it.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_64;

use crate::delta_server::{Connection, Entry, Heard, INTRODUCTION, Kind, Response, TooManyNames};
use crate::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::limits::NAMES;

/// A message to the client.
#[derive(Debug, Clone)]
pub struct StateResponse {
    pub type_url: Cow<'static, str>,
    pub nonce: u64,
    pub version: String,
    pub resources: Vec<Arc<Entry>>,
}

/// The state of one stream, beside its [`Connection`].
#[derive(Debug, Default)]
pub struct StateStream {
    types: [OfType; Kind::COUNT],
    returning: Option<Returning>,
}

/// The clusters that a client asks for which comes back, until it has the routes of now.
#[derive(Debug)]
struct Returning {
    request: DiscoveryRequest,
    until: Instant,
}

#[derive(Debug, Default)]
struct OfType {
    asked: Asked,
    /// What was sent and not refused.
    holds: BTreeMap<Box<str>, Arc<Entry>>,
    /// What of it is gone and is not said to be, until then.
    lingering: BTreeMap<Box<str>, Instant>,
    outstanding: VecDeque<Sent>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    NotYet,
    Everything,
    Names(BTreeSet<String>),
}

/// A response that is not answered yet.
#[derive(Debug)]
struct Sent {
    nonce: u64,
    /// What the client held before under the names that were new in it.
    before: Vec<(Arc<Entry>, Option<Arc<Entry>>)>,
}

impl StateStream {
    /// Takes a request in.
    pub fn request(
        &mut self,
        connection: &mut Connection,
        request: &DiscoveryRequest,
        now: Instant,
    ) -> Result<Heard, TooManyNames> {
        let Some(kind) = Kind::of(&request.type_url) else {
            return foreign(connection, request, now);
        };
        if kind == Kind::Cluster && self.comes_back(request) {
            self.wait_for_routes(request, now)?;
            return Ok(Heard { kind: Some(kind), ..Heard::default() });
        }
        self.hear(kind, connection, request, now)
    }

    /// Whether it is about clusters that the client may hold from another stream.
    fn comes_back(&self, request: &DiscoveryRequest) -> bool {
        let names = &request.resource_names;
        let by_name = !names.is_empty() && names.iter().all(|name| name != "*");
        let not_yet = self.types.get(Kind::Cluster.index()).is_some_and(|of| of.asked == Asked::NotYet);
        not_yet && (self.returning.is_some() || (by_name && !request.version_info.is_empty()))
    }

    fn wait_for_routes(&mut self, request: &DiscoveryRequest, now: Instant) -> Result<(), TooManyNames> {
        let until = self.returning.take().map_or_else(|| now + INTRODUCTION, |returning| returning.until);
        if request.resource_names.len() > NAMES {
            return Err(TooManyNames(NAMES));
        }
        if request.resource_names.is_empty() {
            // It has given all of them up, which is not to ask for everything.
            self.of(Kind::Cluster).asked = Asked::Names(BTreeSet::new());
        } else {
            self.returning = Some(Returning { request: request.clone(), until });
        }
        Ok(())
    }

    /// Takes in what has waited long enough.
    fn come_back(&mut self, connection: &mut Connection, now: Instant) {
        let due = |returning: &Returning| now >= returning.until || connection.has_introduced_ways();
        if self.returning.as_ref().is_some_and(due)
            && let Some(Returning { request, .. }) = self.returning.take()
        {
            // It names no more than it may: that was looked at when it came.
            let _ = self.hear(Kind::Cluster, connection, &request, now);
        }
    }

    /// As of [`Connection::deadline`].
    pub fn deadline(&self, connection: &Connection) -> Option<Instant> {
        let until = self.returning.as_ref().map(|returning| returning.until);
        let lingering = self.types.iter().flat_map(|of| of.lingering.values().copied()).min();
        [until, lingering, connection.deadline()].into_iter().flatten().min()
    }

    fn hear(
        &mut self,
        kind: Kind,
        connection: &mut Connection,
        request: &DiscoveryRequest,
        now: Instant,
    ) -> Result<Heard, TooManyNames> {
        let of = self.of(kind);
        let answered = u64::from_str_radix(&request.response_nonce, 16).ok();
        let sent = answered.and_then(|nonce| {
            while of.outstanding.front().is_some_and(|sent| sent.nonce < nonce) {
                let older = of.outstanding.pop_front()?;
                // Its answer was left out in favour of this one.
                let _ = connection.request(&answer(kind, older.nonce), now);
            }
            let is_it = of.outstanding.front().is_some_and(|sent| sent.nonce == nonce);
            is_it.then(|| of.outstanding.pop_front()).flatten()
        });
        let Some(mut delta) = of.subscription(kind, request) else {
            return Ok(Heard { kind: Some(kind), ..Heard::default() });
        };
        delta.type_url.clone_from(&request.type_url);
        delta.response_nonce.clone_from(&request.response_nonce);
        delta.error_detail.clone_from(&request.error_detail);
        let heard = connection.request(&delta, now)?;
        if let (Some(sent), Some(_)) = (sent, &request.error_detail) {
            of.refused(sent, &heard);
        }
        Ok(heard)
    }

    /// The next message, as of [`Connection::next`].
    pub fn next(&mut self, connection: &mut Connection, now: Instant) -> Option<StateResponse> {
        self.come_back(connection, now);
        if let Some(mut gone) = self.of(Kind::Cluster).lingered(now) {
            gone.type_url = Kind::Cluster.type_url().to_owned();
            // It names no more than was asked for before.
            let _ = connection.request(&gone, now);
        }
        loop {
            let response = connection.next(now)?;
            let Some(kind) = Kind::of(&response.type_url) else {
                let Response { type_url, nonce, .. } = response;
                return Some(StateResponse {
                    type_url,
                    nonce,
                    version: String::new(),
                    resources: Vec::new(),
                });
            };
            if let Some(response) = self.of(kind).response(kind, &response, now) {
                return Some(response);
            }
            // What cannot be said counts as said.
            let _ = connection.request(&answer(kind, response.nonce), now);
        }
    }

    fn of(&mut self, kind: Kind) -> &mut OfType {
        // An array of one per kind.
        &mut self.types[kind.index()]
    }
}

impl OfType {
    /// What a request subscribes to and gives up, in the words of the delta protocol. `None`: nothing was ever asked for.
    fn subscription(&mut self, kind: Kind, request: &DiscoveryRequest) -> Option<DeltaDiscoveryRequest> {
        let mut delta = DeltaDiscoveryRequest::default();
        let names: BTreeSet<String> = request.resource_names.iter().cloned().collect();
        let by_name = matches!(kind, Kind::Endpoint | Kind::Route);
        let everything = names.contains("*") || (names.is_empty() && !by_name);
        match &mut self.asked {
            Asked::NotYet if names.is_empty() && by_name => return None,
            Asked::NotYet => {
                let asked = if everything { Asked::Everything } else { Asked::Names(names.clone()) };
                delta.resource_names_subscribe =
                    if everything { vec!["*".to_owned()] } else { request.resource_names.clone() };
                self.asked = asked;
            }
            // No name keeps on meaning everything.
            Asked::Everything if everything => {}
            Asked::Everything => {
                delta.resource_names_unsubscribe = vec!["*".to_owned()];
                delta.resource_names_subscribe = request.resource_names.clone();
                self.holds.retain(|name, _| names.contains(name.as_ref()));
                self.asked = Asked::Names(names);
            }
            Asked::Names(_) if names.contains("*") => {
                delta.resource_names_subscribe = vec!["*".to_owned()];
                // The answer holds everything there is, and nothing else.
                for (name, _) in std::mem::take(&mut self.lingering) {
                    self.holds.remove(&name);
                }
                self.asked = Asked::Everything;
            }
            Asked::Names(before) => {
                delta.resource_names_subscribe = names.difference(before).cloned().collect();
                delta.resource_names_unsubscribe = before.difference(&names).cloned().collect();
                self.holds.retain(|name, _| names.contains(name.as_ref()));
                self.lingering.retain(|name, _| names.contains(name.as_ref()));
                *before = names;
            }
        }
        Some(delta)
    }

    /// Asks anew, as the client does, for what has lingered long enough, which is answered with its absence.
    fn lingered(&mut self, now: Instant) -> Option<DeltaDiscoveryRequest> {
        let due: Vec<Box<str>> =
            self.lingering.iter().filter(|(_, until)| now >= **until).map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.lingering.remove(name);
            self.holds.remove(name);
        }
        let names: Vec<String> = due.into_iter().map(String::from).collect();
        (!names.is_empty()).then(|| DeltaDiscoveryRequest {
            resource_names_unsubscribe: names.clone(),
            resource_names_subscribe: names,
            ..Default::default()
        })
    }

    /// `None`: there is nothing in it that this protocol can say.
    fn response(&mut self, kind: Kind, response: &Response, now: Instant) -> Option<StateResponse> {
        let by_name = matches!(kind, Kind::Endpoint | Kind::Route);
        let mut said = false;
        for name in &response.removed {
            if kind == Kind::Cluster
                && matches!(self.asked, Asked::Names(_))
                && self.holds.contains_key(name.as_str())
            {
                self.lingering.entry(name.as_str().into()).or_insert_with(|| now + INTRODUCTION);
                continue;
            }
            self.holds.remove(name.as_str());
            said = true;
        }
        if response.resources.is_empty() && (by_name || (!said && !response.removed.is_empty())) {
            return None;
        }
        let mut before = Vec::with_capacity(response.resources.len());
        for entry in &response.resources {
            self.lingering.remove(&entry.name);
            before.push((entry.clone(), self.holds.insert(entry.name.clone(), entry.clone())));
        }
        self.outstanding.push_back(Sent { nonce: response.nonce, before });
        let resources = match by_name {
            true => response.resources.clone(),
            false => self.holds.values().cloned().collect(),
        };
        Some(StateResponse {
            type_url: response.type_url.clone(),
            nonce: response.nonce,
            version: version_of(&self.holds),
            resources,
        })
    }

    /// What is refused, and what is unknown and sent again, is not what the client holds.
    fn refused(&mut self, sent: Sent, heard: &Heard) {
        let not_held: BTreeSet<&str> = heard
            .refused
            .iter()
            .map(|r| r.name.as_str())
            .chain(heard.unknown.iter().map(AsRef::as_ref))
            .collect();
        for (entry, before) in sent.before {
            let newer = !self.holds.get(&entry.name).is_some_and(|held| Arc::ptr_eq(held, &entry));
            if newer || !not_held.contains(entry.name.as_ref()) {
                continue;
            }
            match before {
                Some(before) => self.holds.insert(entry.name.clone(), before),
                None => self.holds.remove(&entry.name),
            };
        }
    }
}

/// A type that is not served is answered once; answers to that are no requests.
fn foreign(
    connection: &mut Connection,
    request: &DiscoveryRequest,
    now: Instant,
) -> Result<Heard, TooManyNames> {
    if !request.response_nonce.is_empty() {
        return Ok(Heard::default());
    }
    let delta = DeltaDiscoveryRequest {
        type_url: request.type_url.clone(),
        resource_names_subscribe: request.resource_names.clone(),
        ..Default::default()
    };
    connection.request(&delta, now)
}

fn answer(kind: Kind, nonce: u64) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        response_nonce: format!("{nonce:x}"),
        ..Default::default()
    }
}

/// Order does not matter: each resource adds its own hash.
fn version_of(holds: &BTreeMap<Box<str>, Arc<Entry>>) -> String {
    let one = |entry: &Arc<Entry>| xxh3_64(entry.name.as_bytes()).rotate_left(1) ^ entry.version;
    let all = holds.values().map(one).fold(0_u64, |sum, one| sum.wrapping_add(xxh3_64(&one.to_le_bytes())));
    format!("{all:016x}")
}
