//! Format strings to operations. Grammar: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):max%`, `%%`
//! for a percent sign, anything else literally.

use super::operator::{AddressPart, Cleaning, GrpcStyle, Header, Literal, Name, Op};
use super::source::{AddressField, HeaderName, NumberField, TextField};
use super::time::TimeFormat;

/// What a format may refer to beyond the exchange: fixed when it is compiled.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// `%HOSTNAME%`.
    pub hostname: Option<&'a str>,
    /// `%ENVIRONMENT(NAME)%`.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Context<'_> {
    /// No host name, no environment.
    pub const EMPTY: Context<'static> = Context { hostname: None, environment: &|_| None };
}

/// Why a format was refused. Positions are bytes from the start of the format (of the one string, in a
/// JSON format).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("access log format, byte {position}: unknown operator %{name}%")]
    UnknownOperator { name: String, position: usize },
    #[error("access log format, byte {position}: %{operator}% {why}")]
    Argument { operator: String, why: String, position: usize },
    #[error(
        "access log format, byte {position}: '%' begins no operator; write %NAME%, %NAME(argument):length%, or %% for a percent sign"
    )]
    Malformed { position: usize },
    #[error("access log format: JSON nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("access log format, key {key:?}: {error}")]
    InKey { key: String, error: Box<FormatError> },
}

pub(super) fn text(format: &str, context: &Context<'_>) -> Result<Vec<Op>, FormatError> {
    let mut ops = Vec::new();
    let mut literal = Vec::new();
    let mut position = 0;
    while let Some(rest) = format.get(position..).filter(|rest| !rest.is_empty()) {
        let Some(percent) = rest.find('%') else {
            literal.extend_from_slice(rest.as_bytes());
            break;
        };
        let (before, at) = rest.split_at(percent);
        literal.extend_from_slice(before.as_bytes());
        position += percent;
        if at.starts_with("%%") {
            literal.push(b'%');
            position += 2;
            continue;
        }
        let written = Written::parse(at, position)?;
        position += written.length;
        match written.compile(context)? {
            Op::Literal(fixed) => literal.extend_from_slice(fixed.text()),
            op => {
                flush(&mut literal, &mut ops);
                ops.push(op);
            }
        }
    }
    flush(&mut literal, &mut ops);
    Ok(ops)
}

fn flush(literal: &mut Vec<u8>, ops: &mut Vec<Op>) {
    if !literal.is_empty() {
        ops.push(Op::Literal(Literal::new(std::mem::take(literal))));
    }
}

/// An operator as written.
struct Written<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    max: Option<usize>,
    position: usize,
    /// Bytes from one percent sign to the other, both included.
    length: usize,
}

