//! What a NACK's text is about.
//!
//! A NACK is an answer to a whole response; only its text tells what was wrong with which resource, and what became of
//! the others differs (Envoy 1.40: `config/utility.cc`, `cds_api_helper.cc`, `lds_api.cc`, `watch_map.cc`):
//!
//! * Clusters and listeners that are each refused when added: the others are live. The text begins with
//!   `Error adding/updating cluster(s) ` and lists `name: reason`.
//! * A resource that does not decode or breaks a rule of its message: nothing of the response was applied.
//! * Routes and endpoints: the first failure ends the response; what comes behind it, in the order of a hash table, was
//!   not applied.
//! * A text is cut at 4,096 bytes: what it does not name may be refused as well.
//!
//! Our own proxy names all it refuses, and all others are live.

use super::Kind;
use crate::limits::REASON_BYTES;

/// Where Envoy cuts a text.
const ENVOY_TEXT_BYTES: usize = 4096;
const ENVOY_CUT: &str = "(truncated)";

const CLUSTERS_REFUSED: &str = "Error adding/updating cluster(s) ";
const LISTENERS_REFUSED: &str = "Error adding/updating listener(s) ";

/// A resource a client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub kind: Kind,
    pub name: String,
    /// 16 hexadecimal digits.
    pub version: String,
    /// What the client said.
    pub reason: String,
}

/// What a NACK says about one resource of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// The client has it.
    Live,
    Refused,
    /// The text mentions it, and it may be about something else.
    Suspected,
    Unknown,
}

/// Judges each of the resources of a response by the text of its NACK. `names_all`: see
/// [`super::Capabilities::names_all_refusals`].
pub(super) fn judge(text: &str, names: &[&str], names_all: bool) -> Vec<Judged> {
    let each = |of: &dyn Fn(&str) -> Judged| names.iter().map(|name| of(name)).collect::<Vec<_>>();
    if names_all {
        let remarks: std::collections::HashSet<&str> =
            text.split("; ").filter_map(|part| Some(part.split_once(": ")?.0)).collect();
        let any = names.iter().any(|name| remarks.contains(name));
        let others = if any { Judged::Live } else { Judged::Unknown };
        return each(&|name| if remarks.contains(name) { Judged::Refused } else { others });
    }
    if let Some(list) = listed(text) {
        let whole = text.len() < ENVOY_TEXT_BYTES && !text.trim_end().ends_with(ENVOY_CUT);
        let any = names.iter().any(|name| is_subject(list, name));
        let others = if any && whole { Judged::Live } else { Judged::Unknown };
        return each(&|name| if is_subject(list, name) { Judged::Refused } else { others });
    }
    each(&|name| match () {
        () if is_subject(text, name) => Judged::Refused,
        () if mentions(text, name) => Judged::Suspected,
        () => Judged::Unknown,
    })
}

/// The list of a text from a client that decoded all of a response and then applied it one by one.
fn listed(text: &str) -> Option<&str> {
    [CLUSTERS_REFUSED, LISTENERS_REFUSED].iter().find_map(|prefix| text.strip_prefix(prefix))
}

/// Whether what the refused response took away is surely gone: Envoy does that before it applies the first listener, and
/// our proxy does it whatever it refuses.
pub(super) fn took_away(text: &str, names_all: bool) -> bool {
    names_all || listed(text).is_some()
}

/// Whether the text is about this resource: its name stands where a remark begins, or where Envoy prints the message's
/// own name.
fn is_subject(text: &str, name: &str) -> bool {
    occurrences(text, name).any(|at| {
        let (before, after) =
            (text.get(..at).unwrap_or_default(), text.get(at + name.len()..).unwrap_or_default());
        let begins = before.is_empty() || ["\n", ", ", "; ", "(s) "].iter().any(|s| before.ends_with(s));
        let printed = before.ends_with("name: \"") && after.starts_with('"');
        (begins && after.starts_with(": ")) || printed
    })
}

/// Whether the text speaks of this resource at all.
fn mentions(text: &str, name: &str) -> bool {
    occurrences(text, name).next().is_some()
}

