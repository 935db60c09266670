//! All files of all directories as one set of objects.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ObjectId, Problem, Severity, Spec};

use super::file::{SourceFile, whole_file};
use super::{Loaded, Reading, tree};

/// A file that was there must be missing for so long to be gone.
const GONE_AFTER: Duration = Duration::from_millis(40);

/// The files of some directories. Does no waiting: it is told when to look.
#[derive(Debug)]
pub struct Directory {
    roots: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    files: BTreeMap<PathBuf, SourceFile>,
    directories: HashSet<PathBuf>,
    identity: Option<(u64, u64)>,
    problems: Vec<Problem>,
    /// Whether it was ever read.
    seen: bool,
}

impl Directory {
    /// Of objects with the same name the one written last counts, as if every file were applied when it was
    /// written; at equal times the one in the later directory, then the later file. Nothing is read yet.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots: roots.into_iter().map(Root::new).collect() }
    }

    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|r| r.path.as_path())
    }

    /// Looks at every file; reads those that have changed. Whether anything may have.
    pub fn scan(&mut self, now: Instant) -> bool {
        // Every root is scanned, so no short-circuit.
        let changed = self.roots.iter_mut().fold(false, |changed, root| root.scan(now) | changed);
        self.looked(now);
        changed
    }

    /// Looks at these paths only. Whether anything may have changed.
    pub fn look_at(&mut self, paths: &HashSet<PathBuf>, now: Instant) -> bool {
        let mut changed = false;
        for path in paths {
            for root in &mut self.roots {
                if path.starts_with(&root.path) {
                    changed |= root.look_at(path, now);
                }
            }
        }
        self.looked(now);
        changed
    }

    /// What was due has been looked at, or cannot be: then the next scan does.
    fn looked(&mut self, now: Instant) {
        for file in self.roots.iter_mut().flat_map(|r| r.files.values_mut()) {
            file.looked(now);
        }
    }

    /// When some file has to be looked at whatever happens.
    pub fn due(&self) -> Option<Instant> {
        self.roots.iter().flat_map(|r| r.files.values().filter_map(SourceFile::due)).min()
    }

    /// The files that are due.
    pub fn due_paths(&self, now: Instant) -> HashSet<PathBuf> {
        let due = |file: &SourceFile| file.due().is_some_and(|at| now >= at);
        let files = self.roots.iter().flat_map(|r| &r.files);
        files.filter(|(_, file)| due(file)).map(|(path, _)| path.clone()).collect()
    }

    /// What all files say together.
    pub fn reading(&self, since: Instant) -> Reading {
        let mut merged = Merged::default();
        let mut files = Vec::new();
        for (number, root) in self.roots.iter().enumerate() {
            merged.problems.extend(root.problems.iter().cloned());
            for (path, file) in &root.files {
                merged.problems.extend(file.problems.iter().cloned());
                files.push((file.written(), number, path, file));
            }
        }
        files.sort_by(|a, b| (b.0, b.1, b.2).cmp(&(a.0, a.1, a.2)));
        for (.., file) in files {
            // Within a file, too, the last counts.
            for loaded in file.objects.iter().rev() {
                merged.add(loaded);
            }
        }
        merged.objects.sort_by(|a, b| {
            let place = |o: &Loaded| (o.object.source.file.clone(), o.object.source.line);
            place(a).cmp(&place(b))
        });
        merged.problems.extend(ignored_kinds(&merged.objects));
        let unread = self.roots.iter().filter(|r| !r.seen).map(|r| r.path.clone()).collect();
        Reading { objects: merged.objects, problems: merged.problems, unread, since }
    }
}

