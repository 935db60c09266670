//! Access-log lines: Envoy's format strings and JSON formats, compiled once to operations, rendered
//! from a live exchange into a reused buffer without allocating.
//!
//! **One request is one line.** A value that came from outside is escaped as it is written: in text
//! `"` and `\` get a backslash, control characters become `\n`, `\r`, `\t` or `\xNN`, bytes that are
//! not UTF-8 become `\xNN`; JSON uses JSON's own escapes and U+FFFD. Envoy writes such bytes raw in
//! text, which lets a client forge fields and, through some inputs, lines (CVE-2024-45808); values
//! without these characters come out byte for byte as Envoy's.

mod compile;
mod escape;
mod grpc;
mod json;
mod operator;
mod presets;
mod render;
mod source;
mod time;

pub use compile::{Context, FormatError};
pub use json::JsonTemplate;
pub use presets::{ISTIO, ISTIO_JSON, ISTIO_LEGACY};
pub use source::{Address, AddressField, HeaderName, LogSource, NumberField, TextField};
pub use time::TimeCache;

use json::Node;
use operator::{Literal, Op};

/// A compiled access-log format. Immutable; share it between workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    body: Body,
    /// Envoy's `omit_empty_values`: missing values are nothing in text (instead of `-`) and absent in
    /// JSON (instead of `null`).
    omit_empty: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Text(Vec<Op>),
    Json(Node),
}

impl Format {
    /// Compiles a text format. A line feed is added at the end where there is none, as Istio does.
    pub fn text(format: &str, context: &Context<'_>) -> Result<Format, FormatError> {
        let mut ops = compile::text(format, context)?;
        match ops.last_mut() {
            Some(Op::Literal(last)) if last.text().ends_with(b"\n") => {}
            Some(Op::Literal(last)) => *last = Literal::new([last.text(), b"\n"].concat()),
            _ => ops.push(Op::Literal(Literal::new(b"\n".to_vec()))),
        }
        Ok(Format { body: Body::Text(ops), omit_empty: false })
    }

    /// Compiles a JSON format: an object whose strings are formats. Keys keep the order given.
    pub fn json(template: &JsonTemplate, context: &Context<'_>) -> Result<Format, FormatError> {
        Ok(Format { body: Body::Json(json::compile(template, context)?), omit_empty: false })
    }

    /// Istio's default text format.
    pub fn istio() -> Format {
        preset(ISTIO)
    }

    /// Istio's default JSON format.
    pub fn istio_json() -> Format {
        json_preset(ISTIO_JSON)
    }

    /// The 19-field format of Istio 1.1, for those whose tools read it.
    pub fn istio_legacy() -> Format {
        preset(ISTIO_LEGACY)
    }

    /// A format of ours by name: `istio`, `istio-json`, `istio-legacy`.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "istio" => Some(Format::istio()),
            "istio-json" => Some(Format::istio_json()),
            "istio-legacy" => Some(Format::istio_legacy()),
            _ => None,
        }
    }

    #[must_use]
    pub fn omit_empty_values(mut self, omit: bool) -> Format {
        self.omit_empty = omit;
        self
    }

    /// Appends one line, its line feed included.
    pub fn render(&self, source: &impl LogSource, time: &mut TimeCache, out: &mut Vec<u8>) {
        match &self.body {
            Body::Text(ops) => render::text(ops, source, time, self.omit_empty, out),
            Body::Json(node) => {
                json::render(node, source, time, self.omit_empty, out);
                out.push(b'\n');
            }
        }
    }
}

/// A preset's text. That the constants compile is a test; were one broken, the log would be empty
/// rather than the proxy down.
fn preset(format: &str) -> Format {
    let ops = compile::text(format, &Context::EMPTY).unwrap_or_default();
    Format { body: Body::Text(ops), omit_empty: false }
}

fn json_preset(members: &[(&str, &str)]) -> Format {
    let members =
        members.iter().map(|(key, format)| ((*key).to_owned(), JsonTemplate::Format((*format).to_owned())));
    let node = json::compile(&JsonTemplate::Object(members.collect()), &Context::EMPTY);
    Format { body: Body::Json(node.unwrap_or(Node::Object(Vec::new()))), omit_empty: false }
}

#[cfg(test)]
mod tests;
