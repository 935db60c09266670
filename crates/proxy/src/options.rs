//! What a proxy is told at its start, and what its workers share.

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;
use telemetry::envoy::EnvoyStats;
use telemetry::istio::{IstioMetrics, Principals};
use telemetry::{Registry, metrics};

use crate::clock::Clock;
use crate::log_writer::{LogWriters, Teller};
use crate::net::layer::Layers;
use crate::net::network::AppSockets;
use crate::peer::NodeIdentity;
use crate::upstream::breaker::Breakers;
use crate::upstream::dns::Resolver;
use crate::upstream::health::Outliers;
use crate::worker::mailbox::{Load, Mailbox};

/// How the proxy is set up, apart from its configuration.
#[derive(Clone)]
pub struct ProxyOptions {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Where listeners of these names take connections, instead of at their own address.
    pub bindings: HashMap<String, Vec<Binding>>,
    /// Listeners at a wildcard address take connections at this one instead: on a laptop every workload has its own,
    /// so that ports never collide.
    pub listen_on: Option<IpAddr>,
    /// Where access logs for `/dev/stdout` go when standard output has another use.
    pub log_stdout: Option<String>,
    /// The application's side of a sidecar.
    pub application: Option<Application>,
    /// Mesh peers are connected to from this address (on a laptop every workload has its own).
    pub source: Option<Source>,
    /// Who this proxy is, in its own metrics and to its peers.
    pub node: NodeIdentity,
    pub principals: Principals,
    /// How long a stopping proxy waits for its exchanges.
    pub drain: Duration,
    /// Bytes each worker may hold for slow readers and writers; beyond it requests are answered 503 (flag `OM`). `None`:
    /// its share of what the machine or the control group has.
    pub memory_budget: Option<usize>,
    /// What a fragment in a request's path is: stripped, unless a bootstrap says otherwise.
    pub fragment: wire::path::Fragment,
    /// What makes the layers of TLS; `None`: TLS is not spoken, and its connections are refused.
    pub layers: Option<Arc<dyn Layers>>,
    /// Called when a worker has freed much and nothing is to do: the allocator may give back to the system what it keeps.
    pub give_back: Option<fn()>,
    /// How many bytes the allocator has to hand out without asking the system; `None`: nobody knows.
    pub to_hand: Option<fn() -> usize>,
    /// Takes a line for an operator. Workers call it: it must not wait.
    pub log: fn(&str),
    pub clock: Clock,
}

impl Default for ProxyOptions {
    fn default() -> ProxyOptions {
        ProxyOptions {
            workers: 1,
            bindings: HashMap::new(),
            listen_on: None,
            log_stdout: None,
            application: None,
            source: None,
            node: NodeIdentity::default(),
            principals: Principals::default(),
            drain: Duration::from_secs(5),
            memory_budget: None,
            fragment: wire::path::Fragment::Strip,
            layers: None,
            give_back: None,
            to_hand: None,
            log: to_stderr,
            clock: Clock::system(),
        }
    }
}

/// Unlike `eprintln!`, survives that nobody takes it: standard error may be a file on a full disk, and a pipe's reader may
/// be gone.
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "filamesh: {line}");
}

/// One place where a listener takes connections.
#[derive(Clone)]
pub enum Binding {
    /// A listening socket made elsewhere (by capture, in the application's namespace). The original destination is
    /// asked of the kernel.
    Socket(Arc<Socket>),
    /// An address to listen on; connections count as destined for it.
    Address(SocketAddr),
}

/// How the workload's own application is reached.
#[derive(Clone)]
pub struct Application {
    /// The workload's own addresses: what is destined for them goes to the application.
    pub addresses: Vec<IpAddr>,
    /// Where the application listens, `127.0.0.1` in its namespace.
    pub target: IpAddr,
    /// Sockets in the application's namespace; `None`: ours.
    pub sockets: Option<AppSockets>,
}

/// Which address upstream connections come from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub address: IpAddr,
    /// Only for destinations in this network: address and prefix length.
    pub network: (IpAddr, u8),
}

impl Source {
    /// The address to bind for a connection to `to`.
    pub fn for_destination(&self, to: IpAddr) -> Option<IpAddr> {
        let (network, length) = self.network;
        let same = match (network, to) {
            (IpAddr::V4(network), IpAddr::V4(to)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
                u32::from(network) & mask == u32::from(to) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(to)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
                u128::from(network) & mask == u128::from(to) & mask
            }
            _ => false,
        };
        same.then_some(self.address)
    }
}

