//! What commands print: a table for people, JSON or YAML for machines, names for pipes.
use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::{Failure, Outcome};
use crate::lines::Lines;

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// Columns of text; those past `wide_from` show in `-o wide` only.
pub struct Table {
    header: Vec<&'static str>,
    wide_from: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&'static str]) -> Table {
        Table { header: header.to_vec(), wide_from: usize::MAX, rows: Vec::new() }
    }
    /// The columns from this one on are shown by `-o wide` only.
    pub fn wide_from(mut self, column: usize) -> Table {
        self.wide_from = column;
        self
    }
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Columns padded to their widest cell, three spaces between them, as kubectl does.
    fn render(&self, wide: bool) -> String {
        let shown = if wide { self.header.len() } else { self.header.len().min(self.wide_from) };
        let mut widths: Vec<usize> = self.header.iter().take(shown).map(|h| display_width(h)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(display_width(cell));
            }
        }
        let mut out = String::new();
        let header: Vec<String> = self.header.iter().map(|h| (*h).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line += cell;
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(display_width(cell)) + 3));
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// Columns a terminal gives the text: East Asian wide characters take two.
fn display_width(text: &str) -> usize {
    let wide = |c: char| matches!(u32::from(c), 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD);
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// A listing in the wanted form. `names` are what `-o name` prints.
pub fn list<T: Serialize>(
    format: Format,
    kind: &str,
    items: &[T],
    names: impl Fn(&T) -> String,
    table: impl FnOnce() -> Table,
) -> Outcome {
    match format {
        Format::Table | Format::Wide => put(&table().render(format == Format::Wide)),
        Format::Name => put(&items.iter().map(|i| names(i) + "\n").collect::<String>()),
        Format::Json | Format::Yaml => {
            let document =
                json!({"apiVersion": "filamesh.dev/v1alpha1", "kind": kind, "items": to_value(items)?});
            document_out(format, &document)
        }
    }
}

/// One document as JSON or YAML.
pub fn document_out(format: Format, document: &Value) -> Outcome {
    match format {
        Format::Yaml => put(&api::yaml::render(document)),
        _ => put(&(pretty(document) + "\n")),
    }
}

pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::new(crate::exit::Code::Failure, e.to_string()))
}

pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Data, to stdout. A reader that went away (`| head`) is no error.
pub fn put(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::io("stdout", &e)),
        _ => Ok(()),
    }
}

/// One event of a long-running command given `-o json`: one object a line.
pub fn event(value: &Value) -> Outcome {
    put(&(value.to_string() + "\n"))
}

/// A line for people, to stderr.
pub fn say(line: impl std::fmt::Display) {
    let line = format!("{line}\n");
    match SAID.get() {
        Some(lines) => lines.push(line),
        None => {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// A line for people from a part that knows no commands.
pub fn log(line: &str) {
    say(format_args!("filamesh: {line}"));
}

/// What [`say`] hands over in a command that serves.
static SAID: OnceLock<Lines> = OnceLock::new();

/// From now on [`say`] waits for nobody. For commands that serve, once their signals are taken over.
pub fn say_without_waiting() {
    if let Ok(lines) = Lines::start(|line| std::io::stderr().write_all(line.as_bytes())) {
        let _ = SAID.set(lines);
    }
}

/// Waits a moment for what was said to be written. For whoever ends the process.
pub fn finish_saying() {
    if let Some(lines) = SAID.get() {
        lines.settle(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_wide_characters() {
        let mut table = Table::new(&["NAME", "NOTE", "EXTRA"]).wide_from(2);
        table.row(vec!["评论".into(), "x".into(), "hidden".into()]);
        table.row(vec!["reviews".into(), "y".into(), "hidden".into()]);
        assert_eq!(table.render(false), "NAME      NOTE\n评论      x\nreviews   y\n");
        assert!(table.render(true).contains("hidden"));
    }
}
