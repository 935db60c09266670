//! By the kernel's events alone, before the first look at every file: whatever happens below a root, what is held comes
//! to be what reading everything afresh says.

use std::fmt::Debug;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Operation {
    Write(PathBuf, u16),
    WriteInPlace(PathBuf, u16),
    Remove(PathBuf),
    RemoveDirectory(PathBuf),
    Move(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
}

fn directory() -> impl Strategy<Value = PathBuf> {
    prop::sample::select(vec!["", "d", "d/e", "f", "f/g/h"]).prop_map(PathBuf::from)
}

fn file() -> impl Strategy<Value = PathBuf> {
    (directory(), prop::sample::select(vec!["a.yaml", "b.yaml"])).prop_map(|(at, name)| at.join(name))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (file(), 1..99u16).prop_map(|(path, port)| Operation::Write(path, port)),
        4 => (file(), 1..99u16).prop_map(|(path, port)| Operation::WriteInPlace(path, port)),
        2 => file().prop_map(Operation::Remove),
        1 => directory().prop_map(Operation::RemoveDirectory),
        2 => (file(), file()).prop_map(|(from, to)| Operation::Move(from, to)),
        2 => (directory(), directory()).prop_map(|(from, to)| Operation::Move(from, to)),
        1 => (file(), file()).prop_map(|(to, link)| Operation::Link(to, link)),
    ]
}

/// Some cannot be done as things are; then nothing happens.
fn perform(root: &Path, operation: &Operation) {
    let content = |path: &Path, port| {
        let name = path.display().to_string().replace(['/', '.'], "-");
        service(&format!("s{}", name.to_lowercase()), port)
    };
    let _ = match operation {
        Operation::Write(path, port) => fs::create_dir_all(root.join(path).parent().unwrap())
            .and_then(|()| fs::write(root.join(".beside"), content(path, *port)))
            .and_then(|()| fs::rename(root.join(".beside"), root.join(path))),
        Operation::WriteInPlace(path, port) => fs::create_dir_all(root.join(path).parent().unwrap())
            .and_then(|()| fs::write(root.join(path), content(path, *port))),
        Operation::Remove(path) => fs::remove_file(root.join(path)),
        Operation::RemoveDirectory(path) if path.as_os_str().is_empty() => Ok(()),
        Operation::RemoveDirectory(path) => fs::remove_dir_all(root.join(path)),
        Operation::Move(from, to) => fs::rename(root.join(from), root.join(to)),
        Operation::Link(to, link) => symlink(root.join(to), root.join(link)),
    };
}

fn said(store: &ObjectStore) -> Vec<(String, String, u64, bool)> {
    let said = store.iter().map(|held| {
        let object = &held.loaded.object;
        (object.id(), object.source.to_string(), object.content_hash(), held.loaded.stale)
    });
    said.collect()
}

fn check(operations: &[Operation]) {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("config");
    fs::create_dir(&root).unwrap();
    let (mut begun, first) = Watch::begin(Files::new(vec![root.clone()]), |_| {});
    assert!(begun.catch_up(Instant::now()).is_empty());
    let (sender, updates) = channel();
    let _watch = begun.spawn(move |batch| drop(sender.send(batch))).unwrap();
    let mut store = ObjectStore::default();
    store.apply_all(first, 1);
    for operation in operations {
        perform(&root, operation);
    }
    let mut afresh = ObjectStore::default();
    afresh.apply_all(Files::new(vec![root]).first(Instant::now()), 1);
    let deadline = Instant::now() + DEADLINE;
    while said(&store) != said(&afresh) {
        let left = deadline.saturating_duration_since(Instant::now());
        match updates.recv_timeout(left) {
            Ok(batch) => drop(store.apply_all(batch, 1)),
            Err(_) => assert_eq!(said(&store), said(&afresh), "after {operations:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_tell_of_everything(operations in prop::collection::vec(operation(), 1..30)) {
        check(&operations);
    }
}