impl Root {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: BTreeMap::new(),
            directories: HashSet::new(),
            identity: None,
            problems: Vec::new(),
            seen: false,
        }
    }

    fn scan(&mut self, now: Instant) -> bool {
        let before = std::mem::take(&mut self.problems);
        let name = self.path.display().to_string();
        let tree = match tree::walk(&self.path) {
            Ok(tree) => tree,
            Err(error) => {
                let kept = if self.seen { "; what was read from it stays" } else { "" };
                self.problems = vec![whole_file(&name, format!("cannot be read: {error}{kept}"))];
                return self.problems != before;
            }
        };
        let replaced = self.identity.is_some_and(|known| known != tree.root);
        if replaced && tree.files.is_empty() && !self.files.is_empty() {
            let message = "was replaced by an empty directory; what was read from it stays until files come";
            self.problems = vec![whole_file(&name, message.into())];
            return self.problems != before;
        }
        self.seen = true;
        self.identity = Some(tree.root);
        self.directories = tree.directories;
        for (path, error) in &tree.unreadable {
            let message = format!("cannot be read: {error}; what was read from it stays");
            self.problems.push(whole_file(&path.display().to_string(), message));
        }
        let mut changed = self.problems != before;
        self.files.retain(|path, file| {
            let hidden = tree.unreadable.iter().any(|(lost, _)| path.starts_with(lost));
            let gone = !tree.files.contains_key(path) && !hidden && file.missing(now, GONE_AFTER);
            changed |= gone;
            !gone
        });
        for (path, stamp) in tree.files {
            changed |= self.refresh(path, stamp, now);
        }
        changed
    }

    /// Whether anything may have changed. What is not one of our files may have changed what there is to see.
    fn look_at(&mut self, path: &Path, now: Instant) -> bool {
        let below = path.strip_prefix(&self.path).unwrap_or(path);
        let linked = path.symlink_metadata().is_ok_and(|m| m.file_type().is_symlink());
        if path == self.path || self.directories.contains(path) || path.is_dir() || linked {
            return self.scan(now);
        }
        let hidden = below.components().any(|c| c.as_os_str().as_encoded_bytes().starts_with(b"."));
        if hidden || !tree::is_configuration(path) {
            return false;
        }
        match tree::stamp(path) {
            Some(stamp) => self.refresh(path.to_owned(), stamp, now),
            None => {
                // The whole directory may be gone, and then nothing is.
                let gone = match self.files.get_mut(path) {
                    Some(file) => self.path.is_dir() && file.missing(now, GONE_AFTER),
                    None => false,
                };
                gone && self.files.remove(path).is_some()
            }
        }
    }

    fn refresh(&mut self, path: PathBuf, stamp: tree::Stamp, now: Instant) -> bool {
        match self.files.entry(path) {
            Entry::Occupied(mut known) => {
                let path = known.key().clone();
                known.get_mut().refresh(&path, stamp, now)
            }
            Entry::Vacant(vacant) => {
                let file = SourceFile::read(vacant.key(), stamp, now);
                vacant.insert(file);
                true
            }
        }
    }
}

#[derive(Default)]
struct Merged {
    objects: Vec<Loaded>,
    problems: Vec<Problem>,
    by_key: HashMap<Arc<ObjectId>, usize>,
}

impl Merged {
    fn add(&mut self, loaded: &Loaded) {
        match self.by_key.get(loaded.object.identity()).and_then(|&at| self.objects.get(at)) {
            Some(first) => {
                let source = &loaded.object.source;
                self.problems.push(Problem {
                    severity: Severity::Warning,
                    file: source.file.clone(),
                    line: source.line,
                    column: source.column,
                    object: Some(loaded.object.id()),
                    path: String::new(),
                    message: format!("is also in {}, written later; that one counts", first.object.source),
                });
            }
            None => {
                self.by_key.insert(loaded.object.identity().clone(), self.objects.len());
                self.objects.push(loaded.clone());
            }
        }
    }
}

/// One warning for each kind nothing here acts on, at the first such object.
fn ignored_kinds(objects: &[Loaded]) -> Vec<Problem> {
    let mut kinds: BTreeMap<(&str, &str), (&Loaded, usize)> = BTreeMap::new();
    for loaded in objects.iter().filter(|o| matches!(o.object.spec, Spec::Unsupported)) {
        let meta = &loaded.object.meta;
        kinds.entry((&meta.api_version, &meta.kind)).or_insert((loaded, 0)).1 += 1;
    }
    let warning = |((api_version, kind), (first, count)): ((&str, &str), (&Loaded, usize))| Problem {
        severity: Severity::Warning,
        file: first.object.source.file.clone(),
        line: first.object.source.line,
        column: first.object.source.column,
        object: Some(first.object.id()),
        path: String::new(),
        message: match count {
            1 => format!("{kind} ({api_version}) is not acted on yet"),
            _ => format!("{kind} ({api_version}) is not acted on yet: {count} objects"),
        },
    };
    kinds.into_iter().map(warning).collect()
}
