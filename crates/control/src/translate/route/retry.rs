//! Retries, Istio's defaults included (`istio-behaviour` rule 23).

use api::networking::HttpRetry;
use xds::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use xds::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use xds::route::RetryPolicy;
use xds::route::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};

use crate::translate::values::duration;

const DEFAULT_CONDITIONS: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const BY_STATUS: &str = "retriable-status-codes";

/// `None` turns retries off. With a hash, a retry goes to the same host again.
pub fn policy(written: Option<&HttpRetry>, hashed: bool) -> Option<RetryPolicy> {
    let mut policy =
        RetryPolicy { num_retries: Some(2), retry_on: DEFAULT_CONDITIONS.into(), ..Default::default() };
    if !hashed {
        avoid_previous_hosts(&mut policy);
    }
    let Some(written) = written else { return Some(policy) };
    if written.attempts <= 0 {
        return None;
    }
    policy.num_retries = u32::try_from(written.attempts).ok();
    if !written.retry_on.is_empty() {
        conditions(&mut policy, &written.retry_on);
    }
    policy.per_try_timeout = written.per_try_timeout.map(duration);
    if written.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".into(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(xds::pack(
                &PreviousPrioritiesConfig { update_frequency: 2 },
            ))),
        });
    }
    match written.retry_ignore_previous_hosts {
        Some(true) => avoid_previous_hosts(&mut policy),
        Some(false) => policy.retry_host_predicate.clear(),
        None => {}
    }
    policy.retry_back_off =
        written.backoff.map(|base| RetryBackOff { base_interval: Some(duration(base)), max_interval: None });
    Some(policy)
}

fn avoid_previous_hosts(policy: &mut RetryPolicy) {
    policy.retry_host_predicate = vec![RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(xds::pack(
            &PreviousHostsPredicate {},
        ))),
    }];
    policy.host_selection_retry_max_attempts = 5;
}

/// Numbers among the conditions are status codes.
fn conditions(policy: &mut RetryPolicy, written: &str) {
    let mut named: Vec<&str> = Vec::new();
    for condition in written.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        match condition.parse::<u32>() {
            Ok(status) => policy.retriable_status_codes.push(status),
            Err(_) => named.push(condition),
        }
    }
    if !policy.retriable_status_codes.is_empty() && !named.contains(&BY_STATUS) {
        named.push(BY_STATUS);
    }
    policy.retry_on = named.join(",");
}