/// What the text says about the resource: from its name to the end of that remark if remarks are written
/// `name: reason; name: reason` as our proxy does, else all of it.
pub(super) fn reason(text: &str, name: &str) -> String {
    let start = format!("{name}: ");
    let remark = text.split("; ").find_map(|part| part.strip_prefix(&start));
    shorten(remark.unwrap_or(text))
}

/// Where the name stands, not as part of a longer one.
fn occurrences(text: &str, name: &str) -> impl Iterator<Item = usize> {
    let found = (!name.is_empty()).then(|| text.match_indices(name));
    found.into_iter().flatten().map(|(at, _)| at).filter(move |&at| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let mut after = text.get(at + name.len()..).unwrap_or_default().chars();
        let (next, second) = (after.next(), after.next());
        // `cluster(s) bad: reason` ends the name; `outbound|80||a.b` does not end `outbound|80||a`.
        let ends = match next {
            Some('.' | ':') => !second.is_some_and(is_name),
            Some(c) => !is_name(c),
            None => true,
        };
        ends && !before.is_some_and(is_name)
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '|' | '/' | '*' | '~' | '%' | ':')
}

fn shorten(text: &str) -> String {
    let end = (0..=REASON_BYTES.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Judged::{Live, Refused, Suspected, Unknown};

    /// The first text is Envoy 1.40's, the third our proxy's.
    #[test]
    fn a_name_is_found_whole_or_not_at_all() {
        for (text, name, named) in [
            ("Error adding/updating cluster(s) bad: Didn't find a registered implementation", "bad", true),
            ("Error adding/updating cluster(s) bad: Didn't find a registered implementation", "find a", true),
            ("outbound|80||a.b: unknown field", "outbound|80||a.b", true),
            ("outbound|80||a.b: unknown field", "outbound|80||a", false),
            ("outbound|80||a.b: unknown field", "80", false),
            ("listener 0.0.0.0_80: no chain", "80", false),
            ("route 80: no host", "80", true),
            ("everything is wrong.", "wrong", true),
            ("x", "", false),
        ] {
            assert_eq!(mentions(text, name), named, "{name} in {text}");
        }
    }

    /// Each row is a text of Envoy 1.40 (`cds_api_helper.cc`, `lds_api.cc`, `protobuf/utility.cc`, `rds_impl.cc`,
    /// `eds.cc`) or of our proxy, and what it says about the resources `a` and `b` of the response.
    #[test]
    fn a_nack_condemns_only_what_it_surely_names() {
        let long = format!("{CLUSTERS_REFUSED}a: {}...(truncated)", "x".repeat(4100));
        let cut_in_b = format!("{CLUSTERS_REFUSED}a: {}, b", "x".repeat(4096));
        for (text, ours, expected) in [
            ("Error adding/updating cluster(s) a: no implementation of 'b'", false, [Refused, Live]),
            ("Error adding/updating cluster(s) a: no, b: neither", false, [Refused, Refused]),
            ("Error adding/updating listener(s) b: cannot bind a: in use\n", false, [Live, Refused]),
            (long.as_str(), false, [Refused, Unknown]),
            (cut_in_b.as_str(), false, [Refused, Unknown]),
            ("Error adding/updating cluster(s) ...(truncated)", false, [Unknown, Unknown]),
            (
                "Proto constraint validation failed (ClusterValidationError.Name): name: \"b\"\ntype: EDS",
                false,
                [Unknown, Refused],
            ),
            ("Unexpected EDS cluster (expecting a): b", false, [Suspected, Suspected]),
            ("route: unknown cluster 'c'", false, [Unknown, Unknown]),
            ("", false, [Unknown, Unknown]),
            ("a: field x: no", true, [Refused, Live]),
            ("a: field x; b: no", true, [Refused, Refused]),
            ("a: leads to b", true, [Refused, Live]),
            ("this type was not asked for", true, [Unknown, Unknown]),
        ] {
            assert_eq!(judge(text, &["a", "b"], ours), expected, "{text}");
        }
    }

    #[test]
    fn a_remark_is_cut_out_of_our_own_texts() {
        assert_eq!(reason("a: one; b: two", "b"), "two");
        assert_eq!(reason("cluster(s) b: two", "b"), "cluster(s) b: two");
        assert_eq!(reason(&"é".repeat(2000), "b").len(), 1024);
    }
}
