//! A mesh never becomes empty by accident: over restarts, late mounts, directories that are replaced or deleted.

use super::*;

/// A run of the control plane over one root, with the state directory of the runs before.
fn run(root: &Path, state: &Path, accept_empty: bool, now: Instant) -> Read {
    let records = Records::open(state, |line| panic!("nothing to say: {line}")).unwrap();
    Read::first(Files::new(vec![root.to_owned()]).remembering(records, accept_empty), now)
}

struct Place {
    dir: TempDir,
    now: Instant,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("config")).unwrap();
        fs::create_dir_all(dir.path().join("state")).unwrap();
        Self { dir, now: Instant::now() }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("config")
    }

    fn run(&self, accept_empty: bool) -> Read {
        run(&self.root(), &self.dir.path().join("state"), accept_empty, self.now)
    }

    fn write(&self, name: &str, port: u16) {
        fs::write(self.root().join(format!("{name}.yaml")), service(name, port)).unwrap();
    }
}

/// What a root may look like after a restart, and whether it is waited for; and the same when that is accepted.
#[test]
fn a_root_that_had_objects_and_has_none_at_a_start_is_waited_for() {
    type Change = fn(&Place);
    let cases: [(&str, Change, bool); 8] = [
        ("as it was", |_| {}, false),
        ("emptied", |place| fs::remove_file(place.root().join("a.yaml")).unwrap(), true),
        ("absent", |place| fs::rename(place.root(), place.dir.path().join("away")).unwrap(), true),
        (
            "not mounted",
            |place| {
                fs::rename(place.root(), place.dir.path().join("away")).unwrap();
                fs::create_dir(place.root()).unwrap();
            },
            true,
        ),
        (
            "a file in its place",
            |place| {
                fs::rename(place.root(), place.dir.path().join("away")).unwrap();
                fs::write(place.root(), "").unwrap();
            },
            true,
        ),
        ("nothing that can be read", |place| fs::write(place.root().join("a.yaml"), "a: [").unwrap(), true),
        ("nothing that is an object", |place| fs::write(place.root().join("a.yaml"), "a: 1").unwrap(), true),
        (
            "other objects",
            |place| {
                fs::remove_file(place.root().join("a.yaml")).unwrap();
                place.write("b", 80);
            },
            false,
        ),
    ];
    for (what, change, waits) in cases {
        let place = Place::new();
        place.write("a", 80);
        assert!(place.run(false).waiting().is_empty(), "{what}: the first run knows of nothing before");
        change(&place);
        let read = place.run(false);
        assert_eq!(!read.waiting().is_empty(), waits, "{what}");
        if waits {
            let line = read.waiting().remove(0);
            let told = ["had 1 object before", "config", "--accept-empty"];
            assert!(told.iter().all(|part| line.contains(part)) && !line.contains('\n'), "{what}: {line}");
        }
        drop(read);
        assert_eq!(!place.run(false).waiting().is_empty(), waits, "{what}: also at the next start");
        assert!(place.run(true).waiting().is_empty(), "{what}: accepted");
    }
}

#[test]
fn a_volume_that_is_mounted_late_is_served_when_it_is_there() {
    let place = Place::new();
    place.write("a", 80);
    drop(place.run(false));
    let away = place.dir.path().join("away");
    fs::rename(place.root(), &away).unwrap();
    fs::create_dir(place.root()).unwrap();
    let mut read = place.run(false);
    assert_eq!((read.waiting().len(), read.names().len()), (1, 0));
    read.scan(place.now);
    assert!(read.delta.is_none(), "told once");
    fs::remove_dir(place.root()).unwrap();
    fs::rename(&away, place.root()).unwrap();
    let updates = read.files.look_for_swaps(place.now);
    read.apply(updates);
    assert_eq!((read.waiting().len(), read.names()), (0, vec!["a".to_owned()]));
    assert!(read.store.problems().is_empty());
}

