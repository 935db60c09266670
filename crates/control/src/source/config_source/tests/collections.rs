//! What a response makes of what was known.

use super::*;

fn good(name: &str, version: &str, host: &str) -> Any {
    pack(&rule("v1", name, version, host)).unwrap()
}

/// Istio's client (pkg/adsc/adsc.go, `handleMCP`): what is in a response is made or changed, what is missing is gone.
#[test]
fn a_response_is_all_of_its_collection_and_of_no_other() {
    let mut told = Told::new();
    let hosts = "networking.istio.io/v1/ServiceEntry";
    for (type_url, resources, live, changed) in [
        (RULES, vec![good("a", "1", "x"), good("b", "1", "y")], vec!["a x 1", "b y 1"], true),
        (RULES, vec![good("a", "1", "x"), good("b", "1", "y")], vec!["a x 1", "b y 1"], false),
        (hosts, vec![], vec!["a x 1", "b y 1"], false),
        (RULES, vec![good("b", "2", "z"), good("c", "1", "w")], vec!["b z 2", "c w 1"], true),
        (RULES, vec![], vec![], true),
    ] {
        assert_eq!(told.take(type_url, resources), (Ok(()), changed));
        assert_eq!(told.live(), live);
    }
    assert!(told.problems().is_empty(), "{:?}", told.problems());
    assert_eq!(told.take("a/b/C", vec![]).0, Err("a/b/C was not asked for".into()));
}

/// The server is told by a NACK, the operator by a line, and the last good version stays. All others are live.
#[test]
fn an_object_that_cannot_be_read_keeps_its_last_good_version() {
    let mut told = Told::new();
    told.hears(RULES, vec![good("a", "1", "x")]);
    let (answer, _) = told.take(RULES, vec![garbled("a"), good("b", "1", "y"), garbled("new")]);
    let answer = answer.unwrap_err();
    assert!(
        answer
            .starts_with("default/a: its body does not decode as a istio.networking.v1alpha3.VirtualService")
    );
    assert!(answer.contains("; default/new: its body"), "{answer}");
    assert_eq!(told.live(), ["a x 1 stale", "b y 1"]);
    let problems = told.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0]
            .starts_with("config source xds://other:15010, version 9: VirtualService/default/a: its body")
    );
    // The same again is refused again.
    assert!(told.take(RULES, vec![garbled("a"), good("b", "1", "y")]).0.is_err());
    assert_eq!(told.problems().len(), 1, "what is gone is not refused any more");
    // And what comes after it is good.
    assert_eq!(told.take(RULES, vec![good("a", "3", "z"), good("b", "1", "y")]), (Ok(()), true));
    assert_eq!((told.live(), told.problems()), (vec!["a z 3".to_owned(), "b y 1".to_owned()], vec![]));
    told.hears(RULES, vec![garbled("a")]);
    told.hears(RULES, vec![]);
    assert_eq!((told.live(), told.problems()), (vec![], vec![]), "deleted while refused");
}

/// An object that reads and breaks Istio's rules: a verdict here, no NACK, as istiod.
#[test]
fn an_object_that_istio_would_refuse_keeps_its_last_good_version_too() {
    let mut told = Told::new();
    told.hears(RULES, vec![good("a", "1", "x")]);
    let mut bad = rule("v1", "a", "2", "x");
    bad["spec"]["http"][0]["route"][0]["weight"] = json!(-1);
    assert_eq!(told.take(RULES, vec![pack(&bad).unwrap()]), (Ok(()), true));
    assert_eq!(told.live(), ["a x 1 stale"]);
    let problems = told.problems();
    assert!(
        problems[0].starts_with(
            "config source xds://other:15010, version 2: VirtualService/default/a spec.http[0].route[0].weight:"
        ),
        "{problems:?}"
    );
}

