use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::store::{Delta, ObjectStore};
use reading::Reading;

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
        let files = Files::new(roots.iter().map(|r| r.to_path_buf()).collect());
        Self::over(files)
    }

    fn over(files: Files) -> Self {
        let (sender, readings) = channel();
        let (watch, last) = Watch::start(
            files,
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

/// Files that are looked at when a test says so, and what they say together.
struct Read {
    files: Files,
    store: ObjectStore,
    /// Of the last look.
    delta: Option<Delta>,
}

impl Read {
    fn first(mut files: Files, now: Instant) -> Self {
        let updates = files.first(now);
        let mut read = Self { files, store: ObjectStore::default(), delta: None };
        read.apply(updates);
        read
    }

    fn scan(&mut self, now: Instant) {
        let updates = self.files.scan(now, now);
        self.apply(updates);
    }

    fn look_at(&mut self, paths: &[&Path], now: Instant) {
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        let updates = self.files.look_at(&paths, now, now);
        self.apply(updates);
    }

    fn apply(&mut self, updates: Vec<Update>) {
        self.delta = self.store.apply_all(updates, 1);
    }

    fn names(&self) -> Vec<String> {
        self.store.iter().map(|held| name(held.loaded)).collect()
    }

    fn changed(&self) -> Vec<String> {
        let changes = self.delta.iter().flat_map(|delta| &delta.changed);
        changes.map(|change| change.id.name.clone()).collect()
    }

    fn waiting(&self) -> Vec<String> {
        self.store.waiting().map(|(_, problem)| problem.to_string()).collect()
    }
}

fn name(loaded: &Loaded) -> String {
    format!("{}{}", loaded.object.name(), if loaded.stale { "*" } else { "" })
}

/// Names in the order of the files, a star behind what is stale.
fn names(reading: &Reading) -> Vec<String> {
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

/// A text that cannot be read as documents says nothing: all its objects stay as they were, also those whose documents
/// could be read.
#[test]
fn a_half_written_file_keeps_all_its_objects_as_they_were() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("all.yaml");
    fs::write(&file, format!("{}---\n{}", service("a", 80), service("b", 80))).unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    watched.names(&["a", "b"]);
    fs::write(&file, format!("{}---\nkind: Service\nmetadata: {{name: [", service("a", 81))).unwrap();
    let reading = watched.until("the half one", |r| names(r) == ["a*", "b*"]);
    assert_eq!((port(reading, "a"), port(reading, "b")), (80, 80));
    assert!(
        reading.problems.iter().any(|p| p.line > 0 && p.file.ends_with("all.yaml")),
        "{:?}",
        reading.problems
    );
    fs::write(&file, format!("{}---\n{}", service("a", 81), service("b", 82))).unwrap();
    let reading = watched.until("b's new port", |r| port(r, "b") == 82);
    assert_eq!(names(reading), ["a", "b"]);
    assert_eq!(port(reading, "a"), 81);
    assert!(reading.problems.is_empty());
}

/// In a text that can be read, an object that is refused keeps its own last good version, or is absent if it never had one.
#[test]
fn a_refused_object_stays_as_it_was_and_the_others_of_its_file_go_live() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("all.yaml");
    let broken = |name: &str| service(name, 80).replace("port: 80", "port: eighty");
    fs::write(&file, format!("{}---\n{}", service("a", 80), service("b", 80))).unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    watched.names(&["a", "b"]);
    let text =
        format!("{}---\n{}---\n{}---\n{}", service("a", 81), broken("b"), broken("c"), service("d", 1));
    fs::write(&file, text).unwrap();
    let reading = watched.until("the others", |r| port(r, "a") == 81);
    assert_eq!((names(reading), port(reading, "b")), (vec!["a".into(), "b*".into(), "d".into()], 80));
    assert_eq!(reading.problems.iter().filter(|p| p.is_error()).count(), 2);
}

/// Editors truncate before they write. Nothing may be gone for that moment; in the end an empty file is empty.
#[test]
fn an_emptied_file_is_believed_only_after_a_while() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, service("a", 80)).unwrap();
    let mut now = Instant::now();
    let mut read = Read::first(Files::new(vec![dir.path().to_owned()]), now);
    fs::write(&file, "").unwrap();
    read.scan(now);
    assert_eq!(read.names(), ["a*"]);
    let mut looks = 0;
    while let Some(due) = read.files.due() {
        now = due;
        read.look_at(&[], now);
        looks += 1;
        assert!(looks < 10);
    }
    assert!(read.names().is_empty());
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

/// Precedence is the order of the flags, then the path, then the position; who wrote last does not matter.
#[test]
fn of_two_objects_of_one_identity_the_first_wins_and_the_other_is_named() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(first.path().join("z.yaml"), service("a", 1)).unwrap();
    fs::write(second.path().join("b.yaml"), service("a", 3)).unwrap();
    fs::write(second.path().join("a.yaml"), service("a", 2)).unwrap();
    let mut watched = Watched::start(&[first.path(), second.path()]);
    assert_eq!((names(&watched.last), port(&watched.last, "a")), (vec!["a".to_owned()], 1));
    let conflicts: Vec<String> = watched.last.problems.iter().map(ToString::to_string).collect();
    assert_eq!(conflicts.len(), 2, "{conflicts:#?}");
    assert!(conflicts.iter().all(|p| p.contains("conflict") && p.contains("z.yaml:1:1")), "{conflicts:#?}");
    fs::remove_file(first.path().join("z.yaml")).unwrap();
    watched.until("the next in line", |r| port(r, "a") == 2 && r.problems.len() == 1);
    fs::write(second.path().join("a.yaml"), service("b", 9)).unwrap();
    watched.until("the last", |r| names(r) == ["b", "a"] && port(r, "a") == 3 && r.problems.is_empty());
    fs::write(first.path().join("y.yaml"), service("a", 4)).unwrap();
    watched.until("the earlier directory", |r| port(r, "a") == 4 && r.problems.len() == 1);
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

mod emptiness;
mod links;
mod mesh_file;
pub(crate) mod reading;
mod watched;
mod work;
