//! Starting and stopping a proxy: its threads, its listening sockets, its configuration.
//!
//! Whoever talks to a control plane owns a [`model::Config`] and does, for every batch of resources:
//!
//! 1. `let refused = config.apply(type_url, &resources, &removed)`: what is refused becomes the NACK's text;
//! 2. `admin.applied(type_url, &resources, &removed, &refused)`, for `/config_dump` and the counts of updates;
//! 3. `let applied = handle.apply(config.snapshot())`: returns when every worker has switched, so the ACK is true;
//! 4. once `config.missing()` is empty: `admin.set_ready(true)`.
//!
//! Listeners are opened when they first appear in a snapshot; one that can not be is in [`Applied::errors`], tried again
//! with the next snapshot, and keeps nothing else from being used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Token, Waker};
use model::cluster::ClusterKind;
use model::endpoints::HostAddress;
use model::network::NetworkAction;
use model::{Listener, Snapshot};
use socket2::Socket;
use telemetry::Registry;

use crate::net::kernel::Kernel;
use crate::net::listen::{ListenError, listen, raise_file_limit};
use crate::net::network::Acceptor;
use crate::options::{Binding, ProxyOptions, Shared};
use crate::upstream::host::HostReport;
use crate::worker::mailbox::{Command, Listen, Mailbox};
use crate::worker::{WAKER, Worker};

/// How long workers may take to take over a configuration. They do so between two turns of their loops.
const SWITCH: Duration = Duration::from_secs(5);
/// How long the first health checks of new hosts may hold up a configuration.
const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// A listening queue as long as the kernel allows (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// The threads of a running proxy. Dropped, they are stopped.
pub struct Runtime {
    handle: ProxyHandle,
    threads: Vec<JoinHandle<()>>,
    drain: Duration,
}

/// The way to a running proxy from other threads.
#[derive(Clone)]
pub struct ProxyHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    bindings: HashMap<String, Vec<Binding>>,
    listen_on: Option<IpAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    snapshot: Arc<Snapshot>,
    /// Listening, by listener: the addresses it is bound to.
    listening: HashMap<Arc<str>, Vec<SocketAddr>>,
    drained: bool,
}

/// A proxy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("can not start a worker thread: {0}")]
    Thread(io::Error),
    #[error("can not start the event loop of a worker: {0}")]
    Loop(io::Error),
}

/// What came of a new configuration.
#[derive(Debug, Default)]
pub struct Applied {
    /// Listeners that could not be opened. Everything else is in use.
    pub errors: Vec<ListenError>,
    /// All workers have switched.
    pub everywhere: bool,
}

impl Runtime {
    /// Starts the workers. They serve nothing until a configuration is applied.
    pub fn start(options: ProxyOptions) -> Result<Runtime, StartError> {
        // Best effort: what is possible is possible.
        let files = raise_file_limit().unwrap_or(1024);
        let mut loops = vec![];
        let mut mailboxes = vec![];
        for _ in 0..options.workers.max(1) {
            let poll = Poll::new().map_err(StartError::Loop)?;
            let waker = Waker::new(poll.registry(), Token(WAKER as usize)).map_err(StartError::Loop)?;
            let registry = poll.registry().try_clone().map_err(StartError::Loop)?;
            let (queue, commands) = channel();
            mailboxes.push(Mailbox { queue, waker: Arc::new(waker) });
            loops.push((poll, Kernel::new(registry), commands));
        }
        // The rest of the descriptors is left to connections to hosts, of which idle clients and those of HTTP/2 need none
        // or few, and to all else.
        let max_clients = usize::try_from(files / 8 * 5).unwrap_or(usize::MAX);
        let mut shared = Shared::new(&options, mailboxes.clone(), max_clients, seed());
        shared.local_address = shared.local_address.or_else(local_address);
        let shared = Arc::new(shared);
        shared
            .resolver
            .start(move || {
                for worker in &mailboxes {
                    worker.send(Command::Resolved);
                }
            })
            .map_err(StartError::Thread)?;
        let mut threads = vec![];
        for (index, (poll, kernel, commands)) in loops.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    Worker::new(index, Box::new(kernel), commands, shared, Arc::default()).run(poll)
                })
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        let inner = Inner {
            shared,
            bindings: options.bindings,
            listen_on: options.listen_on,
            state: Mutex::default(),
        };
        Ok(Runtime { handle: ProxyHandle { inner: Arc::new(inner) }, threads, drain: options.drain })
    }

    pub fn handle(&self) -> ProxyHandle {
        self.handle.clone()
    }

    /// Takes no more connections, lets what is under way end for as long as the options say, and stops.
    pub fn stop(mut self) {
        self.handle.drain();
        let until = Instant::now() + self.drain;
        while self.handle.active() > 0 && Instant::now() < until {
            // Nothing tells when the last exchange ends; ten times a second is soon enough for a process that goes.
            std::thread::park_timeout(Duration::from_millis(100));
        }
        self.shut_down();
    }

    fn shut_down(&mut self) {
        for worker in &self.handle.inner.shared.workers {
            worker.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                (self.handle.inner.shared.log)("a worker panicked");
            }
        }
        self.handle.inner.shared.writers.sync();
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.shut_down();
        }
    }
}

