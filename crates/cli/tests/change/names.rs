//! A change that brings names of hosts outside, and a name server that does not answer: what is configured waits for it,
//! and calls do not.
use std::net::UdpSocket;

use crate::mesh::{Mesh, Place, failed, put, web};
use crate::mounts::{bind, own_mounts};

/// Nobody else has it.
const NAME_SERVER: &str = "127.255.53.53";
/// More than are looked up at a time.
const HOSTS: usize = 60;

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_name_server_that_does_not_answer_holds_up_no_call() {
    let what = "a name server that does not answer";
    if !Mesh::possible(what) {
        return;
    }
    own_mounts(what, || {
        let Ok(silent) = UdpSocket::bind((NAME_SERVER, 53)) else {
            eprintln!("SKIPPED: {what} (port 53 of {NAME_SERVER} cannot be had)");
            return;
        };
        let place = Place::new();
        std::fs::write(place.path("resolv.conf"), format!("nameserver {NAME_SERVER}\n")).unwrap();
        bind(&place.path("resolv.conf"), std::path::Path::new("/etc/resolv.conf"));
        put(&place.config(), "web.yaml", &web("1"));
        let mesh = Mesh::start(&place);
        mesh.calls.meet("1");
        let entry = |n: usize| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{n}}}\n\
                 spec: {{hosts: [e{n}.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n"
            )
        };
        let entries: Vec<String> = (0..HOSTS).map(entry).collect();
        put(&place.path("beside"), "entries.yaml", &entries.join("---\n"));
        let (code, _, error) =
            mesh.run(&["apply", "-f", place.path("beside/entries.yaml").to_str().unwrap()]);
        assert_eq!(code, Some(0), "{error}");
        println!("{}", error.trim());
        // One that joins has all of the names to look up, and calls at once.
        let (met, wrong) = mesh.join(&place, "joins", 20).end();
        assert!(wrong.is_empty(), "{wrong:#?}");
        println!(
            "the first call of a workload that joined took {:.0} ms",
            met.first().map_or(0.0, |call| call.millis)
        );
        mesh.calls.flow(20);
        let slowest = mesh.calls.all().iter().map(|call| call.millis).fold(0.0, f64::max);
        mesh.calls.none_failed();
        assert!(slowest < 1000.0, "a call waited {slowest:.0} ms for what was configured beside it");
        assert!(failed(&mesh.calls.all()).is_empty());
        drop(silent);
    });
}
