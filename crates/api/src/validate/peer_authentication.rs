//! PeerAuthentication.

use super::rules::Rules;
use super::selectors;
use crate::security::PeerAuthentication;

pub(super) fn check(policy: &PeerAuthentication, rules: &mut Rules<'_, '_>) {
    selectors::policy("selector", policy.selector.as_ref(), rules);
    if !rules.has("portLevelMtls") {
        return;
    }
    if policy.port_level_mtls.is_empty() {
        rules.field_error("portLevelMtls", "must name at least one port");
    }
    if policy.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty()) {
        rules.field_error(
            "portLevelMtls",
            "needs a selector with labels: ports are those of certain workloads",
        );
    }
}