/// The address by which this machine reaches others; a socket that is told its peer finds it without sending anything.
fn local_address() -> Option<IpAddr> {
    // TEST-NET-1 (RFC 5737): never an address of ours, so that the default route decides.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// From the system: random numbers need not be secret, but no two proxies should throw the same dice.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

impl ProxyHandle {
    /// Puts a configuration into use: every worker switches, then listeners are opened and closed. Waits for it, so
    /// this is for the thread that talks to the control plane, never for a worker.
    pub fn apply(&self, snapshot: Arc<Snapshot>) -> Applied {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.resolve_names(&snapshot);
        let (done, switched) = channel();
        let sent = self
            .workers()
            .iter()
            .filter(|worker| worker.send(Command::Configure(snapshot.clone(), done.clone())))
            .count();
        drop(done);
        let until = Instant::now() + SWITCH;
        let answers = (0..sent)
            .take_while(|_| switched.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok());
        let everywhere = answers.count() == self.workers().len();
        // Envoy warms a cluster until its hosts were checked once; one that does not answer must not stop the rest.
        self.inner.shared.first_checks.wait(FIRST_CHECKS);
        state.snapshot = snapshot.clone();
        self.show_statistics(&snapshot);
        let errors = if state.drained { vec![] } else { self.open_listeners(&mut state, &snapshot) };
        Applied { errors, everywhere }
    }

    /// A removed listener leaves the scrape, with its connection managers and TCP proxies.
    fn show_statistics(&self, snapshot: &Snapshot) {
        let listeners = || snapshot.listeners();
        let chains = || listeners().flat_map(|listener| listener.all_chains());
        self.inner.shared.envoy.show_only(
            listeners().map(|listener| listener.address.to_string()),
            chains().filter_map(|chain| match &chain.action {
                NetworkAction::Http(settings) => Some(&*settings.stat_prefix),
                _ => None,
            }),
            chains().filter_map(|chain| match &chain.action {
                NetworkAction::Tcp(settings) => Some(&*settings.stat_prefix),
                _ => None,
            }),
        );
    }

    /// Names of DNS clusters are looked up before anything depends on them.
    fn resolve_names(&self, snapshot: &Snapshot) {
        let resolver = &self.inner.shared.resolver;
        let dns = |kind| matches!(kind, ClusterKind::StrictDns | ClusterKind::LogicalDns);
        let clusters = snapshot.clusters().map(|(_, entry)| entry).filter(|entry| dns(entry.cluster.kind));
        let names = clusters.flat_map(|entry| {
            entry.endpoints.hosts.iter().filter_map(|host| match &host.address {
                HostAddress::Name(name, _) => Some((name, entry.cluster.dns.refresh)),
                _ => None,
            })
        });
        let unknown = resolver.keep(names);
        if unknown {
            // Envoy warms a DNS cluster until its first answer; a name server that does not answer must not stop the
            // rest of the configuration.
            resolver.wait_tried(Duration::from_secs(2));
        }
    }

    fn open_listeners(&self, state: &mut State, snapshot: &Snapshot) -> Vec<ListenError> {
        let mut errors = vec![];
        let wanted: HashMap<Arc<str>, &Arc<Listener>> = snapshot
            .listeners()
            .filter(|l| l.bind_to_port || self.inner.bindings.contains_key(&*l.name))
            .map(|l| (l.name.clone(), l))
            .collect();
        state.listening.retain(|name, addresses| {
            let keep = wanted.get(name).is_some_and(|listener| {
                self.inner.bindings.contains_key(&**name)
                    || self.places(listener).eq(addresses.iter().copied())
                    || listener.addresses().any(|address| address.port() == 0)
            });
            if !keep {
                for worker in self.workers() {
                    worker.send(Command::Unlisten(Some(name.clone())));
                }
            }
            keep
        });
        for (name, listener) in wanted {
            if state.listening.contains_key(&name) {
                continue;
            }
            crate::unheeded::listener(&self.inner.shared, listener);
            match self.open(listener) {
                Ok(addresses) => {
                    state.listening.insert(name, addresses);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Opens all sockets of a listener, or none.
    fn open(&self, listener: &Listener) -> Result<Vec<SocketAddr>, ListenError> {
        let name: Arc<str> = listener.name.clone();
        let backlog = listener.backlog.and_then(|backlog| i32::try_from(backlog).ok()).unwrap_or(BACKLOG);
        let mut listens: Vec<(usize, Listen)> = vec![];
        let mut addresses = vec![];
        let workers = self.workers().len();
        let own: Vec<Binding>;
        let bindings = match self.inner.bindings.get(&*name) {
            Some(bindings) => bindings,
            None => {
                own = self.places(listener).map(Binding::Address).collect();
                &own
            }
        };
        for binding in bindings {
            let redirected = matches!(binding, Binding::Socket(_));
            // A sidecar's few long connections would land unevenly if the kernel dealt them out by hash.
            let spread = listener.reuse_port && workers > 1 && !self.inner.bindings.contains_key(&*name);
            let first = match binding {
                Binding::Socket(socket) => {
                    let copied = socket.try_clone().and_then(|socket| {
                        socket.set_nonblocking(true)?;
                        Ok(socket)
                    });
                    copied.map_err(|source| ListenError::Other {
                        listener: name.to_string(),
                        address: listener.address,
                        source,
                    })?
                }
                Binding::Address(address) => listen(&name, *address, spread, backlog)?,
            };
            let bound = first.local_addr().ok().and_then(|address| address.as_socket());
            let bound = bound.unwrap_or(listener.address);
            addresses.push(bound);
            let redirected = redirected || listener.use_original_dst || listener.original_dst_filter;
            let one = |socket: Socket| Listen {
                socket: Acceptor::Kernel(socket),
                listener: name.clone(),
                redirected,
            };
            listens.push((0, one(first)));
            if spread {
                for worker in 1..workers {
                    listens.push((worker, one(listen(&name, bound, true, backlog)?)));
                }
            }
        }
        for (worker, listen) in listens {
            if let Some(worker) = self.workers().get(worker) {
                worker.send(Command::Listen(listen));
            }
        }
        Ok(addresses)
    }

    /// Where a listener without bindings takes connections.
    fn places<'l>(&self, listener: &'l Listener) -> impl Iterator<Item = SocketAddr> + use<'l> {
        let own = self.inner.listen_on;
        listener.addresses().map(move |address| match own {
            Some(own) if address.ip().is_unspecified() => SocketAddr::new(own, address.port()),
            _ => address,
        })
    }

    fn workers(&self) -> &[Mailbox] {
        &self.inner.shared.workers
    }

    /// Where listeners take connections now, by name.
    pub fn listening(&self) -> Vec<(Arc<str>, Vec<SocketAddr>)> {
        let state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            state.listening.iter().map(|(name, addresses)| (name.clone(), addresses.clone())).collect();
        all.sort();
        all
    }

    /// The configuration in use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).snapshot.clone()
    }

    /// A line for an operator.
    pub(crate) fn log(&self, line: &str) {
        (self.inner.shared.log)(line);
    }

    pub fn registry(&self) -> &Registry {
        &self.inner.shared.registry
    }

    /// Closes the listening sockets; what is under way goes on, kept-alive connections end with their next answer.
    pub fn drain(&self) {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.drained = true;
        state.listening.clear();
        self.inner.shared.draining.store(true, Relaxed);
        for worker in self.workers() {
            worker.send(Command::Unlisten(None));
            worker.send(Command::Drain);
        }
    }

    pub fn is_draining(&self) -> bool {
        self.inner.shared.draining.load(Relaxed)
    }

    /// Exchanges and TCP sessions under way.
    pub fn active(&self) -> usize {
        self.ask(Command::Active).into_iter().sum()
    }

    /// All hosts in use, each worker's apart.
    pub fn hosts(&self) -> Vec<HostReport> {
        self.ask(Command::Report).into_iter().flatten().collect()
    }

    /// Waits until all access-log lines so far are written (or given up).
    pub fn flush_logs(&self) {
        self.ask(Command::Flush);
        self.inner.shared.writers.sync();
    }

    /// Access-log lines that a disk did not take.
    pub fn lost_log_lines(&self) -> u64 {
        self.inner.shared.writers.lost()
    }

    /// Asks every worker and collects the answers.
    fn ask<T>(&self, question: impl Fn(Sender<T>) -> Command) -> Vec<T> {
        let (answer, answers) = channel();
        let sent = self.workers().iter().filter(|worker| worker.send(question(answer.clone()))).count();
        drop(answer);
        let until = Instant::now() + SWITCH;
        (0..sent)
            .map_while(|_| answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok())
            .collect()
    }
}
