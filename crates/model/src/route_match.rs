//! Whether a route's match holds for a request.
use xds::route::header_matcher::HeaderMatchSpecifier;
use xds::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds::route::route_match::PathSpecifier;

use crate::proto::{self, Fraction};
use crate::refusal::{At, Compiled, each};
use crate::string_match::{FullRegex, StringMatch};
use crate::view::{RequestView, query};

/// Envoy's `RouteMatch`: all parts hold.
#[derive(Debug)]
pub struct RouteMatch {
    pub(crate) path: PathMatch,
    case_sensitive: bool,
    headers: Box<[HeaderMatch]>,
    query_parameters: Box<[QueryMatch]>,
    grpc: bool,
    fraction: Option<Fraction>,
}

#[derive(Debug)]
pub(crate) enum PathMatch {
    /// Prefix `/`, the most usual match: nothing to fetch from memory.
    Root,
    Prefix(Box<[u8]>),
    Exact(Box<[u8]>),
    Regex(FullRegex),
    /// The path itself, or the path and `/`.
    Separated(Box<[u8]>),
    /// Any CONNECT, and nothing else.
    Connect,
}

impl RouteMatch {
    pub(crate) fn compile(message: &xds::route::RouteMatch) -> Compiled<RouteMatch> {
        let bytes = |s: &str| s.as_bytes().into();
        let path = match message.path_specifier.as_ref() {
            Some(PathSpecifier::Prefix(prefix)) if prefix == "/" => PathMatch::Root,
            Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(bytes(prefix)),
            Some(PathSpecifier::Path(path)) => PathMatch::Exact(bytes(path)),
            Some(PathSpecifier::SafeRegex(regex)) => {
                PathMatch::Regex(FullRegex::compile(regex).at("safe_regex")?)
            }
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
                if prefix.ends_with('/') || !prefix.starts_with('/') {
                    return refuse!("{prefix:?} must start with `/` and not end with it")
                        .at("path_separated_prefix");
                }
                PathMatch::Separated(bytes(prefix))
            }
            Some(PathSpecifier::ConnectMatcher(_)) => PathMatch::Connect,
            None => return refuse!("a path specifier is required"),
        };
        if message.tls_context.is_some() {
            return refuse!("is not supported").at("tls_context");
        }
        if !message.dynamic_metadata.is_empty() {
            return refuse!("is not supported").at("dynamic_metadata");
        }
        let always = |f: &xds::core::RuntimeFractionalPercent| {
            f.default_value.as_ref().map_or(Fraction::ALWAYS, proto::fraction)
        };
        let fraction = message.runtime_fraction.as_ref().map(always);
        Ok(RouteMatch {
            path,
            case_sensitive: message.case_sensitive.unwrap_or(true),
            headers: each("headers", &message.headers, HeaderMatch::compile)?.into(),
            query_parameters: each("query_parameters", &message.query_parameters, QueryMatch::compile)?
                .into(),
            grpc: message.grpc.is_some(),
            fraction,
        })
    }

    /// `path`: without query and fragment. `random`: the request's dice, the same for all routes.
    pub fn matches<R: RequestView + ?Sized>(&self, request: &R, path: &[u8], random: u64) -> bool {
        self.place_matches(request, path)
            && self.headers.iter().all(|h| h.matches(request))
            && (self.query_parameters.is_empty()
                || self.query_parameters.iter().all(|q| q.matches(query(request.path()))))
            && (!self.grpc || is_grpc(request))
            && self.fraction.is_none_or(|f| f.hits(random))
    }

    /// Envoy: a request without a path, as CONNECT is one, meets no route but those for CONNECT.
    fn place_matches<R: RequestView + ?Sized>(&self, request: &R, path: &[u8]) -> bool {
        match self.path {
            PathMatch::Connect => request.method() == b"CONNECT",
            _ => !path.is_empty() && self.path_matches(path),
        }
    }

    fn path_matches(&self, path: &[u8]) -> bool {
        let same = |left: &[u8], right: &[u8]| match self.case_sensitive {
            true => left == right,
            false => left.eq_ignore_ascii_case(right),
        };
        match &self.path {
            PathMatch::Connect => false,
            PathMatch::Root => path.first() == Some(&b'/'),
            PathMatch::Prefix(prefix) => path.get(..prefix.len()).is_some_and(|p| same(prefix, p)),
            PathMatch::Exact(exact) => same(exact, path),
            PathMatch::Regex(regex) => regex.matches(path),
            PathMatch::Separated(prefix) => {
                path.get(..prefix.len()).is_some_and(|p| same(prefix, p))
                    && path.get(prefix.len()).is_none_or(|b| *b == b'/')
            }
        }
    }

    /// The one path accepted, where that is so: key of the virtual host's index.
    pub(crate) fn exact_path(&self) -> Option<&[u8]> {
        match &self.path {
            PathMatch::Exact(exact) if self.case_sensitive => Some(exact),
            _ => None,
        }
    }
}

/// `application/grpc`, alone or with `+` or `;` after it.
pub fn is_grpc<R: RequestView + ?Sized>(request: &R) -> bool {
    let Some(value) = request.header("content-type") else { return false };
    let Some(rest) = value.strip_prefix(b"application/grpc") else { return false };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Envoy's `HeaderMatcher`.
#[derive(Debug)]
pub struct HeaderMatch {
    name: HeaderName,
    test: HeaderTest,
    invert: bool,
    missing_is_empty: bool,
}

/// A header, or what Envoy addresses as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderName {
    Method,
    Path,
    Authority,
    Scheme,
    /// Lower case.
    Named(Box<str>),
}

