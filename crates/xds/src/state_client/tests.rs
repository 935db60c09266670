use std::time::Duration;

use super::session::Session;
use crate::core;
use crate::discovery::DiscoveryRequest;

const RULES: &str = "networking.istio.io/v1/VirtualService";
const HOSTS: &str = "networking.istio.io/v1/ServiceEntry";

fn session() -> Session {
    let node = core::Node { id: "a".into(), ..Default::default() };
    Session::new(node, vec![RULES.into(), HOSTS.into()])
}

/// Type, version, nonce and error of a request.
fn brief(request: &DiscoveryRequest) -> (&str, &str, &str, &str) {
    let error = request.error_detail.as_ref().map_or("", |error| error.message.as_str());
    (&request.type_url, &request.version_info, &request.response_nonce, error)
}

/// "xDS REST and gRPC protocol", ACK and NACK: an ACK names the version and nonce of the response, a NACK the version that is
/// in use and the nonce of the response.
#[test]
fn a_response_is_answered_with_its_nonce_and_the_version_in_use() {
    let mut session = session();
    let first = session.open();
    let asked: Vec<_> = first.iter().map(brief).collect();
    assert_eq!(asked, [(RULES, "", "", ""), (HOSTS, "", "", "")]);
    assert_eq!(first[0].node.as_ref().unwrap().id, "a");
    assert!(first[1].node.is_none(), "once per stream");
    for (type_url, version, nonce, taken, answer) in [
        (RULES, "1", "n1", Ok(()), ("1", "")),
        (HOSTS, "7", "n2", Err("bad"), ("", "bad")),
        (RULES, "2", "n3", Err("worse"), ("1", "worse")),
        (RULES, "3", "n4", Ok(()), ("3", "")),
        ("x/y/Z", "1", "n5", Ok(()), ("", "this type was not asked for")),
    ] {
        let taken = taken.map_err(str::to_owned);
        let given = session.answer(type_url.into(), version.into(), nonce.into(), taken);
        assert_eq!(brief(&given.request), (type_url, answer.0, nonce, answer.1));
        assert_eq!(given.after, Duration::ZERO, "{nonce}");
    }
    let again = session.open();
    let asked: Vec<_> = again.iter().map(brief).collect();
    assert_eq!(asked, [(RULES, "", "", ""), (HOSTS, "", "", "")], "no version of a stream before");
    assert!(again[0].node.is_some());
}

/// A server that sends what was refused again at once is not answered as fast.
#[test]
fn refusals_on_end_are_told_ever_more_slowly_by_type() {
    let mut session = session();
    let mut refuse =
        |type_url: &str| session.answer(type_url.into(), "1".into(), "n".into(), Err("bad".into())).after;
    let waits: Vec<Duration> = (0..9).map(|_| refuse(RULES)).collect();
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits[1] >= Duration::from_millis(25) && waits[8] >= Duration::from_secs(1), "{waits:?}");
    assert_eq!(refuse(HOSTS), Duration::ZERO, "another type");
    session.answer(RULES.into(), "1".into(), "n".into(), Ok(()));
    let fresh = session.answer(RULES.into(), "1".into(), "n".into(), Err("bad".into()));
    assert_eq!(fresh.after, Duration::ZERO, "after one that was taken");
}
