//! Where traffic goes by region, zone and subzone.

use crate::networking::{LocalityFailover, LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting};
use crate::validate::rules::Rules;
use crate::yaml::shorten;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";

pub(in crate::validate) fn check(
    setting: &LocalityLoadBalancerSetting,
    outlier: bool,
    rules: &mut Rules<'_, '_>,
) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        rules.error("only one of distribute and failover may be set");
        return;
    }
    if !setting.failover.is_empty()
        && let Some(label) = topology_label(&setting.failover_priority)
    {
        rules.field_error(
            "failoverPriority",
            format!("failover decides about regions and zones already, so {label:?} cannot be here"),
        );
        return;
    }
    check_distribute(setting, rules);
    warn_without_outlier(&setting.failover, &setting.failover_priority, outlier, rules);
    check_failover(&setting.failover, rules);
}

pub(in crate::validate) fn check_zone_aware(
    setting: &ZoneAwareLoadBalancerSetting,
    outlier: bool,
    rules: &mut Rules<'_, '_>,
) {
    if let Some(label) = topology_label(&setting.failover_priority) {
        rules.field_error(
            "failoverPriority",
            format!("regions and zones are looked after already, so {label:?} cannot be here"),
        );
    }
    if setting.min_cluster_size == Some(0) {
        rules.field_error("minClusterSize", "must be at least 1");
    }
    warn_without_outlier(&setting.failover, &setting.failover_priority, outlier, rules);
    check_failover(&setting.failover, rules);
}

fn topology_label(labels: &[String]) -> Option<&str> {
    labels
        .iter()
        .map(|label| label.split('=').next().unwrap_or(label))
        .find(|label| [REGION, ZONE, SUBZONE].contains(label))
}

fn warn_without_outlier(
    failover: &[LocalityFailover],
    priority: &[String],
    outlier: bool,
    rules: &mut Rules<'_, '_>,
) {
    let fails_over = !failover.is_empty() || !priority.is_empty();
    if fails_over && !outlier {
        rules.warning("nothing fails over without outlierDetection");
    }
}

fn check_failover(failover: &[LocalityFailover], rules: &mut Rules<'_, '_>) {
    rules.items("failover", failover, |rules, one| {
        if one.from == one.to {
            rules.error(format!("from and to must be different regions, not both {:?}", shorten(&one.from)));
        }
        for (name, region) in [("from", &one.from), ("to", &one.to)] {
            if region.contains('*') {
                rules.field_error(name, format!("must be a region, without '*', not {:?}", shorten(region)));
            }
            if region.contains('/') {
                rules.field_error(name, format!("must be a region alone, not {:?}", shorten(region)));
            }
        }
    });
}

fn check_distribute(setting: &LocalityLoadBalancerSetting, rules: &mut Rules<'_, '_>) {
    let sources: Vec<_> = setting.distribute.iter().map(|one| one.from.as_str()).collect();
    rules.items("distribute", &setting.distribute, |rules, one| {
        rules.entries("to", &one.to, |rules, _, weight| {
            if !(1..=100).contains(weight) {
                rules.error(format!("the weight must be from 1 to 100, not {weight}"));
            }
        });
        let total: u64 = one.to.values().map(|weight| u64::from(*weight)).sum();
        if total != 100 {
            rules.field_error("to", format!("the weights must sum to 100, not {total}"));
        }
        let targets: Vec<_> = one.to.keys().map(String::as_str).collect();
        rules.require_field("to", localities(&targets));
    });
    rules.require_field("distribute", localities(&sources));
}

/// Each `region/zone/subzone` well-formed, and none within another.
fn localities(all: &[&str]) -> Result<(), String> {
    for locality in all {
        if locality.split('/').any(str::is_empty) {
            return Err(format!("{:?} has an empty region, zone or subzone", shorten(locality)));
        }
        if locality.matches('*').count() > 1 || (locality.contains('*') && !locality.ends_with('*')) {
            return Err(format!("{:?} may have one '*', at its end", shorten(locality)));
        }
    }
    for (index, right) in all.iter().enumerate() {
        for left in all.iter().take(index) {
            let (outer, inner) = (components(left), components(right));
            let shared = outer.len().min(inner.len());
            if outer.get(..shared) == inner.get(..shared) {
                return Err(format!("{:?} and {:?} overlap", shorten(left), shorten(right)));
            }
        }
    }
    Ok(())
}

/// Without a final `*`, which says the same as leaving it out.
fn components(locality: &str) -> Vec<&str> {
    let mut parts: Vec<_> = locality.splitn(3, '/').collect();
    if parts.last() == Some(&"*") {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Istio's `validateLocalities`.
    #[test]
    fn localities_must_not_overlap() {
        for (all, good) in [
            (&["a/b/c", "a/b/d"][..], true),
            (&["a/b/c", "a/b1"], true),
            (&["a/b/c", "a"], false),
            (&["a", "a/b/c"], false),
            (&["a/*", "a/b"], false),
            (&["*", "a"], false),
            (&["a/b", "a/b"], false),
            (&["a//c"], false),
            (&["a/*/c"], false),
            (&["*/*"], false),
            (&["*"], true),
        ] {
            assert_eq!(localities(all).is_ok(), good, "{all:?}");
        }
    }
}
