//! One VirtualService as meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Object;
use api::networking::{Destination, HttpRoute, TcpRoute, TlsRoute};

use super::Visibility;

/// A VirtualService as meant: hosts and destinations fully qualified, gateways as `namespace/name`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    pub object: Arc<Object>,
    pub hosts: Vec<String>,
    pub gateways: Vec<String>,
    pub http: Vec<HttpRule>,
    pub tls: Vec<TlsRoute>,
    pub tcp: Vec<TcpRoute>,
    pub visibility: Visibility,
}

/// One entry of `http`, and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRule {
    pub route: HttpRoute,
    /// `spec.http[2]` of the VirtualService.
    pub path: String,
    /// The match each of `route.matches` was made from: `spec.http[2].match[0]`.
    pub match_paths: Vec<String>,
    /// If a delegate holds the rule: `namespace/name` and the path there.
    pub delegate: Option<(String, String)>,
}

impl VirtualService {
    pub fn name(&self) -> &str {
        self.object.name()
    }

    pub fn namespace(&self) -> &str {
        self.object.namespace()
    }

    /// Every host traffic may be sent to, with the ports written; an empty set means all ports.
    pub fn destinations(&self, client_namespace: &str) -> Vec<(&str, BTreeSet<u32>)> {
        let mut all: Vec<&Destination> = Vec::new();
        for rule in &self.http {
            let route = &rule.route;
            let elsewhere = !route.matches.is_empty()
                && route.matches.iter().all(|matched| {
                    !matched.source_namespace.is_empty() && matched.source_namespace != client_namespace
                });
            if elsewhere {
                continue;
            }
            all.extend(route.route.iter().map(|destination| &destination.destination));
            all.extend(&route.mirror);
            all.extend(route.mirrors.iter().map(|mirror| &mirror.destination));
        }
        let tls = self.tls.iter().flat_map(|rule| &rule.route);
        let tcp = self.tcp.iter().flat_map(|rule| &rule.route);
        all.extend(tls.chain(tcp).map(|destination| &destination.destination));

        let mut found: Vec<(&str, BTreeSet<u32>)> = Vec::new();
        for destination in all {
            let port = destination.port.as_ref().map_or(0, |port| port.number);
            match found.iter_mut().find(|(host, _)| *host == destination.host) {
                Some((_, ports)) => {
                    ports.insert(port);
                }
                None => found.push((&destination.host, BTreeSet::from([port]))),
            }
        }
        // 0 stands for "no port written": every port may be meant.
        for (_, ports) in &mut found {
            if ports.contains(&0) {
                ports.clear();
            }
        }
        found
    }
}
