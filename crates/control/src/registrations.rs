//! Which workloads there are: registered by their sidecars' streams, kept for a grace when a stream is lost, and
//! over restarts of the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::disk::{NewestFile, make_private_dir};
use crate::shapes::WorkloadStatus;
use crate::workload::{Workload, WorkloadKey};

/// A stream that is lost without goodbye takes its workload with it after this.
const LOST: Duration = Duration::from_secs(10);

/// What was registered before a restart is waited for so long.
const RESTARTED: Duration = Duration::from_secs(30);

/// A disk that takes longer for a write is told of.
const SLOW: Duration = Duration::from_secs(3);

/// A sidecar of this machine that is lost is looked for so often: when its process is gone, so is the workload.
const PROCESS: Duration = Duration::from_millis(200);

/// Identifies a stream.
pub type StreamId = u64;

/// The registered workloads. Time is given, except that processes of this machine are looked up.
#[derive(Debug)]
pub struct Registrations {
    known: BTreeMap<WorkloadKey, Registration>,
    /// Those whose address another workload says is its own, while their streams are open.
    shadowed: BTreeMap<WorkloadKey, Registration>,
    /// Workloads that came, changed or went since somebody last asked.
    changed: BTreeSet<WorkloadKey>,
    file: PathBuf,
    /// Started with the first change.
    writer: Option<NewestFile>,
    dirty: bool,
    /// What was last shown, until something of it is another.
    status: Option<Arc<Vec<WorkloadStatus>>>,
}

#[derive(Debug)]
struct Registration {
    workload: Arc<Workload>,
    registered_at: u64,
    /// The stream that holds it.
    stream: Option<StreamId>,
    /// When it goes without one.
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct Kept {
    workload: Workload,
    registered_at: u64,
}

/// [`Kept`], as it is written.
#[derive(Serialize)]
struct Keep<'k> {
    workload: &'k Workload,
    registered_at: u64,
}

