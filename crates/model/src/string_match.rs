//! String matchers and RE2 regexes over bytes.
use std::borrow::Cow;

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};
use xds::matcher::string_matcher::MatchPattern;

use crate::refusal::{At, Compiled};

/// Longest pattern accepted. Istio's own limit is 1024 characters (ISTIO-SECURITY-2026-006).
const MAX_PATTERN: usize = 4096;
/// Largest compiled program, in bytes.
const MAX_PROGRAM: usize = 1 << 20;

/// Envoy's `StringMatcher`.
#[derive(Debug, Clone)]
pub struct StringMatch {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    /// Lower case when the case is ignored.
    Contains(Box<memmem::Finder<'static>>),
    Regex(FullRegex),
}

impl StringMatch {
    pub(crate) fn compile(message: &xds::matcher::StringMatcher) -> Compiled<StringMatch> {
        let ignore_case = message.ignore_case;
        let bytes = |s: &str| s.as_bytes().into();
        let pattern = match message.match_pattern.as_ref() {
            Some(MatchPattern::Exact(s)) => Pattern::Exact(bytes(s)),
            Some(MatchPattern::Prefix(s)) => Pattern::Prefix(bytes(s)),
            Some(MatchPattern::Suffix(s)) => Pattern::Suffix(bytes(s)),
            Some(MatchPattern::Contains(s)) if ignore_case => {
                Pattern::Contains(Box::new(memmem::Finder::new(&s.to_ascii_lowercase()).into_owned()))
            }
            Some(MatchPattern::Contains(s)) => {
                Pattern::Contains(Box::new(memmem::Finder::new(s).into_owned()))
            }
            Some(MatchPattern::SafeRegex(regex)) => {
                Pattern::Regex(FullRegex::compile(regex).at("safe_regex")?)
            }
            None => return refuse!("a match pattern is required"),
        };
        Ok(StringMatch { pattern, ignore_case })
    }

    pub(crate) fn exact(value: &str) -> StringMatch {
        StringMatch { pattern: Pattern::Exact(value.as_bytes().into()), ignore_case: false }
    }

    pub(crate) fn prefix(value: &str) -> StringMatch {
        StringMatch { pattern: Pattern::Prefix(value.as_bytes().into()), ignore_case: false }
    }

    pub(crate) fn suffix(value: &str) -> StringMatch {
        StringMatch { pattern: Pattern::Suffix(value.as_bytes().into()), ignore_case: false }
    }

    pub(crate) fn contains(value: &str) -> StringMatch {
        let finder = memmem::Finder::new(value).into_owned();
        StringMatch { pattern: Pattern::Contains(Box::new(finder)), ignore_case: false }
    }

    pub(crate) fn regex(regex: FullRegex) -> StringMatch {
        StringMatch { pattern: Pattern::Regex(regex), ignore_case: false }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        let same = |left: &[u8], right: &[u8]| match self.ignore_case {
            true => left.eq_ignore_ascii_case(right),
            false => left == right,
        };
        match &self.pattern {
            Pattern::Exact(exact) => same(exact, value),
            Pattern::Prefix(prefix) => value.get(..prefix.len()).is_some_and(|start| same(prefix, start)),
            Pattern::Suffix(suffix) => {
                let start = value.len().checked_sub(suffix.len());
                start.and_then(|s| value.get(s..)).is_some_and(|end| same(suffix, end))
            }
            Pattern::Contains(finder) if self.ignore_case => {
                let needle = finder.needle();
                needle.is_empty() || value.windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle))
            }
            Pattern::Contains(finder) => finder.find(value).is_some(),
            // Envoy: ignore_case has no effect on a regex.
            Pattern::Regex(regex) => regex.matches(value),
        }
    }
}

/// A regex in RE2's syntax that has to match the whole value.
#[derive(Debug, Clone)]
pub struct FullRegex(Regex);

impl FullRegex {
    pub(crate) fn compile(message: &xds::matcher::RegexMatcher) -> Compiled<FullRegex> {
        Ok(FullRegex(compile(&message.regex, true)?))
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

/// `RegexMatchAndSubstitute`: every match replaced, `\0`..`\9` in the substitution.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    regex: Regex,
    parts: Vec<Substitution>,
}

#[derive(Debug, Clone)]
enum Substitution {
    Literal(Box<[u8]>),
    Group(usize),
}

impl RegexRewrite {
    pub(crate) fn compile(message: &xds::matcher::RegexMatchAndSubstitute) -> Compiled<RegexRewrite> {
        let Some(pattern) = &message.pattern else { return refuse!("pattern is required") };
        let regex = compile(&pattern.regex, false).at("pattern")?;
        let parts = substitution(&message.substitution, regex.captures_len()).at("substitution")?;
        Ok(RegexRewrite { regex, parts })
    }

    /// The value with every match replaced; borrowed when nothing matches.
    pub fn rewrite<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        self.regex.replace_all(value, |captures: &regex::bytes::Captures<'_>| {
            let mut out = Vec::new();
            for part in &self.parts {
                match part {
                    Substitution::Literal(bytes) => out.extend_from_slice(bytes),
                    Substitution::Group(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(b"", |m| m.as_bytes()));
                    }
                }
            }
            out
        })
    }
}

fn substitution(text: &str, groups: usize) -> Compiled<Vec<Substitution>> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            literal.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => literal.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return refuse!("the pattern has no group {group}");
                }
                if !literal.is_empty() {
                    parts.push(Substitution::Literal(std::mem::take(&mut literal).into()));
                }
                parts.push(Substitution::Group(group));
            }
            _ => return refuse!("`\\` must be followed by a digit or `\\`"),
        }
    }
    if !literal.is_empty() {
        parts.push(Substitution::Literal(literal.into()));
    }
    Ok(parts)
}

