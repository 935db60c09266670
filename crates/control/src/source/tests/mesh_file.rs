//! The mesh configuration's own file as a source.

use super::*;
use crate::mesh_file::MeshFile;

struct Mesh {
    dir: TempDir,
    read: Read,
    now: Instant,
}

impl Mesh {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("mesh.yaml");
        fs::write(&file, text).unwrap();
        let now = Instant::now();
        let files = Files::new(Vec::new()).with_mesh_file(MeshFile::open(file).unwrap());
        Self { dir, read: Read::first(files, now), now }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("mesh.yaml")
    }

    /// Renamed into place, looked at, and again until nothing is due.
    fn write(&mut self, text: &str) {
        fs::write(self.dir.path().join("beside"), text).unwrap();
        fs::rename(self.dir.path().join("beside"), self.path()).unwrap();
        self.settle();
    }

    fn settle(&mut self) {
        self.read.look_at(&[], self.now);
        let first = self.read.delta.take();
        while let Some(due) = self.read.files.due() {
            self.now = self.now.max(due);
            self.read.look_at(&[], self.now);
        }
        self.read.delta = first;
    }

    fn access_log(&self) -> Option<&str> {
        self.read.store.mesh_config().map(|config| config.access_log_file.as_str())
    }
}

#[test]
fn it_is_followed_and_what_is_broken_changes_nothing() {
    let mut mesh = Mesh::new("accessLogFile: /one\n");
    assert_eq!(mesh.access_log(), Some("/one"));
    mesh.write("accessLogFile: /two\n");
    assert!(mesh.read.delta.as_ref().is_some_and(|delta| delta.mesh && delta.changed.len() == 1));
    assert_eq!(mesh.access_log(), Some("/two"));
    for broken in ["accessLogFile: [", "connectTimeout: soon\nrootNamespace: other\n"] {
        mesh.write(broken);
        assert_eq!(mesh.access_log(), Some("/two"), "{broken}");
        assert_eq!(mesh.read.store.root_namespace(), "istio-system");
        let problems = mesh.read.store.problems();
        assert!(problems.iter().any(|p| p.is_error() && p.file.ends_with("mesh.yaml")), "{problems:?}");
        assert_eq!(mesh.read.store.stale().count(), 1);
    }
    mesh.write("accessLogFile: /three\nrootNamespace: other\n");
    assert_eq!((mesh.access_log(), mesh.read.store.root_namespace()), (Some("/three"), "other"));
    assert!(mesh.read.store.problems().is_empty() && mesh.read.store.stale().next().is_none());
    mesh.write("");
    assert_eq!((mesh.access_log(), mesh.read.store.root_namespace()), (None, "istio-system"));
}

#[test]
fn while_it_is_gone_it_says_what_it_said() {
    let mut mesh = Mesh::new("accessLogFile: /one\n");
    let away = mesh.dir.path().join("away");
    fs::rename(mesh.path(), &away).unwrap();
    mesh.settle();
    assert_eq!(mesh.access_log(), Some("/one"));
    let problems = mesh.read.store.problems();
    assert!(problems.len() == 1 && problems[0].message.contains("stays"), "told once: {problems:?}");
    fs::rename(&away, mesh.path()).unwrap();
    mesh.settle();
    assert!(mesh.read.store.problems().is_empty());
}

#[test]
fn what_is_broken_at_the_start_is_an_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("mesh.yaml");
    assert!(MeshFile::open(file.clone()).unwrap_err().contains("No such file"));
    fs::write(&file, "accessLogFile: [").unwrap();
    assert!(MeshFile::open(file.clone()).unwrap_err().contains("mesh.yaml:"));
    fs::write(&file, "").unwrap();
    assert!(MeshFile::open(file).is_ok(), "nothing configured: Istio's defaults");
}

#[test]
fn the_watch_follows_it() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("mesh.yaml");
    fs::write(&file, "accessLogFile: /one\n").unwrap();
    let files = Files::new(Vec::new()).with_mesh_file(MeshFile::open(file.clone()).unwrap());
    let (begun, first) = Watch::begin(files, |_| {});
    let mut store = ObjectStore::default();
    store.apply_all(first, 1);
    let (sender, updates) = channel();
    let _watch = begun.spawn(move |batch| drop(sender.send(batch))).unwrap();
    fs::write(&file, "accessLogFile: /two\n").unwrap();
    let log = |store: &ObjectStore| store.mesh_config().map(|config| config.access_log_file.clone());
    while log(&store).as_deref() != Some("/two") {
        store.apply_all(updates.recv_timeout(DEADLINE).unwrap(), 1);
    }
}
