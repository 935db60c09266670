//! JSON formats. A key whose format is one operator keeps the operator's type: numbers stay numbers
//! and what is missing is `null`; text around operators makes a string in which missing is `-`.

use super::compile::{self, Context, FormatError};
use super::escape;
use super::operator::{AddressPart, Op};
use super::render::{self, Value};
use super::source::LogSource;
use super::time::TimeCache;

/// A JSON format as written.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTemplate {
    /// A format string.
    Format(String),
    Number(f64),
    Bool(bool),
    Null,
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// JSON text that never changes.
    Fixed(Box<[u8]>),
    Value(Op),
    Composed(Vec<Op>),
    List(Vec<Node>),
    /// Keys as `"key":`.
    Object(Vec<(Box<[u8]>, Node)>),
}

/// Nesting beyond this is refused; nobody writes it and rendering recurses.
const MAX_DEPTH: usize = 16;

pub(super) fn compile(template: &JsonTemplate, context: &Context<'_>) -> Result<Node, FormatError> {
    node(template, context, MAX_DEPTH)
}

fn node(template: &JsonTemplate, context: &Context<'_>, depth: usize) -> Result<Node, FormatError> {
    let depth = depth.checked_sub(1).ok_or(FormatError::TooDeep { limit: MAX_DEPTH })?;
    Ok(match template {
        JsonTemplate::Null => Node::Fixed(b"null".as_slice().into()),
        JsonTemplate::Bool(value) => Node::Fixed(value.to_string().into_bytes().into()),
        // JSON has no infinities.
        JsonTemplate::Number(value) if value.is_finite() => {
            Node::Fixed(value.to_string().into_bytes().into())
        }
        JsonTemplate::Number(_) => Node::Fixed(b"null".as_slice().into()),
        JsonTemplate::List(items) => {
            Node::List(items.iter().map(|item| node(item, context, depth)).collect::<Result<_, _>>()?)
        }
        JsonTemplate::Object(members) => {
            let members = members.iter().map(|(key, value)| {
                let value = node(value, context, depth)
                    .map_err(|error| FormatError::InKey { key: key.clone(), error: Box::new(error) })?;
                let mut text = vec![b'"'];
                escape::json(&mut text, key.as_bytes());
                text.extend_from_slice(b"\":");
                Ok((text.into(), value))
            });
            Node::Object(members.collect::<Result<_, _>>()?)
        }
        JsonTemplate::Format(format) => {
            let mut ops = compile::text(format, context)?;
            match ops.len() {
                0 => Node::Fixed(b"\"\"".as_slice().into()),
                1 => match ops.remove(0) {
                    Op::Literal(literal) => {
                        let mut quoted = vec![b'"'];
                        escape::json(&mut quoted, literal.text());
                        quoted.push(b'"');
                        Node::Fixed(quoted.into())
                    }
                    op => Node::Value(op),
                },
                _ => Node::Composed(ops),
            }
        }
    })
}

pub(super) fn render(
    node: &Node,
    source: &impl LogSource,
    time: &mut TimeCache,
    omit_empty: bool,
    out: &mut Vec<u8>,
) {
    match node {
        Node::Fixed(text) => out.extend_from_slice(text),
        Node::Value(op) => single(render::value(op, source), source, time, out),
        Node::Composed(ops) => {
            out.push(b'"');
            for op in ops {
                match render::value(op, source) {
                    Value::Missing if omit_empty => {}
                    Value::Missing => out.push(b'-'),
                    found => render::push(found, source, time, escape::json, out),
                }
            }
            out.push(b'"');
        }
        Node::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                render(item, source, time, omit_empty, out);
            }
            out.push(b']');
        }
        Node::Object(members) => {
            out.push(b'{');
            let mut separate = false;
            for (key, member) in members {
                if omit_empty && is_missing(member, source) {
                    continue;
                }
                if separate {
                    out.push(b',');
                }
                separate = true;
                out.extend_from_slice(key);
                render(member, source, time, omit_empty, out);
            }
            out.push(b'}');
        }
    }
}

fn is_missing(node: &Node, source: &impl LogSource) -> bool {
    matches!(node, Node::Value(op) if matches!(render::value(op, source), Value::Missing))
}

fn single(value: Value<'_>, source: &impl LogSource, time: &mut TimeCache, out: &mut Vec<u8>) {
    let bare = match value {
        Value::Missing => return out.extend_from_slice(b"null"),
        Value::Number(_) | Value::Socket(_, AddressPart::PortOnly) => true,
        _ => false,
    };
    if !bare {
        out.push(b'"');
    }
    render::push(value, source, time, escape::json, out);
    if !bare {
        out.push(b'"');
    }
}