fn compile(pattern: &str, whole: bool) -> Compiled<Regex> {
    if pattern.is_empty() {
        return refuse!("an empty regex");
    }
    if pattern.len() > MAX_PATTERN {
        return refuse!("the regex is longer than {MAX_PATTERN} bytes");
    }
    let translated = re2(pattern);
    let translated = if whole { format!(r"\A(?:{translated})\z") } else { translated };
    match RegexBuilder::new(&translated).size_limit(MAX_PROGRAM).nest_limit(100).build() {
        Ok(regex) => Ok(regex),
        Err(e) => refuse!("invalid regex {pattern:?}: {}", e.to_string().replace('\n', " ")),
    }
}

/// RE2's syntax in the `regex` crate's, where they differ: `\d \w \s \b` are ASCII; `{` that opens no
/// repetition is a literal; inside a class `[`, `&`, `~` are literals; punctuation may always be escaped.
fn re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut in_class = false;
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let rest = pattern.get(at..).unwrap_or_default();
        match c {
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('Q') if !in_class => {
                    let quoted = rest.get(2..).unwrap_or_default();
                    let quoted = quoted.split_once("\\E").map_or(quoted, |(q, _)| q);
                    out.push_str(&regex::escape(quoted));
                    let end = at + 2 + quoted.len() + 2;
                    while chars.next_if(|(i, _)| *i < end).is_some() {}
                }
                Some(class @ ('d' | 'w' | 's' | 'D' | 'W' | 'S')) => out.push_str(match class {
                    'd' => "[0-9]",
                    'w' => "[0-9A-Za-z_]",
                    's' => r"[\t\n\f\r ]",
                    'D' => "[^0-9]",
                    'W' => "[^0-9A-Za-z_]",
                    _ => r"[^\t\n\f\r ]",
                }),
                Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
                // A negated ASCII boundary may fall inside a character; the Unicode one never does.
                Some('B') if !in_class => out.push_str(r"\B"),
                Some(c @ ('<' | '>')) => out.push(c),
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '[' if in_class && rest.starts_with("[:") => {
                // An ASCII class such as [:alpha:] is the same in both.
                let end = rest.find(":]").map_or(1, |i| i + 2);
                out.push_str(rest.get(..end).unwrap_or("["));
                while chars.next_if(|(i, _)| *i < at + end).is_some() {}
            }
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if(|(_, c)| *c == '^').is_some() {
                    out.push('^');
                }
                if chars.next_if(|(_, c)| *c == ']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '{' if !in_class && !opens_repetition(rest) => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    out
}

/// Whether `rest` starts with `{n}`, `{n,}` or `{n,m}`.
fn opens_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest.get(1..).and_then(|r| r.split_once('}')) else { return false };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    match inner.split_once(',') {
        Some((min, max)) => !min.is_empty() && digits(min) && digits(max),
        None => !inner.is_empty() && digits(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> FullRegex {
        FullRegex(compile(pattern, true).unwrap())
    }

    /// RE2's syntax page (google/re2 wiki/Syntax): Perl classes are ASCII, `.` does not match a newline.
    #[test]
    fn a_regex_reads_as_re2_reads_it() {
        let cases: &[(&str, &[u8], bool)] = &[
            ("/a", b"/a/b", false),
            ("/a|/b", b"/b", true),
            ("/a|/b", b"/ab", false),
            (".*", b"", true),
            (r"\d+", "٣".as_bytes(), false),
            (r"[\d]+", b"12", true),
            (r"[^\d]+", b"ab", true),
            (r"[\D]+", b"1", false),
            (r"/users/{id}", b"/users/{id}", true),
            (r"a{2}", b"aa", true),
            (r"a{2,}", b"aaaa", true),
            (r"[a&&b]+", b"a&b", true),
            (r"[[]", b"[", true),
            (r"[]a]+", b"]a", true),
            (r"[[:alpha:]]+", b"ab", true),
            (r"\Qa.b\Ec", b"a.bc", true),
            (r"\Qa.b\Ec", b"axbc", false),
            (r"a\/b\<c", b"a/b<c", true),
            ("a.b", b"a\nb", false),
            ("a.b", b"a\xffb", false),
            ("(?i)ABC", b"abc", true),
        ];
        for (pattern, value, matches) in cases {
            assert_eq!(regex(pattern).matches(value), *matches, "{pattern} on {value:?}");
        }
    }

    #[test]
    fn a_bad_or_greedy_regex_is_refused_and_named() {
        for pattern in ["(", "a**b(", "", &"a".repeat(5000), "(?:a{1000}){1000}"] {
            let refused = compile(pattern, true).unwrap_err().to_string();
            assert!(refused.contains("regex"), "{refused}");
        }
    }

    #[test]
    fn a_regex_rewrite_replaces_every_match_with_its_groups() {
        let rewrite = |pattern: &str, substitution: &str, value: &str| {
            let message = xds::matcher::RegexMatchAndSubstitute {
                pattern: Some(xds::matcher::RegexMatcher { regex: pattern.into(), engine_type: None }),
                substitution: substitution.into(),
            };
            let rewrite = RegexRewrite::compile(&message).unwrap();
            String::from_utf8(rewrite.rewrite(value.as_bytes()).into_owned()).unwrap()
        };
        // The four examples of Envoy's RouteAction.regex_rewrite.
        assert_eq!(
            rewrite("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api"),
            "/v1/api/instance/foo"
        );
        assert_eq!(rewrite("one", "two", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
        assert_eq!(rewrite("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/one/zzz");
        assert_eq!(rewrite("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb"), "/aaa/yyy/bbb");
    }
}
