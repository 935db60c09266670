//! One file: what it says, and what it said when it was last good.
//!
//! A file whose text cannot be read as documents keeps all its objects as they were. In a file that can be read, an
//! object that is refused keeps its own last good version, or is absent if it never had one, and all others go live.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Object, ObjectId, Parsed, Problem, Severity};

use super::tree::Stamp;
use super::update::{Loaded, Origin, Slot, Update, Upsert};
use crate::admission;

/// A configuration file may hold this much. Ten thousand services are about 5 MB.
const FILE_BYTES: u64 = 64 << 20;

/// When a file that seems half written is read again, though nothing says that it has changed.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(80), Duration::from_millis(400)];

/// How a file's text becomes objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// YAML or JSON documents, an object each.
    Documents,
    /// A MeshConfig.
    MeshConfig,
}

#[derive(Debug)]
pub(crate) struct SourceFile {
    name: Arc<str>,
    format: Format,
    /// `None` before the first read.
    stamp: Option<Stamp>,
    /// Another change may have left the same stamp.
    fresh: bool,
    objects: Vec<Loaded>,
    problems: Vec<Problem>,
    /// Reads so far of what seems half written.
    attempts: usize,
    again_at: Option<Instant>,
    /// Not there when last looked for.
    missing_since: Option<Instant>,
}

impl SourceFile {
    /// A file that is still to be read. `name` is what objects and problems call it.
    pub(crate) fn new(name: &str, format: Format) -> Self {
        Self {
            name: name.into(),
            format,
            stamp: None,
            fresh: false,
            objects: Vec::new(),
            problems: Vec::new(),
            attempts: 0,
            again_at: None,
            missing_since: None,
        }
    }

    pub(crate) fn objects(&self) -> &[Loaded] {
        &self.objects
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Reads it again if it has changed or seemed half written, and adds what it says to the update. `touched`: an event
    /// says that it may have changed. Whether it was read.
    pub(crate) fn refresh(
        &mut self,
        path: &Path,
        stamp: Stamp,
        touched: bool,
        now: Instant,
        update: &mut Update,
    ) -> bool {
        let due = self.again_at.is_some_and(|at| now >= at);
        let may_differ = touched && self.fresh;
        if self.missing_since.take().is_some() {
            self.again_at = None;
        }
        if self.stamp != Some(stamp) {
            self.attempts = 0;
        } else if !due && !may_differ {
            return false;
        }
        self.stamp = Some(stamp);
        self.fresh = stamp.is_fresh();
        self.load(path, now, update);
        true
    }

    /// Notes that it is not there. Since when that is so.
    pub(crate) fn missing(&mut self, now: Instant) -> Instant {
        *self.missing_since.get_or_insert(now)
    }

    /// Whether it was not there when last looked for.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing_since.is_some()
    }

    /// Looks again at this time whatever happens.
    pub(crate) fn look_again(&mut self, at: Instant) {
        self.again_at = Some(at);
    }

    /// When it has to be looked at whatever happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.again_at
    }

    /// Adds all it says to an update.
    pub(crate) fn tell(&self, update: &mut Update) {
        let upserts = slots(&self.name, &self.objects).into_iter().zip(&self.objects);
        update.upserts.extend(upserts.map(|((_, slot), loaded)| Upsert { slot, loaded: loaded.clone() }));
        if !self.problems.is_empty() {
            update.problems.push((self.name.clone(), self.problems.clone()));
        }
    }

    /// It is gone: so are its objects and problems.
    pub(crate) fn remove(self, update: &mut Update) {
        update.deletes.extend(slots(&self.name, &self.objects));
        if !self.problems.is_empty() {
            update.problems.push((self.name, Vec::new()));
        }
    }

    fn load(&mut self, path: &Path, now: Instant, update: &mut Update) {
        self.again_at = None;
        let patient = self.attempts < AGAIN_AFTER.len();
        let last_good = std::mem::take(&mut self.objects);
        let before = slots(&self.name, &last_good);
        let judged = match read_text(path) {
            Ok(text) => {
                let options = api::Options::default();
                let parsed = match self.format {
                    Format::Documents => {
                        let mut parsed = api::parse_documents(&self.name, &text, &options);
                        admission::admit(&mut parsed);
                        parsed
                    }
                    Format::MeshConfig => api::parse_mesh_document(&self.name, &text, &options),
                };
                judge(self.format, last_good, parsed, patient)
            }
            Err(reason) => Judged {
                objects: stale(last_good),
                problems: vec![whole_file(&self.name, reason)],
                may_be_half_written: true,
            },
        };
        self.objects = judged.objects;
        let after = slots(&self.name, &self.objects);
        if !before.is_empty() {
            let kept: HashSet<&(Arc<ObjectId>, Slot)> = after.iter().collect();
            update.deletes.extend(before.into_iter().filter(|slot| !kept.contains(slot)));
        }
        let upserts = after.into_iter().zip(&self.objects);
        update.upserts.extend(upserts.map(|((_, slot), loaded)| Upsert { slot, loaded: loaded.clone() }));
        if judged.problems != self.problems {
            update.problems.push((self.name.clone(), judged.problems.clone()));
        }
        self.problems = judged.problems;
        if let (true, Some(wait)) = (judged.may_be_half_written, AGAIN_AFTER.get(self.attempts)) {
            self.attempts += 1;
            self.again_at = Some(now + *wait);
        }
    }
}

