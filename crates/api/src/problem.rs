//! What is wrong with an input, and where.

use std::fmt::{self, Write};
use std::sync::Arc;

use serde::Serialize;

/// One finding. Prints as `file:line:column: kind/namespace/name field.path: message`, without a line if the whole file is meant;
/// warnings say so before the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    pub file: Arc<str>,
    /// From 1; 0 if the whole file is meant.
    pub line: u32,
    /// From 1; 0 if the whole line is meant.
    pub column: u32,
    /// `kind/namespace/name`; absent if the object could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// `spec.http[0].route[1].weight`; empty if the whole object is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is accepted all the same.
    Warning,
    /// The object is refused.
    Error,
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}:", self.file)?,
            line => write!(out, "{}:{line}:{}:", self.file, self.column)?,
        }
        if let Some(object) = &self.object {
            write!(out, " {}", OneLine(object))?;
        }
        if !self.path.is_empty() {
            write!(out, " {}", OneLine(&self.path))?;
        }
        if self.object.is_some() || !self.path.is_empty() {
            out.write_str(":")?;
        }
        if self.severity == Severity::Warning {
            out.write_str(" warning:")?;
        }
        write!(out, " {}", OneLine(&self.message))
    }
}

/// Text of a document within a line of ours: what would break the line or steer a terminal is escaped.
struct OneLine<'t>(&'t str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => write!(out, "{}", character.escape_default())?,
                false => out.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_or_a_name_that_breaks_the_line_is_printed_escaped() {
        let problem = Problem {
            severity: Severity::Error,
            file: "a.yaml".into(),
            line: 1,
            column: 1,
            object: Some("VirtualService\n0x/默认/".into()),
            path: "spec.\u{1b}[31m".into(),
            message: "unknown\r".into(),
        };
        let printed = r"a.yaml:1:1: VirtualService\n0x/默认/ spec.\u{1b}[31m: unknown\r";
        assert_eq!(problem.to_string(), printed);
    }

    #[test]
    fn as_data() {
        let problem = Problem {
            severity: Severity::Warning,
            file: "a.yaml".into(),
            line: 3,
            column: 7,
            object: None,
            path: String::new(),
            message: "odd".into(),
        };
        assert_eq!(problem.to_string(), "a.yaml:3:7: warning: odd");
        let whole = Problem { line: 0, column: 0, ..problem.clone() };
        assert_eq!(whole.to_string(), "a.yaml: warning: odd");
        let json = serde_json::to_string(&problem).expect("plain data");
        assert_eq!(json, r#"{"severity":"warning","file":"a.yaml","line":3,"column":7,"message":"odd"}"#);
    }
}
