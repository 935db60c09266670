//! One file: what it says, and what it said when it was last good.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use api::{Problem, Severity};

use super::Loaded;
use super::tree::{self, Stamp};

/// A configuration file may hold this much. Ten thousand services are about 5 MB.
const FILE_BYTES: u64 = 64 << 20;

/// When a file that seems half written is read again, though nothing says that it has changed.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(80), Duration::from_millis(400)];

#[derive(Debug)]
pub(crate) struct SourceFile {
    stamp: Stamp,
    pub(crate) objects: Vec<Loaded>,
    pub(crate) problems: Vec<Problem>,
    /// Reads so far of what seems half written.
    attempts: usize,
    again_at: Option<Instant>,
    /// Not there when last looked for.
    missing_since: Option<Instant>,
}

impl SourceFile {
    pub(crate) fn read(path: &Path, stamp: Stamp, now: Instant) -> Self {
        let mut file = Self {
            stamp,
            objects: Vec::new(),
            problems: Vec::new(),
            attempts: 0,
            again_at: None,
            missing_since: None,
        };
        file.load(path, now);
        file
    }

    /// When the file came to be as it is; later is greater.
    pub(crate) fn written(&self) -> (i64, i64) {
        self.stamp.written()
    }

    /// Reads it again if it has changed or seemed half written. Whether what it says may have changed.
    pub(crate) fn refresh(&mut self, path: &Path, stamp: Stamp, now: Instant) -> bool {
        let due = self.again_at.is_some_and(|at| now >= at);
        let back = self.missing_since.take().is_some();
        if stamp != self.stamp {
            self.attempts = 0;
        } else if !due {
            return back;
        }
        self.stamp = stamp;
        self.load(path, now);
        true
    }

    /// Notes that it is not there. Whether it is to be forgotten: some editors move a file away before they write it.
    pub(crate) fn missing(&mut self, now: Instant, grace: Duration) -> bool {
        let since = *self.missing_since.get_or_insert(now);
        self.again_at = Some(since + grace);
        now >= since + grace
    }

    /// When it has to be looked at again whatever happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.again_at
    }

    pub(crate) fn looked(&mut self, now: Instant) {
        self.again_at = self.again_at.filter(|at| *at > now);
    }

    fn load(&mut self, path: &Path, now: Instant) {
        self.again_at = None;
        let name = path.display().to_string();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(reason) => {
                self.problems = vec![whole_file(&name, reason)];
                self.keep(|_| true);
                self.try_again(now);
                return;
            }
        };
        let parsed = api::parse_documents(&name, &text, &api::Options::default());
        let errors = || parsed.problems.iter().filter(|p| p.is_error());
        let unreadable = errors().any(|p| p.object.is_none());
        let emptied = parsed.objects.is_empty() && parsed.problems.is_empty() && !self.objects.is_empty();
        let refused: HashSet<&str> = errors().filter_map(|p| p.object.as_deref()).collect();
        let may_be_half = unreadable || emptied;
        let patient = self.attempts < AGAIN_AFTER.len();
        let keep_all = unreadable || (emptied && patient);
        let fresh: Vec<Loaded> =
            parsed.objects.iter().map(|o| Loaded { object: o.clone(), stale: false }).collect();
        let last_good = std::mem::take(&mut self.objects);
        self.objects = fresh;
        for mut old in last_good {
            let kept = keep_all || refused.contains(old.object.id().as_str());
            if kept && !self.objects.iter().any(|new| new.object.identity() == old.object.identity()) {
                old.stale = true;
                self.objects.push(old);
            }
        }
        self.problems = parsed.problems;
        if may_be_half {
            self.try_again(now);
        }
    }

    fn keep(&mut self, which: impl Fn(&Loaded) -> bool) {
        self.objects.retain(which);
        for loaded in &mut self.objects {
            loaded.stale = true;
        }
    }

    fn try_again(&mut self, now: Instant) {
        if let Some(wait) = AGAIN_AFTER.get(self.attempts) {
            self.attempts += 1;
            self.again_at = Some(now + *wait);
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    if tree::stamp(path).is_none() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
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