/// What all workers of a process share, none of it on the way of a request but counters that must be common.
pub struct Shared {
    pub fragment: wire::path::Fragment,
    pub layers: Option<Arc<dyn Layers>>,
    pub clock: Clock,
    pub seed: u64,
    pub registry: Registry,
    pub envoy: EnvoyStats,
    pub istio: IstioMetrics,
    pub writers: LogWriters,
    pub breakers: Breakers,
    pub resolver: Resolver,
    pub outliers: Outliers,
    pub application: Option<Application>,
    pub source: Option<Source>,
    /// Where requests of our own are said to come from.
    pub local_address: Option<IpAddr>,
    pub own: Arc<telemetry::istio::Peer>,
    /// What we tell our peers about us: `x-envoy-peer-metadata` and its id.
    pub introduction: Option<crate::peer::Introduction>,
    pub upstream_limits: wire::h1::Limits,
    pub workers: Vec<Mailbox>,
    /// What each of them has to do.
    pub loads: Box<[Load]>,
    /// Bytes a worker may hold for slow readers and writers.
    pub memory_budget: usize,
    pub give_back: Option<fn()>,
    pub to_hand: Option<fn() -> usize>,
    /// Takes a line for an operator.
    pub log: fn(&str),
    /// Idle connections to hosts that any worker may use.
    pub shelf: crate::upstream::shelf::Shelf,
    /// Clients' connections all workers together may hold before they take no more.
    pub max_clients: usize,
    /// Access-log lines that were dropped.
    pub dropped_lines: telemetry::Counter,
    /// How long turns of workers take.
    pub turns: telemetry::Histogram,
    /// The listeners' sockets are gone or going: answers say `connection: close`.
    pub draining: std::sync::atomic::AtomicBool,
    /// Hosts whose first health check is awaited.
    pub first_checks: Awaited,
    /// What was complained of already.
    pub warned: std::sync::Mutex<std::collections::BTreeSet<&'static str>>,
}

/// Microseconds.
const TURN_BOUNDS: [f64; 12] =
    [100.0, 250.0, 500.0, 1000.0, 2000.0, 3000.0, 5000.0, 7500.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0];

/// How much of something is still to come, for somebody who waits until nothing is.
#[derive(Default)]
pub struct Awaited {
    left: Mutex<usize>,
    none: Condvar,
}

impl Awaited {
    pub fn begin(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    pub fn end(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.none.notify_all();
        }
    }

    /// Until nothing is to come, and no longer than this.
    pub fn wait(&self, longest: Duration) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.none.wait_timeout_while(left, longest, |left| *left > 0));
    }
}

impl Shared {
    /// For workers that are told what to do by these mailboxes. All that they throw dice for follows from `seed`.
    pub fn new(options: &ProxyOptions, workers: Vec<Mailbox>, max_clients: usize, seed: u64) -> Shared {
        let registry = Registry::new(metrics::Limits::default());
        let envoy = EnvoyStats::new(&registry);
        let istio = IstioMetrics::new(&registry, options.principals);
        istio.build("proxy", env!("CARGO_PKG_VERSION"));
        let dropped_lines = registry.counter(
            "filamesh_access_log_dropped_lines_total",
            "Access-log lines dropped for a slow or full disk.",
        );
        let turns = registry.histogram(
            "filamesh_worker_turn_microseconds",
            "Turns of workers in which more than one thing happened, by how long others had to wait for their end.",
            metrics::Buckets::new(&TURN_BOUNDS, 1),
        );
        let teller = Teller { log: options.log, dropped: Some((registry.clone(), dropped_lines)) };
        let own = options.node.metadata.as_ref().map(crate::peer::labels).unwrap_or_default();
        let own_budget = || crate::worker::budget::default_budget(options.workers);
        Shared {
            fragment: options.fragment,
            layers: options.layers.clone(),
            clock: options.clock.clone(),
            seed,
            registry,
            envoy,
            istio,
            writers: LogWriters::new(options.log_stdout.clone(), teller),
            breakers: Default::default(),
            outliers: Default::default(),
            resolver: Resolver::default(),
            application: options.application.clone(),
            source: options.source,
            local_address: options.source.map(|source| source.address),
            own: Arc::new(own),
            introduction: crate::peer::Introduction::of(&options.node),
            upstream_limits: wire::h1::Limits { allow_http10: true, ..wire::h1::Limits::default() },
            loads: workers.iter().map(|_| Load::default()).collect(),
            workers,
            memory_budget: options.memory_budget.unwrap_or_else(own_budget),
            give_back: options.give_back,
            to_hand: options.to_hand,
            log: options.log,
            shelf: Default::default(),
            max_clients,
            dropped_lines,
            turns,
            draining: Default::default(),
            first_checks: Default::default(),
            warned: Default::default(),
        }
    }

    /// Says once per process what is not honoured, naming the first it was met at.
    pub fn warn_once(&self, what: &'static str, whom: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if warned.insert(what) {
            (self.log)(&format!("{whom}: {what}"));
        }
    }
}