impl<'a> Written<'a> {
    /// `text` begins with a percent sign.
    fn parse(text: &'a str, position: usize) -> Result<Written<'a>, FormatError> {
        let malformed = || FormatError::Malformed { position };
        let body = text.get(1..).ok_or_else(malformed)?;
        let name_end = body
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .filter(|end| *end > 0)
            .ok_or_else(malformed)?;
        let (name, after) = body.split_at(name_end);
        let (argument, after) = match after.strip_prefix('(') {
            None => (None, after),
            Some(inside) => {
                // The first closing parenthesis that can end the operator: an argument may hold
                // parentheses and percent signs of its own (time formats do).
                let end = inside
                    .match_indices(')')
                    .map(|(at, _)| at)
                    .find(|at| inside.get(at + 1..).is_some_and(|tail| tail_of(tail).is_some()))
                    .ok_or_else(malformed)?;
                (inside.get(..end), inside.get(end + 1..).unwrap_or_default())
            }
        };
        let (max, rest) = tail_of(after).ok_or_else(malformed)?;
        Ok(Written { name, argument, max, position, length: text.len() - rest.len() })
    }

    fn compile(&self, context: &Context<'_>) -> Result<Op, FormatError> {
        if let Some(op) = self.plain() {
            if self.argument.is_some() {
                return Err(self.refuse("takes no argument"));
            }
            if self.max.is_some() && !matches!(op, Op::Text(..)) {
                return Err(self.refuse("takes no length"));
            }
            return Ok(op);
        }
        match self.name {
            "REQ" => Ok(Op::Request(self.header()?)),
            "RESP" => Ok(Op::Response(self.header()?)),
            "TRAILER" => Ok(Op::Trailer(self.header()?)),
            "START_TIME" => match self.argument {
                None | Some("") => Ok(Op::StartTime(TimeFormat::default())),
                Some(format) => {
                    TimeFormat::compile(format).map(Op::StartTime).map_err(|why| self.refuse(&why))
                }
            },
            "RESPONSE_CODE_DETAILS" => match self.argument {
                None | Some("") => Ok(self.text(TextField::ResponseCodeDetails, Cleaning::Underscores)),
                Some("ALLOW_WHITESPACES") => Ok(self.text(TextField::ResponseCodeDetails, Cleaning::AsIs)),
                Some(_) => Err(self.refuse("takes ALLOW_WHITESPACES or nothing")),
            },
            "GRPC_STATUS" => match self.argument {
                None | Some("" | "CAMEL_STRING") => Ok(Op::Grpc(GrpcStyle::Camel)),
                Some("SNAKE_STRING") => Ok(Op::Grpc(GrpcStyle::Snake)),
                Some("NUMBER") => Ok(Op::Grpc(GrpcStyle::Number)),
                Some(_) => Err(self.refuse("takes CAMEL_STRING, SNAKE_STRING or NUMBER")),
            },
            "DYNAMIC_METADATA" => {
                let mut parts = self.required("a namespace and keys")?.split(':').map(str::to_owned);
                let namespace = parts.next().unwrap_or_default();
                Ok(Op::Metadata { namespace, path: parts.collect(), max: self.max })
            }
            "FILTER_STATE" => {
                let argument = self.required("a key")?;
                match argument.split_once(':') {
                    None | Some((_, "PLAIN")) => {
                        let key = argument.split(':').next().unwrap_or_default().to_owned();
                        Ok(Op::FilterState { key, max: self.max })
                    }
                    Some(_) => Err(self.refuse("is shown PLAIN only")),
                }
            }
            "ENVIRONMENT" => Ok(self.fixed((context.environment)(self.required("a variable's name")?))),
            "HOSTNAME" if self.argument.is_none() => Ok(self.fixed(context.hostname.map(str::to_owned))),
            _ => Err(FormatError::UnknownOperator { name: self.name.to_owned(), position: self.position }),
        }
    }

    /// Operators that are one field without an argument.
    fn plain(&self) -> Option<Op> {
        use AddressField as A;
        use NumberField as N;
        use TextField as T;
        let as_is = |field| self.text(field, Cleaning::AsIs);
        Some(match self.name {
            "PROTOCOL" => as_is(T::Protocol),
            "UPSTREAM_PROTOCOL" => as_is(T::UpstreamProtocol),
            "CONNECTION_TERMINATION_DETAILS" => as_is(T::ConnectionTerminationDetails),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => {
                self.text(T::UpstreamTransportFailureReason, Cleaning::Underscores)
            }
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => {
                self.text(T::DownstreamTransportFailureReason, Cleaning::Underscores)
            }
            "UPSTREAM_CLUSTER" => as_is(T::UpstreamCluster),
            "UPSTREAM_CLUSTER_RAW" => as_is(T::UpstreamClusterRaw),
            "UPSTREAM_HOST_NAME" => as_is(T::UpstreamHostName),
            "REQUESTED_SERVER_NAME" => self.text(T::RequestedServerName, Cleaning::HostName),
            "ROUTE_NAME" => as_is(T::RouteName),
            "VIRTUAL_CLUSTER_NAME" => as_is(T::VirtualClusterName),
            "STREAM_ID" => as_is(T::StreamId),
            "TRACE_ID" => as_is(T::TraceId),
            "DOWNSTREAM_TLS_VERSION" => as_is(T::DownstreamTlsVersion),
            "DOWNSTREAM_TLS_CIPHER" => as_is(T::DownstreamTlsCipher),
            "DOWNSTREAM_TLS_SESSION_ID" => as_is(T::DownstreamTlsSessionId),
            "DOWNSTREAM_PEER_URI_SAN" => as_is(T::DownstreamPeerUriSan),
            "DOWNSTREAM_PEER_DNS_SAN" => as_is(T::DownstreamPeerDnsSan),
            "DOWNSTREAM_PEER_SUBJECT" => as_is(T::DownstreamPeerSubject),
            "DOWNSTREAM_PEER_ISSUER" => as_is(T::DownstreamPeerIssuer),
            "DOWNSTREAM_PEER_SERIAL" => as_is(T::DownstreamPeerSerial),
            "DOWNSTREAM_PEER_FINGERPRINT_256" => as_is(T::DownstreamPeerFingerprint256),
            "DOWNSTREAM_LOCAL_URI_SAN" => as_is(T::DownstreamLocalUriSan),
            "DOWNSTREAM_LOCAL_SUBJECT" => as_is(T::DownstreamLocalSubject),
            "UPSTREAM_TLS_VERSION" => as_is(T::UpstreamTlsVersion),
            "UPSTREAM_TLS_CIPHER" => as_is(T::UpstreamTlsCipher),
            "UPSTREAM_PEER_URI_SAN" => as_is(T::UpstreamPeerUriSan),
            "UPSTREAM_PEER_SUBJECT" => as_is(T::UpstreamPeerSubject),
            "UPSTREAM_PEER_ISSUER" => as_is(T::UpstreamPeerIssuer),
            "UPSTREAM_LOCAL_URI_SAN" => as_is(T::UpstreamLocalUriSan),
            "UPSTREAM_LOCAL_SUBJECT" => as_is(T::UpstreamLocalSubject),
            "RESPONSE_CODE" => Op::Number(N::ResponseCode),
            "BYTES_RECEIVED" => Op::Number(N::BytesReceived),
            "BYTES_SENT" => Op::Number(N::BytesSent),
            "DURATION" => Op::Number(N::Duration),
            "REQUEST_DURATION" => Op::Number(N::RequestDuration),
            "REQUEST_TX_DURATION" => Op::Number(N::RequestTxDuration),
            "RESPONSE_DURATION" => Op::Number(N::ResponseDuration),
            "RESPONSE_TX_DURATION" => Op::Number(N::ResponseTxDuration),
            "REQUEST_HEADERS_BYTES" => Op::Number(N::RequestHeadersBytes),
            "RESPONSE_HEADERS_BYTES" => Op::Number(N::ResponseHeadersBytes),
            "RESPONSE_TRAILERS_BYTES" => Op::Number(N::ResponseTrailersBytes),
            "UPSTREAM_WIRE_BYTES_SENT" => Op::Number(N::UpstreamWireBytesSent),
            "UPSTREAM_WIRE_BYTES_RECEIVED" => Op::Number(N::UpstreamWireBytesReceived),
            "UPSTREAM_HEADER_BYTES_SENT" => Op::Number(N::UpstreamHeaderBytesSent),
            "UPSTREAM_HEADER_BYTES_RECEIVED" => Op::Number(N::UpstreamHeaderBytesReceived),
            "DOWNSTREAM_WIRE_BYTES_SENT" => Op::Number(N::DownstreamWireBytesSent),
            "DOWNSTREAM_WIRE_BYTES_RECEIVED" => Op::Number(N::DownstreamWireBytesReceived),
            "DOWNSTREAM_HEADER_BYTES_SENT" => Op::Number(N::DownstreamHeaderBytesSent),
            "DOWNSTREAM_HEADER_BYTES_RECEIVED" => Op::Number(N::DownstreamHeaderBytesReceived),
            "CONNECTION_ID" => Op::Number(N::ConnectionId),
            "UPSTREAM_CONNECTION_ID" => Op::Number(N::UpstreamConnectionId),
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Op::Number(N::UpstreamRequestAttemptCount),
            "GRPC_STATUS_NUMBER" => Op::Grpc(GrpcStyle::Number),
            "RESPONSE_FLAGS" => Op::FlagsShort,
            "RESPONSE_FLAGS_LONG" => Op::FlagsLong,
            "UPSTREAM_HOST" => Op::Address(A::UpstreamHost, AddressPart::Whole),
            name => {
                let (field, part) = address(name)?;
                Op::Address(field, part)
            }
        })
    }

    fn text(&self, field: TextField, cleaning: Cleaning) -> Op {
        Op::Text(field, cleaning, self.max)
    }

    fn header(&self) -> Result<Header, FormatError> {
        let argument = self.required("a header's name")?;
        let (first, second) = match argument.split_once('?') {
            Some((first, second)) => (first, Some(second)),
            None => (argument, None),
        };
        let name = |name: &str| self.header_name(name);
        Ok(Header { first: name(first)?, second: second.map(name).transpose()?, max: self.max })
    }

    fn header_name(&self, name: &str) -> Result<Name, FormatError> {
        let name = name.to_ascii_lowercase();
        match (self.name, name.as_str()) {
            ("REQ", ":method") => Ok(Name::Method),
            ("REQ", ":path") => Ok(Name::Path),
            ("REQ", ":authority" | "host") => Ok(Name::Authority),
            ("REQ", ":scheme") => Ok(Name::Scheme),
            ("RESP", ":status") => Ok(Name::Status),
            (_, "") => Err(self.refuse("names an empty header")),
            (_, other) if other.contains('?') => Err(self.refuse("takes at most two headers")),
            (_, other) if other.starts_with(':') => {
                Err(self.refuse(&format!("has no pseudo header {other:?}")))
            }
            (_, other) => Ok(Name::Named(HeaderName::new(other))),
        }
    }

    fn required(&self, what: &str) -> Result<&'a str, FormatError> {
        self.argument
            .filter(|argument| !argument.is_empty())
            .ok_or_else(|| self.refuse(&format!("needs {what} in parentheses")))
    }

