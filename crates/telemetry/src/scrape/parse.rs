//! The text format 0.0.4: `name{label="value",…} value [timestamp]`, comments skipped.

use std::borrow::Cow;

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    pub value: f64,
    /// Milliseconds since the epoch, where the line has it.
    pub timestamp: Option<i64>,
}

impl Sample<'_> {
    /// The value of a label, or nothing where the sample has none of that name.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_ref())
    }
}

/// Why a scrape was not understood, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    pub why: &'static str,
}

/// Every sample of a scrape, in order.
pub fn parse(text: &str) -> Result<Vec<Sample<'_>>, ParseError> {
    Samples::new(text).collect()
}

/// The samples of a scrape one by one, for callers that need only a few of a large one.
pub struct Samples<'a> {
    lines: std::iter::Enumerate<std::str::Split<'a, char>>,
}

impl<'a> Samples<'a> {
    pub fn new(text: &'a str) -> Samples<'a> {
        Samples { lines: text.split('\n').enumerate() }
    }
}

impl<'a> Iterator for Samples<'a> {
    type Item = Result<Sample<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        for (index, line) in self.lines.by_ref() {
            let line = line.trim_matches([' ', '\t', '\r']);
            if !line.is_empty() && !line.starts_with('#') {
                return Some(sample(line).map_err(|why| ParseError { line: index + 1, why }));
            }
        }
        None
    }
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = split_name(line, true);
    if name.is_empty() {
        return Err("no metric name");
    }
    let mut labels = Vec::new();
    let rest = match rest.trim_start_matches(BLANK).strip_prefix('{') {
        Some(inside) => label_set(inside, &mut labels)?,
        None if rest.starts_with(BLANK) => rest,
        None => return Err("a metric name holds an odd character"),
    };
    let mut words = rest.split(BLANK).filter(|word| !word.is_empty());
    let value = number(words.next().ok_or("no value")?)?;
    let timestamp =
        words.next().map(|word| word.parse().map_err(|_| "the timestamp is no number")).transpose()?;
    match words.next() {
        None => Ok(Sample { name, labels, value, timestamp }),
        Some(_) => Err("something follows the timestamp"),
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// The name at the start and the rest. Metric names may hold colons, label names not.
fn split_name(text: &str, colons: bool) -> (&str, &str) {
    let part_of_name = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || (colons && c == ':') || (at > 0 && c.is_ascii_digit())
    };
    let end = text.char_indices().find(|found| !part_of_name(*found)).map_or(text.len(), |(at, _)| at);
    text.split_at(end)
}

/// Labels up to the closing brace; answers what follows it.
fn label_set<'a>(text: &'a str, labels: &mut Vec<(&'a str, Cow<'a, str>)>) -> Result<&'a str, &'static str> {
    let mut rest = text.trim_start_matches(BLANK);
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = split_name(rest, false);
        if name.is_empty() {
            return Err("a label has no name");
        }
        let after = after.trim_start_matches(BLANK).strip_prefix('=').ok_or("a label has no '='")?;
        let quoted =
            after.trim_start_matches(BLANK).strip_prefix('"').ok_or("a label value is not quoted")?;
        let (value, after) = label_value(quoted)?;
        labels.push((name, value));
        rest = after.trim_start_matches(BLANK);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches(BLANK),
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by commas"),
        }
    }
}

/// A value up to its closing quote, and what follows it. Borrowed unless something is escaped.
fn label_value(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut owned: Option<String> = None;
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\']).ok_or("a label value does not end")?;
        let (plain, special) = rest.split_at(at);
        if let Some(after) = special.strip_prefix('"') {
            let value = match owned {
                None => Cow::Borrowed(plain),
                Some(mut owned) => {
                    owned.push_str(plain);
                    Cow::Owned(owned)
                }
            };
            return Ok((value, after));
        }
        let owned = owned.get_or_insert_default();
        owned.push_str(plain);
        let mut escaped = special.chars();
        escaped.next();
        match escaped.next() {
            Some('n') => owned.push('\n'),
            Some('"') => owned.push('"'),
            Some('\\') => owned.push('\\'),
            // Prometheus keeps a backslash that escapes nothing.
            Some(other) => owned.extend(['\\', other]),
            None => return Err("a label value does not end"),
        }
        rest = escaped.as_str();
    }
}

fn number(word: &str) -> Result<f64, &'static str> {
    match word {
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        // Rust also reads "infinity" and "nan" in any case, which Prometheus does not write.
        _ if word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')) => {
            word.parse().map_err(|_| "the value is no number")
        }
        _ => Err("the value is no number"),
    }
}
