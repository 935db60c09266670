//! Names of DNS clusters, resolved beside the workers and refreshed as the clusters ask.
//!
//! A failed lookup keeps the addresses known before: losing the name server must not lose the hosts. Lookups run side by
//! side on a few threads, so that names whose server does not answer do not hold up the others.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The names looked up and what they stand for.
#[derive(Clone)]
pub struct Resolver {
    state: Arc<Inner>,
}

struct Inner {
    names: Mutex<Names>,
    /// A new name waits, an answer has come, or it is time to stop.
    changed: Condvar,
    /// Changes with every changed answer.
    version: AtomicU64,
    on_change: Mutex<Option<Box<dyn Fn() + Send>>>,
}

#[derive(Default)]
struct Names {
    known: HashMap<Arc<str>, Name>,
    /// Threads that look names up.
    threads: usize,
    /// Nobody will ask any more.
    over: bool,
}

struct Name {
    addresses: Option<Arc<[IpAddr]>>,
    tried: bool,
    /// Somebody has waited in vain for its first answer: nobody does again.
    waited: bool,
    refresh: Duration,
    due: Instant,
    /// A thread is looking it up.
    busy: bool,
    /// The version its answer last changed with.
    version: u64,
}

/// Sooner than this nothing is asked again.
const MIN_REFRESH: Duration = Duration::from_millis(500);
/// Lookups at once.
const MAX_THREADS: usize = 8;

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver {
            state: Arc::new(Inner {
                names: Mutex::default(),
                changed: Condvar::new(),
                version: AtomicU64::new(1),
                on_change: Mutex::default(),
            }),
        }
    }
}

