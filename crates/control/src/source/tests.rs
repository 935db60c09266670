use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports:\n  - {{name: http, port: {port}}}\n"
    )
}

struct Watched {
    _watch: Watch,
    readings: Receiver<Reading>,
    last: Reading,
}

impl Watched {
    fn start(roots: &[&Path]) -> Self {
        let (sender, readings) = channel();
        let directory = Directory::new(roots.iter().map(|r| r.to_path_buf()).collect());
        let (watch, last) = Watch::start(
            directory,
            |_| {},
            move |reading| {
                let _ = sender.send(reading);
            },
        )
        .unwrap();
        Self { _watch: watch, readings, last }
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Reading) -> bool) -> &Reading {
        let deadline = Instant::now() + DEADLINE;
        while !condition(&self.last) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.readings.recv_timeout(left) {
                Ok(reading) => self.last = reading,
                Err(_) => {
                    panic!("{what} did not come; last: {:?} {:?}", names(&self.last), self.last.problems)
                }
            }
        }
        &self.last
    }

    fn names(&mut self, expected: &[&str]) {
        self.until(&format!("{expected:?}"), |r| names(r) == expected);
    }
}

/// `kind/namespace/name`, a star behind what is stale.
fn names(reading: &Reading) -> Vec<String> {
    let name = |l: &Loaded| format!("{}{}", l.object.name(), if l.stale { "*" } else { "" });
    reading.objects.iter().map(name).collect()
}

fn port(reading: &Reading, name: &str) -> u32 {
    let object = &reading.objects.iter().find(|l| l.object.name() == name).unwrap().object;
    match &object.spec {
        api::Spec::Service(service) => service.ports[0].port.into(),
        other => panic!("{other:?}"),
    }
}

/// How it is usually done: written beside and renamed, by hand, by kubectl-like tools, by ConfigMaps.
#[test]
fn files_come_change_and_go() {
    let dir = TempDir::new().unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    watched.names(&[]);
    fs::write(dir.path().join("a.yaml"), service("a", 80)).unwrap();
    watched.names(&["a"]);
    fs::write(dir.path().join("b.tmp"), service("b", 80)).unwrap();
    fs::rename(dir.path().join("b.tmp"), dir.path().join("b.yml")).unwrap();
    watched.names(&["a", "b"]);
    fs::write(dir.path().join(".new"), service("b", 81)).unwrap();
    fs::rename(dir.path().join(".new"), dir.path().join("b.yml")).unwrap();
    watched.until("port 81", |r| port(r, "b") == 81);
    fs::create_dir_all(dir.path().join("deep/er")).unwrap();
    fs::write(
        dir.path().join("deep/er/c.json"),
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":1}]}}"#,
    )
    .unwrap();
    watched.names(&["a", "b", "c"]);
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    watched.names(&["b", "c"]);
    fs::remove_dir_all(dir.path().join("deep")).unwrap();
    watched.names(&["b"]);
}

/// A ConfigMap's volume: files are links into `..data`, which is a link that is swapped.
#[test]
fn a_config_maps_swap_of_links_is_one_change() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("mount");
    for (version, port) in [("..1", 80), ("..2", 81)] {
        fs::create_dir_all(root.join(version)).unwrap();
        fs::write(root.join(version).join("a.yaml"), service("a", port)).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let mut watched = Watched::start(&[&root]);
    watched.names(&["a"]);
    assert_eq!(port(&watched.last, "a"), 80);
    symlink("..2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    fs::remove_dir_all(root.join("..1")).unwrap();
    watched.until("port 81", |r| port(r, "a") == 81);
    assert_eq!(names(&watched.last), ["a"]);
}

#[test]
fn a_half_written_file_keeps_what_was_good() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("all.yaml");
    fs::write(&file, format!("{}---\n{}", service("a", 80), service("b", 80))).unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    watched.names(&["a", "b"]);
    fs::write(&file, format!("{}---\nkind: Service\nmetadata: {{name: [", service("a", 81))).unwrap();
    let reading = watched.until("a's new port", |r| port(r, "a") == 81);
    assert_eq!(names(reading), ["a", "b*"]);
    assert!(
        reading.problems.iter().any(|p| p.line > 0 && p.file.ends_with("all.yaml")),
        "{:?}",
        reading.problems
    );
    fs::write(&file, format!("{}---\n{}", service("a", 81), service("b", 82))).unwrap();
    let reading = watched.until("b's new port", |r| port(r, "b") == 82);
    assert_eq!(names(reading), ["a", "b"]);
    assert!(reading.problems.is_empty());
}

/// Editors truncate before they write. Nothing may be gone for that moment; in the end an empty file is empty.
#[test]
fn an_emptied_file_is_believed_only_after_a_while() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, service("a", 80)).unwrap();
    let now = Instant::now();
    let mut directory = Directory::new(vec![dir.path().to_owned()]);
    directory.scan(now);
    fs::write(&file, "").unwrap();
    directory.scan(now);
    assert_eq!(names(&directory.reading(now)), ["a*"]);
    let mut looks = 0;
    while let Some(due) = directory.due() {
        directory.look_at(&directory.due_paths(due), due);
        looks += 1;
        assert!(looks < 10);
    }
    assert!(names(&directory.reading(now)).is_empty());
}

