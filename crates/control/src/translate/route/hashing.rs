//! What requests are hashed by: a subset's port, the subset, the port, the whole rule (`istio-behaviour` rule 33).

use api::networking::{ConsistentHash, Destination, TrafficPolicy};
use xds::route::route_action::HashPolicy;
use xds::route::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};

use crate::scope::Scope;
use crate::translate::values::duration;

pub fn of_destination(scope: &Scope<'_>, destination: &Destination) -> Option<HashPolicy> {
    let rule = scope.destination_rule(&destination.host)?;
    let port = destination.port.as_ref().map(|port| port.number);
    let subset = rule
        .subsets
        .iter()
        .find(|subset| subset.name == destination.subset)
        .and_then(|subset| subset.traffic_policy.as_ref());
    let whole = rule.traffic_policy.as_ref();
    let hash = subset
        .and_then(|policy| at_port(policy, port))
        .or_else(|| subset.and_then(of_policy))
        .or_else(|| whole.and_then(|policy| at_port(policy, port)))
        .or_else(|| whole.and_then(of_policy))?;
    policy(hash)
}

/// For a service without rules on its routes.
pub fn of_port(scope: &Scope<'_>, host: &str, port: u32) -> Option<HashPolicy> {
    let whole = scope.destination_rule(host)?.traffic_policy.as_ref()?;
    let hash = at_port(whole, Some(port)).or_else(|| of_policy(whole))?;
    policy(hash)
}

fn of_policy(policy: &TrafficPolicy) -> Option<&ConsistentHash> {
    policy.load_balancer.as_ref()?.consistent_hash.as_ref()
}

fn at_port(policy: &TrafficPolicy, port: Option<u32>) -> Option<&ConsistentHash> {
    let port = port?;
    let settings = policy
        .port_level_settings
        .iter()
        .find(|settings| settings.port.as_ref().is_some_and(|own| own.number == port))?;
    settings.load_balancer.as_ref()?.consistent_hash.as_ref()
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