impl Registrations {
    /// Reads what was registered before. Broken entries cost only themselves; `log` says what was not used.
    pub fn open(state_dir: &Path, now: Instant, log: fn(&str)) -> io::Result<Self> {
        make_private_dir(state_dir)?;
        let file = state_dir.join("workloads.json");
        // Found out now, not at the first registration.
        let probe = state_dir.join(".writable");
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        let mut known = BTreeMap::new();
        match fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice::<Vec<serde_json::Value>>(&bytes) {
                Ok(entries) => {
                    for entry in entries {
                        let kept: Kept = match serde_json::from_value(entry) {
                            Ok(kept) => kept,
                            Err(error) => {
                                log(&format!("{}: an entry is ignored: {error}", file.display()));
                                continue;
                            }
                        };
                        let Kept { workload, registered_at } = kept;
                        let until = Some(now + RESTARTED);
                        let workload = Arc::new(workload);
                        let entry = Registration { workload, registered_at, stream: None, until };
                        known.insert(entry.workload.key(), entry);
                    }
                }
                Err(error) => log(&format!("{} is ignored: {error}", file.display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let changed = known.keys().cloned().collect();
        Ok(Self { known, shadowed: BTreeMap::new(), changed, file, writer: None, dirty: false, status: None })
    }

    /// A stream registers its workload. Whether anything that others see has changed.
    pub fn connect(&mut self, stream: StreamId, workload: Workload) -> bool {
        let key = workload.key();
        self.status = None;
        self.shadowed.remove(&key);
        // An address is one workload's, the newest's. Whoever had it before is gone, or is there still (its stream is open) and
        // has the address again when the newest gives it up: anybody can say that an address is theirs.
        let taken = |other: &WorkloadKey| other.2 == key.2 && *other != key;
        let ousted: Vec<WorkloadKey> = self.known.keys().filter(|k| taken(k)).cloned().collect();
        for other in &ousted {
            if let Some(registration) = self.known.remove(other).filter(|r| r.stream.is_some()) {
                self.shadowed.insert(other.clone(), registration);
            }
        }
        let known = self.known.get(&key);
        let changed = known.is_none_or(|k| *k.workload != workload) || !ousted.is_empty();
        let registered_at = known.map_or_else(millis_now, |k| k.registered_at);
        self.dirty |= changed;
        if changed {
            self.changed.extend(ousted);
            self.changed.insert(key.clone());
        }
        let workload = match known {
            Some(known) if !changed => known.workload.clone(),
            _ => Arc::new(workload),
        };
        self.known.insert(key, Registration { workload, registered_at, stream: Some(stream), until: None });
        changed
    }

    /// A stream is gone without goodbye: its workload stays for a grace.
    pub fn disconnect(&mut self, stream: StreamId, now: Instant) {
        self.shadowed.retain(|_, r| r.stream != Some(stream));
        for registration in self.known.values_mut().filter(|r| r.stream == Some(stream)) {
            registration.stream = None;
            registration.until = Some(now + LOST);
            self.status = None;
        }
    }

    /// A workload says goodbye. Whether there was one.
    pub fn leave(&mut self, stream: StreamId) -> bool {
        self.shadowed.retain(|_, r| r.stream != Some(stream));
        self.remove_where(|r| r.stream == Some(stream)) > 0
    }

    /// Removes by name. How many there were.
    pub fn remove(&mut self, namespace: &str, name: &str) -> usize {
        let meant = |r: &Registration| r.workload.namespace == namespace && r.workload.name == name;
        self.shadowed.retain(|_, r| !meant(r));
        self.remove_where(meant)
    }

    /// Forgets what nobody came back for. Whether anything went.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.remove_where(|r| r.stream.is_none() && (r.until.is_none_or(|u| now >= u) || r.process_is_gone()))
            > 0
    }

    /// When [`Registrations::expire`] has something to look at.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let lost = self.known.values().filter(|r| r.stream.is_none());
        lost.filter_map(|r| if r.is_local() { Some(now + PROCESS) } else { r.until }).min()
    }

    /// Those that came, changed or (`None`) went since this was last asked.
    pub fn take_changes(&mut self) -> Vec<(WorkloadKey, Option<Workload>)> {
        let changed = std::mem::take(&mut self.changed);
        let now = |key: &WorkloadKey| self.known.get(key).map(|known| (*known.workload).clone());
        changed.into_iter().map(|key| (key.clone(), now(&key))).collect()
    }

    pub fn workloads(&self) -> Vec<Workload> {
        self.known.values().map(|r| (*r.workload).clone()).collect()
    }

    pub fn status(&mut self) -> Arc<Vec<WorkloadStatus>> {
        let of = |r: &Registration| WorkloadStatus {
            workload: (*r.workload).clone(),
            connected: r.stream.is_some(),
            registered_at: r.registered_at,
        };
        let made = || Arc::new(self.known.values().map(of).collect());
        self.status.get_or_insert_with(made).clone()
    }

    /// Has what is registered written, if it has changed: by a thread of its own, so that nothing waits for the disk.
    /// Dropping this writes what is still waiting. A failure is told once, and writing is tried again.
    pub fn persist(&mut self, log: fn(&str)) {
        if self.writer.as_ref().is_some_and(|writer| writer.is_slow(SLOW)) {
            let file = self.file.display();
            log(&format!(
                "the registered workloads have not been written to {file} for {} s: the disk does not answer; everything \
                 else goes on",
                SLOW.as_secs()
            ));
        }
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if self.writer.is_none() {
            let file = self.file.clone();
            let failed = move |error: &io::Error| {
                let file = file.display();
                log(&format!("cannot keep the registered workloads in {file}: {error}; going on without"));
            };
            match NewestFile::start(self.file.clone(), failed) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => log(&format!("cannot start the thread that keeps workloads: {error}")),
            }
        }
        let known: Vec<(Arc<Workload>, u64)> =
            self.known.values().map(|r| (r.workload.clone(), r.registered_at)).collect();
        let content = move || {
            let keep = |(workload, registered_at): &'_ (Arc<Workload>, u64)| {
                serde_json::to_value(Keep { workload, registered_at: *registered_at })
            };
            let entries: Result<Vec<_>, _> = known.iter().map(keep).collect();
            Ok(serde_json::to_vec(&entries?)?)
        };
        if let Some(writer) = &self.writer {
            writer.put(content);
        }
    }

    fn remove_where(&mut self, gone: impl Fn(&Registration) -> bool) -> usize {
        let removed: Vec<WorkloadKey> =
            self.known.extract_if(.., |_, registration| gone(registration)).map(|(key, _)| key).collect();
        for key in &removed {
            self.give_back(key.2);
        }
        if !removed.is_empty() {
            (self.dirty, self.status) = (true, None);
        }
        let count = removed.len();
        self.changed.extend(removed);
        count
    }

    /// An address is free: of those who had it and are still there, the newest has it again.
    fn give_back(&mut self, address: IpAddr) {
        let theirs = self.shadowed.iter().filter(|(key, _)| key.2 == address);
        let Some(key) = theirs.max_by_key(|(_, r)| r.stream).map(|(key, _)| key.clone()) else { return };
        if let Some(registration) = self.shadowed.remove(&key) {
            self.known.insert(key.clone(), registration);
            self.changed.insert(key);
        }
    }
}

impl Registration {
    /// Whether its sidecar runs on this machine, so that its process can be looked up.
    fn is_local(&self) -> bool {
        self.workload.address.is_loopback() && self.workload.proxy_pid.is_some()
    }

    fn process_is_gone(&self) -> bool {
        let process = self.workload.proxy_pid.filter(|_| self.workload.address.is_loopback());
        process.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    }
}

