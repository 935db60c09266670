//! Streams that end, and control planes that come back: calls go on.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use xds::delta_client::Cache;

use crate::common::eventually;
use crate::program::client::{Load, get};
use crate::resources::*;
use crate::server::Server;
use crate::subject::*;

fn held(server: &mut Server, host: std::net::SocketAddr, version: &str) {
    server.put("CDS", &[cluster("a", version, "a"), fixed("spare", version, host)]);
    server.put("EDS", &[endpoints("a", version, host)]);
    server.put("LDS", &[listener("main", version, "table")]);
    server.put("RDS", &[table("table", version, "a")]);
}

/// What a new stream offers of each type.
fn offers(server: &mut Server, mark: usize, version: &str) {
    let all =
        [("CDS", vec!["a", "spare"]), ("EDS", vec!["a"]), ("LDS", vec!["main"]), ("RDS", vec!["table"])];
    for (kind, names) in all {
        let versions: serde_json::Map<String, serde_json::Value> =
            names.iter().map(|name| ((*name).to_owned(), version.into())).collect();
        assert_eq!(server.asked(kind, mark)["initial"], json!(versions), "{kind}");
    }
    assert_eq!(server.order(mark), ["CDS", "EDS", "LDS", "RDS"]);
}

#[test]
fn whoever_comes_back_offers_what_it_holds_and_calls_go_on() {
    each(|who, mut server| {
        let (v1, v2) = hosts();
        held(&mut server, v1.address, "1");
        let subject = Subject::start(who, &mut server);
        let url = subject.url("main");
        answered_by(&url, "v1");
        let load = Load::start(&url, 200.0);

        // The stream alone ends, in three ways. Nothing has changed: nothing is sent.
        let ways = subject.either(3, 1, "Envoy takes its time to come back, which the test does not have");
        for how in ["close", "status", "reset"].into_iter().take(ways) {
            let mark = server.mark();
            server.end(how);
            offers(&mut server, mark, "1");
            assert_eq!(server.responses(mark), [json!(null); 0], "{how}");
        }

        // The control plane goes in order (GOAWAY) and comes back with something else: what differs is sent, and what is gone
        // is named.
        server.leave();
        server.put("EDS", &[endpoints("a", "2", v2.address)]);
        server.lose("CDS", &["spare"]);
        let mark = server.mark();
        server.listen();
        offers(&mut server, mark, "1");
        answered_by(&url, "v2");
        eventually("what is gone goes", || !subject.has_cluster("spare"));
        let sent = server.responses(mark);
        let sent: Vec<_> =
            sent.iter().map(|sent| (&sent["type"], &sent["names"], &sent["removed"])).collect();
        assert_eq!(
            sent,
            [(&json!("CDS"), &json!([]), &json!(["spare"])), (&json!("EDS"), &json!(["a"]), &json!([]))]
        );

        // One that listens to no versions sends everything.
        server.forget_versions(true);
        let mark = server.mark();
        server.end("status");
        for kind in ["CDS", "EDS", "LDS", "RDS"] {
            let sent = server.sent(kind, mark);
            assert_eq!(server.answer(sent["nonce"].as_str().unwrap()), None, "{kind}");
        }

        // The process is gone at once, and another comes, which knows nothing of versions either.
        if !subject.is_ours() {
            return no_call_failed(load);
        }
        let port = server.port;
        server.dies();
        backs_off(port);
        let mut server = Server::on(port).unwrap();
        held(&mut server, v1.address, "new");
        answered_by(&url, "v1");
        no_call_failed(load);
        assert_eq!(server.asked("EDS", 0)["initial"], json!({ "a": "2" }));
    });
}

/// Takes connections and ends them at once: attempts come further and further apart (50 ms doubling, of each at least half).
fn backs_off(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    drop(listener.accept().unwrap());
    let began = Instant::now();
    for _ in 0..4 {
        drop(listener.accept().unwrap());
    }
    let least = Duration::from_millis(25 + 50 + 100);
    assert!(began.elapsed() >= least, "five attempts in {:?}", began.elapsed());
}

/// gRPC servers send their headers with their first response: who comes back with what it should have hears nothing. It is
/// connected all the same, and says goodbye. Ours alone: neither its disk nor its goodbye has Envoy.
#[test]
fn a_control_plane_that_says_nothing_is_one_and_without_it_what_was_kept_serves() {
    let Some(mut server) = Server::start() else { return };
    let state = tempfile::tempdir().unwrap();
    let who = Who::Ours(state.path().to_owned());
    let (v1, _) = hosts();
    held(&mut server, v1.address, "1");
    let mut subject = Subject::start(&who, &mut server);
    answered_by(&subject.url("main"), "v1");
    let mark = server.mark();
    server.end("status");
    offers(&mut server, mark, "1");
    let says = format!("connected to the control plane 127.0.0.1:{}", server.port);
    eventually("it says that it is connected", || subject.log().contains(&says));
    assert_eq!(server.responses(mark), [json!(null); 0]);
    let node = server.asked("CDS", mark)["node"]["id"].as_str().unwrap().to_owned();
    eventually("all five resources are on disk", || {
        let kept = Cache::load(&state.path().join("kept/last-good.xds"), &node).unwrap();
        kept.is_some_and(|kept| kept.len() == 5)
    });
    let mark = server.mark();
    subject.leaves();
    server.hears("its goodbye", mark, |said| {
        (said.get("request")?["node"]["metadata"][xds::node::LEAVING] == true).then_some(())
    });

    // Nobody is there to ask: what was kept serves. When somebody comes it is what is offered.
    server.leave();
    let alone = Subject::start_alone(&who, server.port, subject.admin());
    let url = alone.url("main");
    assert_eq!(get(&url, &[]), (200, "v1".to_owned()));
    let mark = server.mark();
    server.listen();
    offers(&mut server, mark, "1");
}