/// A volume comes at once; a copy, file by file: served when it is whole, as far as that can be told.
#[test]
fn a_directory_that_is_filled_file_by_file_is_served_when_no_more_come() {
    let place = Place::new();
    for name in ["a", "b", "c", "d"] {
        place.write(name, 80);
    }
    drop(place.run(false));
    fs::remove_dir_all(place.root()).unwrap();
    fs::create_dir(place.root()).unwrap();
    for whole in [false, true] {
        let mut read = place.run(false);
        assert_eq!(read.waiting().len(), 1);
        let mut now = place.now;
        for name in ["a", "b", "c"] {
            place.write(name, 80);
            now += Duration::from_millis(1900);
            read.look_at(&[&place.root().join(format!("{name}.yaml"))], now);
            assert_eq!(read.waiting().len(), 1, "{name} of four");
        }
        if whole {
            place.write("d", 80);
            read.scan(now);
        } else {
            let due = read.files.due().unwrap();
            read.look_at(&[], due.max(now + Duration::from_secs(2)));
        }
        assert!(read.waiting().is_empty() && read.store.problems().is_empty());
        // For the next round as before.
        if !whole {
            place.write("d", 80);
            read.scan(now + Duration::from_secs(3));
            assert_eq!(read.names().len(), 4);
            drop(read);
            fs::remove_dir_all(place.root()).unwrap();
            fs::create_dir(place.root()).unwrap();
        }
    }
}

/// A disk that takes nothing stops nothing, and is told of once.
#[test]
fn a_record_that_cannot_be_written_is_told_once() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let place = Place::new();
    let state = place.dir.path().join("state");
    let mut records = Records::open(&state, |line| LINES.lock().unwrap().push(line.to_owned())).unwrap();
    fs::remove_dir(&state).unwrap();
    for objects in 0..5 {
        records.note(&place.root(), Seen { device: 1, inode: 2, objects });
        records.save(true);
    }
    drop(records);
    let lines = LINES.lock().unwrap();
    assert!(lines.len() == 1 && lines[0].contains("cannot write"), "{lines:?}");
}

/// By the watch, whose events do not tell of a mount.
#[test]
fn the_watch_waits_for_a_late_volume() {
    let place = Place::new();
    place.write("a", 80);
    drop(place.run(false));
    let away = place.dir.path().join("away");
    fs::rename(place.root(), &away).unwrap();
    let records = Records::open(&place.dir.path().join("state"), |_| {}).unwrap();
    let mut watched = Watched::over(Files::new(vec![place.root()]).remembering(records, false));
    assert!(watched.last.waiting);
    fs::rename(&away, place.root()).unwrap();
    watched.until("the volume", |r| !r.waiting && names(r) == ["a"] && r.problems.is_empty());
}

/// Emptied while somebody watches: that is meant, and stays so over a restart.
#[test]
fn a_root_that_was_emptied_file_by_file_is_empty() {
    let place = Place::new();
    place.write("a", 80);
    let mut read = place.run(false);
    fs::remove_file(place.root().join("a.yaml")).unwrap();
    read.scan(place.now);
    read.scan(place.now + Duration::from_secs(1));
    assert!(read.names().is_empty() && read.store.problems().is_empty());
    drop(read);
    assert!(place.run(false).waiting().is_empty());
}

/// `rm -r` takes the files first, one after the other, and the directory last.
#[test]
fn a_directory_that_is_deleted_loses_nothing() {
    let place = Place::new();
    for number in 0..20 {
        place.write(&format!("s{number:02}"), 80);
    }
    let mut read = place.run(false);
    let mut now = place.now;
    for number in 0..20 {
        let path = place.root().join(format!("s{number:02}.yaml"));
        fs::remove_file(&path).unwrap();
        now += Duration::from_millis(10);
        read.look_at(&[&path], now);
    }
    fs::remove_dir(place.root()).unwrap();
    now += Duration::from_millis(10);
    read.look_at(&[&place.root()], now);
    while let Some(due) = read.files.due() {
        read.look_at(&[], due.max(now));
    }
    assert_eq!(read.names().len(), 20);
    let problems = read.store.problems();
    assert_eq!(problems.len(), 1, "told in one line: {problems:?}");
    assert!(problems[0].message.contains("stays"), "{problems:?}");
    // Made again: what is there now is what counts.
    fs::create_dir(place.root()).unwrap();
    let swaps = read.files.look_for_swaps(now);
    read.apply(swaps);
    assert_eq!(read.names().len(), 20, "an empty one in its place is a lost mount");
    place.write("s07", 81);
    read.scan(now);
    read.scan(now + Duration::from_secs(2));
    assert_eq!(read.names(), ["s07"]);
    assert!(read.store.problems().is_empty());
    assert_eq!(
        read.files.take_news(),
        [format!("{}: is there again, with 1 object", place.root().display())]
    );
}

