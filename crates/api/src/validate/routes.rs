//! What the routes of a VirtualService have in common, whatever they are for: which proxies get them, where they lead.

use super::names::{self, is_dns_label};
use super::rules::Rules;
use super::{selectors, values};
use crate::networking::Destination;
use crate::yaml::shorten;

/// The conditions that decide which proxies get a rule.
pub(super) fn check_static_match(
    port: Option<u32>,
    labels: &std::collections::BTreeMap<String, String>,
    namespace: &str,
    gateways: &[String],
    rules: &mut Rules<'_, '_>,
) {
    if let Some(port) = port.filter(|port| *port != 0) {
        rules.require_field("port", values::port(port));
    }
    selectors::labels("sourceLabels", labels, rules);
    if !namespace.is_empty() && !is_dns_label(namespace) {
        rules.field_error("sourceNamespace", format!("{:?} is not a namespace", shorten(namespace)));
    }
    rules.items("gateways", gateways, |rules, gateway| rules.require(names::gateway_name(gateway)));
}

pub(super) fn check_weight(weight: i32, rules: &mut Rules<'_, '_>) {
    values::not_negative("weight", weight, rules);
}

/// Weights are relative to their sum; a single destination needs none.
pub(super) fn check_total_weight(weights: impl ExactSizeIterator<Item = i32>, rules: &mut Rules<'_, '_>) {
    if weights.len() > 1 && weights.map(i64::from).sum::<i64>() == 0 {
        rules.field_error("route", "the weights of several destinations must not all be 0");
    }
}

pub(super) fn check_destination(destination: &Destination, rules: &mut Rules<'_, '_>) {
    rules.require_field(
        "host",
        match destination.host.as_str() {
            "*" => Err("'*' is no destination".into()),
            host => names::wildcard_domain(host),
        },
    );
    if !destination.subset.is_empty() && !is_dns_label(&destination.subset) {
        rules.field_error("subset", format!("{:?} is not a DNS label", shorten(&destination.subset)));
    }
    rules.optional("port", destination.port.as_ref(), |rules, port| values::port_selector(port, rules));
}
