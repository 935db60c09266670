//! What requests are hashed by: a subset's port, the subset, the port, the whole rule (`istio-behaviour` rule 33).

use api::networking::{ConsistentHash, Destination};
use xds::route::route_action::HashPolicy;
use xds::route::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};

use super::Circumstances;
use crate::translate::values::duration;

pub fn of_destination(at: &Circumstances<'_>, destination: &Destination) -> Option<HashPolicy> {
    let port = destination.port.as_ref().map(|port| port.number);
    let hashing = at.context.hashing(at.scope, &destination.host)?;
    policy(hashing.of_destination(&destination.subset, port)?)
}

/// For a service without rules on its routes.
pub fn of_port(at: &Circumstances<'_>, host: &str, port: u32) -> Option<HashPolicy> {
    policy(at.context.hashing(at.scope, host)?.of_destination("", Some(port))?)
}

fn policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    let specifier = if let Some(name) = &hash.http_header_name {
        PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() })
    } else if let Some(cookie) = &hash.http_cookie {
        PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(duration),
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|one| CookieAttribute { name: one.name.clone(), value: one.value.clone() })
                .collect(),
        })
    } else if let Some(source_ip) = hash.use_source_ip {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip })
    } else {
        let name = hash.http_query_parameter_name.as_ref()?;
        PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
    };
    Some(HashPolicy { policy_specifier: Some(specifier), terminal: false })
}
