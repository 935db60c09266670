//! A configuration directory on a volume that is mounted three seconds after the control plane, or the whole mesh,
//! was started.
use std::time::{Duration, Instant};

use crate::common::until;
use crate::mesh::{Mesh, Place, put, web};
use crate::mounts::{bind, memory, own_mounts, unmount};

const LATE: Duration = Duration::from_secs(3);

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_volume_mounted_three_seconds_late_takes_nothing_away() {
    let what = "a volume that is mounted late";
    if !Mesh::possible(what) {
        return;
    }
    own_mounts(what, || {
        let place = Place::new();
        let volume = place.path("volume");
        std::fs::create_dir(&volume).unwrap();
        put(&volume, "web.yaml", &web("1"));
        bind(&volume, &place.config());
        let mesh = Mesh::start(&place);
        mesh.calls.meet("1");

        // The volume goes away under a control plane that runs.
        unmount(&place.config());
        mesh.told_once(&["was replaced by an empty directory", "what was read from it stays"]);
        mesh.calls.flow(5);

        // The control plane dies; the one that follows finds the mount point, and proxies that reconnect.
        mesh.kill_control();
        mesh.told_once(&["had 1 object before the restart", "nothing is served until objects are there"]);
        let began = Instant::now();
        until("it says that it is not ready", Duration::from_secs(5), || mesh.page("/ready").0 == 503);
        until("both sidecars are connected again", Duration::from_secs(5), || {
            mesh.page("/metrics").1.contains("pilot_xds 2")
        });
        // Not the time is tested but that it passes.
        until("three seconds", LATE * 2, || began.elapsed() >= LATE);
        put(&volume, "web.yaml", &web("2"));
        bind(&volume, &place.config());
        let took = mesh.calls.meet("2");
        println!("mounted, and met by calls {took:?} later");
        mesh.told_once(&["every directory that was read before is there again: serving"]);
        assert_eq!(mesh.page("/ready").0, 200);
        // What is mounted now is what is watched.
        put(&volume, "web.yaml", &web("3"));
        mesh.calls.meet("3");
        mesh.calls.none_failed();
    });
}

/// The machine was restarted: proxies too have nothing but what they kept.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_mesh_started_before_its_volume_serves_what_its_proxies_kept() {
    let what = "a mesh that is started before its volume is mounted";
    if !Mesh::possible(what) {
        return;
    }
    own_mounts(what, || {
        let place = Place::new();
        memory(&place.config(), "1m");
        put(&place.config(), "web.yaml", &web("1"));
        let mesh = Mesh::start(&place);
        mesh.calls.meet("1");
        let kept = |name: &str| place.path("beside").join(name).join("last-good.xds").exists();
        until("the proxies have kept it", Duration::from_secs(10), || kept("web") && kept("caller"));
        mesh.calls.flow(40);
        mesh.crash();
        unmount(&place.config());

        let mesh = Mesh::start_as(&place, "again");
        let began = Instant::now();
        mesh.told_once(&["had 1 object before the restart"]);
        mesh.calls.meet("1");
        until("three seconds", LATE * 2, || began.elapsed() >= LATE);
        // Another file system, and filled after it is mounted.
        memory(&place.config(), "1m");
        put(&place.config(), "web.yaml", &web("2"));
        println!("filled, and met by calls {:?} later", mesh.calls.meet("2"));
        mesh.told_once(&["every directory that was read before is there again: serving"]);
        mesh.calls.none_failed();
    });
}
