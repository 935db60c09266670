//! What Istio's validation lets pass and no proxy takes, from public reports (istio/istio#36021, #26397, #30926, #59933): it is
//! refused by name, with its place, and nothing else is.

use api::parse_documents;
use control::admission::admit;

/// The rule of a VirtualService on its seventh line, and what is said of it: its path, and some of the reason.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        r#"{match: [{uri: {regex: "/v([0-9]+)/.*"}}], rewrite: {uriRegexRewrite: {match: "^/v([0-9]+)/(.*)", rewrite: "/\\3"}}, route: [{destination: {host: a}}]}"#,
        "spec.http[0].match[0]",
        "regex_rewrite",
    ),
    (
        r#"{headers: {response: {set: {x-started: "%START_TIME(%s.%3f)%"}}}, directResponse: {status: 200}}"#,
        "spec.http[0]",
        "response_headers_to_add",
    ),
    (
        r#"{headers: {response: {set: {x-policy: "a;\nb;\n"}}}, directResponse: {status: 200}}"#,
        "spec.http[0]",
        "response_headers_to_add",
    ),
    (
        r#"{headers: {request: {add: {x-cert: "-----BEGIN%20CERTIFICATE-----%0AMIIC1"}}}, directResponse: {status: 200}}"#,
        "spec.http[0]",
        "request_headers_to_add",
    ),
];

const TAKEN: &[&str] = &[
    r#"{match: [{uri: {regex: "/v([0-9]+)/.*"}}], rewrite: {uriRegexRewrite: {match: "^/v([0-9]+)/(.*)", rewrite: "/\\2"}}, route: [{destination: {host: a}}]}"#,
    r#"{headers: {response: {set: {x-from: "%DOWNSTREAM_REMOTE_ADDRESS%", x-percent: "100%%"}}}, directResponse: {status: 200}}"#,
    r#"{route: [{destination: {host: a, subset: nobody-knows}, weight: 100}], timeout: 3s}"#,
    r#"{match: [{uri: {prefix: /a}}], delegate: {name: nobody}}"#,
];

fn document(name: &str, rule: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {name}\nspec:\n  hosts: [{name}.test]\n  http: [{rule}]\n---\n"
    )
}

#[test]
fn what_no_proxy_takes_is_refused_by_name_and_nothing_else_is() {
    for (rule, path, reason) in REFUSED {
        let text = document("good", TAKEN[0]) + &document("bad", rule);
        let mut parsed = parse_documents("f.yaml", &text, &Default::default());
        assert!(parsed.problems.is_empty(), "validation passes it: {:?}", parsed.problems);
        admit(&mut parsed);
        assert_eq!(parsed.objects.iter().map(|object| object.name()).collect::<Vec<_>>(), ["good"], "{rule}");
        let [problem] = parsed.problems.as_slice() else { panic!("{rule}: {:?}", parsed.problems) };
        assert!(problem.is_error() && problem.object.as_deref() == Some("VirtualService/default/bad"));
        assert_eq!((problem.path.as_str(), problem.line), (*path, 15), "{problem}");
        assert!(problem.message.contains(reason), "{problem}");
    }
}

#[test]
fn what_proxies_take_is_admitted() {
    for rule in TAKEN {
        let mut parsed = parse_documents("f.yaml", &document("good", rule), &Default::default());
        admit(&mut parsed);
        assert!(parsed.objects.len() == 1 && parsed.problems.is_empty(), "{rule}: {:?}", parsed.problems);
    }
}
