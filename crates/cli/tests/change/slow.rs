//! A disk that does not answer for some seconds: the state of the whole mesh on a file system that is frozen. (A disk
//! that answers late each time is `control`'s simulated one: the kernel delays no real one without `dm-delay`.)
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::until;
use crate::mesh::{Mesh, Place, put, web};
use crate::mounts::{Frozen, ext4, own_mounts};

const FROZEN: Duration = Duration::from_secs(5);

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_disk_that_does_not_answer_holds_up_what_is_written_and_nothing_else() {
    let what = "a disk that does not answer, under calls";
    if !Mesh::possible(what) {
        return;
    }
    own_mounts(what, || {
        let place = Place::new();
        if ext4(&place.path("disk"), &place.state(), what).is_none() {
            return;
        }
        put(&place.config(), "web.yaml", &web("1"));
        let mesh = Mesh::start(&place);
        mesh.calls.meet("1");
        let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: slow}\nspec:\n  \
                     hosts: [slow.example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: DNS\n";
        put(&place.path("beside"), "slow.yaml", entry);

        let frozen = Frozen::freeze(&place.state());
        let began = Instant::now();
        let mut apply = mesh.up.command(&["apply", "-f", place.path("beside/slow.yaml").to_str().unwrap()]);
        let mut apply = apply.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A line for the log, which is on that disk too; it must hold up nobody.
        put(&place.config(), "odd.yaml", "apiVersion: example.com/v1\nkind: Teapot\nmetadata: {name: odd}\n");
        mesh.told_once(&["Teapot"]);
        put(&place.config(), "web.yaml", &web("2"));
        println!("a file is met by calls {:?} after it was written", mesh.calls.meet("2"));
        let (met, failed) = mesh.join(&place, "joins", 20).end();
        assert!(failed.is_empty() && met.iter().all(|call| call.configured == "2"), "{failed:#?}");
        put(&place.config(), "odd.yaml", "apiVersion: example.com/v1\nkind: Kettle\nmetadata: {name: odd}\n");
        mesh.told_once(&["Kettle"]);
        mesh.told_once(&["have not been written", "everything else goes on"]);
        until("some seconds", FROZEN * 3, || began.elapsed() >= FROZEN);
        assert!(apply.try_wait().unwrap().is_none(), "what is not on disk is not answered");
        assert_eq!(mesh.page("/filamesh/v1/objects?kind=serviceentry").1, "[]", "and not live");
        println!("{:?} without an answer of the disk", began.elapsed());
        drop(frozen);

        until("the apply is answered", Duration::from_secs(10), || apply.try_wait().unwrap().is_some());
        let output = apply.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(mesh.run(&["get", "se", "-o", "name"]).1.lines().count(), 1);
        put(&place.config(), "web.yaml", &web("3"));
        mesh.calls.meet("3");
        mesh.calls.none_failed();
    });
}