/// File systems give the number of a deleted inode to the next one.
#[test]
fn a_directory_deleted_and_made_anew_between_two_looks_loses_nothing() {
    let place = Place::new();
    place.write("a", 80);
    let mut read = place.run(false);
    fs::remove_dir_all(place.root()).unwrap();
    fs::create_dir(place.root()).unwrap();
    for seconds in [0, 1, 2] {
        read.scan(place.now + Duration::from_secs(seconds));
        assert_eq!(read.names(), ["a"]);
    }
    assert!(read.store.problems()[0].message.contains("replaced by an empty"));
}

/// It was lost, and what comes back may be half of it.
#[test]
fn a_directory_that_comes_back_empty_loses_nothing() {
    let place = Place::new();
    place.write("a", 80);
    let mut read = place.run(false);
    let away = place.dir.path().join("away");
    fs::rename(place.root(), &away).unwrap();
    read.scan(place.now);
    fs::remove_file(away.join("a.yaml")).unwrap();
    fs::rename(&away, place.root()).unwrap();
    for seconds in [0, 1, 2] {
        read.scan(place.now + Duration::from_secs(seconds));
        assert_eq!(read.names(), ["a"]);
    }
}

#[test]
fn a_directory_replaced_by_rename_is_read_as_it_is() {
    let place = Place::new();
    place.write("a", 80);
    place.write("b", 80);
    let mut read = place.run(false);
    let (next, old) = (place.dir.path().join("next"), place.dir.path().join("old"));
    fs::create_dir(&next).unwrap();
    fs::write(next.join("a.yaml"), service("a", 81)).unwrap();
    fs::rename(place.root(), &old).unwrap();
    fs::rename(&next, place.root()).unwrap();
    let updates = read.files.look_for_swaps(place.now);
    read.apply(updates);
    assert_eq!((read.names(), read.changed()), (vec!["a".into(), "b".into()], vec!["a".to_owned()]));
    let told = format!("{}: another directory is there now, with 1 object", place.root().display());
    assert_eq!(read.files.take_news(), [told]);
    let due = read.files.due().unwrap();
    read.look_at(&[], due);
    assert_eq!((read.names(), read.changed()), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert!(read.files.take_news().is_empty(), "told once");
}

#[test]
fn a_damaged_record_means_that_nothing_is_known_and_is_told_once() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let place = Place::new();
    let state = place.dir.path().join("state");
    for damaged in ["", "{", "[\"/config\"]", "{\"/config\":{\"device\":1}}", "\u{fffd}"] {
        fs::write(state.join("sources.json"), damaged).unwrap();
        let records = Records::open(&state, |line| LINES.lock().unwrap().push(line.to_owned())).unwrap();
        let read = Read::first(Files::new(vec![place.root()]).remembering(records, false), place.now);
        assert!(read.waiting().is_empty());
        let lines = std::mem::take(&mut *LINES.lock().unwrap());
        assert_eq!(lines.len(), 1, "{damaged:?}: {lines:?}");
        assert!(lines[0].contains("sources.json") && lines[0].contains("damaged"), "{lines:?}");
    }
    assert!(place.run(false).waiting().is_empty(), "and is whole again after a run");
}

/// One source that is lost takes nothing from the others.
#[test]
fn a_root_that_was_never_there_is_not_waited_for() {
    let place = Place::new();
    place.write("a", 80);
    let records = Records::open(&place.dir.path().join("state"), |_| {}).unwrap();
    let missing = place.dir.path().join("missing");
    let files = Files::new(vec![missing.clone(), place.root()]).remembering(records, false);
    let mut read = Read::first(files, place.now);
    assert_eq!(
        (read.waiting().len(), read.names(), read.store.problems().len()),
        (0, vec!["a".to_owned()], 1)
    );
    fs::create_dir(&missing).unwrap();
    fs::write(missing.join("a.yaml"), service("a", 81)).unwrap();
    let updates = read.files.look_for_swaps(place.now);
    read.apply(updates);
    assert_eq!(read.changed(), ["a"]);
    assert_eq!(read.store.problems().len(), 1, "the conflict: {:?}", read.store.problems());
}
