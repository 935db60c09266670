//! The threads that write access logs: one per file. A worker hands over its lines and never waits; when a disk is slow
//! or full, lines are dropped and counted.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::access_log::AccessLogSink;
use telemetry::log_sink::{Handover, count};
use telemetry::{Counter, Registry};

/// Pieces (of about 64 KiB) that may wait for a slow disk.
const QUEUE: usize = 8;

/// A process that ends waits so long for the last lines of a file.
const SYNC_LIMIT: Duration = Duration::from_secs(1);
const SYNC_RETRY: Duration = Duration::from_millis(5);

/// All log files of a process.
pub struct LogWriters {
    /// Where `/dev/stdout` leads instead: in a process whose standard output has another use.
    stdout: Option<String>,
    /// Whoever takes all lines instead of files.
    given: Option<SyncSender<Piece>>,
    teller: Teller,
    open: Mutex<HashMap<String, LogFile>>,
}

/// Whom the threads tell of what could not be written.
#[derive(Clone)]
pub struct Teller {
    /// Takes a line for an operator.
    pub log: fn(&str),
    /// Where lost lines are counted.
    pub dropped: Option<(Registry, Counter)>,
}

impl Default for Teller {
    fn default() -> Teller {
        Teller { log: |_| {}, dropped: None }
    }
}

/// One worker's way to a log file: a queue to the thread that writes.
#[derive(Clone)]
pub struct LogFile {
    queue: SyncSender<Piece>,
    lost: Arc<AtomicU64>,
}

pub enum Piece {
    Lines(Vec<u8>),
    /// Everything before has been tried when this is answered.
    Sync(SyncSender<()>),
}

impl LogWriters {
    pub fn new(stdout: Option<String>, teller: Teller) -> LogWriters {
        LogWriters { stdout, given: None, teller, open: Mutex::default() }
    }

    /// All lines of all files go to whoever holds the other end of this queue.
    pub fn given(queue: SyncSender<Piece>) -> LogWriters {
        LogWriters { stdout: None, given: Some(queue), teller: Teller::default(), open: Mutex::default() }
    }

    pub fn open(&self, sink: &AccessLogSink) -> LogFile {
        if let Some(queue) = &self.given {
            return LogFile { queue: queue.clone(), lost: Arc::default() };
        }
        let path = match (&self.stdout, sink) {
            (Some(instead), AccessLogSink::Stdout) => instead,
            _ => sink.path(),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(path.to_owned()).or_insert_with(|| LogFile::start(path, self.teller.clone())).clone()
    }

    /// Waits until all that was handed over has been written or given up; no longer than [`SYNC_LIMIT`] for a file whose
    /// thread is stuck (nobody reads the pipe), its queue full or not.
    pub fn sync(&self) {
        let files: Vec<LogFile> =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for file in files {
            let until = Instant::now() + SYNC_LIMIT;
            let (done, wait) = sync_channel(1);
            let mut piece = Piece::Sync(done);
            while let Err(TrySendError::Full(back)) = file.queue.try_send(piece) {
                if Instant::now() >= until {
                    break;
                }
                piece = back;
                std::thread::sleep(SYNC_RETRY);
            }
            // At once when the piece is not in the queue: its sender is gone.
            let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Lines that could not be written, over all files.
    pub fn lost(&self) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|file| file.lost.load(Relaxed)).sum()
    }
}

impl LogFile {
    fn start(path: &str, teller: Teller) -> LogFile {
        let log = teller.log;
        let (queue, pieces) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let (target, counter) = (Target::new(path, teller), lost.clone());
        let started = std::thread::Builder::new()
            .name("access-log".into())
            .stack_size(64 * 1024)
            .spawn(move || target.write_all_of(pieces, &counter));
        if let Err(error) = started {
            log(&format!("no thread for the access log: {error}"));
        }
        LogFile { queue, lost }
    }

    /// Gives lines to the thread that writes; never waits for it, and copies nothing.
    pub fn hand_over(&self, lines: Vec<u8>) -> Handover {
        match self.queue.try_send(Piece::Lines(lines)) {
            Ok(()) => Handover::Taken,
            Err(TrySendError::Full(Piece::Lines(lines))) => Handover::Full(lines),
            Err(TrySendError::Disconnected(Piece::Lines(lines))) => Handover::Gone(lines),
            // What comes back is what was given: lines.
            Err(TrySendError::Full(Piece::Sync(_)) | TrySendError::Disconnected(Piece::Sync(_))) => {
                Handover::Taken
            }
        }
    }
}

/// The file itself, opened when the first line comes and again after an error.
struct Target {
    path: String,
    file: Option<std::fs::File>,
    /// The last write failed within a line: the next one begins with a line feed.
    broken_line: bool,
    /// The present run of failures has been told.
    complained: bool,
    teller: Teller,
}

impl Target {
    fn new(path: &str, teller: Teller) -> Target {
        Target { path: path.to_owned(), file: None, broken_line: false, complained: false, teller }
    }

    /// The life of the thread: until no worker is left.
    fn write_all_of(mut self, pieces: Receiver<Piece>, lost: &AtomicU64) {
        let dropped = self.teller.dropped.take().map(|(registry, dropped)| (registry.shard(), dropped));
        for piece in pieces {
            match piece {
                Piece::Lines(lines) => {
                    if let Err((error, gone)) = self.write(&lines) {
                        lost.fetch_add(gone, Relaxed);
                        if let Some((shard, dropped)) = &dropped {
                            shard.add(*dropped, gone);
                        }
                        self.complain(&error);
                    }
                }
                Piece::Sync(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    /// Writes all lines. After an error, the number of those that did not get out whole.
    fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, u64)> {
        let written = match self.path.as_str() {
            "/dev/stdout" => write_lines(&mut io::stdout().lock(), lines, &mut self.broken_line),
            "/dev/stderr" => write_lines(&mut io::stderr().lock(), lines, &mut self.broken_line),
            path => {
                if self.file.is_none() {
                    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
                    self.file = Some(opened.map_err(|error| (error, count(lines)))?);
                }
                let Some(file) = &mut self.file else { return Ok(()) };
                write_lines(file, lines, &mut self.broken_line)
            }
        };
        match written {
            Ok(()) => self.complained = false,
            Err(_) => self.file = None,
        }
        written
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            (self.teller.log)(&format!("access log {}: {error}; lines are dropped and counted", self.path));
        }
    }
}

/// `broken_line`: what was written before ended within a line, and whether it does now.
fn write_lines(sink: &mut impl Write, lines: &[u8], broken_line: &mut bool) -> Result<(), (io::Error, u64)> {
    let mut rest = lines;
    if *broken_line {
        sink.write_all(b"\n").map_err(|error| (error, count(rest)))?;
        *broken_line = false;
    }
    while !rest.is_empty() {
        let error = match sink.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(taken) => {
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let out = lines.len() - rest.len();
        *broken_line = lines.get(..out).is_some_and(|out| out.last().is_some_and(|byte| *byte != b'\n'));
        return Err((error, count(rest)));
    }
    sink.flush().map_err(|error| (error, 0))
}

#[cfg(test)]
mod tests;
