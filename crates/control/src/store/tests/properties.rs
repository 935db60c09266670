//! After any sequence of what may happen to files the store holds what an oracle says, which knows the rules about last good
//! versions and nothing of scans, deltas or indexes; the deltas alone lead to the same; and where no last good version
//! is in use, so does reading everything afresh.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use api::Spec;
use proptest::prelude::*;

use super::super::{Delta, ObjectStore};
use crate::source::{Files, Update};

const ROOTS: [&str; 2] = ["one", "two"];
const FILES: [&str; 3] = ["a.yaml", "b.yaml", "c.yaml"];
const NAMES: [&str; 3] = ["p", "q", "r"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Document {
    Good(usize, u16),
    Refused(usize),
}

/// What a file says; half written: then comes something that is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    documents: Vec<Document>,
    half_written: bool,
}

#[derive(Debug, Clone)]
enum Operation {
    Write(usize, usize, Text),
    Delete(usize, usize),
    Move((usize, usize), (usize, usize)),
    /// The directory is renamed away, and maybe another put in its place.
    Lose(usize),
    Replace(usize, Vec<(usize, Text)>),
    Restore(usize),
}

fn document() -> impl Strategy<Value = Document> {
    prop_oneof![
        3 => (0..NAMES.len(), 1..9u16).prop_map(|(name, port)| Document::Good(name, port)),
        1 => (0..NAMES.len()).prop_map(Document::Refused),
    ]
}

fn text() -> impl Strategy<Value = Text> {
    (prop::collection::vec(document(), 0..4), prop::bool::weighted(0.2))
        .prop_map(|(documents, half_written)| Text { documents, half_written })
}

fn operation() -> impl Strategy<Value = Operation> {
    let place = || (0..ROOTS.len(), 0..FILES.len());
    prop_oneof![
        8 => (place(), text()).prop_map(|((root, file), text)| Operation::Write(root, file, text)),
        2 => place().prop_map(|(root, file)| Operation::Delete(root, file)),
        2 => (place(), place()).prop_map(|(from, to)| Operation::Move(from, to)),
        1 => (0..ROOTS.len()).prop_map(Operation::Lose),
        2 => (0..ROOTS.len(), prop::collection::vec((0..FILES.len(), text()), 0..3))
            .prop_map(|(root, files)| Operation::Replace(root, files)),
        1 => (0..ROOTS.len()).prop_map(Operation::Restore),
    ]
}

/// The files of a directory, each with the number of its last write.
type Disk = BTreeMap<usize, (u64, Text)>;

/// An object of the oracle: name, port, whether it is stale.
type Known = (usize, u16, bool);

/// A root as it is on disk, and as it is to be believed.
#[derive(Debug, Default, Clone)]
struct Root {
    /// `None`: there is no directory.
    disk: Option<Disk>,
    /// Moves when another directory is put in its place.
    directory: u64,
    away: Option<(u64, Disk)>,
    believed_directory: Option<u64>,
    believed: BTreeMap<usize, (u64, Vec<Known>)>,
    /// It was lost, or replaced by an empty one, and is not to be believed empty.
    frozen: bool,
}

impl Root {
    /// The rules of issue 9, part 8, and of lost directories.
    fn look(&mut self) {
        let swapped = self.believed_directory.is_some_and(|known| known != self.directory);
        let Some(disk) = &self.disk else {
            self.frozen = true;
            return;
        };
        self.frozen = (swapped || self.frozen) && disk.is_empty() && !self.believed.is_empty();
        if self.frozen {
            return;
        }
        self.believed_directory = Some(self.directory);
        self.believed.retain(|file, _| disk.contains_key(file));
        for (file, (version, text)) in disk {
            let (known, old) = self.believed.entry(*file).or_default();
            if *known != *version {
                *old = judge(std::mem::take(old), text);
                *known = *version;
            }
        }
    }
}

