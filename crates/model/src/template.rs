//! Header values with `%COMMAND%`s in them, compiled once.
use std::sync::Arc;

use serde::Serialize;

use crate::refusal::Compiled;

/// A value, most often one literal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Literal(Arc<str>),
    Variable(Variable),
}

/// What a template may ask for. The proxy writes the values ([`Values`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamDirectRemoteAddress,
    DownstreamDirectRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    /// SPIFFE id of the peer's certificate.
    DownstreamPeerUriSan,
    DownstreamPeerSubject,
    DownstreamTlsVersion,
    RequestedServerName,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    UpstreamRemoteAddress,
    Protocol,
    Hostname,
    RouteName,
    VirtualClusterName,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    StartTime,
    Duration,
    BytesReceived,
    BytesSent,
    ConnectionId,
    StreamId,
    TraceId,
    EnvironmentVariable(Arc<str>),
    /// What a filter noted of the request. No filter that is accepted notes anything: it is always missing.
    DynamicMetadata,
    /// The first of two headers that is there, at most so many bytes of it.
    RequestHeader {
        name: Arc<str>,
        or: Option<Arc<str>>,
        max: Option<usize>,
    },
    ResponseHeader {
        name: Arc<str>,
        or: Option<Arc<str>>,
        max: Option<usize>,
    },
}

/// Gives a template its values.
pub trait Values {
    /// Appends the value and says true; false when there is none.
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool;
}

impl Template {
    pub fn literal(value: &str) -> Template {
        Template { parts: vec![Part::Literal(value.into())] }
    }

