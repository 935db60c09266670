//! A model of Envoy 1.40 as a client of delta ADS, made from what was measured and from its sources:
//!
//! * A resource that does not decode refuses all of the response; the text names it, or nothing.
//! * Clusters and listeners are applied one by one; the text lists those refused, and is cut at 4,096 bytes.
//! * Route tables and endpoints are delivered in the order of a hash table, up to the first failure.
//! * An added or changed EDS cluster warms until endpoints come; while one warms, the ACK of CDS is held back, and LDS
//!   is not asked for on first contact.
//! * Endpoints are asked for by name when a cluster is new, given up when it is gone; the same for a listener's tables.

use std::collections::{BTreeMap, BTreeSet};

use xds::delta_server::Kind;
use xds::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use xds::rpc;

use crate::client::Held;
use crate::config::{Body, Fault};
use crate::random::Random;

#[derive(Default)]
pub struct Envoy {
    pub held: Held,
    warming: BTreeSet<String>,
    /// Held back while a cluster warms.
    cluster_answers: Vec<DeltaDiscoveryRequest>,
    subscribed: BTreeMap<Kind, BTreeSet<String>>,
    has_heard_of_clusters: bool,
    asked_for_listeners: bool,
}

struct Decoded {
    name: String,
    version: u64,
    body: Body,
}

impl Envoy {
    pub fn open(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.cluster_answers.clear();
        self.subscribed.clear();
        let again = self.asked_for_listeners;
        let mut requests = vec![self.first(Kind::Cluster), self.first(Kind::NameTable)];
        requests.extend(self.resubscribe(Kind::Endpoint));
        if again {
            requests.push(self.first(Kind::Listener));
            requests.extend(self.resubscribe(Kind::Route));
        }
        requests
    }

