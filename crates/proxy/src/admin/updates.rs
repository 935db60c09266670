//! Counts of what a control plane sent, in Envoy's names.

use telemetry::metrics::{Counter, Registry, Shard};
use xds::type_url;

/// The counters of the types, and the cells they are counted in.
pub(crate) struct Updates {
    shard: Shard,
    types: [Type; 4],
}

struct Type {
    url: &'static str,
    attempts: Counter,
    successes: Counter,
    rejections: Counter,
}

const ATTEMPT: &str = "Responses of the control plane.";
const SUCCESS: &str = "Responses all of whose resources were taken.";
const REJECTED: &str = "Responses with a resource that was refused.";

impl Updates {
    pub fn new(registry: &Registry) -> Updates {
        let of = |url, [attempts, successes, rejections]: [&'static str; 3]| Type {
            url,
            attempts: registry.counter(attempts, ATTEMPT),
            successes: registry.counter(successes, SUCCESS),
            rejections: registry.counter(rejections, REJECTED),
        };
        let types = [
            of(
                type_url::CLUSTER,
                [
                    "envoy_cluster_manager_cds_update_attempt",
                    "envoy_cluster_manager_cds_update_success",
                    "envoy_cluster_manager_cds_update_rejected",
                ],
            ),
            of(
                type_url::LISTENER,
                [
                    "envoy_listener_manager_lds_update_attempt",
                    "envoy_listener_manager_lds_update_success",
                    "envoy_listener_manager_lds_update_rejected",
                ],
            ),
            of(
                type_url::ENDPOINT,
                [
                    "envoy_cluster_update_attempt",
                    "envoy_cluster_update_success",
                    "envoy_cluster_update_rejected",
                ],
            ),
            of(
                type_url::ROUTE,
                [
                    "envoy_http_rds_update_attempt",
                    "envoy_http_rds_update_success",
                    "envoy_http_rds_update_rejected",
                ],
            ),
        ];
        Updates { shard: registry.shard(), types }
    }

    /// One response of a type was applied.
    pub fn count(&self, type_url: &str, rejected: bool) {
        let Some(of) = self.types.iter().find(|of| of.url == type_url) else { return };
        self.shard.inc(of.attempts);
        self.shard.inc(if rejected { of.rejections } else { of.successes });
    }
}