fn judge(old: Vec<Known>, text: &Text) -> Vec<Known> {
    let mut good: Vec<Known> = Vec::new();
    let mut refused = Vec::new();
    for document in &text.documents {
        match document {
            Document::Good(name, port) => good.push((*name, *port, false)),
            Document::Refused(name) => refused.push(*name),
        }
    }
    if text.half_written && !old.is_empty() {
        let says = |name, port| good.iter().any(|known| (known.0, known.1) == (name, port));
        return old.into_iter().map(|(name, port, _)| (name, port, !says(name, port))).collect();
    }
    let names: Vec<usize> = good.iter().map(|known| known.0).collect();
    let kept = old.into_iter().filter(|known| refused.contains(&known.0) && !names.contains(&known.0));
    let kept: Vec<Known> = kept.map(|(name, port, _)| (name, port, true)).collect();
    good.extend(kept);
    good
}

/// Port, staleness and file of each winner, and how many lose.
type Outcome = (BTreeMap<String, (u32, bool, String)>, usize);

fn expected(roots: &[Root], base: &Path) -> Outcome {
    let (mut winners, mut losers) = (BTreeMap::new(), 0);
    for (number, root) in roots.iter().enumerate() {
        for (file, (_, objects)) in &root.believed {
            for (name, port, stale) in objects {
                let path = path(base, number, *file).display().to_string();
                let object = (u32::from(*port), *stale, path);
                match winners.entry(NAMES[*name].to_owned()) {
                    std::collections::btree_map::Entry::Vacant(vacant) => drop(vacant.insert(object)),
                    std::collections::btree_map::Entry::Occupied(_) => losers += 1,
                }
            }
        }
    }
    (winners, losers)
}

fn held(store: &ObjectStore) -> Outcome {
    let winner = |held: super::super::Held<'_>| {
        let object = &held.loaded.object;
        let port = match &object.spec {
            Spec::Service(service) => service.ports[0].port.into(),
            other => panic!("{other:?}"),
        };
        (object.name().to_owned(), (port, held.loaded.stale, object.source.file.to_string()))
    };
    (store.iter().map(winner).collect(), store.conflicts().count())
}

fn path(base: &Path, root: usize, file: usize) -> PathBuf {
    base.join(ROOTS[root]).join(FILES[file])
}

fn render(text: &Text) -> String {
    let mut documents: Vec<String> = text
        .documents
        .iter()
        .map(|document| match document {
            Document::Good(name, port) => super::service(NAMES[*name], *port),
            Document::Refused(name) => super::service(NAMES[*name], 1).replace("port: 1", "port: one"),
        })
        .collect();
    if text.half_written {
        documents.push("kind: Service\nmetadata: {name: [\n".to_owned());
    }
    documents.join("---\n")
}