impl HeaderName {
    pub(crate) fn compile(name: &str) -> Compiled<HeaderName> {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Ok(HeaderName::Method),
            ":path" => Ok(HeaderName::Path),
            ":authority" | "host" => Ok(HeaderName::Authority),
            ":scheme" => Ok(HeaderName::Scheme),
            "" => refuse!("a header name is required"),
            // Pseudo headers of an extended CONNECT and of responses.
            other if other.starts_with(':') => refuse!("{other:?} is no header of a request"),
            other => Ok(HeaderName::Named(other.into())),
        }
    }

    /// [`RequestView::any_value`] of what the name stands for.
    fn any_value<R: RequestView + ?Sized>(
        &self,
        request: &R,
        test: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Option<bool> {
        Some(test(match self {
            HeaderName::Method => request.method(),
            HeaderName::Path => request.path(),
            HeaderName::Authority => request.host(),
            HeaderName::Scheme => request.scheme(),
            HeaderName::Named(name) => return request.any_value(name, test),
        }))
    }
}

#[derive(Debug)]
enum HeaderTest {
    Present(bool),
    Value(StringMatch),
    /// Half open.
    Range(std::ops::Range<i64>),
}

impl HeaderMatch {
    pub(crate) fn compile(message: &xds::route::HeaderMatcher) -> Compiled<HeaderMatch> {
        use HeaderMatchSpecifier as S;
        let test = match message.header_match_specifier.as_ref() {
            None => HeaderTest::Present(true),
            Some(S::PresentMatch(present)) => HeaderTest::Present(*present),
            // Envoy: the deprecated field, when empty, takes any value.
            Some(S::ExactMatch(value)) if value.is_empty() => HeaderTest::Value(StringMatch::prefix("")),
            Some(S::ExactMatch(value)) => HeaderTest::Value(StringMatch::exact(value)),
            Some(S::PrefixMatch(value)) => HeaderTest::Value(StringMatch::prefix(value)),
            Some(S::SuffixMatch(value)) => HeaderTest::Value(StringMatch::suffix(value)),
            Some(S::ContainsMatch(value)) => HeaderTest::Value(StringMatch::contains(value)),
            Some(S::SafeRegexMatch(regex)) => {
                HeaderTest::Value(StringMatch::regex(FullRegex::compile(regex).at("safe_regex_match")?))
            }
            Some(S::StringMatch(matcher)) => {
                HeaderTest::Value(StringMatch::compile(matcher).at("string_match")?)
            }
            Some(S::RangeMatch(range)) => HeaderTest::Range(range.start..range.end),
        };
        Ok(HeaderMatch {
            name: HeaderName::compile(&message.name).at("name")?,
            test,
            invert: message.invert_match,
            missing_is_empty: message.treat_missing_header_as_empty,
        })
    }

    /// Envoy 1.39 and later: every line of the header is looked at by itself, and one that holds is enough; inverted, none may
    /// hold. (Before, lines were joined, and a rule was passed by sending its header twice.)
    pub fn matches<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        self.decide(self.name.any_value(request, &mut |value| self.holds(value)))
    }

    /// For headers that are not a request's (a response's, for retries): `any_value` is [`RequestView::any_value`] of them.
    pub fn matches_with(
        &self,
        any_value: impl FnOnce(&str, &mut dyn FnMut(&[u8]) -> bool) -> Option<bool>,
    ) -> bool {
        match &self.name {
            HeaderName::Named(name) => self.decide(any_value(name, &mut |value| self.holds(value))),
            _ => false,
        }
    }

    fn decide(&self, any: Option<bool>) -> bool {
        let holds = match (any, &self.test) {
            (Some(any), _) => any,
            (None, _) if self.missing_is_empty => self.holds(b""),
            (None, HeaderTest::Present(present)) => !present,
            // A missing header never matches, inverted or not.
            (None, _) => return false,
        };
        holds != self.invert
    }

    fn holds(&self, value: &[u8]) -> bool {
        match &self.test {
            HeaderTest::Present(present) => *present,
            HeaderTest::Value(matcher) => matcher.matches(value),
            HeaderTest::Range(range) => {
                let number = std::str::from_utf8(value).ok().and_then(|v| v.parse::<i64>().ok());
                number.is_some_and(|n| range.contains(&n))
            }
        }
    }
}

#[derive(Debug)]
struct QueryMatch {
    name: Box<[u8]>,
    test: QueryTest,
}

#[derive(Debug)]
enum QueryTest {
    Present(bool),
    Value(StringMatch),
}

impl QueryMatch {
    fn compile(message: &xds::route::QueryParameterMatcher) -> Compiled<QueryMatch> {
        use QueryParameterMatchSpecifier as S;
        if message.name.is_empty() {
            return refuse!("name is required");
        }
        let test = match message.query_parameter_match_specifier.as_ref() {
            None => QueryTest::Present(true),
            Some(S::PresentMatch(present)) => QueryTest::Present(*present),
            Some(S::StringMatch(matcher)) => {
                QueryTest::Value(StringMatch::compile(matcher).at("string_match")?)
            }
        };
        Ok(QueryMatch { name: message.name.as_bytes().into(), test })
    }

    /// Envoy: the first parameter of that name, undecoded.
    fn matches(&self, query: &[u8]) -> bool {
        let mut pairs = query.split(|b| *b == b'&').map(|pair| {
            let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, rest) = pair.split_at(equals);
            (name, rest.get(1..).unwrap_or_default())
        });
        let value = pairs.find(|(name, _)| *name == &*self.name).map(|(_, value)| value);
        match &self.test {
            QueryTest::Present(present) => value.is_some() == *present,
            QueryTest::Value(matcher) => value.is_some_and(|v| matcher.matches(v)),
        }
    }
}