pub(crate) fn millis_now() -> u64 {
    crate::shapes::millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, address: &str) -> Workload {
        Workload {
            name: name.into(),
            namespace: "default".into(),
            service: None,
            version: None,
            labels: BTreeMap::new(),
            service_account: String::new(),
            cluster: String::new(),
            address: address.parse().unwrap(),
            ports: Vec::new(),
            pid: None,
            proxy_pid: None,
            start_time: None,
            admin: None,
            hop: false,
        }
    }

    fn names(registrations: &Registrations) -> Vec<String> {
        registrations.workloads().into_iter().map(|w| w.name).collect()
    }

    #[test]
    fn a_lost_stream_keeps_its_workload_for_a_grace_and_a_goodbye_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut all = Registrations::open(dir.path(), now, |_| {}).unwrap();
        assert!(all.connect(1, workload("a", "10.0.0.1")));
        assert!(all.connect(2, workload("b", "10.0.0.2")));
        all.disconnect(1, now);
        assert!(!all.expire(now + Duration::from_secs(9)));
        assert_eq!(names(&all), ["a", "b"]);
        assert!(!all.connect(3, workload("a", "10.0.0.1")), "coming back is no change");
        all.disconnect(1, now);
        assert!(!all.expire(now + Duration::from_secs(60)), "the old stream has no say any more");
        assert!(all.leave(2));
        assert_eq!(names(&all), ["a"]);
        all.disconnect(3, now);
        assert_eq!(all.deadline(now), Some(now + LOST));
        assert!(all.expire(now + LOST));
        assert!(names(&all).is_empty());
    }

    #[test]
    fn registrations_outlive_the_control_plane() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut all = Registrations::open(dir.path(), now, |_| {}).unwrap();
        all.connect(1, workload("a", "10.0.0.1"));
        all.connect(2, workload("gone", "10.0.0.2"));
        all.leave(2);
        all.persist(|line| panic!("{line}"));
        drop(all);
        let mut all = Registrations::open(dir.path(), now, |line| panic!("{line}")).unwrap();
        assert_eq!(names(&all), ["a"]);
        assert!(!all.status()[0].connected);
        assert!(!all.expire(now + Duration::from_secs(29)));
        assert!(!all.connect(1, workload("a", "10.0.0.1")), "the same as before the restart");
        assert!(!all.expire(now + RESTARTED));
        all.remove("default", "a");
        assert!(names(&all).is_empty());
    }

    #[test]
    fn a_local_sidecar_that_died_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut all = Registrations::open(dir.path(), now, |_| {}).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let dead = Workload { proxy_pid: Some(child.id()), ..workload("a", "127.77.0.1") };
        all.connect(1, dead);
        all.connect(2, Workload { proxy_pid: Some(std::process::id()), ..workload("b", "127.77.0.2") });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!all.expire(now), "a stream is proof of life");
        all.disconnect(1, now);
        all.disconnect(2, now);
        assert!(all.expire(now));
        assert_eq!(names(&all), ["b"]);
    }

    #[test]
    fn an_address_is_one_workloads() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Registrations::open(dir.path(), Instant::now(), |_| {}).unwrap();
        all.connect(1, workload("a", "10.0.0.1"));
        assert!(all.connect(2, workload("b", "10.0.0.1")));
        assert_eq!(names(&all), ["b"]);
    }

    /// Review A10: whoever says that an address is theirs takes it for as long as they are there, not for good.
    #[test]
    fn an_address_goes_back_to_whoever_is_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut all = Registrations::open(dir.path(), now, |_| {}).unwrap();
        all.connect(1, workload("a", "10.0.0.1"));
        all.connect(2, workload("forger", "10.0.0.1"));
        all.take_changes();
        all.disconnect(2, now);
        assert!(all.expire(now + LOST));
        assert_eq!(names(&all), ["a"]);
        assert_eq!(all.take_changes().len(), 2, "one came back and one went");
        // Of several the newest; whoever has gone meanwhile is gone.
        all.connect(3, workload("b", "10.0.0.1"));
        all.connect(4, workload("c", "10.0.0.1"));
        all.disconnect(3, now);
        assert!(all.leave(4));
        assert_eq!(names(&all), ["a"]);
        all.connect(5, workload("d", "10.0.0.1"));
        all.leave(1);
        assert!(all.leave(5));
        assert!(names(&all).is_empty());
    }

    #[test]
    fn a_broken_file_costs_only_what_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let good =
            serde_json::to_value(Keep { workload: &workload("a", "10.0.0.1"), registered_at: 1 }).unwrap();
        let text = serde_json::json!([{"workload": 7}, good]).to_string();
        fs::write(dir.path().join("workloads.json"), text).unwrap();
        assert_eq!(names(&Registrations::open(dir.path(), Instant::now(), |_| {}).unwrap()), ["a"]);
        fs::write(dir.path().join("workloads.json"), "{").unwrap();
        assert!(names(&Registrations::open(dir.path(), Instant::now(), |_| {}).unwrap()).is_empty());
    }
}