#[test]
fn a_broken_object_blocks_nothing_and_keeps_its_last_good_version() {
    let dir = TempDir::new().unwrap();
    for i in 0..50 {
        fs::write(dir.path().join(format!("good-{i:02}.yaml")), service(&format!("s{i:02}"), 80)).unwrap();
    }
    let broken =
        "\napiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec:\n  ports: [{port: eighty}]\n";
    fs::write(dir.path().join("broken.yaml"), broken).unwrap();
    fs::write(
        dir.path().join("unknown.yaml"),
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec: {}\n",
    )
    .unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    let acted_on =
        |r: &Reading| r.objects.iter().filter(|l| !matches!(l.object.spec, api::Spec::Unsupported)).count();
    assert_eq!(acted_on(&watched.last), 50);
    let texts: Vec<String> = watched.last.problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:#?}");
    assert!(
        texts.iter().any(|t| t.contains("broken.yaml:6:") && t.contains("spec.ports[0].port")),
        "{texts:#?}"
    );
    assert!(texts.iter().any(|t| t.contains("unknown.yaml:1:") && t.contains("CronJob")), "{texts:#?}");

    // One that was good and is broken now stays as it was.
    fs::write(dir.path().join("good-07.yaml"), broken.replace("broken", "s07")).unwrap();
    let reading = watched.until("the stale one", |r| names(r).contains(&"s07*".to_owned()));
    assert_eq!(acted_on(reading), 50);
    assert_eq!(port(reading, "s07"), 80);
}

#[test]
fn of_two_objects_of_one_name_the_one_written_last_counts_and_the_other_is_named() {
    let (own, above) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // Written in this order, a clock's step apart.
    let write = |path: std::path::PathBuf, number: u16| {
        let later = |earlier: &Path| {
            let changed = |p: &Path| {
                let m = fs::metadata(p).unwrap();
                (std::os::unix::fs::MetadataExt::ctime(&m), std::os::unix::fs::MetadataExt::ctime_nsec(&m))
            };
            changed(&path) > changed(earlier)
        };
        let others: Vec<_> = [own.path(), above.path()]
            .iter()
            .flat_map(|d| fs::read_dir(d).unwrap().flatten().map(|e| e.path()))
            .filter(|p| *p != path)
            .collect();
        loop {
            fs::write(&path, service("a", number)).unwrap();
            if others.iter().all(|o| later(o)) {
                return;
            }
        }
    };
    write(above.path().join("b.yaml"), 3);
    write(own.path().join("z.yaml"), 1);
    write(above.path().join("a.yaml"), 2);
    let mut watched = Watched::start(&[own.path(), above.path()]);
    assert_eq!((names(&watched.last), port(&watched.last, "a")), (vec!["a".to_owned()], 2));
    assert_eq!(watched.last.problems.len(), 2);
    assert!(watched.last.problems.iter().any(|p| p.to_string().contains("z.yaml:1:1")));
    // As with `kubectl apply`: what is written now is what counts.
    write(above.path().join("b.yaml"), 4);
    watched.until("the rewritten one", |r| port(r, "a") == 4);
    fs::remove_file(above.path().join("b.yaml")).unwrap();
    watched.until("the next in line", |r| port(r, "a") == 2 && r.problems.len() == 1);
}

#[test]
fn a_directory_that_is_lost_freezes_what_is_known() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("config");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
    let mut watched = Watched::start(&[&root]);
    fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    watched.until("the loss", |r| r.problems.iter().any(|p| p.message.contains("stays")));
    assert_eq!(names(&watched.last), ["a"]);
    // An empty one in its place is what a lost mount looks like.
    fs::create_dir(&root).unwrap();
    watched.until("the replacement", |r| r.problems.iter().any(|p| p.message.contains("replaced")));
    assert_eq!(names(&watched.last), ["a"]);
    fs::write(root.join("b.yaml"), service("b", 80)).unwrap();
    watched.until("the new one", |r| names(r) == ["b"] && r.problems.is_empty());
    // It is watched like the first.
    fs::write(root.join("c.yaml"), service("c", 80)).unwrap();
    watched.names(&["b", "c"]);
}

#[test]
fn a_directory_that_comes_later_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("later");
    let mut watched = Watched::start(&[&root]);
    assert_eq!(watched.last.problems.len(), 1);
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
    watched.until("a", |r| names(r) == ["a"] && r.problems.is_empty());
}

#[test]
fn what_is_no_configuration_file_is_not_read() {
    let dir = TempDir::new().unwrap();
    for name in [".a.yaml", "a.yaml~", "a.yaml.swp", "README.md", "4913"] {
        fs::write(dir.path().join(name), service("hidden", 80)).unwrap();
    }
    symlink(dir.path(), dir.path().join("ring")).unwrap();
    symlink("nowhere", dir.path().join("nothing.yaml")).unwrap();
    fs::create_dir(dir.path().join("directory.yaml")).unwrap();
    fs::write(dir.path().join("bytes.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    fs::write(dir.path().join("中文.yaml"), service("chinese", 80)).unwrap();
    let watched = Watched::start(&[dir.path()]);
    assert_eq!(names(&watched.last), ["chinese"]);
    assert_eq!(watched.last.problems.len(), 1, "{:?}", watched.last.problems);
    assert!(watched.last.problems[0].message.contains("UTF-8"));
}

#[test]
fn reading_one_changed_file_does_not_read_the_others() {
    let dir = TempDir::new().unwrap();
    for name in ["a", "b"] {
        fs::write(dir.path().join(format!("{name}.yaml")), service(name, 80)).unwrap();
    }
    let now = Instant::now();
    let mut directory = Directory::new(vec![dir.path().to_owned()]);
    directory.scan(now);
    let before = directory.reading(now);
    fs::write(dir.path().join("b.yaml"), service("b", 81)).unwrap();
    assert!(directory.scan(now));
    let after = directory.reading(now);
    assert!(std::sync::Arc::ptr_eq(&before.objects[0].object, &after.objects[0].object));
    assert!(!std::sync::Arc::ptr_eq(&before.objects[1].object, &after.objects[1].object));
    assert!(!before.says_the_same(&after));
    assert!(!directory.scan(now), "nothing has changed since");
}
