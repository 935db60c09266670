//! What a NACK's text is about.

use super::Kind;

/// A text of a client is cut here before it is kept.
const TEXT_LIMIT: usize = 1024;

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

/// Whether the text speaks of this resource: its name stands there, not as part of a longer one.
pub(crate) fn names(text: &str, name: &str) -> bool {
    occurrence(text, name).is_some()
}

/// What the text says about the resource: from its name to the end of that remark if remarks are written
/// `name: reason; name: reason` as our proxy does, else all of it.
pub(crate) fn reason(text: &str, name: &str) -> String {
    let start = format!("{name}: ");
    let remark = text.split("; ").find_map(|part| part.strip_prefix(&start));
    shorten(remark.unwrap_or(text))
}

fn occurrence(text: &str, name: &str) -> Option<usize> {
    if name.is_empty() {
        return None;
    }
    text.match_indices(name).map(|(at, _)| at).find(|&at| {
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
    let end = (0..=TEXT_LIMIT.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(names(text, name), named, "{name} in {text}");
        }
    }

    #[test]
    fn a_remark_is_cut_out_of_our_own_texts() {
        assert_eq!(reason("a: one; b: two", "b"), "two");
        assert_eq!(reason("cluster(s) b: two", "b"), "cluster(s) b: two");
        assert_eq!(reason(&"é".repeat(2000), "b").len(), 1024);
    }
}
