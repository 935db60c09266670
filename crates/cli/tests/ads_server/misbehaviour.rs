//! What no control plane should send, or only some do.

use serde_json::{Value, json};

use crate::program::client::get;
use crate::resources::*;
use crate::server::Server;
use crate::subject::*;

fn start(who: &Who, server: &mut Server, host: std::net::SocketAddr) -> (Subject, String) {
    server.put("CDS", &[cluster("a", "1", "a")]);
    server.put("EDS", &[endpoints("a", "1", host)]);
    server.put("LDS", &[listener("main", "1", "table")]);
    server.put("RDS", &[table("table", "1", "a")]);
    let subject = Subject::start(who, server);
    let url = subject.url("main");
    answered_by(&url, "v1");
    (subject, url)
}

#[test]
fn odd_responses_are_answered_as_envoy_answers_them() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        let (subject, url) = start(who, &mut server, v1.address);

        // Nothing in it, and names nobody asked for or that are not there.
        server.sends("CDS", &[], &[]);
        server.sends("EDS", &[endpoints("stranger", "1", v2.address)], &["nobody"]);
        server.sends("RDS", &[table("stranger", "1", "a")], &["nobody"]);
        // A type nobody asked for: an answer would be the first request of it, and ask for everything.
        let mark = server.mark();
        server.send("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", &[], &[]);
        server.sends("CDS", &[], &[]);
        assert_eq!(server.order(mark), ["CDS"]);
        assert!(server.requests(mark).iter().all(|request| request["type"] == "CDS"));

        // A resource that calls itself otherwise than its envelope.
        let why = "Envoy goes by the name within, and has then what it can neither refuse nor remove by the name it knows";
        for (kind, resource) in [
            ("CDS", fixed("within", "1", v2.address)),
            ("LDS", listener("within", "1", "table")),
            ("EDS", endpoints("within", "2", v2.address)),
            ("RDS", table("within", "2", "within")),
        ] {
            let known = if kind == "EDS" { "a" } else { "table" };
            let nonce = server.send(kind, &[under(known, resource)], &[]);
            let error = server.answer(&nonce);
            let refused = format!("{known}: the resource calls itself \"within\"");
            if kind == "CDS" || kind == "LDS" {
                assert_eq!(error, subject.either(Some(refused), None, why), "{kind}");
            } else {
                let same = error.as_ref() == Some(&refused);
                assert!(subject.either(same, error.is_some(), "the same in other words"), "{kind} {error:?}");
            }
        }
        assert_eq!(get(&url, &[]), (200, "v1".to_owned()));

        // One name twice, or added and removed: which is meant nobody knows.
        let twice = [fixed("twice", "1", v1.address), fixed("twice", "2", v2.address)];
        let nonce = server.send("CDS", &twice, &[]);
        assert!(server.answer(&nonce).unwrap().contains("twice"));
        let both = [fixed("both", "1", v1.address), fixed("beside", "1", v2.address)];
        let nonce = server.send("CDS", &both, &["both"]);
        assert!(server.answer(&nonce).unwrap().contains("both"));
        let why = "Envoy refuses the response as a whole, ours the name";
        assert_eq!(subject.has_cluster("beside"), subject.either(true, false, why));
        assert!(!subject.has_cluster("both"));

        // Other names of a resource mean something for virtual hosts on demand, which neither asks for.
        let mut aliased = table("table", "3", "a");
        aliased["aliases"] = json!(["other", "names"]);
        server.sends("RDS", &[aliased], &[]);

        // Two under way, and two of one nonce: each is answered, and the last counts.
        let first = server.send("EDS", &[endpoints("a", "4", v1.address)], &[]);
        let second = server.send("EDS", &[endpoints("a", "5", v2.address)], &[]);
        assert_eq!((server.answer(&first), server.answer(&second)), (None, None));
        answered_by(&url, "v2");
        server.answers_are_once();
        let mark = server.mark();
        for host in [&v2, &v1] {
            let again =
                json!({ "type": "EDS", "nonce": "again", "resources": [endpoints("a", "6", host.address)] });
            server.send_with(again);
        }
        answered_by(&url, "v1");
        server.sends("CDS", &[], &[]);
        let again = server.requests(mark).iter().filter(|request| request["nonce"] == "again").count();
        assert_eq!(again, 2);

        // What is in use cannot be taken away.
        server.sends("EDS", &[], &["a"]);
        server.sends("RDS", &[], &["table"]);
        assert_eq!(get(&url, &[]), (200, "v1".to_owned()));
    });
}

/// A resource that lives for a while (xDS TTL), and heartbeats, which lengthen that.
#[test]
fn a_time_to_live_ends_unless_heartbeats_come() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        let (subject, url) = start(who, &mut server, v1.address);
        let living = |mut resource: Value| {
            resource["ttl"] = json!("0.4s");
            resource
        };
        let beat = |name: &str, version: &str| living(json!({ "name": name, "version": version }));
        server.sends("CDS", &[living(fixed("guest", "1", v2.address))], &[]);
        server.sends("RDS", &[table("table", "2", "guest")], &[]);
        answered_by(&url, "v2");
        // Twice as long as it would live.
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(800) {
            server.sends("CDS", &[beat("guest", "1")], &[]);
            assert_eq!(get(&url, &[]), (200, "v2".to_owned()));
        }
        // Only what is held in this version lives on.
        let nonce = server.send("CDS", &[beat("guest", "2")], &[]);
        assert!(server.answer(&nonce).is_some());
        answered_with(&url, 503);
        assert!(!subject.has_cluster("guest"));
        let mark = server.mark();
        server.end("close");
        assert_eq!(server.asked("CDS", mark)["initial"], json!({ "a": "1" }));
        // Endpoints and routes in use stay, as when they are removed.
        server.put("EDS", &[endpoints("a", "2", v2.address)]);
        server.put("RDS", &[table("table", "3", "a")]);
        let nonce = server.send("RDS", &[living(table("table", "3", "a"))], &[]);
        assert_eq!(server.answer(&nonce), None);
        server.sends("EDS", &[living(endpoints("a", "2", v2.address))], &[]);
        answered_by(&url, "v2");
        let mark = server.mark();
        server.end("close");
        let kept = server.asked("EDS", mark)["initial"].clone();
        assert!(kept == json!({}) || kept == json!({ "a": "2" }), "{kept}");
        assert_eq!(get(&url, &[]), (200, "v2".to_owned()));
    });
}