/// What a file is to say.
struct Judged {
    objects: Vec<Loaded>,
    problems: Vec<Problem>,
    may_be_half_written: bool,
}

/// Decides between what a file says now and what it said when it was last good. `patient`: an empty text may still be
/// one that is being written.
fn judge(format: Format, last_good: Vec<Loaded>, parsed: Parsed, patient: bool) -> Judged {
    let Parsed { objects, problems, refused } = parsed;
    // An error without an object: a document that could not be told from its neighbours, or has no head. A MeshConfig is
    // one document: with an error in it nothing of it is used.
    let whole = format == Format::MeshConfig;
    let unreadable = problems.iter().any(|p| p.is_error() && (whole || p.object.is_none()));
    let emptied = objects.is_empty() && problems.is_empty() && !last_good.is_empty();
    let may_be_half_written = unreadable || emptied;
    // A file that never had an object has nothing to keep: what can be read of it goes live.
    if (unreadable && !last_good.is_empty()) || (emptied && patient) {
        let mut kept = stale(last_good);
        // What can be read and says the same is not stale.
        for loaded in &mut kept {
            let said: Vec<&Arc<Object>> =
                objects.iter().filter(|object| object.identity() == loaded.object.identity()).collect();
            loaded.stale = !said.iter().any(|object| object.content_hash() == loaded.object.content_hash());
        }
        return Judged { objects: kept, problems, may_be_half_written };
    }
    let mut live: Vec<Loaded> =
        objects.into_iter().map(|object| Loaded { object, stale: false, origin: Origin::File }).collect();
    if !refused.is_empty() {
        let good: HashSet<Arc<ObjectId>> = live.iter().map(|l| l.object.identity().clone()).collect();
        let keeps = |old: &Loaded| {
            let id = old.object.identity();
            refused.contains(id) && !good.contains(id)
        };
        live.extend(stale(last_good).into_iter().filter(keeps));
    }
    Judged { objects: live, problems, may_be_half_written }
}

fn stale(mut objects: Vec<Loaded>) -> Vec<Loaded> {
    for loaded in &mut objects {
        loaded.stale = true;
    }
    objects
}

/// Each object's identity and slot.
fn slots(name: &Arc<str>, objects: &[Loaded]) -> Vec<(Arc<ObjectId>, Slot)> {
    // Most files hold one object, and there may be ten thousand of them.
    let counted = objects.len() > 1;
    let mut copies: HashMap<&ObjectId, u32> = HashMap::new();
    let mut slots = Vec::with_capacity(objects.len());
    for loaded in objects {
        let mut copy = 0;
        if counted {
            let next = copies.entry(loaded.object.identity()).or_default();
            copy = *next;
            *next += 1;
        }
        slots.push((loaded.object.identity().clone(), Slot::File { path: name.clone(), copy }));
    }
    slots
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    // One byte more than there should be: then one read finds the end.
    let size = usize::try_from(metadata.len().min(FILE_BYTES)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!("is larger than {} MiB; split it", FILE_BYTES >> 20));
    }
    String::from_utf8(bytes)
        .map_err(|e| format!("is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
}

pub(crate) fn whole_file(file: &str, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        file: file.into(),
        line: 0,
        column: 0,
        object: None,
        path: String::new(),
        message,
    }
}
