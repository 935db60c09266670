//! The list of config sources, as it changes. Nothing listens here.

use std::sync::Mutex;

use super::*;

fn listed(address: &str) -> ConfigSource {
    ConfigSource { address: address.into(), ..Default::default() }
}

fn keep(state_dir: &std::path::Path, address: &str, objects: &[Value]) {
    let mut known = Collections::new(SourceId::ConfigSource(0), address.into());
    let resources = objects.iter().map(|object| pack(object).unwrap()).collect();
    known.take(response(RULES, resources), Instant::now());
    std::fs::write(kept::file(state_dir, address), kept::encode(known.last_good()).unwrap()).unwrap();
}

/// The sources by position, with the names of their objects.
fn say(updates: &[Update]) -> Vec<(SourceId, Standing, Vec<String>, Vec<String>)> {
    let one = |update: &Update| {
        let names = update.upserts.iter().map(|upsert| upsert.loaded.object.name().to_owned()).collect();
        let problems = update.problems.iter().flat_map(|(_, problems)| problems).map(ToString::to_string);
        (update.source, update.standing.unwrap(), names, problems.collect())
    };
    updates.iter().map(one).collect()
}

fn unwatched(directories: Vec<(SourceId, PathBuf)>) -> Vec<Update> {
    panic!("{directories:?}");
}

#[test]
fn a_source_is_there_at_its_position_with_what_it_said_before() {
    let dir = tempfile::tempdir().unwrap();
    keep(dir.path(), "xds://one:1", &[rule("v1", "a", "1", "x"), rule("v1", "b", "1", "x")]);
    keep(dir.path(), "xds://two:2", &[rule("v1", "c", "1", "x")]);
    let mut sources = ConfigSources::new(dir.path().to_owned(), |line| panic!("{line}"));
    let id = SourceId::ConfigSource;
    let (one, two) = (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]);
    let updates = sources.set(
        vec![listed("xds://one:1"), listed("two:2"), listed("new:3")],
        &mut unwatched,
        Instant::now(),
    );
    assert_eq!(
        say(&updates),
        [
            (id(0), Standing::Frozen, one.clone(), vec![]),
            (id(1), Standing::Frozen, two.clone(), vec![]),
            (id(2), Standing::Unread, vec![], vec![]),
        ]
    );
    let same = vec![listed("xds://one:1"), listed("two:2"), listed("new:3")];
    assert!(sources.set(same, &mut unwatched, Instant::now()).is_empty(), "the same list is no news");
    // The first is taken out: each position is another source's now, or nobody's. All are empty before any is told.
    let updates = sources.set(vec![listed("two:2"), listed("new:3")], &mut unwatched, Instant::now());
    assert_eq!(
        say(&updates),
        [
            (id(0), Standing::Synced, vec![], vec![]),
            (id(1), Standing::Synced, vec![], vec![]),
            (id(2), Standing::Synced, vec![], vec![]),
            (id(0), Standing::Frozen, two, vec![]),
            (id(1), Standing::Unread, vec![], vec![]),
        ]
    );
    assert!(updates.iter().all(|update| update.extent == crate::source::Extent::All));
}

#[test]
fn what_is_not_followed_is_told_by_name_and_costs_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = ConfigSources::new(dir.path().to_owned(), |line| panic!("{line}"));
    let list = vec![listed("k8s://"), listed("xds://one:1"), listed("one:1")];
    let updates = say(&sources.set(list, &mut unwatched, Instant::now()));
    assert_eq!(
        updates[0].3,
        ["configSources[0]: \"k8s://\" is not followed: there is no source for Kubernetes yet"]
    );
    assert_eq!(updates[1].3, Vec::<String>::new());
    assert_eq!(updates[2].3, ["configSources[2]: \"one:1\" is listed twice; the first counts"]);
    let updates = say(&sources.set(vec![listed("xds://one:1")], &mut unwatched, Instant::now()));
    assert!(updates.iter().all(|(_, _, _, problems)| problems.is_empty()), "{updates:?}");
}

#[test]
fn a_damaged_file_is_told_in_one_line_and_is_as_none() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(kept::file(dir.path(), "xds://one:1"), "x").unwrap();
    let mut sources =
        ConfigSources::new(dir.path().to_owned(), |line| SAID.lock().unwrap().push(line.to_owned()));
    let updates = say(&sources.set(vec![listed("one:1")], &mut unwatched, Instant::now()));
    assert_eq!(updates, [(SourceId::ConfigSource(0), Standing::Unread, vec![], vec![])]);
    let said = SAID.lock().unwrap();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("is damaged; what the config source xds://one:1 said"), "{said:?}");
}

/// A directory has its say by the thread that watches it, before anything else is told of its position.
#[test]
fn directories_are_watched_at_their_positions() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = ConfigSources::new(dir.path().to_owned(), |line| panic!("{line}"));
    let id = SourceId::ConfigSource;
    let mut seen = Vec::new();
    let mut set = |list: &[&str]| {
        let mut watched = None;
        let mut watch = |directories: Vec<(SourceId, PathBuf)>| {
            watched = Some(
                directories.iter().map(|(id, path)| (*id, path.display().to_string())).collect::<Vec<_>>(),
            );
            Vec::new()
        };
        let updates =
            sources.set(list.iter().map(|address| listed(address)).collect(), &mut watch, Instant::now());
        let told: Vec<SourceId> = updates.iter().map(|update| update.source).collect();
        seen.push((watched, told));
    };
    set(&["fs:///a", "xds://one:1"]);
    set(&["fs:///a", "xds://two:1"]);
    set(&["xds://two:1", "fs:///b"]);
    set(&["xds://two:1"]);
    let at = |position, path: &str| (id(position), path.to_owned());
    assert_eq!(
        seen,
        [
            (Some(vec![at(0, "/a")]), vec![id(1)]),
            (None, vec![id(1), id(1)]),
            (Some(vec![at(1, "/b")]), vec![id(0), id(0)]),
            (Some(vec![]), vec![id(1)]),
        ]
    );
}