/// Which objects such a response holds cannot be told, so it says nothing about any.
#[test]
fn a_response_whose_objects_cannot_be_told_changes_nothing() {
    let mut told = Told::new();
    told.hears(RULES, vec![good("a", "1", "x")]);
    let nameless = Any { type_url: "type.googleapis.com/istio.mcp.v1alpha1.Resource".into(), value: vec![] };
    let foreign = Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![] };
    let cut = Any { value: vec![0x0a, 9], ..nameless.clone() };
    for (broken, reason) in [
        (nameless, "a resource is named \"\", expected NAMESPACE/NAME"),
        (foreign, "a resource is a \"type.googleapis.com/x.Y\", expected"),
        (cut, "a resource does not decode"),
    ] {
        let (answer, changed) = told.take(RULES, vec![good("b", "1", "y"), broken]);
        assert!(answer.as_ref().unwrap_err().starts_with(reason), "{answer:?}");
        assert!(!changed);
        assert_eq!(told.live(), ["a x 1"]);
        let problems = told.problems();
        assert_eq!(problems.len(), 1);
        let start = format!("config source xds://other:15010: a response of {RULES} is refused: {reason}");
        assert!(problems[0].starts_with(&start), "{problems:?}");
        assert!(problems[0].ends_with("what it said before stays"));
    }
    told.hears(RULES, vec![good("b", "1", "y")]);
    assert_eq!((told.live(), told.problems()), (vec!["b y 1".to_owned()], vec![]));
}

#[test]
fn of_two_objects_of_one_name_the_last_is_used_and_the_other_named() {
    let mut told = Told::new();
    assert_eq!(told.take(RULES, vec![good("a", "1", "x"), good("a", "2", "y")]).0, Ok(()));
    assert_eq!(told.live(), ["a y 2"]);
    let problems = told.problems();
    let expected = format!(
        "config source xds://other:15010, version 2: VirtualService/default/a: warning: is twice in {RULES}; the last is used"
    );
    assert_eq!(problems, [expected]);
    told.hears(RULES, vec![good("a", "2", "y")]);
    assert_eq!((told.live(), told.problems()), (vec!["a y 2".to_owned()], vec![]));
}

/// A server that answers for several API versions, and one that is upgraded from one to the other.
#[test]
fn all_api_versions_of_a_kind_are_one_set_of_objects() {
    let mut told = Told::new();
    let old = |name: &str, version: &str, host: &str| pack(&rule("v1alpha3", name, version, host)).unwrap();
    for (type_url, resources, live) in [
        (OLD_RULES, vec![old("a", "1", "x"), old("b", "1", "y")], vec!["a x 1", "b y 1"]),
        (RULES, vec![], vec!["a x 1", "b y 1"]),
        (RULES, vec![good("a", "2", "z")], vec!["a z 2", "b y 1"]),
        (OLD_RULES, vec![], vec!["a z 2"]),
        (OLD_RULES, vec![old("a", "3", "w")], vec!["a z 2"]),
        (RULES, vec![], vec!["a w 3"]),
    ] {
        assert_eq!(told.take(type_url, resources).0, Ok(()));
        assert_eq!(told.live(), live);
    }
}

/// What is kept on disk makes the same objects, as their server's next response must be compared with them.
#[test]
fn the_last_good_versions_make_the_same_again() {
    let mut told = Told::new();
    told.hears(RULES, vec![good("a", "1", "x"), good("b", "1", "y")]);
    told.hears(RULES, vec![garbled("a"), good("b", "2", "z")]);
    let kept = kept::decode(&kept::encode(told.collections.last_good()).unwrap()).unwrap();
    let mut again = Told::new();
    for response in kept {
        assert_eq!(again.take(&response.type_url, response.resources).0, Ok(()));
    }
    assert_eq!(again.live(), ["a x 1", "b z 2"]);
    assert_eq!(again.collections.len(), 2);
    assert_eq!(again.take(RULES, vec![good("a", "1", "x"), good("b", "2", "z")]), (Ok(()), false));
}