    /// The value where it depends on nothing.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(value)] => Some(value),
            _ => None,
        }
    }

    /// Appends the value. What is missing is left out (Envoy since 1.31; before: `-`).
    pub fn append<V: Values + ?Sized>(&self, values: &V, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => {
                    values.append(variable, out);
                }
            }
        }
    }

    /// `%%` is a percent sign; a command nobody knows is refused by name.
    pub(crate) fn compile(text: &str) -> Compiled<Template> {
        if text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return refuse!("a header value cannot hold CR, LF or NUL");
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let Some((command, after)) = split_command(after) else {
                return refuse!("`%` without its closing `%` in {text:?} (write `%%` for a percent sign)");
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Variable(variable(command)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(Template { parts })
    }
}

/// The command up to its closing `%`; a `%` inside its parentheses belongs to it.
fn split_command(text: &str) -> Option<(&str, &str)> {
    let start = match (text.find('('), text.find('%')?) {
        (Some(open), percent) if open < percent => text.get(open..)?.find(')')? + open,
        _ => 0,
    };
    let end = text.get(start..)?.find('%')? + start;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn variable(command: &str) -> Compiled<Variable> {
    use Variable as V;
    let (name, argument, max) = match command.split_once('(') {
        None => (command, None, None),
        Some((name, rest)) => {
            let Some((argument, tail)) = rest.rsplit_once(')') else {
                return refuse!("%{command}%: `)` is missing");
            };
            let max = match tail.strip_prefix(':') {
                None if tail.is_empty() => None,
                Some(digits) if digits.parse::<usize>().is_ok() => digits.parse().ok(),
                _ => return refuse!("%{command}%: {tail:?} is no length"),
            };
            (name, Some(argument), max)
        }
    };
    let header = |argument: &str| -> Compiled<(Arc<str>, Option<Arc<str>>)> {
        let lower = argument.to_ascii_lowercase();
        let (name, or) = match lower.split_once('?') {
            Some((name, or)) => (name, Some(or.into())),
            None => (lower.as_str(), None),
        };
        match name {
            "" => refuse!("%{command}%: a header name is required"),
            name => Ok((name.into(), or)),
        }
    };
    Ok(match (name, argument) {
        ("REQ", Some(argument)) => {
            let (name, or) = header(argument)?;
            V::RequestHeader { name, or, max }
        }
        ("RESP", Some(argument)) => {
            let (name, or) = header(argument)?;
            V::ResponseHeader { name, or, max }
        }
        ("ENVIRONMENT", Some(name)) => V::EnvironmentVariable(name.into()),
        ("START_TIME", None | Some("")) => V::StartTime,
        ("DYNAMIC_METADATA", Some(_)) => V::DynamicMetadata,
        ("DOWNSTREAM_REMOTE_ADDRESS", None) => V::DownstreamRemoteAddress,
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", None) => V::DownstreamRemoteAddressWithoutPort,
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", None) => V::DownstreamDirectRemoteAddress,
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", None) => {
            V::DownstreamDirectRemoteAddressWithoutPort
        }
        ("DOWNSTREAM_LOCAL_ADDRESS", None) => V::DownstreamLocalAddress,
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", None) => V::DownstreamLocalAddressWithoutPort,
        ("DOWNSTREAM_LOCAL_PORT", None) => V::DownstreamLocalPort,
        ("DOWNSTREAM_PEER_URI_SAN", None) => V::DownstreamPeerUriSan,
        ("DOWNSTREAM_PEER_SUBJECT", None) => V::DownstreamPeerSubject,
        ("DOWNSTREAM_TLS_VERSION", None) => V::DownstreamTlsVersion,
        ("REQUESTED_SERVER_NAME", None) => V::RequestedServerName,
        ("UPSTREAM_HOST", None) => V::UpstreamHost,
        ("UPSTREAM_CLUSTER", None) => V::UpstreamCluster,
        ("UPSTREAM_LOCAL_ADDRESS", None) => V::UpstreamLocalAddress,
        ("UPSTREAM_REMOTE_ADDRESS", None) => V::UpstreamRemoteAddress,
        ("PROTOCOL", None) => V::Protocol,
        ("HOSTNAME", None) => V::Hostname,
        ("ROUTE_NAME", None) => V::RouteName,
        ("VIRTUAL_CLUSTER_NAME", None) => V::VirtualClusterName,
        ("RESPONSE_CODE", None) => V::ResponseCode,
        ("RESPONSE_FLAGS", None) => V::ResponseFlags,
        ("RESPONSE_CODE_DETAILS", None) => V::ResponseCodeDetails,
        ("DURATION", None) => V::Duration,
        ("BYTES_RECEIVED", None) => V::BytesReceived,
        ("BYTES_SENT", None) => V::BytesSent,
        ("CONNECTION_ID", None) => V::ConnectionId,
        ("STREAM_ID", None) => V::StreamId,
        ("TRACE_ID", None) => V::TraceId,
        _ => return refuse!("%{command}% is not supported"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Values for Fixed {
        fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
            let text = match variable {
                Variable::DownstreamRemoteAddressWithoutPort => "10.0.0.1".to_owned(),
                Variable::RequestHeader { name, or, max } => format!("<{name}|{or:?}|{max:?}>"),
                _ => return false,
            };
            out.extend_from_slice(text.as_bytes());
            true
        }
    }

    /// Envoy's custom request/response headers documentation.
    #[test]
    fn commands_are_substituted_and_percent_is_doubled() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("100%%", "100%"),
            ("ip=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;", "ip=10.0.0.1;"),
            ("%REQ(X-A?:PATH):10%", "<x-a|Some(\":path\")|Some(10)>"),
            ("%REQ(x)%%REQ(y)%", "<x|None|None><y|None|None>"),
            ("[%UPSTREAM_HOST%]", "[]"),
            ("[%DYNAMIC_METADATA(com.test.my_filter)%]", "[]"),
        ];
        for (text, value) in cases {
            let mut out = Vec::new();
            Template::compile(text).unwrap().append(&Fixed, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("%PER_REQUEST_STATE(x)%", "PER_REQUEST_STATE"),
            ("50%", "closing"),
            ("%REQ(x%", "closing"),
            ("%REQ()%", "header name"),
            ("%REQ(x):y%", "length"),
            ("a\r\nb", "CR"),
        ];
        for (text, part) in cases {
            let refused = Template::compile(text).unwrap_err().to_string();
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}
