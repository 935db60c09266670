//! The fields of one mapping: taken one by one, what is left over is reported.

use super::{Context, Decode};
use crate::yaml::{Key, Node};

pub(crate) struct Fields<'n> {
    node: &'n Node,
    entries: &'n [(Key, Node)],
    taken: Vec<bool>,
    names: &'static [&'static str],
}

/// What becomes of fields that nobody took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    Error,
    Passed,
}

impl<'n> Fields<'n> {
    /// `names` are all fields there are, for hints.
    pub(crate) fn open(
        node: &'n Node,
        names: &'static [&'static str],
        context: &mut Context,
    ) -> Option<Self> {
        let Some(entries) = node.entries() else {
            context.error(node.at, format!("must be a mapping, not {}", node.describe()));
            return None;
        };
        Some(Self { node, entries, taken: vec![false; entries.len()], names })
    }

    /// The value of `name`; `base` if it is absent, null or wrong (the last is reported).
    pub(crate) fn take<T: Decode>(
        &mut self,
        name: &str,
        required: bool,
        base: T,
        context: &mut Context,
    ) -> T {
        let found =
            self.entries.iter().zip(&mut self.taken).find(|((key, _), _)| is_written(&key.name, name));
        if let Some(((key, value), taken)) = found {
            *taken = true;
            if !value.is_null() {
                return context.in_field(&key.name, |context| T::decode(value, context)).unwrap_or(base);
            }
        }
        if required {
            context.in_field(&written(name), |context| {
                context.error(self.node.at, "is required but missing");
            });
        }
        base
    }

    pub(crate) fn close(self, unknown: Unknown, context: &mut Context) {
        for ((key, _), taken) in self.entries.iter().zip(&self.taken) {
            if *taken {
                continue;
            }
            let strict = unknown == Unknown::Error;
            if !strict && !context.name_unknown {
                continue;
            }
            let message = match closest(&key.name, self.names) {
                Some(name) => format!("unknown field; did you mean {name:?}?"),
                None => "unknown field".to_owned(),
            };
            context.in_field(&key.name, |context| {
                if strict {
                    context.error(key.at, message);
                } else {
                    context.warning(key.at, format!("{message} (ignored)"));
                }
            });
        }
    }
}

/// Whether `key` is the field declared as `name`: as it is, or in lowerCamelCase as proto3 JSON makes it.
pub(crate) fn is_written(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut key = key.bytes();
    let mut name = name.bytes();
    while let Some(byte) = name.next() {
        let expected = match byte {
            b'_' => name.next().map(|byte| byte.to_ascii_uppercase()),
            _ => Some(byte),
        };
        if key.next() != expected {
            return false;
        }
    }
    key.next().is_none()
}

/// `mirror_percentage` to `mirrorPercentage`; names declared in camelCase stay.
fn written(name: &str) -> String {
    let mut upper = false;
    let mut result = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '_' => upper = true,
            _ if upper => {
                result.push(character.to_ascii_uppercase());
                upper = false;
            }
            _ => result.push(character),
        }
    }
    result
}

/// The declared name that a mistyped one probably means.
pub(crate) fn closest(key: &str, names: &[&str]) -> Option<String> {
    if key.len() > 64 {
        return None;
    }
    let key = key.to_ascii_lowercase();
    names
        .iter()
        .map(|name| written(name))
        .map(|name| (distance(&key, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(line + 1);
        for ((to, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let before = next.last().copied().unwrap_or(0);
            let changed = diagonal + usize::from(from != *to);
            next.push(changed.min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_proto3_json_writes_them() {
        for (name, json) in [
            ("hosts", "hosts"),
            ("mirror_percentage", "mirrorPercentage"),
            ("consecutive_5xx_errors", "consecutive5xxErrors"),
            ("http1_max_pending_requests", "http1MaxPendingRequests"),
            ("h2_upgrade_policy", "h2UpgradePolicy"),
            ("clusterIP", "clusterIP"),
        ] {
            assert!(is_written(json, name), "{name}");
            assert!(is_written(name, name), "{name}");
        }
        assert!(!is_written("Hosts", "hosts"));
    }

    #[test]
    fn hints_only_what_is_near() {
        let names = &["hosts", "traffic_policy", "subsets"];
        assert_eq!(closest("host", names).as_deref(), Some("hosts"));
        assert_eq!(closest("trafficpolicy", names).as_deref(), Some("trafficPolicy"));
        assert_eq!(closest("trafficPolcy", names).as_deref(), Some("trafficPolicy"));
        assert_eq!(closest("banana", names), None);
    }
}
