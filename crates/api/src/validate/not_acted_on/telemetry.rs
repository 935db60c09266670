//! Telemetry.

use super::check_targets;
use crate::telemetry::{CustomTag, MetricOverride, ProviderReference, TagOperation, Telemetry};
use crate::validate::rules::Rules;
use crate::validate::values;

pub(super) fn check(telemetry: &Telemetry, rules: &mut Rules<'_, '_>) {
    check_targets(telemetry.selector.as_ref(), telemetry.target_ref.as_ref(), &telemetry.target_refs, rules);
    if telemetry.tracing.len() > 1 {
        rules.field("tracing", |rules| rules.warning("only one entry is supported"));
    }
    rules.items("tracing", &telemetry.tracing, |rules, tracing| {
        check_providers(&tracing.providers, rules);
        if tracing.providers.len() > 1 {
            rules.field("providers", |rules| rules.warning("only one entry is supported"));
        }
        if tracing.random_sampling_percentage.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            rules.field_error("randomSamplingPercentage", "must be from 0 to 100");
        }
        rules.entries("customTags", &tracing.custom_tags, |rules, name, tag| {
            if name.is_empty() {
                rules.error("a tag's name must not be empty");
            }
            check_tag(tag, rules);
        });
    });
    rules.items("metrics", &telemetry.metrics, |rules, metrics| {
        check_providers(&metrics.providers, rules);
        values::optional_duration("reportingInterval", metrics.reporting_interval, rules);
        rules.items("overrides", &metrics.overrides, check_override);
    });
    rules.items("accessLogging", &telemetry.access_logging, |rules, logging| {
        check_providers(&logging.providers, rules);
    });
}

fn check_providers(providers: &[ProviderReference], rules: &mut Rules<'_, '_>) {
    rules.items("providers", providers, |rules, provider| {
        if provider.name.is_empty() {
            rules.field_error("name", "must not be empty");
        }
    });
}

fn check_tag(tag: &CustomTag, rules: &mut Rules<'_, '_>) {
    let values = [
        ("literal", tag.literal.as_ref().map(|literal| literal.value.as_str())),
        ("formatter", tag.formatter.as_ref().map(|formatter| formatter.value.as_str())),
        ("environment", tag.environment.as_ref().map(|variable| variable.name.as_str())),
        ("header", tag.header.as_ref().map(|header| header.name.as_str())),
    ];
    if values.iter().filter(|(_, value)| value.is_some()).count() > 1 {
        rules.error("only one of literal, formatter, environment and header may be set");
    }
    for (name, value) in values {
        if value == Some("") {
            rules.field_error(name, "must not be empty");
        }
    }
}

fn check_override(rules: &mut Rules<'_, '_>, one: &MetricOverride) {
    rules.optional("match", one.matches.as_ref(), |rules, matches| {
        if matches.metric.is_some() && matches.custom_metric.is_some() {
            rules.error("only one of metric and customMetric may be set");
        }
        if matches.custom_metric.as_deref() == Some("") {
            rules.field_error("customMetric", "must not be empty");
        }
    });
    rules.entries("tagOverrides", &one.tag_overrides, |rules, name, tag| {
        if name.is_empty() {
            rules.error("a tag's name must not be empty");
        }
        // The schema's rule asks only those that say UPSERT; the webhook asks all that mean it.
        match (tag.operation, tag.value.is_empty()) {
            (TagOperation::Upsert, true) => rules.field_error("value", "is required to set a tag (UPSERT)"),
            (TagOperation::Remove, false) => {
                rules.field_error("value", "must not be set to remove a tag (REMOVE)")
            }
            _ => {}
        }
    });
}
