//! Header matchers over every list of lines a request may bring. The table is what Envoy 1.40 answered to each, asked over
//! HTTP/1 with one route per matcher.
mod common;

use common::*;
use model::filter::Settings;
use serde_json::{Value, json};

/// The lines of `x-role`, in the order of the table's columns.
const LINES: &[&[&str]] = &[
    &[],
    &[""],
    &["admin"],
    &["user"],
    &["user", "admin"],
    &["admin", "user"],
    &["admin", "admin"],
    &["user,admin"],
    &["user", "guest"],
    &["5"],
    &["5", "50"],
    &["50", "5"],
    &["5", "x"],
    &["", "admin"],
    &["", ""],
    &["+5"],
    &["-0"],
    &["05"],
];

/// A matcher and what it says of each column: as it is, with `treat_missing_header_as_empty`, with `invert_match`, with both.
const ENVOY: &[(&str, [&str; 4])] = &[
    (
        r#"{"exact_match": "admin"}"#,
        ["nnynyyynnnnnnynnnn", "nnynyyynnnnnnynnnn", "nynynnnyyyyyynyyyy", "yynynnnyyyyyynyyyy"],
    ),
    (
        r#"{"string_match": {"exact": "admin"}}"#,
        ["nnynyyynnnnnnynnnn", "nnynyyynnnnnnynnnn", "nynynnnyyyyyynyyyy", "yynynnnyyyyyynyyyy"],
    ),
    (
        r#"{"string_match": {"exact": "user,admin"}}"#,
        ["nnnnnnnynnnnnnnnnn", "nnnnnnnynnnnnnnnnn", "nyyyyyynyyyyyyyyyy", "yyyyyyynyyyyyyyyyy"],
    ),
    (
        r#"{"string_match": {"prefix": "adm"}}"#,
        ["nnynyyynnnnnnynnnn", "nnynyyynnnnnnynnnn", "nynynnnyyyyyynyyyy", "yynynnnyyyyyynyyyy"],
    ),
    (
        r#"{"string_match": {"suffix": "min"}}"#,
        ["nnynyyyynnnnnynnnn", "nnynyyyynnnnnynnnn", "nynynnnnyyyyynyyyy", "yynynnnnyyyyynyyyy"],
    ),
    (
        r#"{"string_match": {"contains": "dmi"}}"#,
        ["nnynyyyynnnnnynnnn", "nnynyyyynnnnnynnnn", "nynynnnnyyyyynyyyy", "yynynnnnyyyyynyyyy"],
    ),
    (
        r#"{"string_match": {"safe_regex": {"regex": "a.*n"}}}"#,
        ["nnynyyynnnnnnynnnn", "nnynyyynnnnnnynnnn", "nynynnnyyyyyynyyyy", "yynynnnyyyyyynyyyy"],
    ),
    (
        r#"{"string_match": {"safe_regex": {"regex": ".*"}}}"#,
        ["nyyyyyyyyyyyyyyyyy", "yyyyyyyyyyyyyyyyyy", "nnnnnnnnnnnnnnnnnn", "nnnnnnnnnnnnnnnnnn"],
    ),
    (
        r#"{"range_match": {"start": "1", "end": "10"}}"#,
        ["nnnnnnnnnyyyynnyny", "nnnnnnnnnyyyynnyny", "nyyyyyyyynnnnyynyn", "yyyyyyyyynnnnyynyn"],
    ),
    (
        r#"{"present_match": true}"#,
        ["nyyyyyyyyyyyyyyyyy", "yyyyyyyyyyyyyyyyyy", "ynnnnnnnnnnnnnnnnn", "nnnnnnnnnnnnnnnnnn"],
    ),
    (
        r#"{"present_match": false}"#,
        ["ynnnnnnnnnnnnnnnnn", "nnnnnnnnnnnnnnnnnn", "nyyyyyyyyyyyyyyyyy", "yyyyyyyyyyyyyyyyyy"],
    ),
    (r#"{}"#, ["nyyyyyyyyyyyyyyyyy", "yyyyyyyyyyyyyyyyyy", "ynnnnnnnnnnnnnnnnn", "nnnnnnnnnnnnnnnnnn"]),
    (
        r#"{"string_match": {"exact": ""}}"#,
        ["nynnnnnnnnnnnyynnn", "yynnnnnnnnnnnyynnn", "nnyyyyyyyyyyynnyyy", "nnyyyyyyyyyyynnyyy"],
    ),
    (
        r#"{"exact_match": ""}"#,
        ["nyyyyyyyyyyyyyyyyy", "yyyyyyyyyyyyyyyyyy", "nnnnnnnnnnnnnnnnnn", "nnnnnnnnnnnnnnnnnn"],
    ),
];

#[test]
fn each_line_of_a_header_is_matched_by_itself() {
    for (matcher, answers) in ENVOY {
        let matcher: Value = serde_json::from_str(matcher).unwrap();
        let settings = [(false, false), (true, false), (false, true), (true, true)];
        for ((empty, invert), answer) in settings.into_iter().zip(answers) {
            let more =
                json!({ "name": "x-role", "treat_missing_header_as_empty": empty, "invert_match": invert });
            let rule = json!({ "prefix": "/", "headers": [merged(more, matcher.clone())] });
            let table = one_host(json!([{ "name": "hit", "match": rule, "route": { "cluster": "c" } }]));
            assert_eq!(answer.len(), LINES.len());
            for (lines, expected) in LINES.iter().zip(answer.chars()) {
                let request = lines.iter().fold(get("h", "/"), |request, line| request.with("x-role", line));
                let hit = if table.decide(&request, 0).route.is_some() { 'y' } else { 'n' };
                assert_eq!(hit, expected, "{rule} on {lines:?}");
            }
        }
    }
}

/// Envoy keeps the lines of these as one value, joined; asked name by name with the lines `1` and `2`.
#[test]
fn the_lines_of_an_inline_header_are_one_value() {
    for (name, joined) in [
        ("user-agent", true),
        ("authorization", true),
        ("origin", true),
        ("x-forwarded-for", true),
        ("accept-language", false),
        ("cookie", false),
        ("x-user-id", false),
        ("forwarded", false),
    ] {
        let holds = |value: &str| {
            let rule =
                json!({ "prefix": "/", "headers": [{ "name": name, "string_match": { "exact": value } }] });
            let table = one_host(json!([{ "name": "hit", "match": rule, "route": { "cluster": "c" } }]));
            table.decide(&get("h", "/").with(name, "1").with(name, "2"), 0).route.is_some()
        };
        assert_eq!((holds("1,2"), holds("1"), holds("2")), (joined, !joined, !joined), "{name}");
    }
}

/// Faults look at headers as routes do.
#[test]
fn a_fault_sees_each_line_too() {
    let fault = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "abort": { "http_status": 418, "percentage": { "numerator": 100 } },
        "headers": [{ "name": "x-role", "string_match": { "exact": "guest" }, "invert_match": true }] });
    let table = one_host(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "c" },
        "typed_per_filter_config": { "envoy.filters.http.fault": fault } }]));
    for (lines, aborted) in
        [(&["guest"][..], false), (&["user"], true), (&["user", "guest"], false), (&["guest", "user"], false)]
    {
        let request = lines.iter().fold(get("h", "/"), |request, line| request.with("x-role", line));
        let decision = table.decide(&request, 0);
        let Some(Settings::Fault(fault)) = decision.route.unwrap().filters.settings().next() else {
            panic!()
        };
        assert_eq!(fault.decide(&request, Some("c"), [0, 0]).abort.is_some(), aborted, "{lines:?}");
    }
}
