//! One worker's share of telemetry: its metric cells, its log lines, the Istio series it has met.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::access_log::AccessLog;
use telemetry::access_log::{Format, LogSource, TimeCache};
use telemetry::istio::{IstioMetrics, RequestProtocol, RequestSeries, SeriesKey};
use telemetry::log_sink::LogBuffer;
use telemetry::{Counter, Histogram, Shard};

use crate::clock::{Clock, Time};
use crate::log_writer::LogFile;
use crate::options::Shared;

pub struct Telemetry {
    pub shard: Rc<Shard>,
    istio: IstioMetrics,
    shared: Arc<Shared>,
    clock: Clock,
    /// The instant of time zero.
    zero: Instant,
    sinks: Vec<Sink>,
    time: TimeCache,
    series: HashMap<SeriesId, Rc<RequestSeries>, BuildHasherDefault<WordHasher>>,
    /// Nearly every request is of the same series as the one before.
    last: Option<(SeriesId, Rc<RequestSeries>)>,
    dropped: Counter,
    turns: Histogram,
}

struct Sink {
    path: String,
    file: LogFile,
    buffer: LogBuffer,
}

/// An access log of a chain, compiled.
pub struct Log {
    format: Arc<Format>,
    pub filter: Option<model::access_log::AccessLogFilter>,
    sink: usize,
}

/// Who talks to whom, in numbers of this worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeriesId {
    pub chain: u32,
    /// The client, by [`crate::peer::Peer::number`]; 0 for unknown.
    pub peer: u64,
    /// Whom it has proved to be ([`crate::net::layer::Identity::number`]); 0 for nobody.
    pub principal: u64,
    /// The host, or else the cluster.
    pub destination: u64,
    /// A hash of the Host header where the service's name falls back to it, else 0.
    pub fallback: u64,
    pub grpc: bool,
}

/// More series than this are forgotten (by this cache, not by the metrics).
const MAX_SERIES: usize = 8192;

impl Telemetry {
    pub fn new(shared: &Arc<Shared>) -> Telemetry {
        let shard = Rc::new(shared.registry.shard());
        let dropped = shared.dropped_lines;
        Telemetry {
            shard,
            istio: shared.istio.clone(),
            clock: shared.clock.clone(),
            zero: shared.clock.instant(Time::default()),
            shared: shared.clone(),
            sinks: vec![],
            time: TimeCache::default(),
            series: HashMap::default(),
            last: None,
            dropped,
            turns: shared.turns.clone(),
        }
    }

    /// An access log with this worker's end of where it goes.
    pub fn log(&mut self, log: &AccessLog) -> Log {
        let path = log.sink.path();
        let sink = match self.sinks.iter().position(|sink| sink.path == path) {
            Some(sink) => sink,
            None => {
                let file = self.shared.writers.open(&log.sink);
                self.sinks.push(Sink { path: path.to_owned(), file, buffer: LogBuffer::default() });
                self.sinks.len() - 1
            }
        };
        Log { format: log.compiled.clone(), filter: log.filter.clone(), sink }
    }

    /// One line. The lines of a sink go to its thread when there are enough, or when the oldest is a second old.
    #[inline]
    pub fn line(&mut self, log: &Log, source: &impl LogSource, now: Time) {
        let now = self.instant(now);
        let time = &mut self.time;
        let Some(sink) = self.sinks.get_mut(log.sink) else { return };
        sink.buffer.line(now, |out| log.format.render(source, time, out));
        if sink.buffer.due(now) {
            sink.flush(now, &self.shard, self.dropped);
        }
    }

    /// The series of a pair of peers, made by `key` when it is met for the first time.
    #[inline]
    pub fn series(&mut self, id: SeriesId, key: impl FnOnce() -> SeriesKey) -> (&Shard, &RequestSeries) {
        let known = matches!(&self.last, Some((last, _)) if *last == id);
        if !known {
            self.find_series(id, key);
        }
        // `find_series` has set it.
        let (_, series) = self.last.get_or_insert_with(|| unreachable_series(&self.istio, id));
        (&self.shard, series)
    }

    fn find_series(&mut self, id: SeriesId, key: impl FnOnce() -> SeriesKey) {
        let protocol = if id.grpc { RequestProtocol::Grpc } else { RequestProtocol::Http };
        if self.series.len() >= MAX_SERIES {
            self.series.clear();
        }
        let istio = &self.istio;
        let series = self.series.entry(id).or_insert_with(|| Rc::new(istio.requests(&key(), protocol)));
        self.last = Some((id, series.clone()));
    }

    /// Empties the cache of series. The keys hold numbers of hosts and chains, which another configuration may give to
    /// others.
    pub fn forget_series(&mut self) {
        self.series.clear();
        self.last = None;
    }

    pub fn istio(&self) -> &IstioMetrics {
        &self.istio
    }

    fn instant(&self, time: Time) -> Instant {
        self.zero + Duration::from_nanos(time.0)
    }

    /// Counts the turn that began at `start` and ends now, by its length.
    pub fn turn_took(&self, start: Time) {
        self.shard.observe(&self.turns, self.clock.now().since(start).as_micros() as u64);
    }

    /// Hands over the lines that have waited long enough.
    #[inline]
    pub fn turn_ended(&mut self, now: Time) {
        let now = self.instant(now);
        for sink in &mut self.sinks {
            if sink.buffer.pending() > 0 && sink.buffer.due(now) {
                sink.flush(now, &self.shard, self.dropped);
            }
        }
    }

    /// When the worker must wake up to write lines, if any wait.
    pub fn flush_due(&self) -> Option<Time> {
        let due = self.sinks.iter().filter_map(|sink| sink.buffer.deadline()).min()?;
        Some(Time::default().after(due.saturating_duration_since(self.zero)))
    }

    pub fn flush(&mut self) {
        let now = self.instant(self.clock.now());
        for sink in &mut self.sinks {
            sink.flush(now, &self.shard, self.dropped);
        }
    }

    /// The last flush: lines that no sink takes now are dropped, and counted as that.
    pub fn close(&mut self) {
        self.flush();
        for sink in &mut self.sinks {
            sink.buffer.give_up();
            sink.count_dropped(&self.shard, self.dropped);
        }
    }
}

/// `series` sets `last` before it asks for it; this keeps that free of a panic.
#[cold]
fn unreachable_series(istio: &IstioMetrics, id: SeriesId) -> (SeriesId, Rc<RequestSeries>) {
    let key = SeriesKey {
        reporter: telemetry::istio::Reporter::Source,
        source: Arc::default(),
        destination: Arc::default(),
        service_host: String::new(),
        service_name: String::new(),
        mutual_tls: false,
    };
    (id, Rc::new(istio.requests(&key, RequestProtocol::Http)))
}

impl Sink {
    #[cold]
    fn flush(&mut self, now: Instant, shard: &Shard, dropped: Counter) {
        self.buffer.hand_over(now, |lines| self.file.hand_over(lines));
        self.count_dropped(shard, dropped);
    }

    fn count_dropped(&mut self, shard: &Shard, dropped: Counter) {
        let lost = self.buffer.take_dropped();
        if lost > 0 {
            shard.add(dropped, lost);
        }
    }
}

/// A hash without a secret: the keys are numbers of this process, so no client can choose keys that collide.
#[derive(Default)]
pub struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