    fn first(&self, kind: Kind) -> DeltaDiscoveryRequest {
        let of = self.held.resources.iter().filter(|(k, _)| k.0 == kind);
        DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            initial_resource_versions: of.map(|(k, (v, _))| (k.1.clone(), format!("{v:016x}"))).collect(),
            ..Default::default()
        }
    }

    /// What is asked for by name, and no longer.
    fn resubscribe(&mut self, kind: Kind) -> Option<DeltaDiscoveryRequest> {
        let wanted = self.held.wanted(kind);
        let first = !self.subscribed.contains_key(&kind);
        if first && wanted.is_empty() {
            return None;
        }
        let before = self.subscribed.insert(kind, wanted.clone()).unwrap_or_default();
        let list = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
        let (subscribe, unsubscribe) = (list(&wanted, &before), list(&before, &wanted));
        let unwanted: Vec<String> = self.held.names(kind).filter(|n| !wanted.contains(*n)).cloned().collect();
        for name in unwanted {
            self.held.remove(kind, &name);
        }
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        let mut request = if first { self.first(kind) } else { DeltaDiscoveryRequest::default() };
        request.initial_resource_versions.retain(|name, _| wanted.contains(name));
        request.type_url = kind.type_url().into();
        request.resource_names_subscribe = subscribe;
        request.resource_names_unsubscribe = unsubscribe;
        Some(request)
    }

    pub fn response(
        &mut self,
        response: DeltaDiscoveryResponse,
        random: &mut Random,
    ) -> Vec<DeltaDiscoveryRequest> {
        let kind = Kind::of(&response.type_url).unwrap();
        let refused = match decode(&response.resources, random) {
            Err(text) => Some(text),
            Ok(resources) if matches!(kind, Kind::Endpoint | Kind::Route) => {
                self.remove(kind, &response.removed_resources);
                self.until_the_first_failure(kind, resources, random)
            }
            Ok(resources) if kind == Kind::Listener => {
                self.remove(kind, &response.removed_resources);
                self.one_by_one(kind, resources, random)
            }
            Ok(resources) => {
                let refused = self.one_by_one(kind, resources, random);
                self.remove(kind, &response.removed_resources);
                refused
            }
        };
        if kind == Kind::Cluster && refused.is_some() {
            let names = response.resources.iter().map(|r| r.name.clone());
            self.held.excused.extend(names);
        }
        let answer = answer(&response, refused.as_deref());
        let mut requests = Vec::new();
        match kind {
            Kind::Cluster => {
                self.cluster_answers.push(answer);
                self.has_heard_of_clusters = true;
            }
            _ => requests.push(answer),
        }
        requests.extend(self.resubscribe(Kind::Endpoint));
        requests.extend(self.resubscribe(Kind::Route));
        requests.extend(self.warm());
        requests
    }

    /// The ACKs that were held back, when nothing warms any more.
    fn warm(&mut self) -> Vec<DeltaDiscoveryRequest> {
        if !self.warming.is_empty() {
            return Vec::new();
        }
        let mut requests = std::mem::take(&mut self.cluster_answers);
        if self.has_heard_of_clusters && !std::mem::replace(&mut self.asked_for_listeners, true) {
            requests.push(self.first(Kind::Listener));
        }
        requests
    }

    pub fn warming(&self) -> impl Iterator<Item = &String> {
        self.warming.iter()
    }

    /// After `initial_fetch_timeout`.
    pub fn give_up_warming(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.held.excused.append(&mut self.warming);
        self.held.cold.clear();
        self.warm()
    }

    fn remove(&mut self, kind: Kind, names: &[String]) {
        for name in names {
            // A route table stays until its listener gives it up; endpoints until their cluster does.
            if !matches!(kind, Kind::Endpoint | Kind::Route) {
                self.held.remove(kind, name);
                self.warming.remove(name);
            }
        }
    }

    fn one_by_one(&mut self, kind: Kind, resources: Vec<Decoded>, random: &mut Random) -> Option<String> {
        let mut bad = Vec::new();
        for Decoded { name, version, body } in resources {
            if body.fault != Fault::None {
                let filler = "x".repeat([3, 3, 3, 900, 2000][random.below(5)]);
                bad.push(format!("{name}: no such thing {filler}"));
                continue;
            }
            if kind == Kind::Cluster {
                self.warming.insert(name.clone());
                if !self.held.has(kind, &name) {
                    self.held.cold.insert(name.clone());
                }
            }
            self.held.apply(kind, &name, version, body);
        }
        let (what, between) = match kind {
            Kind::Cluster => ("cluster(s)", ", "),
            _ => ("listener(s)", "\n"),
        };
        (!bad.is_empty()).then(|| cut(format!("Error adding/updating {what} {}", bad.join(between))))
    }

    fn until_the_first_failure(
        &mut self,
        kind: Kind,
        mut resources: Vec<Decoded>,
        random: &mut Random,
    ) -> Option<String> {
        random.shuffle(&mut resources);
        let subscribed = self.subscribed.get(&kind).cloned().unwrap_or_default();
        for Decoded { name, version, body } in resources {
            // Nobody watches it: it is delivered to nobody.
            if !subscribed.contains(&name) {
                continue;
            }
            if body.fault != Fault::None {
                let other = self.held.names(kind).next().cloned().unwrap_or_default();
                return Some(match random.below(3) {
                    0 => "route: unknown thing".to_owned(),
                    1 => format!("Unexpected resource (expecting {name})"),
                    _ => format!("Unexpected resource (expecting {other}): {name}"),
                });
            }
            if kind == Kind::Endpoint {
                self.warming.remove(&name);
                self.held.cold.remove(&name);
            }
            self.held.apply(kind, &name, version, body);
        }
        None
    }
}

fn decode(resources: &[Resource], random: &mut Random) -> Result<Vec<Decoded>, String> {
    let mut decoded = Vec::new();
    for resource in resources {
        let body = Body::decode(&resource.resource.as_ref().unwrap().value);
        let name = resource.name.clone();
        if body.fault == Fault::Decode {
            return Err(match random.below(3) {
                0 => "Proto constraint validation failed".to_owned(),
                1 => cut(format!("Unable to parse {}", "y".repeat(5000))),
                _ => format!("Proto constraint validation failed (X.Y): name: \"{name}\"\ntype: EDS"),
            });
        }
        let version = u64::from_str_radix(&resource.version, 16).unwrap();
        decoded.push(Decoded { name, version, body });
    }
    Ok(decoded)
}

fn answer(response: &DeltaDiscoveryResponse, refused: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: refused.map(|text| rpc::Status { code: 13, message: text.into(), details: vec![] }),
        ..Default::default()
    }
}

fn cut(text: String) -> String {
    if text.len() <= 4096 {
        return text;
    }
    format!("{}...(truncated)", &text[..4096])
}
