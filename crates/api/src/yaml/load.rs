//! Documents out of text: every good one, and what is wrong with the others.
//!
//! The text is cut at the lines that start a document before anything is parsed (`---` at the start of a line is that
//! wherever it stands, YAML 1.2 §9.1.2), so a mistake in one document ends with it.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{Key, Node, Position, Value, scalar};

/// What one document may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Levels of lists and mappings.
    pub depth: usize,
    /// Values that come of anchors and aliases: a few lines of aliases of aliases would otherwise be gigabytes. What is
    /// written out is bounded by the text itself.
    pub expanded: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 100, expanded: 200_000 }
    }
}

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    pub at: Position,
    pub message: String,
}

/// Reads every document of `text`; those that hold nothing are left out.
pub fn load(text: &str, limits: Limits) -> Vec<Result<Node, SyntaxError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    for chunk in cut(text) {
        let first_line = chunk.first_line;
        let shift = |at: Position| Position { line: at.line.saturating_add(first_line), ..at };
        for document in load_chunk(chunk.text, limits, &shift) {
            match document {
                Ok(node) if node.is_null() => {}
                other => documents.push(other),
            }
        }
    }
    documents
}

/// A document's own text, with the comments before and in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'t> {
    pub text: &'t str,
    /// Lines before it: a place in `text` is so many lines further down in the whole.
    pub first_line: u32,
}

/// The documents of `text`, as [`load`] cuts it, not parsed.
pub fn documents(text: &str) -> Vec<Document<'_>> {
    cut(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The text cut before each line that starts a document. Directives stay with the document they are for.
fn cut(text: &str) -> Vec<Document<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0_u32, 0);
    let mut only_directives = true;
    for (line, number) in text.split_inclusive('\n').zip(0_u32..) {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && !only_directives {
            chunks
                .push(Document { text: text.get(start..offset).unwrap_or_default(), first_line: start_line });
            (start, start_line) = (offset, number);
        }
        let trimmed = line.trim();
        only_directives &= !marker && (trimmed.is_empty() || trimmed.starts_with(['%', '#']));
        offset += line.len();
    }
    chunks.push(Document { text: text.get(start..).unwrap_or_default(), first_line: start_line });
    chunks
}

/// Flow collections may be indented as they like for kubectl's parser, and people close them at the level of their key;
/// ours insists on deeper lines, as YAML 1.2 does. A line it refuses for that is moved to the right and read again.
fn load_chunk(
    text: &str,
    limits: Limits,
    shift: &dyn Fn(Position) -> Position,
) -> Vec<Result<Node, SyntaxError>> {
    let mut moved = MovedLines::default();
    let mut padded = None;
    loop {
        let text = padded.as_deref().unwrap_or(text);
        match parse_chunk(text, limits, &|at| shift(moved.original(at))) {
            Outcome::Documents(documents) => return documents,
            Outcome::Shallow { line, documents } => match moved.push(text, line) {
                Some(text) => padded = Some(text),
                None => return documents,
            },
        }
    }
}

#[derive(Default)]
struct MovedLines {
    lines: HashSet<u32>,
    by: u32,
    cost: usize,
}

impl MovedLines {
    /// Reading again and again is paid for by the byte.
    const BUDGET: usize = 64 << 20;

    /// The text with one more line moved; `None` if that is no help.
    fn push(&mut self, text: &str, line: u32) -> Option<String> {
        self.cost = self.cost.saturating_add(text.len());
        if self.cost > Self::BUDGET || !self.lines.insert(line) {
            return None;
        }
        if self.by == 0 {
            let deepest = text.lines().map(|line| line.len() - line.trim_start_matches(' ').len()).max();
            self.by = u32::try_from(deepest.unwrap_or(0)).ok()?.checked_add(1)?;
        }
        let padding = " ".repeat(usize::try_from(self.by).ok()?);
        let mut result = String::with_capacity(text.len() + padding.len());
        for (number, content) in (1_u32..).zip(text.split_inclusive('\n')) {
            if number == line {
                result.push_str(&padding);
            }
            result.push_str(content);
        }
        Some(result)
    }

    fn original(&self, at: Position) -> Position {
        match self.lines.contains(&at.line) {
            true => Position { column: at.column.saturating_sub(self.by).max(1), ..at },
            false => at,
        }
    }
}

enum Outcome {
    Documents(Vec<Result<Node, SyntaxError>>),
    /// A line of a flow collection is not indented enough; the documents as far as they go.
    Shallow {
        line: u32,
        documents: Vec<Result<Node, SyntaxError>>,
    },
}

