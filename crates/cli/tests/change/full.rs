//! A disk that is full: the state of the whole mesh on a small file system.
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::client::{Load, get};
use crate::common::{Running, start_time, until};
use crate::mesh::{Mesh, Place, put, shown, web};
use crate::mounts::{memory, own_mounts};

fn entries(number: usize) -> String {
    let entry = |n: usize| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: b{number}-{n}, annotations: {{note: '{}'}}}}\n\
             spec: {{hosts: [b{number}-{n}.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n",
            "y".repeat(4000)
        )
    };
    (0..20).map(entry).collect::<Vec<_>>().join("---\n")
}

/// Writes until nothing more goes in.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 16, 4096] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_full_disk_stops_what_is_written_and_nothing_else() {
    let what = "a full disk under calls";
    if !Mesh::possible(what) {
        return;
    }
    own_mounts(what, || {
        let place = Place::new();
        memory(&place.state(), "12m");
        put(&place.config(), "web.yaml", &web("1"));
        let mesh = Mesh::start(&place);
        mesh.calls.meet("1");
        let apply = |number: usize| {
            let file = place.path("batch.yaml");
            fs::write(&file, entries(number)).unwrap();
            mesh.run(&["apply", "-f", file.to_str().unwrap()])
        };
        let count = || mesh.run(&["get", "se", "-o", "name"]).1.lines().count();
        assert_eq!(apply(0).0, Some(0));
        let filler = place.state().join("filler");
        fill(&filler);

        // What was freed of the database may take a few more.
        let mut stored = 1;
        let error = loop {
            let (code, out, error) = apply(stored);
            if code != Some(0) {
                assert_eq!((code, out.as_str()), (Some(1), ""));
                break error;
            }
            stored += 1;
            assert!(stored < 100, "the disk is full");
        };
        println!("told: {error}");
        assert!(
            error.lines().count() == 1 && error.contains("nothing was changed, the mesh goes on"),
            "{error}"
        );
        mesh.told_once(&["the applied objects cannot be written", "nothing was changed, the mesh goes on"]);
        assert_eq!(count(), stored * 20);

        // Everything that needs no disk goes on: files, workloads that come, their calls.
        put(&place.config(), "web.yaml", &web("2"));
        mesh.calls.meet("2");
        let (met, failed) = mesh.join(&place, "joins", 20).end();
        assert!(failed.is_empty() && met.iter().all(|call| call.configured == "2"), "{failed:#?}");
        mesh.told_once(&["cannot keep the registered workloads", "going on without"]);

        // A control plane that is started on the full disk knows what was applied, and serves.
        mesh.kill_control();
        until("the control plane is back", Duration::from_secs(15), || {
            !mesh.told(&["control is back"]).is_empty()
        });
        assert_eq!(count(), stored * 20, "nothing that was answered is lost");
        put(&place.config(), "web.yaml", &web("3"));
        mesh.calls.meet("3");
        assert_eq!(apply(stored).0, Some(1));
        let (met, failed) = mesh.join(&place, "joins-late", 20).end();
        assert!(failed.is_empty() && met.iter().all(|call| call.configured == "3"), "{failed:#?}");

        // There is room again.
        fs::remove_file(&filler).unwrap();
        let (code, _, error) = apply(stored);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(count(), (stored + 1) * 20);
        until("other commands find the control plane that runs", Duration::from_secs(15), || {
            mesh.page("/healthz").0 == 200 && crate::common::start_time(mesh.control()).is_some()
        });
        mesh.kill_control();
        until("the control plane is back", Duration::from_secs(15), || {
            mesh.told(&["control is back"]).len() == 2
        });
        assert_eq!(count(), (stored + 1) * 20);
        mesh.calls.none_failed();
    });
}

/// All processes of a mesh whose logs, of requests too, are on the full disk: none of them ends of it.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_full_disk_ends_no_process_of_a_mesh() {
    let what = "a full disk under a whole mesh";
    own_mounts(what, || {
        let place = Place::new();
        memory(&place.state(), "24m");
        let mut mesh = Running::start(&["demo", "--no-load", "--state-dir", &shown(&place.state())]);
        let page = mesh.text("/page").to_owned();
        let load = Load::start(&page, 50.0);
        until("the load flows", Duration::from_secs(10), || load.sent() > 50);
        fill(&place.state().join("filler"));
        // Each sidecar writes its requests once a second, and fails.
        let gateway = gateway_admin(&mesh);
        let lost = || get(&format!("http://{gateway}/stats/prometheus"), &[]).1;
        let counted = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("filamesh_access_log_dropped_lines_total"));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default()
        };
        until("lines of the access log are lost, and counted", Duration::from_secs(20), || {
            counted(&lost()) > 100.0
        });
        let pids = mesh.pids();
        let alive = pids.iter().filter(|pid| start_time(**pid).is_some()).count();
        assert_eq!(alive, pids.len(), "{}", mesh.said());
        assert!(!mesh.said().contains("restarting"), "{}", mesh.said());
        assert!(mesh.child.try_wait().unwrap().is_none());
        let (sent, failures) = load.end();
        println!("{sent} requests on a full disk, {} failed", failures.len());
        assert!(failures.is_empty(), "{failures:#?}");
    });
}

/// Of the gateway: its node says where its admin is.
fn gateway_admin(mesh: &Running) -> String {
    let host = mesh.text("/gateway").trim_start_matches("http://").split(':').next().unwrap().to_owned();
    format!("{host}:15000")
}
