//! DestinationRule.

use super::export_to::{self, Of};
use super::rules::Rules;
use super::{names, selectors, traffic_policy};
use crate::networking::DestinationRule;
use crate::object::Object;
use crate::yaml::shorten;

pub(super) fn check(rule: &DestinationRule, object: &Object, rules: &mut Rules<'_, '_>) {
    rules.require_field("host", names::wildcard_domain(&rule.host));
    rules.optional("trafficPolicy", rule.traffic_policy.as_ref(), traffic_policy::check);
    rules.items("subsets", &rule.subsets, |rules, subset| {
        if !names::is_dns_label(&subset.name) {
            rules.field_error("name", format!("{:?} is not a DNS label", shorten(&subset.name)));
        }
        selectors::labels("labels", &subset.labels, rules);
        rules.optional("trafficPolicy", subset.traffic_policy.as_ref(), traffic_policy::check);
    });
    selectors::policy("workloadSelector", rule.workload_selector.as_ref(), rules);
    let of = match rule.workload_selector {
        Some(_) => Of::SelectingDestinationRule,
        None => Of::Other,
    };
    export_to::check(&rule.export_to, object.namespace(), of, rules);
}
