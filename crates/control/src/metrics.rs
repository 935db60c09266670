//! The control plane's own metrics, under istiod's names (istio-behaviour.md §1.7).

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::Spec;
use xds::delta_server::Kind;

use crate::lock::lock;
use crate::shapes::ObjectState;
use crate::store::{Held, ObjectStore};
use crate::verdict::Verdicts;

/// Upper bounds in seconds. istiod's begin at 0.1; ours is done by then.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 30.0];

#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    classes: AtomicU64,
    expired_nonces: AtomicU64,
    pushes: [AtomicU64; Kind::COUNT],
    pushed_resources: [AtomicU64; Kind::COUNT],
    pushed_bytes: [AtomicU64; Kind::COUNT],
    rejects: [AtomicU64; Kind::COUNT],
    /// From the moment a change was noticed to its acknowledgement, per proxy it is for.
    convergence: Mutex<Histogram>,
    world: Mutex<Histogram>,
    translation: Mutex<Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            classes: AtomicU64::new(0),
            expired_nonces: AtomicU64::new(0),
            pushes: Default::default(),
            pushed_resources: Default::default(),
            pushed_bytes: Default::default(),
            rejects: Default::default(),
            convergence: Mutex::default(),
            world: Mutex::default(),
            translation: Mutex::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn pushed(&self, kind: Kind, resources: usize, bytes: usize) {
        add(&self.pushes[kind.index()], 1);
        add(&self.pushed_resources[kind.index()], resources);
        add(&self.pushed_bytes[kind.index()], bytes);
    }

    pub(crate) fn rejected(&self, kind: Kind) {
        add(&self.rejects[kind.index()], 1);
    }

    pub(crate) fn nonce_expired(&self) {
        add(&self.expired_nonces, 1);
    }

    pub(crate) fn converged(&self, took: Duration) {
        lock(&self.convergence).record(took);
    }

    pub(crate) fn world_built(&self, took: Duration) {
        lock(&self.world).record(took);
    }

    pub(crate) fn classes_made(&self, classes: usize, took: Duration) {
        set(&self.classes, classes);
        lock(&self.translation).record(took);
    }

    /// Prometheus' text format. `connected` is the number of streams.
    pub(crate) fn text(
        &self,
        connected: usize,
        verdicts: &Verdicts,
        store: &ObjectStore,
        waits: &Waits,
    ) -> String {
        let count =
            |of: fn(&Spec) -> bool| store.iter().filter(|held| of(&held.loaded.object.spec)).count() as u64;
        let services = count(|s| matches!(s, Spec::Service(_) | Spec::ServiceEntry(_)));
        let virtual_services = count(|s| matches!(s, Spec::VirtualService(_)));
        let rejected = store.stale().count() as u64;
        let mut out = String::new();
        gauge(&mut out, "pilot_xds", "Streams of proxies.", connected as u64);
        gauge(&mut out, "pilot_services", "Services and service entries known.", services);
        gauge(&mut out, "pilot_virt_services", "Virtual services known.", virtual_services);
        let stale = "Objects whose present content is refused, their last good version being live.";
        gauge(&mut out, "pilot_total_rejected_configs", stale, rejected);
        let name = "filamesh_objects";
        head(
            &mut out,
            name,
            "Objects by what became of them; conflicted ones beside their winners.",
            "gauge",
        );
        for state in ObjectState::ALL {
            let count = match state {
                ObjectState::Live => {
                    let live = |held: &Held<'_>| verdicts.of(held.loaded.object.identity()).is_empty();
                    store.iter().filter(live).count()
                }
                _ => verdicts.count(state),
            };
            line(&mut out, format_args!("{name}{{state=\"{}\"}} {count}", state.as_str()));
        }
        gauge(&mut out, "filamesh_classes", "Classes of proxies that share resources.", read(&self.classes));
        let uptime = self.started.elapsed().as_secs();
        gauge(&mut out, "istiod_uptime_seconds", "Time since the start.", uptime);
        self.per_kind(&mut out, "pilot_xds_pushes", "Responses sent.", &self.pushes);
        self.per_kind(&mut out, "filamesh_xds_pushed_resources", "Resources sent.", &self.pushed_resources);
        self.per_kind(&mut out, "filamesh_xds_pushed_bytes", "Bytes of resources sent.", &self.pushed_bytes);
        for kind in Kind::ALL {
            let name = format!("pilot_xds_{}_reject", kind.short().to_lowercase());
            counter(&mut out, &name, "Responses refused.", read(&self.rejects[kind.index()]));
        }
        let rejects = self.rejects.iter().map(read).sum();
        counter(&mut out, "pilot_total_xds_rejects", "Responses refused.", rejects);
        let expired = read(&self.expired_nonces);
        counter(&mut out, "pilot_xds_expired_nonce", "Answers to a nonce that is not outstanding.", expired);
        waits.text(&mut out);
        let convergence = "Seconds from a change being noticed to its acknowledgement by a proxy.";
        lock(&self.convergence).text(&mut out, "pilot_proxy_convergence_time", convergence);
        lock(&self.world).text(&mut out, "pilot_pushcontext_init_seconds", "Seconds to index a new state.");
        let translation = "Seconds to make and encode the resources of a state.";
        lock(&self.translation).text(&mut out, "filamesh_translation_seconds", translation);
        out
    }

    fn per_kind(&self, out: &mut String, name: &str, help: &str, values: &[AtomicU64; Kind::COUNT]) {
        head(out, name, help, "counter");
        for (kind, value) in Kind::ALL.into_iter().zip(values) {
            line(out, format_args!("{name}{{type=\"{}\"}} {}", kind.short().to_lowercase(), read(value)));
        }
    }
}

/// How long changes have been under way, counted from the event that brought them.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// The oldest that is not part of the configuration yet.
    pub(crate) unread: Option<Instant>,
    /// The oldest of each type of resource that a proxy has neither acknowledged nor refused.
    pub(crate) unanswered: [Option<Instant>; Kind::COUNT],
}

impl Waits {
    fn text(&self, out: &mut String) {
        let age = |since: &Option<Instant>| since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let name = "filamesh_oldest_unread_change_seconds";
        head(
            out,
            name,
            "Age of the oldest change that is not part of the configuration yet; 0: none.",
            "gauge",
        );
        line(out, format_args!("{name} {}", age(&self.unread)));
        let name = "filamesh_xds_oldest_unanswered_change_seconds";
        let help = "Age of the oldest change that a proxy has neither acknowledged nor refused; 0: none.";
        head(out, name, help, "gauge");
        for (kind, since) in Kind::ALL.into_iter().zip(&self.unanswered) {
            line(out, format_args!("{name}{{type=\"{}\"}} {}", kind.short().to_lowercase(), age(since)));
        }
    }
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    fn text(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, help, "histogram");
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            line(out, format_args!("{name}_bucket{{le=\"{bound}\"}} {bucket}"));
        }
        line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {}", self.count));
        line(out, format_args!("{name}_sum {}", self.sum));
        line(out, format_args!("{name}_count {}", self.count));
    }
}

fn add(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

fn set(gauge: &AtomicU64, to: usize) {
    gauge.store(to as u64, Ordering::Relaxed);
}

fn read(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, help, "gauge");
    line(out, format_args!("{name} {value}"));
}

fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, help, "counter");
    line(out, format_args!("{name} {value}"));
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