    /// A value known now. It counts as literal text of the operator's author, escaped all the same.
    fn fixed(&self, value: Option<String>) -> Op {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Op::Missing };
        let mut text = Vec::new();
        super::escape::text(&mut text, super::escape::cut(value.as_bytes(), self.max));
        Op::Literal(Literal::new(text))
    }

    fn refuse(&self, why: &str) -> FormatError {
        FormatError::Argument { operator: self.name.to_owned(), why: why.to_owned(), position: self.position }
    }
}

/// The end of an operator, `%` or `:NUMBER%`: the length limit and what follows.
fn tail_of(text: &str) -> Option<(Option<usize>, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((None, rest));
    }
    let (digits, rest) = text.strip_prefix(':')?.split_once('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    Some((Some(plain.then(|| digits.parse().ok()).flatten()?), rest))
}

/// `DOWNSTREAM_REMOTE_ADDRESS`, `…_ADDRESS_WITHOUT_PORT`, `DOWNSTREAM_REMOTE_PORT`.
fn address(name: &str) -> Option<(AddressField, AddressPart)> {
    let (stem, part) = if let Some(stem) = name.strip_suffix("_ADDRESS_WITHOUT_PORT") {
        (stem, AddressPart::WithoutPort)
    } else if let Some(stem) = name.strip_suffix("_ADDRESS") {
        (stem, AddressPart::Whole)
    } else {
        (name.strip_suffix("_PORT")?, AddressPart::PortOnly)
    };
    let field = match stem {
        "UPSTREAM_LOCAL" => AddressField::UpstreamLocal,
        "UPSTREAM_REMOTE" => AddressField::UpstreamRemote,
        "DOWNSTREAM_LOCAL" => AddressField::DownstreamLocal,
        "DOWNSTREAM_DIRECT_LOCAL" => AddressField::DownstreamDirectLocal,
        "DOWNSTREAM_REMOTE" => AddressField::DownstreamRemote,
        "DOWNSTREAM_DIRECT_REMOTE" => AddressField::DownstreamDirectRemote,
        _ => return None,
    };
    Some((field, part))
}