fn parse_chunk(text: &str, limits: Limits, shift: &dyn Fn(Position) -> Position) -> Outcome {
    let mut documents = Vec::new();
    let mut builder = Builder::new(limits, shift);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (outcome, shallow) = match event {
            Ok((event, span)) => (builder.accept(event, span), None),
            Err(error) => {
                let shallow =
                    matches!(error.info(), "invalid indentation" | "invalid indentation in flow construct");
                let line = u32::try_from(error.marker().line()).ok().filter(|_| shallow);
                (Err(builder.scan_error(&error)), line)
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(document)) => {
                documents.push(Ok(document));
                builder = Builder::new(limits, shift);
            }
            Err(error) => {
                documents.push(Err(error));
                return match shallow {
                    Some(line) => Outcome::Shallow { line, documents },
                    None => Outcome::Documents(documents),
                };
            }
        }
    }
    Outcome::Documents(documents)
}

/// Builds one document from events.
struct Builder<'s> {
    limits: Limits,
    shift: &'s dyn Fn(Position) -> Position,
    open: Vec<Frame>,
    /// Finished anchored values with their number of nodes.
    anchors: HashMap<usize, (Node, usize)>,
    /// So far, and of them by anchors and aliases.
    nodes: usize,
    expanded: usize,
    root: Option<Node>,
    /// Where the last event was a value left out: `key:` and nothing.
    left_out: Option<usize>,
}

/// A list or mapping that is not finished.
struct Frame {
    at: Position,
    anchor: usize,
    nodes_before: usize,
    /// Whether a bracket or brace began it.
    bracketed: bool,
    kind: FrameKind,
}

enum FrameKind {
    Sequence(Vec<Node>),
    /// What looked like a mapping and is none.
    Word(String),
    Mapping {
        entries: Vec<(Key, Node)>,
        seen: HashSet<String>,
        /// The key whose value comes next.
        key: Option<MappingKey>,
        merges: Vec<Node>,
    },
}

enum MappingKey {
    Named(Key),
    Merge,
}

impl<'s> Builder<'s> {
    fn new(limits: Limits, shift: &'s dyn Fn(Position) -> Position) -> Self {
        Self {
            limits,
            shift,
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            expanded: 0,
            root: None,
            left_out: None,
        }
    }

