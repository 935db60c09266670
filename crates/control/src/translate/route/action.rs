//! Where a request goes and how: destinations, rewrites, mirrors, timeouts.

use api::networking::{Destination, HttpRoute, HttpRouteDestination, Percent};
use api::protocol::Protocol;
use xds::core::RuntimeFractionalPercent;
use xds::matcher::RegexMatchAndSubstitute;
use xds::route::route::Action;
use xds::route::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use xds::route::weighted_cluster::ClusterWeight;
use xds::route::{Decorator, RetryPolicy, Route, RouteAction, WeightedCluster};
use xds::types::FractionalPercent;
use xds::types::fractional_percent::DenominatorType;

use super::headers::Operations;
use super::{Circumstances, hashing, matching, retry};
use crate::proxy::Profile;
use crate::translate::context::destination_cluster;
use crate::translate::values::{duration, seconds};

pub fn apply(route: &mut Route, rule: &HttpRoute, authority: Option<String>, at: &Circumstances<'_>) {
    let mut action = RouteAction::default();
    timeouts(&mut action, rule.timeout, at.context.options.profile);
    let mut authority = authority;
    if let Some(rewrite) = &rule.rewrite {
        if let Some(by_pattern) = &rewrite.uri_regex_rewrite {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(matching::regex(&by_pattern.matches)),
                substitution: by_pattern.rewrite.clone(),
            });
        } else {
            action.prefix_rewrite.clone_from(&rewrite.uri);
        }
        if !rewrite.authority.is_empty() {
            authority = Some(rewrite.authority.clone());
        }
    }
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    mirrors(&mut action, rule, at);
    let hashed = destinations(route, &mut action, &rule.route, at);
    let policy = rule.retries.as_ref().or(at.context.mesh().default_http_retry_policy.as_ref());
    action.retry_policy = retry::policy(policy, hashed);
    route.action = Some(Action::Route(action));
}

/// Whether requests go by a hash.
fn destinations(
    route: &mut Route,
    action: &mut RouteAction,
    destinations: &[HttpRouteDestination],
    at: &Circumstances<'_>,
) -> bool {
    // With one destination its weight does not matter (`istio-behaviour` rule 13).
    if let [only] = destinations {
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster(&only.destination, at)));
        let operations = Operations::of(only.headers.as_ref());
        if action.host_rewrite_specifier.is_none() {
            action.host_rewrite_specifier =
                operations.authority.clone().map(HostRewriteSpecifier::HostRewriteLiteral);
        }
        operations.apply_to_route(route);
        let policy = hashing::of_destination(at, &only.destination);
        action.hash_policy.extend(policy);
        return !action.hash_policy.is_empty();
    }
    let mut clusters = Vec::new();
    for destination in destinations.iter().filter(|destination| destination.weight > 0) {
        let mut weight = ClusterWeight {
            name: cluster(&destination.destination, at),
            weight: Some(u32::try_from(destination.weight).unwrap_or_default()),
            ..Default::default()
        };
        Operations::of(destination.headers.as_ref()).apply_to_weight(&mut weight);
        clusters.push(weight);
        action.hash_policy.extend(hashing::of_destination(at, &destination.destination));
    }
    action.cluster_specifier =
        Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() }));
    // Istio drops the retry's choice of other hosts for single destinations only.
    false
}

fn cluster(destination: &Destination, at: &Circumstances<'_>) -> String {
    let service = (at.lookup)(&destination.host);
    destination_cluster(destination, service.as_deref(), at.port)
}

fn timeouts(action: &mut RouteAction, timeout: Option<std::time::Duration>, profile: Profile) {
    let timeout = timeout.map_or_else(|| seconds(0), duration);
    action.timeout = Some(timeout);
    if profile == Profile::Grpc {
        action.max_stream_duration =
            Some(MaxStreamDuration { max_stream_duration: Some(timeout), ..Default::default() });
    } else {
        // Also bounds what the client may ask for in grpc-timeout (rule 22).
        action.max_grpc_timeout = Some(timeout);
    }
}

fn mirrors(action: &mut RouteAction, rule: &HttpRoute, at: &Circumstances<'_>) {
    let single = rule.mirror.as_ref().map(|mirror| {
        let share = match (&rule.mirror_percentage, rule.mirror_percent) {
            (Some(percent), _) => Some(fraction(percent)),
            (None, Some(percent)) => Some(whole(percent)),
            (None, None) => None,
        };
        (mirror, share)
    });
    let several =
        rule.mirrors.iter().map(|mirror| (&mirror.destination, mirror.percentage.as_ref().map(fraction)));
    for (destination, share) in single.into_iter().chain(several) {
        // Absent means all, 0 means none (rule 20).
        let share = share.unwrap_or_else(|| whole(100));
        if share.numerator == 0 {
            continue;
        }
        action.request_mirror_policies.push(RequestMirrorPolicy {
            cluster: cluster(destination, at),
            runtime_fraction: Some(RuntimeFractionalPercent {
                default_value: Some(share),
                ..Default::default()
            }),
            trace_sampled: Some(false),
            // The copy keeps the host of the original (rule 19).
            disable_shadow_host_suffix_append: true,
            ..Default::default()
        });
    }
}

/// Per million, as Istio.
pub fn fraction(percent: &Percent) -> FractionalPercent {
    let millionths = (percent.value * 10_000.0).clamp(0.0, 1_000_000.0);
    FractionalPercent {
        // Between 0 and a million by the line above.
        numerator: millionths as u32,
        denominator: DenominatorType::Million as i32,
    }
}

pub fn whole(percent: u32) -> FractionalPercent {
    FractionalPercent { numerator: percent, denominator: DenominatorType::Hundred as i32 }
}

/// What a service without rules has.
pub fn default_outbound(cluster: String, operation: String, at: &Circumstances<'_>) -> Route {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        retry_policy: retry::policy(at.context.mesh().default_http_retry_policy.as_ref(), false),
        ..Default::default()
    };
    timeouts(&mut action, None, Profile::Mesh);
    default(action, operation)
}

/// The only route of an inbound chain: no timeout, and one more try if the application closed before it read anything.
pub fn inbound(cluster: String, operation: String, protocol: Protocol) -> Route {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        timeout: Some(seconds(0)),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: Some(seconds(0)),
            grpc_timeout_header_max: Some(seconds(0)),
            ..Default::default()
        }),
        ..Default::default()
    };
    if !matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb) {
        action.retry_policy = Some(RetryPolicy {
            retry_on: "reset-before-request".into(),
            num_retries: Some(2),
            ..Default::default()
        });
    }
    default(action, operation)
}

fn default(action: RouteAction, operation: String) -> Route {
    Route {
        name: "default".into(),
        r#match: Some(super::any_path()),
        action: Some(Action::Route(action)),
        decorator: Some(Decorator { operation, ..Default::default() }),
        ..Default::default()
    }
}
