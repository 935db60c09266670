//! `exportTo`: who may see an object.

use std::collections::BTreeSet;

use super::names::is_dns_label;
use super::rules::Rules;

/// What the list belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Only these may be seen by nobody (`~`).
    ServiceEntry,
    /// Must stay in its own namespace.
    SelectingDestinationRule,
    Other,
}

/// An entry of a mesh-wide default: `.`, `*` or a namespace.
pub(super) fn default_entry(entry: &str) -> Result<(), String> {
    if matches!(entry, "." | "*" | "~") || is_dns_label(entry) {
        return Ok(());
    }
    Err(format!("must be '.', '*', '~' or a namespace, not {entry:?}"))
}

pub(super) fn check(entries: &[String], namespace: &str, of: Of, rules: &mut Rules<'_, '_>) {
    let mut seen = BTreeSet::new();
    rules.items("exportTo", entries, |rules, entry| {
        let meant = if entry == "." { namespace } else { entry.as_str() };
        if !seen.insert(meant.to_owned()) {
            rules.error(format!("{meant:?} is there twice ('.' is {namespace:?})"));
            return;
        }
        match meant {
            "*" => {}
            "~" if of == Of::ServiceEntry => {}
            "~" => rules.error("only a ServiceEntry may be exported to nobody (~)"),
            name if is_dns_label(name) => {}
            _ => rules.error(format!("must be '.', '*' or a namespace, not {entry:?}")),
        }
    });
    if entries.len() > 1 && seen.contains("*") {
        rules.field_error("exportTo", "'*' means everybody, so there can be no other entry");
    }
    if entries.len() > 1 && seen.contains("~") && of == Of::ServiceEntry {
        rules.field_error("exportTo", "'~' means nobody, so there can be no other entry");
    }
    if of == Of::SelectingDestinationRule && !seen.is_empty() && (seen.len() > 1 || !seen.contains(namespace))
    {
        rules.field_error(
            "exportTo",
            "with a workloadSelector the rule must stay in its own namespace: '.' and nothing else",
        );
    }
}
