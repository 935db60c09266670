//! A new cluster, a route that is switched to it, the old cluster gone: in this order no call fails.

use serde_json::json;

use crate::program::client::{Load, get};
use crate::resources::*;
use crate::server::Server;
use crate::subject::*;

fn start(who: &Who, server: &mut Server, v1: std::net::SocketAddr) -> (Subject, String) {
    server.put("CDS", &[cluster("first", "1", "first")]);
    server.put("EDS", &[endpoints("first", "1", v1)]);
    server.put("LDS", &[listener("main", "1", "table")]);
    server.put("RDS", &[table("table", "1", "first")]);
    let subject = Subject::start(who, server);
    let url = subject.url("main");
    answered_by(&url, "v1");
    (subject, url)
}

#[test]
fn in_the_right_order_no_call_fails() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        let (subject, url) = start(who, &mut server, v1.address);
        let load = Load::start(&url, 200.0);
        let mut old = "first".to_owned();
        for round in 0..4 {
            let (new, host) = (format!("round {round}"), if round % 2 == 0 { &v2 } else { &v1 });
            server.put("CDS", &[cluster(&new, "1", &new)]);
            server.put("EDS", &[endpoints(&new, "1", host.address)]);
            server.pushes("CDS");
            server.put("RDS", &[table("table", &format!("to {new}"), &new)]);
            server.pushes("RDS");
            let answer = if round % 2 == 0 { "v2" } else { "v1" };
            if subject.is_ours() {
                // Its ACK says that every worker has it.
                assert_eq!(get(&url, &[]), (200, answer.to_owned()));
            }
            answered_by(&url, answer);
            server.lose("CDS", &[&old]);
            server.lose("EDS", &[&old]);
            let mark = server.mark();
            assert_eq!(server.pushes("CDS").1, json!([old]));
            server.hears("its endpoints are given up", mark, |said| {
                (said.get("request")?["unsubscribe"] == json!([old])).then_some(())
            });
            old = new;
        }
        // Endpoints are asked for with their cluster, and given up with it.
        let requests = server.requests(0);
        let named = |field: &str| -> Vec<String> {
            let names =
                requests.iter().filter(|r| r["type"] == "EDS").flat_map(|r| r[field].as_array().unwrap());
            names.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(named("subscribe"), ["first", "round 0", "round 1", "round 2", "round 3"]);
        assert_eq!(named("unsubscribe"), ["first", "round 0", "round 1", "round 2"]);
        no_call_failed(load);
        server.answers_are_once();
    });
}

/// A cluster that is changed so that it needs other endpoints goes on with those it had until they come.
#[test]
fn a_changed_cluster_goes_on_until_its_endpoints_come() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        let (subject, url) = start(who, &mut server, v1.address);
        let load = Load::start(&url, 200.0);
        server.keep(&["EDS"]);
        let steps = [
            (cluster("first", "2", "other"), "other", &v2, "v2"),
            (fixed("first", "3", v1.address), "", &v1, "v1"),
            (cluster("first", "4", "another"), "another", &v2, "v2"),
        ];
        for (changed, service, host, answer) in steps {
            let before = get(&url, &[]);
            let mark = server.mark();
            let nonce = server.send("CDS", &[changed], &[]);
            if !service.is_empty() {
                server.hears("what it needs is asked for", mark, |said| {
                    let request = said.get("request")?;
                    (request["type"] == "EDS" && request["subscribe"] == json!([service])).then_some(())
                });
                // When that was asked for, the change had been applied.
                assert_eq!(get(&url, &[]), before);
                server.sends("EDS", &[endpoints(service, "1", host.address)], &[]);
            }
            assert_eq!(server.answer(&nonce), None);
            answered_by(&url, answer);
        }
        no_call_failed(load);
        assert!(subject.has_cluster("first"));
    });
}

/// A route may lead to a cluster that is not there: until it comes calls are answered 503, as Envoy does. The server's order
/// is the server's.
#[test]
fn in_the_wrong_order_calls_are_answered_503_until_the_cluster_is_there() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        let (_subject, url) = start(who, &mut server, v1.address);
        server.keep(&["EDS"]);
        server.sends("RDS", &[table("table", "2", "second")], &[]);
        answered_with(&url, 503);
        let mark = server.mark();
        server.send("CDS", &[cluster("second", "1", "second")], &[]);
        assert_eq!(server.asked("EDS", mark)["subscribe"], json!(["second"]));
        // Without endpoints it is not there yet.
        assert_eq!(get(&url, &[]), (503, String::new()));
        server.sends("EDS", &[endpoints("second", "1", v2.address)], &[]);
        answered_by(&url, "v2");
        server.sends("CDS", &[], &["second"]);
        answered_with(&url, 503);
        server.sends("RDS", &[table("table", "3", "first")], &[]);
        answered_by(&url, "v1");
    });
}
