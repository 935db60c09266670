//! Names of DNS clusters, resolved on a thread of their own and refreshed as the clusters ask.
//!
//! A failed lookup keeps the addresses known before: losing the name server must not lose the hosts.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The names looked up and what they stand for.
#[derive(Clone)]
pub struct Resolver {
    state: Arc<Inner>,
}

struct Inner {
    names: Mutex<HashMap<Arc<str>, Name>>,
    /// A new name waits, or it is time to stop.
    changed: Condvar,
    /// Changes with every changed answer.
    version: AtomicU64,
    on_change: Mutex<Option<Box<dyn Fn() + Send>>>,
}

struct Name {
    addresses: Option<Arc<[IpAddr]>>,
    tried: bool,
    refresh: Duration,
    due: Instant,
}

/// Sooner than this nothing is asked again.
const MIN_REFRESH: Duration = Duration::from_millis(500);

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
    /// Starts looking up; `on_change` is called (from the resolver's thread) when an answer has changed.
    pub fn start(&self, on_change: impl Fn() + Send + 'static) -> std::io::Result<()> {
        *self.state.on_change.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(on_change));
        let state = Arc::downgrade(&self.state);
        std::thread::Builder::new().name("dns".into()).spawn(move || {
            while let Some(inner) = state.upgrade() {
                inner.turn();
            }
        })?;
        Ok(())
    }

    /// Grows by one with every changed answer.
    pub fn version(&self) -> u64 {
        self.state.version.load(Relaxed)
    }

    /// The addresses of a name; `None` while it was never resolved. From now on it is kept fresh.
    pub fn addresses(&self, name: &Arc<str>, refresh: Duration) -> Option<Arc<[IpAddr]>> {
        let mut names = self.state.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return known.addresses.clone();
        }
        let due = Instant::now();
        names.insert(
            name.clone(),
            Name { addresses: None, tried: false, refresh: refresh.max(MIN_REFRESH), due },
        );
        self.state.changed.notify_all();
        None
    }

    /// Waits until every name asked for has been tried once. False: not within `limit`.
    pub fn wait_tried(&self, limit: Duration) -> bool {
        let names = self.state.names.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .state
            .changed
            .wait_timeout_while(names, limit, |names| names.values().any(|name| !name.tried));
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

impl Inner {
    /// Looks one due name up, or waits for one.
    fn turn(&self) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let next = names.iter().min_by_key(|(_, name)| name.due).map(|(text, name)| (text.clone(), name.due));
        let Some((text, due)) = next else {
            let _ = self.changed.wait_timeout(names, Duration::from_secs(1));
            return;
        };
        if due > now {
            let _ = self.changed.wait_timeout(names, (due - now).min(Duration::from_secs(1)));
            return;
        }
        drop(names);
        let found = (&*text, 0u16).to_socket_addrs().map(|addresses| {
            let mut addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        });
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = names.get_mut(&text) else { return };
        let mut changed = !name.tried;
        name.tried = true;
        name.due = Instant::now() + name.refresh;
        if let Ok(found) = found
            && !found.is_empty()
            && name.addresses.as_deref() != Some(&found)
        {
            name.addresses = Some(found.into());
            changed = true;
        }
        drop(names);
        if changed {
            self.version.fetch_add(1, Relaxed);
            self.changed.notify_all();
            if let Some(on_change) = &*self.on_change.lock().unwrap_or_else(PoisonError::into_inner) {
                on_change();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_resolved_and_a_change_is_told() {
        let resolver = Resolver::default();
        let (told, changes) = std::sync::mpsc::channel();
        let tell = move || {
            let _ = told.send(());
        };
        resolver.start(tell).unwrap();
        let name: Arc<str> = "localhost".into();
        assert!(resolver.addresses(&name, Duration::from_secs(60)).is_none());
        assert!(resolver.wait_tried(Duration::from_secs(10)));
        changes.recv_timeout(Duration::from_secs(10)).unwrap();
        let addresses = resolver.addresses(&name, Duration::from_secs(60)).unwrap();
        assert!(addresses.iter().all(|address| address.is_loopback()), "{addresses:?}");
    }
}
