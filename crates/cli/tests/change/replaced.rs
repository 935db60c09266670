//! A configuration directory that is replaced: as a kubelet swaps the versions of a ConfigMap, by a rename of the whole
//! directory, and deleted and made anew as a checkout does.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::until;
use crate::mesh::{Mesh, Place, SOON, put, web};

/// Objects beside the one that calls meet, so that a reading of half a directory shows.
fn fill(directory: &Path, version: &str) {
    put(directory, "web.yaml", &web(version));
    for number in 0..50 {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{number}}}\nspec:\n  hosts: [e{number}.example.com]\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: DNS\n"
        );
        put(directory, &format!("e{number}.yaml"), &text);
    }
}

fn objects(mesh: &Mesh) -> usize {
    mesh.run(&["get", "all", "-o", "name"]).1.lines().count()
}

/// As `AtomicWriter` of Kubernetes: a directory of a version, a link `..data` to it, and a link to each file through it.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn versions_of_a_configmap_are_swapped_under_calls() {
    if !Mesh::possible("versions of a ConfigMap under calls") {
        return;
    }
    let place = Place::new();
    let config = place.config();
    let write = |version: &str| {
        let name = format!("..version-{version}");
        fs::create_dir(config.join(&name)).unwrap();
        fill(&config.join(&name), version);
        symlink(&name, config.join("..data_tmp")).unwrap();
        fs::rename(config.join("..data_tmp"), config.join("..data")).unwrap();
    };
    write("1");
    for entry in fs::read_dir(config.join("..data")).unwrap().flatten() {
        let name = entry.file_name();
        symlink(Path::new("..data").join(&name), config.join(&name)).unwrap();
    }
    let mesh = Mesh::start(&place);
    mesh.calls.meet("1");
    for version in 2..=6 {
        write(&version.to_string());
        let took = mesh.calls.meet(&version.to_string());
        fs::remove_dir_all(config.join(format!("..version-{}", version - 1))).unwrap();
        assert_eq!(objects(&mesh), 51);
        println!("version {version} is met by calls after {took:?}");
    }
    mesh.calls.none_failed();
    assert!(mesh.told(&["cannot be read"]).is_empty(), "{}", mesh.up.said());
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_directory_replaced_by_rename_is_read_as_it_is() {
    if !Mesh::possible("a directory that is replaced by a rename") {
        return;
    }
    let place = Place::new();
    let config = place.config();
    fill(&config, "1");
    let mesh = Mesh::start(&place);
    mesh.calls.meet("1");
    for version in 2..=4 {
        let next = place.path("next");
        fs::create_dir(&next).unwrap();
        fill(&next, &version.to_string());
        fs::rename(&config, place.path(&format!("old{version}"))).unwrap();
        fs::rename(&next, &config).unwrap();
        println!("version {version} is met by calls after {:?}", mesh.calls.meet(&version.to_string()));
        assert_eq!(objects(&mesh), 51);
    }
    // The one that is there now is watched.
    put(&config, "web.yaml", &web("5"));
    mesh.calls.meet("5");
    mesh.calls.none_failed();
    // On a slow machine somebody may look while there is none: then it is there again.
    let told = mesh.told(&["there ", "with 51 objects"]);
    assert_eq!(told.len(), 3, "each time in one line: {told:?}\n{}", mesh.up.said());
}

/// Everything is deleted, the directory too, and made anew with what is the same but for one object.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_directory_deleted_and_made_anew_loses_nothing() {
    if !Mesh::possible("a directory that is deleted and made anew") {
        return;
    }
    let place = Place::new();
    let config = place.config();
    fill(&config, "1");
    let mesh = Mesh::start(&place);
    mesh.calls.meet("1");
    for version in 2..=4 {
        fs::remove_dir_all(&config).unwrap();
        fs::create_dir(&config).unwrap();
        fill(&config, &version.to_string());
        println!("version {version} is met by calls after {:?}", mesh.calls.meet(&version.to_string()));
        assert_eq!(objects(&mesh), 51);
    }
    // Deleted for good, as far as anybody can tell. It was told before if somebody looked in between.
    let told = || mesh.told(&["cannot be read", "what was read from it stays"]).len();
    let before = told();
    fs::remove_dir_all(&config).unwrap();
    until("it is told", SOON, || told() > before);
    mesh.calls.flow(40);
    assert_eq!(told(), before + 1, "in one line: {}", mesh.up.said());
    assert_eq!(objects(&mesh), 51);
    fs::create_dir(&config).unwrap();
    fill(&config, "5");
    mesh.calls.meet("5");
    mesh.calls.none_failed();
}
