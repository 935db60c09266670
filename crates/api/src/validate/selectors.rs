//! Label selectors of policies and of sidecars.

use std::collections::BTreeMap;

use super::rules::Rules;
use crate::networking::{PolicySelector, WorkloadSelector};

/// `selector.matchLabels`.
pub(super) fn policy(name: &str, selector: Option<&PolicySelector>, rules: &mut Rules<'_, '_>) {
    rules.optional(name, selector, |rules, selector| {
        if selector.match_labels.is_empty() {
            rules.warning("selects every workload, as it names no labels");
        }
        pairs("matchLabels", &selector.match_labels, rules);
    });
}

/// `workloadSelector.labels`.
pub(super) fn workload(selector: Option<&WorkloadSelector>, rules: &mut Rules<'_, '_>) {
    rules.optional("workloadSelector", selector, |rules, selector| {
        if selector.labels.is_empty() {
            rules.warning("selects every workload of the namespace, as it names no labels");
        }
        pairs("labels", &selector.labels, rules);
    });
}

fn pairs(name: &str, labels: &BTreeMap<String, String>, rules: &mut Rules<'_, '_>) {
    rules.entries(name, labels, |rules, key, value| {
        if key.is_empty() {
            rules.error("a label's name must not be empty");
        }
        if key.contains('*') || value.contains('*') {
            rules.error(format!("a selector takes no wildcards, but has {key:?}: {value:?}"));
        }
        if value.len() > 63 {
            rules.error("a label's value must not be longer than 63 characters");
        }
    });
}

/// Labels that a workload bears, as Kubernetes allows them.
pub(super) fn labels(name: &str, labels: &BTreeMap<String, String>, rules: &mut Rules<'_, '_>) {
    rules.entries(name, labels, |rules, key, value| {
        if !is_label_key(key) {
            rules.error(format!(
                "{key:?} is not a label's name ([prefix/]name of letters, digits, '-', '_', '.')"
            ));
        }
        if !value.is_empty() && !is_label_word(value) {
            rules.error(format!(
                "{value:?} is not a label's value (at most 63 letters, digits, '-', '_', '.')"
            ));
        }
    });
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_word(key),
        Some((prefix, name)) => {
            prefix.len() <= 253 && prefix.split('.').all(super::names::is_dns_label) && is_label_word(name)
        }
    }
}

fn is_label_word(word: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    word.len() <= 63
        && edge(word.as_bytes().first())
        && edge(word.as_bytes().last())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
