//! The control plane of a mesh under calls, killed again and again while objects and registrations are written.
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::common::until;
use crate::mesh::{Mesh, Place, put, web};

const KILLS: usize = 4;
/// Objects of a batch.
const BATCH: usize = 40;

fn batch(number: usize) -> String {
    let entry = |n: usize| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: b{number}-{n}, annotations: {{note: '{}'}}}}\n\
             spec: {{hosts: [b{number}-{n}.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n",
            "x".repeat(1000)
        )
    };
    (0..BATCH).map(entry).collect::<Vec<_>>().join("---\n")
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn kills_while_objects_and_registrations_are_written_lose_nothing() {
    if !Mesh::possible("kills while objects and registrations are written") {
        return;
    }
    let place = Place::new();
    put(&place.config(), "web.yaml", &web("1"));
    let mesh = Mesh::start(&place);
    mesh.calls.meet("1");
    let file = place.path("batch.yaml");
    let (mut answered, mut number) = (Vec::new(), 0);
    let (mut joined, mut comes) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        // Registrations to write: of a workload that is there, and of one that comes when the kill does. Nobody can tell
        // that one any names before the control plane is back, so that only the first is held to its calls.
        let there = mesh.join(&place, &format!("there-{round}"), 40);
        until("it calls", Duration::from_secs(20), || !there.calls.all().is_empty());
        joined.push(there);
        comes.push(mesh.join(&place, &format!("comes-{round}"), 10));
        let (first, of_round) = channel();
        std::thread::scope(|scope| {
            // A clock that runs beside the batches, from the first that was answered: the kill meets any moment of one.
            let mesh = &mesh;
            scope.spawn(move || {
                let first: Instant = of_round.recv_timeout(Duration::from_secs(20)).unwrap();
                let until = first + Duration::from_millis(37 * round as u64);
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                mesh.kill_control();
            });
            loop {
                std::fs::write(&file, batch(number)).unwrap();
                let (code, ..) = mesh.run(&["apply", "-f", file.to_str().unwrap(), "--wait=false"]);
                number += 1;
                if code != Some(0) {
                    break;
                }
                answered.push(number - 1);
                let _ = first.send(Instant::now());
            }
        });
        let back = || mesh.told(&["control is back"]).len() == round + 1;
        until("the control plane is back", Duration::from_secs(10), back);
    }
    let both = || mesh.page("/filamesh/v1/workloads").1.matches("\"connected\":true").count() >= 2;
    until("the sidecars are registered", Duration::from_secs(20), both);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let (code, names, error) = mesh.run(&["get", "se", "-o", "name"]);
    assert_eq!(code, Some(0), "{error}");
    for name in names.lines() {
        let number = name.split("/b").nth(1).and_then(|rest| rest.split('-').next()).unwrap();
        *counts.entry(number.parse().unwrap()).or_default() += 1;
    }
    println!("{} batches answered, {KILLS} kills", answered.len());
    assert!(counts.values().all(|count| *count == BATCH), "each batch whole or not there: {counts:?}");
    assert!(answered.iter().all(|number| counts.contains_key(number)), "{answered:?} in {counts:?}");
    assert!(answered.len() >= KILLS, "{answered:?}");
    for workload in joined {
        let (_, failed) = workload.end();
        assert!(failed.is_empty(), "{failed:#?}");
    }
    let wrong: usize = comes.into_iter().map(|workload| workload.end().1.len()).sum();
    println!("{wrong} calls failed of workloads that came with a kill");
    mesh.calls.none_failed();
    assert_eq!(mesh.told(&["control", "ended", "restarting"]).len(), KILLS, "each in one line");
    for lost in ["ignored", "damaged"] {
        assert!(mesh.told(&[lost]).is_empty(), "{}", mesh.up.said());
    }
}