    /// Takes an event; returns the document when it is finished.
    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<Option<Node>, SyntaxError> {
        let at = self.position(span.start.line(), span.start.col());
        let left_out = self.left_out.take();
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            Event::DocumentEnd => {
                return Ok(Some(self.root.take().unwrap_or(Node { at, value: Value::Null })));
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.nodes = self.nodes.saturating_add(1);
                let value = scalar_value(&text, style, tag.as_deref())
                    .map_err(|message| SyntaxError { at, message })?;
                if span.is_empty() && style == ScalarStyle::Plain {
                    self.left_out = Some(span.start.index());
                }
                let merge = style == ScalarStyle::Plain && text == "<<";
                let node = Node { at, value };
                if anchor != 0 {
                    self.anchor(anchor, &node, 1)?;
                }
                self.place(node, merge, Some(&text))?;
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(SyntaxError {
                        at,
                        message: "the alias names a value that contains it".into(),
                    });
                };
                // The value keeps the place where it was written: that is what has to be changed.
                let (node, size) = (node.clone(), *size);
                self.expand(size, at)?;
                self.place(node, false, None)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.open(at, anchor, !span.is_empty(), FrameKind::Sequence(Vec::new()))?
            }
            Event::MappingStart(anchor, _) => self.open(
                at,
                anchor,
                !span.is_empty(),
                FrameKind::Mapping {
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                    merges: Vec::new(),
                },
            )?,
            Event::SequenceEnd | Event::MappingEnd => {
                self.word_with_colon(left_out, &span);
                self.close(at)?;
            }
        }
        Ok(None)
    }

    fn open(
        &mut self,
        at: Position,
        anchor: usize,
        bracketed: bool,
        kind: FrameKind,
    ) -> Result<(), SyntaxError> {
        if self.open.len() >= self.limits.depth {
            let message = format!("nested deeper than {} levels", self.limits.depth);
            return Err(SyntaxError { at, message });
        }
        self.nodes = self.nodes.saturating_add(1);
        self.open.push(Frame { at, anchor, nodes_before: self.nodes, bracketed, kind });
        Ok(())
    }

    /// `[::1, 2001:db8::]`: by YAML 1.2 the second is a key without value, as its colon stands before a bracket; kubectl's
    /// parser reads the word `2001:db8::`, which is what people mean.
    fn word_with_colon(&mut self, left_out: Option<usize>, end: &Span) {
        let [.., parent, frame] = self.open.as_mut_slice() else {
            return;
        };
        let in_brackets = parent.bracketed && matches!(parent.kind, FrameKind::Sequence(_));
        let adjacent = left_out.is_some_and(|index| end.start.index() == index + 1);
        if !in_brackets || frame.bracketed || !adjacent {
            return;
        }
        if let FrameKind::Mapping { entries, .. } = &mut frame.kind
            && entries.len() == 1
            && let Some((key, _)) = entries.pop()
        {
            frame.kind = FrameKind::Word(format!("{}:", key.name));
        }
    }

    fn close(&mut self, at: Position) -> Result<(), SyntaxError> {
        let Some(frame) = self.open.pop() else {
            return Err(SyntaxError { at, message: "a list or mapping ends that never began".into() });
        };
        let value = match frame.kind {
            FrameKind::Sequence(items) => Value::Sequence(items),
            FrameKind::Word(word) => Value::String(word),
            FrameKind::Mapping { mut entries, mut seen, merges, .. } => {
                for merge in merges {
                    self.merge(merge, &mut entries, &mut seen)?;
                }
                Value::Mapping(entries)
            }
        };
        let node = Node { at: frame.at, value };
        if frame.anchor != 0 {
            self.anchor(frame.anchor, &node, self.nodes.saturating_sub(frame.nodes_before) + 1)?;
        }
        self.place(node, false, None)
    }

    /// `<<`: the fields of another mapping, or of several, behind those written here.
    fn merge(
        &mut self,
        source: Node,
        entries: &mut Vec<(Key, Node)>,
        seen: &mut HashSet<String>,
    ) -> Result<(), SyntaxError> {
        let at = source.at;
        match source.value {
            Value::Mapping(fields) => {
                for (key, value) in fields {
                    if seen.insert(key.name.clone()) {
                        entries.push((key, value));
                    }
                }
                Ok(())
            }
            Value::Sequence(sources) => {
                for source in sources {
                    if source.entries().is_none() {
                        return Err(not_mergeable(source.at));
                    }
                    self.merge(source, entries, seen)?;
                }
                Ok(())
            }
            _ => Err(not_mergeable(at)),
        }
    }

    /// Puts a finished value where it belongs: root, list item, key or value.
    fn place(&mut self, node: Node, merge: bool, written: Option<&str>) -> Result<(), SyntaxError> {
        match self.open.last_mut().map(|frame| &mut frame.kind) {
            // A word is closed as soon as it is one.
            None | Some(FrameKind::Word(_)) => self.root = Some(node),
            Some(FrameKind::Sequence(items)) => items.push(node),
            Some(FrameKind::Mapping { entries, seen, key, merges }) => match key.take() {
                Some(MappingKey::Merge) => merges.push(node),
                Some(MappingKey::Named(key)) => entries.push((key, node)),
                None if merge => *key = Some(MappingKey::Merge),
                None => {
                    let at = node.at;
                    let Some(name) = key_name(node, written) else {
                        return Err(SyntaxError {
                            at,
                            message: "a key must be a word, not a list, mapping or null".into(),
                        });
                    };
                    if !seen.insert(name.clone()) {
                        return Err(SyntaxError {
                            at,
                            message: format!("the key {:?} is there twice", super::shorten(&name)),
                        });
                    }
                    *key = Some(MappingKey::Named(Key { name, at }));
                }
            },
        }
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, node: &Node, size: usize) -> Result<(), SyntaxError> {
        self.expand(size, node.at)?;
        self.anchors.insert(anchor, (node.clone(), size));
        Ok(())
    }

    fn expand(&mut self, nodes: usize, at: Position) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.expanded = self.expanded.saturating_add(nodes);
        if self.expanded > self.limits.expanded {
            let message = format!("anchors and aliases make more than {} values", self.limits.expanded);
            return Err(SyntaxError { at, message });
        }
        Ok(())
    }

    fn scan_error(&self, error: &ScanError) -> SyntaxError {
        SyntaxError {
            at: self.position(error.marker().line(), error.marker().col()),
            message: format!("not YAML: {}", error.info()),
        }
    }

    /// The parser counts columns from 0.
    fn position(&self, line: usize, column: usize) -> Position {
        (self.shift)(Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column.saturating_add(1)).unwrap_or(u32::MAX),
        })
    }
}

fn not_mergeable(at: Position) -> SyntaxError {
    SyntaxError { at, message: "only a mapping or a list of mappings can be merged with <<".into() }
}

/// Numbers and booleans become their text, as kubectl makes them.
fn key_name(node: Node, written: Option<&str>) -> Option<String> {
    match node.value {
        Value::String(name) => Some(name),
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(written.map_or_else(|| value.to_string(), str::to_owned)),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => scalar::resolve(text),
            _ => Value::String(text.to_owned()),
        });
    };
    let name = format!("{}{}", tag.handle, tag.suffix);
    let value = match name.strip_prefix("tag:yaml.org,2002:").unwrap_or(&name) {
        "str" | "!" => Some(Value::String(text.to_owned())),
        "null" => Some(Value::Null),
        "bool" => Some(scalar::resolve(text)).filter(|value| matches!(value, Value::Bool(_))),
        "int" => scalar::number(text).filter(|value| matches!(value, Value::Int(_))),
        "float" => match scalar::resolve(text) {
            // Precise enough: a tagged whole number.
            #[allow(clippy::cast_precision_loss)]
            Value::Int(value) => Some(Value::Float(value as f64)),
            value @ Value::Float(_) => Some(value),
            _ => None,
        },
        _ => return Err(format!("the tag {} is not supported", super::shorten(&name))),
    };
    value.ok_or_else(|| format!("{:?} is not what its tag says", super::shorten(text)))
}

#[cfg(test)]
mod tests;