impl Resolver {
    /// Starts looking up; `on_change` is called (from a thread of the resolver) when an answer has changed.
    pub fn start(&self, on_change: impl Fn() + Send + 'static) -> std::io::Result<()> {
        *self.state.on_change.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(on_change));
        self.state.lock().threads += 1;
        let inner = self.state.clone();
        std::thread::Builder::new()
            .name("dns".into())
            .spawn(move || while inner.look_up_next() || inner.wait() {})?;
        Ok(())
    }

    /// Grows by one with every changed answer.
    pub fn version(&self) -> u64 {
        self.state.version.load(Relaxed)
    }

    /// Changes whenever the answer to one of these names does.
    pub fn versions<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) -> u64 {
        let known = self.state.lock();
        names.filter_map(|name| known.known.get(name)).map(|name| name.version).fold(0, u64::wrapping_add)
    }

    /// From now on these names are kept fresh, and no others. True: some of them were never asked for before.
    pub fn keep<'n>(&self, names: impl Iterator<Item = (&'n Arc<str>, Duration)>) -> bool {
        let mut wanted: HashMap<&Arc<str>, Duration> = HashMap::new();
        for (name, refresh) in names {
            let sooner = wanted.entry(name).or_insert(refresh);
            *sooner = refresh.min(*sooner);
        }
        let now = Instant::now();
        let mut names = self.state.lock();
        names.known.retain(|name, _| wanted.contains_key(name));
        let mut unknown = false;
        for (name, refresh) in wanted {
            let refresh = refresh.max(MIN_REFRESH);
            match names.known.get_mut(name) {
                Some(known) => {
                    known.refresh = refresh;
                    known.due = known.due.min(now + refresh);
                    unknown |= known.addresses.is_none();
                }
                None => {
                    let (tried, waited, busy) = (false, false, false);
                    let fresh = Name { addresses: None, tried, waited, refresh, due: now, busy, version: 0 };
                    names.known.insert(name.clone(), fresh);
                    unknown = true;
                }
            }
        }
        drop(names);
        self.state.changed.notify_all();
        unknown
    }

    /// The addresses of a name; `None` while it was never resolved.
    pub fn addresses(&self, name: &Arc<str>) -> Option<Arc<[IpAddr]>> {
        self.state.lock().known.get(name)?.addresses.clone()
    }

    /// Waits until every name asked for has been tried once. False: not within `limit`. A name holds up one wait at most: a
    /// configuration comes in many parts, and each would wait for the same name server that does not answer.
    pub fn wait_tried(&self, limit: Duration) -> bool {
        let awaited = |names: &mut Names| names.known.values().any(|name| !name.tried && !name.waited);
        let waited = self.state.changed.wait_timeout_while(self.state.lock(), limit, awaited);
        let (mut names, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut all = true;
        for name in names.known.values_mut().filter(|name| !name.tried) {
            (name.waited, all) = (true, false);
        }
        all
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.state.lock().over = true;
        self.state.changed.notify_all();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a name to be due, or for a change. False: nobody asks any more.
    fn wait(&self) -> bool {
        let names = self.lock();
        if names.over {
            return false;
        }
        match names.known.values().filter(|name| !name.busy).map(|name| name.due).min() {
            Some(due) => {
                drop(self.changed.wait_timeout(names, due.saturating_duration_since(Instant::now())))
            }
            None => drop(self.changed.wait(names)),
        }
        true
    }

    /// Looks one due name up, with a helper beside it if there are more. False: none is due.
    fn look_up_next(self: &Arc<Self>) -> bool {
        let mut names = self.lock();
        let now = Instant::now();
        let mut due = names.known.iter_mut().filter(|(_, name)| !name.busy && name.due <= now);
        let Some((text, name)) = due.next() else { return false };
        name.busy = true;
        let text = text.clone();
        let more = due.next().is_some();
        if more && names.threads < MAX_THREADS {
            names.threads += 1;
            let helper = self.clone();
            let started = std::thread::Builder::new().name("dns".into()).spawn(move || {
                while helper.look_up_next() {}
                helper.lock().threads -= 1;
            });
            if started.is_err() {
                names.threads -= 1;
            }
        }
        drop(names);
        let found = (&*text, 0u16).to_socket_addrs().map(|addresses| {
            let mut addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        });
        self.answered(&text, found.unwrap_or_default());
        true
    }

    /// `found`: empty where the lookup failed.
    fn answered(&self, text: &Arc<str>, found: Vec<IpAddr>) {
        let mut names = self.lock();
        // Forgotten meanwhile?
        let Some(name) = names.known.get_mut(text) else { return };
        let mut changed = !name.tried;
        name.tried = true;
        name.busy = false;
        name.due = Instant::now() + name.refresh;
        if !found.is_empty() && name.addresses.as_deref() != Some(&found) {
            name.addresses = Some(found.into());
            changed = true;
        }
        if changed {
            name.version = self.version.fetch_add(1, Relaxed) + 1;
        }
        drop(names);
        self.changed.notify_all();
        if changed && let Some(on_change) = &*self.on_change.lock().unwrap_or_else(PoisonError::into_inner) {
            on_change();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_name_is_resolved_and_a_change_is_told() {
        let resolver = Resolver::default();
        let (told, changes) = std::sync::mpsc::channel();
        let tell = move || {
            let _ = told.send(());
        };
        resolver.start(tell).unwrap();
        let name: Arc<str> = "localhost".into();
        assert!(resolver.keep([(&name, MINUTE)].into_iter()));
        assert!(resolver.wait_tried(Duration::from_secs(10)));
        changes.recv_timeout(Duration::from_secs(10)).unwrap();
        let addresses = resolver.addresses(&name).unwrap();
        assert!(addresses.iter().all(|address| address.is_loopback()), "{addresses:?}");
        assert!(!resolver.keep([(&name, MINUTE)].into_iter()), "it is known");
    }

    /// Nobody looks up here: the name server does not answer.
    #[test]
    fn a_name_without_an_answer_holds_up_one_wait() {
        let resolver = Resolver::default();
        let [one, two] = ["one.test", "two.test"].map(Arc::<str>::from);
        let short = Duration::from_millis(50);
        let waits = |limit| {
            let began = Instant::now();
            assert!(!resolver.wait_tried(limit));
            began.elapsed()
        };
        resolver.keep([(&one, MINUTE)].into_iter());
        assert!(waits(short) >= short);
        resolver.keep([(&one, MINUTE)].into_iter());
        assert!(waits(MINUTE) < MINUTE / 2, "waited for again");
        resolver.keep([(&one, MINUTE), (&two, MINUTE)].into_iter());
        assert!(waits(short) >= short, "a new one is waited for");
        for name in [&one, &two] {
            resolver.state.answered(name, vec![]);
        }
        assert!(resolver.wait_tried(MINUTE));
    }

    #[test]
    fn names_nobody_asks_for_any_more_are_forgotten_and_a_changed_refresh_counts() {
        let resolver = Resolver::default();
        let [one, two] = ["one.test", "two.test"].map(Arc::<str>::from);
        resolver.keep([(&one, MINUTE), (&two, MINUTE), (&two, MINUTE * 2)].into_iter());
        assert_eq!(resolver.state.lock().known[&two].refresh, MINUTE, "the shorter of two");
        resolver.state.answered(&two, vec![[10, 0, 0, 1].into()]);
        let next = resolver.state.lock().known[&two].due;
        resolver.keep([(&two, MINUTE / 10)].into_iter());
        let names = resolver.state.lock();
        assert_eq!(names.known.keys().collect::<Vec<_>>(), [&two]);
        assert_eq!(names.known[&two].refresh, MINUTE / 10);
        assert!(names.known[&two].due < next, "it does not wait for the former refresh");
        assert!(names.known[&two].addresses.is_some(), "what was known of it stays");
    }

    /// One name's change is no change of the others.
    #[test]
    fn versions_are_of_the_names_asked_about() {
        let resolver = Resolver::default();
        let [one, two] = ["one.test", "two.test"].map(Arc::<str>::from);
        resolver.keep([(&one, MINUTE), (&two, MINUTE)].into_iter());
        resolver.state.answered(&one, vec![[10, 0, 0, 1].into()]);
        let (all, of_one, of_two) = (
            resolver.version(),
            resolver.versions([&one].into_iter()),
            resolver.versions([&two].into_iter()),
        );
        resolver.state.answered(&two, vec![[10, 0, 0, 2].into()]);
        assert_ne!(resolver.version(), all);
        assert_eq!(resolver.versions([&one].into_iter()), of_one);
        assert_ne!(resolver.versions([&two].into_iter()), of_two);
        // The same answer again changes nothing.
        let all = resolver.version();
        resolver.state.answered(&two, vec![[10, 0, 0, 2].into()]);
        assert_eq!(resolver.version(), all);
    }
}
