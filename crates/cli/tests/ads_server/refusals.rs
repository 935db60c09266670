//! A bad resource of each type among good ones: it is refused by name, the good ones are used, and what there was of it goes
//! on serving.

use serde_json::json;

use crate::program::client::Load;
use crate::resources::*;
use crate::subject::*;

#[test]
fn a_bad_resource_of_each_type_is_refused_by_name_and_the_others_are_used() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        server.put("CDS", &[cluster("a", "1", "a"), cluster("b", "1", "b")]);
        server.put("EDS", &[endpoints("a", "1", v1.address), endpoints("b", "1", v1.address)]);
        server.put("LDS", &[listener("main", "1", "table"), listener("second", "1", "table 2")]);
        server.put("RDS", &[table("table", "1", "a"), table("table 2", "1", "a")]);
        let subject = Subject::start(who, &mut server);
        let (main, second) = (subject.url("main"), subject.url("second"));
        answered_by(&main, "v1");
        answered_by(&second, "v1");
        let load = Load::start(&main, 200.0);
        let mut refused = |kind: &str, bad: serde_json::Value, good: serde_json::Value| -> String {
            let name = bad["name"].as_str().unwrap().to_owned();
            let nonce = server.send(kind, &[good, bad], &[]);
            let error = server.answer(&nonce).unwrap_or_else(|| panic!("{kind} {name} is taken"));
            assert!(subject.log().lines().count() < 20, "each is told once");
            error
        };
        let named = |error: &str, bad: &str, good: &str| {
            assert!(error.contains(bad) && !error.contains(good), "{error}");
        };

        let bad = with(fixed("a", "2", v2.address), "lbPolicy", json!("CLUSTER_PROVIDED"));
        named(&refused("CDS", bad, fixed("good", "1", v2.address)), "a: ", "good");
        assert!(subject.has_cluster("good"));
        let broken = json!({ "name": "a", "version": "3", "bytes": "ffff" });
        let error = refused("CDS", broken, fixed("beside", "1", v2.address));
        let why = "Envoy decodes a response as a whole, and refuses it as a whole";
        assert!(subject.either(error.starts_with("a: "), true, why), "{error}");
        assert_eq!(subject.has_cluster("beside"), subject.either(true, false, why));

        let unknown = json!([{ "name": "no such filter", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }]);
        let bad = with(listener("main", "2", "table"), "listenerFilters", unknown);
        named(&refused("LDS", bad, listener("third", "1", "table 2")), "main: ", "third");
        answered_by(&subject.url("third"), "v1");

        let regex = json!([{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "safeRegex": { "regex": "(" } }, "route": { "cluster": "b" } } ] }]);
        let bad = with(table("table", "2", "b"), "virtualHosts", regex);
        let error = refused("RDS", bad, table("table 2", "2", "good"));
        let why = "Envoy delivers route tables in the order of a hash table up to the first that fails, and names none";
        assert!(subject.either(error.starts_with("table: "), true, why), "{error}");
        if subject.is_ours() {
            answered_by(&second, "v2");
        }

        let error = refused("EDS", bad_endpoints("a", "2"), endpoints("b", "2", v2.address));
        assert!(subject.either(error.starts_with("a: "), true, why), "{error}");
        if subject.is_ours() {
            server.sends("RDS", &[table("table 2", "3", "b")], &[]);
            answered_by(&second, "v2");
        }

        no_call_failed(load);
        answered_by(&main, "v1");
        server.answers_are_once();
        // What was refused is not what is held: whoever comes back offers the version in use.
        let mark = server.mark();
        server.end("reset");
        for (kind, name) in [("CDS", "a"), ("EDS", "a"), ("LDS", "main"), ("RDS", "table")] {
            assert_eq!(server.asked(kind, mark)["initial"][name], "1", "{kind}");
        }
    });
}