/// The disk, and the oracle beside it.
struct World {
    base: tempfile::TempDir,
    roots: Vec<Root>,
    versions: u64,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        for root in ROOTS {
            fs::create_dir(base.path().join(root)).unwrap();
        }
        let root = Root { disk: Some(BTreeMap::new()), ..Root::default() };
        Self { base, roots: vec![root; ROOTS.len()], versions: 0 }
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Does it, and names the paths that events would name.
    fn perform(&mut self, operation: &Operation) -> Vec<PathBuf> {
        let base = self.base.path().to_owned();
        let away = |root: usize| base.join(format!("away-{root}"));
        match operation {
            Operation::Write(root, file, text) => {
                let version = self.version();
                let Some(disk) = &mut self.roots[*root].disk else { return Vec::new() };
                disk.insert(*file, (version, text.clone()));
                // Written beside: two writes within a tick of the clock of files must differ in the inode.
                let beside = base.join("beside");
                fs::write(&beside, render(text)).unwrap();
                fs::rename(&beside, path(&base, *root, *file)).unwrap();
                vec![path(&base, *root, *file)]
            }
            Operation::Delete(root, file) => {
                let known = self.roots[*root].disk.as_mut().and_then(|disk| disk.remove(file));
                if known.is_some() {
                    fs::remove_file(path(&base, *root, *file)).unwrap();
                }
                vec![path(&base, *root, *file)]
            }
            Operation::Move(from, to) => {
                if from == to || self.roots[to.0].disk.is_none() {
                    return Vec::new();
                }
                let known = self.roots[from.0].disk.as_mut().and_then(|disk| disk.remove(&from.1));
                let Some((_, text)) = known else { return Vec::new() };
                let version = self.version();
                self.roots[to.0].disk.as_mut().unwrap().insert(to.1, (version, text));
                let (from, to) = (path(&base, from.0, from.1), path(&base, to.0, to.1));
                fs::rename(&from, &to).unwrap();
                vec![from, to]
            }
            Operation::Lose(root) | Operation::Replace(root, _) => {
                let directory = self.roots[*root].directory;
                if let Some(disk) = self.roots[*root].disk.take() {
                    let _ = fs::remove_dir_all(away(*root));
                    fs::rename(base.join(ROOTS[*root]), away(*root)).unwrap();
                    self.roots[*root].away = Some((directory, disk));
                }
                if let Operation::Replace(_, files) = operation {
                    self.roots[*root].disk = Some(BTreeMap::new());
                    self.roots[*root].directory = self.version();
                    fs::create_dir(base.join(ROOTS[*root])).unwrap();
                    for (file, text) in files {
                        self.perform(&Operation::Write(*root, *file, text.clone()));
                    }
                }
                vec![base.join(ROOTS[*root])]
            }
            Operation::Restore(root) => {
                if self.roots[*root].disk.is_none()
                    && let Some((directory, disk)) = self.roots[*root].away.take()
                {
                    fs::rename(away(*root), base.join(ROOTS[*root])).unwrap();
                    self.roots[*root].disk = Some(disk);
                    self.roots[*root].directory = directory;
                }
                vec![base.join(ROOTS[*root])]
            }
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        ROOTS.iter().map(|root| self.base.path().join(root)).collect()
    }
}

/// Follows the deltas only.
#[derive(Default)]
struct Follower(BTreeMap<String, u64>);

impl Follower {
    fn follow(&mut self, delta: &Delta) {
        for change in &delta.changed {
            let before = change.before.as_ref().map(|object| object.content_hash());
            assert_eq!(self.0.remove(&change.id.name), before, "what it says was before");
            if let Some(after) = &change.after {
                self.0.insert(change.id.name.clone(), after.content_hash());
            }
        }
    }
}

fn take(updates: Vec<Update>, store: &mut ObjectStore, follower: &mut Follower) {
    for update in updates {
        follower.follow(&store.apply(update, 1));
    }
}

fn check(operations: &[(Operation, bool)]) {
    let mut world = World::new();
    let mut now = Instant::now();
    let mut files = Files::new(world.directories());
    let (mut store, mut follower) = (ObjectStore::default(), Follower::default());
    take(files.first(now), &mut store, &mut follower);
    world.roots.iter_mut().for_each(Root::look);
    for (operation, scan) in operations {
        let touched = world.perform(operation);
        world.roots.iter_mut().for_each(Root::look);
        let updates = match scan {
            true => files.scan(now, now),
            false => files.look_at(&touched.into_iter().collect(), now, now),
        };
        take(updates, &mut store, &mut follower);
        take(files.look_for_swaps(now), &mut store, &mut follower);
        // Until nothing is waited for.
        for _ in 0..20 {
            let Some(due) = files.due() else { break };
            now = now.max(due);
            take(files.look_at(&Default::default(), now, now), &mut store, &mut follower);
        }
        assert!(files.due().is_none(), "it comes to rest");
        assert_eq!(held(&store), expected(&world.roots, world.base.path()), "after {operation:?}");
        let contents: BTreeMap<String, u64> = store
            .iter()
            .map(|held| (held.loaded.object.name().to_owned(), held.loaded.object.content_hash()))
            .collect();
        assert_eq!(follower.0, contents, "the deltas after {operation:?}");
        let is_plain = |root: &Root| {
            let disk = root.disk.as_ref().filter(|_| !root.frozen);
            let stale = root.believed.values().flat_map(|(_, objects)| objects).any(|known| known.2);
            !stale && disk.is_some_and(|disk| disk.values().all(|(_, text)| !text.half_written))
        };
        if world.roots.iter().all(is_plain) {
            let mut afresh = ObjectStore::default();
            take(Files::new(world.directories()).first(now), &mut afresh, &mut Follower::default());
            assert_eq!(held(&store), held(&afresh), "read afresh after {operation:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_the_files_say(
        operations in prop::collection::vec((operation(), any::<bool>()), 1..30),
    ) {
        check(&operations);
    }
}
