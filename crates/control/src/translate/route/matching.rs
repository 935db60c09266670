//! Conditions on requests.

use std::collections::BTreeMap;

use api::networking::{HttpMatchRequest, StringMatch};
use xds::matcher::metadata_matcher::{PathSegment, path_segment};
use xds::matcher::{
    MetadataMatcher, RegexMatcher, StringMatcher, ValueMatcher, string_matcher, value_matcher,
};
use xds::node::Feature;
use xds::route::header_matcher::HeaderMatchSpecifier;
use xds::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds::route::route_match::PathSpecifier;
use xds::route::{HeaderMatcher, QueryParameterMatcher, RouteMatch};

use crate::translate::context::Context;
use crate::world::{NotDone, Note, Reason, VirtualService};

/// A header name that means a claim of the request's token.
const CLAIM: &str = "@request.auth.claims";

pub fn route_match(
    rule: &VirtualService,
    matched: Option<&HttpMatchRequest>,
    context: &Context<'_>,
) -> RouteMatch {
    let mut made = super::any_path();
    let Some(matched) = matched else { return made };
    header_conditions(rule, &matched.headers, false, &mut made, context);
    header_conditions(rule, &matched.without_headers, true, &mut made, context);
    made.headers.sort_by(|left, right| left.name.cmp(&right.name));
    match &matched.uri {
        None | Some(StringMatch::Present) => {}
        Some(StringMatch::Exact(path)) => made.path_specifier = Some(PathSpecifier::Path(path.clone())),
        // A plain string prefix, unlike the Gateway API's (`istio-behaviour` rule 3).
        Some(StringMatch::Prefix(prefix)) => {
            made.path_specifier = Some(PathSpecifier::Prefix(prefix.clone()));
        }
        Some(StringMatch::Regex(pattern)) => {
            made.path_specifier = Some(PathSpecifier::SafeRegex(regex(pattern)));
        }
    }
    made.case_sensitive = Some(!matched.ignore_uri_case);
    let pseudo =
        [(":method", &matched.method), (":authority", &matched.authority), (":scheme", &matched.scheme)];
    for (name, condition) in pseudo {
        made.headers.extend(condition.as_ref().map(|condition| header(name, condition)));
    }
    for (name, condition) in &matched.query_params {
        made.query_parameters.push(QueryParameterMatcher {
            name: name.clone(),
            query_parameter_match_specifier: Some(match text_matcher(condition) {
                Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
                None => QueryParameterMatchSpecifier::PresentMatch(true),
            }),
        });
    }
    made
}

fn header_conditions(
    rule: &VirtualService,
    conditions: &BTreeMap<String, StringMatch>,
    without: bool,
    made: &mut RouteMatch,
    context: &Context<'_>,
) {
    for (name, condition) in conditions {
        if let Some(matcher) = claim(name, condition, without) {
            if !context.does(Feature::Claims) {
                context.note(Note::on(
                    &rule.object,
                    "spec.http",
                    Reason::NotDone(NotDone::Claim(name.clone())),
                ));
            }
            made.dynamic_metadata.push(matcher);
            continue;
        }
        let mut matcher = header(name, condition);
        if without {
            matcher.invert_match = true;
            // A missing header counts as empty, unless it is its presence that is asked about (rule 4).
            matcher.treat_missing_header_as_empty = text_matcher(condition).is_some();
        }
        made.headers.push(matcher);
    }
}

fn header(name: &str, condition: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(match text_matcher(condition) {
            Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
        ..Default::default()
    }
}

/// `None` for "there is one": `{}`, or the regex `*`, which is not one.
fn text_matcher(condition: &StringMatch) -> Option<StringMatcher> {
    if matches!(condition, StringMatch::Present)
        || matches!(condition, StringMatch::Regex(pattern) if pattern == "*")
    {
        return None;
    }
    Some(string_matcher(condition))
}

pub fn string_matcher(condition: &StringMatch) -> StringMatcher {
    let pattern = match condition {
        StringMatch::Present => string_matcher::MatchPattern::Prefix(String::new()),
        StringMatch::Exact(text) => string_matcher::MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => string_matcher::MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(pattern) => string_matcher::MatchPattern::SafeRegex(regex(pattern)),
    };
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

pub fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher { regex: pattern.to_owned(), engine_type: None }
}

/// `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`.
fn claim(name: &str, condition: &StringMatch, without: bool) -> Option<MetadataMatcher> {
    let rest = name.strip_prefix(CLAIM)?;
    let claims: Vec<&str> = match rest.strip_prefix('.') {
        Some(dotted) => dotted.split('.').collect(),
        None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").collect(),
    };
    if claims.iter().any(|claim| claim.is_empty()) {
        return None;
    }
    let segment = |key: &str| PathSegment { segment: Some(path_segment::Segment::Key(key.to_owned())) };
    let pattern = match text_matcher(condition) {
        Some(matcher) => value_matcher::MatchPattern::StringMatch(matcher),
        None => value_matcher::MatchPattern::PresentMatch(true),
    };
    Some(MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".into(),
        path: std::iter::once("payload").chain(claims).map(segment).collect(),
        value: Some(ValueMatcher { match_pattern: Some(pattern) }),
        invert: without,
    })
}
