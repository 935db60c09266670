//! What is asked for first, and what listeners wait for.

use serde_json::json;

use crate::resources::*;
use crate::server::Server;
use crate::subject::*;

#[test]
fn types_are_asked_for_in_their_order_and_listeners_wait_for_hosts_and_routes() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        server.keep(&["EDS", "LDS", "RDS"]);
        server.put("CDS", &[cluster("a", "1", "a"), fixed("static", "1", v2.address)]);
        server.put("EDS", &[endpoints("a", "1", v1.address), endpoints("stranger", "1", v2.address)]);
        server.put("LDS", &[listener("main", "1", "table")]);
        server.put("RDS", &[table("table", "1", "a"), table("stranger", "1", "a")]);
        let subject = Subject::start(who, &mut server);

        // All clusters, and endpoints by name: of those alone that get theirs by EDS.
        let clusters = server.asked("CDS", 0);
        assert_eq!((&clusters["subscribe"], &clusters["initial"]), (&json!([]), &json!({})));
        assert_eq!(server.asked("EDS", 0)["subscribe"], json!(["a"]));
        assert!(clusters["node"]["id"].is_string(), "who it is stands in the first request");

        // Nothing is asked for behind clusters that have no endpoints yet.
        still_waits(&mut server, &subject, v2.address, &["CDS", "EDS"]);
        server.pushes("EDS");
        assert_eq!(server.asked("LDS", 0)["subscribe"], json!([]));
        server.push("LDS");
        assert_eq!(server.asked("RDS", 0)["subscribe"], json!(["table"]));

        // The listener does not take connections before it has its routes.
        still_waits(&mut server, &subject, v2.address, &["CDS", "EDS", "LDS", "RDS"]);
        server.pushes("RDS");
        answered_by(&subject.url("main"), "v1");
        assert_eq!(server.order(0), ["CDS", "EDS", "LDS", "RDS"]);
        let asked = |kind: &str, requests: &[serde_json::Value]| {
            requests.iter().filter(|request| request["type"] == kind && request["nonce"] == "").count()
        };
        let requests = server.requests(0);
        for kind in ["CDS", "EDS", "LDS", "RDS"] {
            assert_eq!(asked(kind, &requests), 1, "{kind} is asked for once");
        }
        let nodes = requests.iter().filter(|request| !request["node"].is_null()).count();
        assert_eq!(nodes, 1, "who it is is said once");
        server.answers_are_once();
    });
}

/// What is sent for a name that nobody asked for is answered: when that has come, so has everything before it.
fn still_waits(server: &mut Server, subject: &Subject, host: std::net::SocketAddr, asked: &[&str]) {
    server.sends("EDS", &[endpoints("stranger", "1", host)], &[]);
    assert_eq!(server.order(0), asked);
    assert_eq!(subject.listening("main"), None);
}
