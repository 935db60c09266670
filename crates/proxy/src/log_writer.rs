//! The threads that write access logs: one per file. A worker hands over its lines and never waits; when a disk is slow
//! or full, lines are dropped and counted.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use model::access_log::AccessLogSink;

/// Pieces (of about 64 KiB) that may wait for a slow disk.
const QUEUE: usize = 8;

/// All log files of a process.
pub struct LogWriters {
    /// Where `/dev/stdout` leads instead: in a process whose standard output has another use.
    stdout: Option<String>,
    /// Whoever takes all lines instead of files.
    given: Option<SyncSender<Piece>>,
    open: Mutex<HashMap<String, LogFile>>,
}

/// One worker's way to a log file: a sink that does not block.
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
    pub fn new(stdout: Option<String>) -> LogWriters {
        LogWriters { stdout, given: None, open: Mutex::default() }
    }

    /// All lines of all files go to whoever holds the other end of this queue.
    pub fn given(queue: SyncSender<Piece>) -> LogWriters {
        LogWriters { stdout: None, given: Some(queue), open: Mutex::default() }
    }

    pub fn open(&self, sink: &AccessLogSink) -> LogFile {
        if let Some(queue) = &self.given {
            return LogFile { queue: queue.clone(), lost: Arc::default() };
        }
        let path = match sink {
            AccessLogSink::Stdout => "/dev/stdout",
            AccessLogSink::Stderr => "/dev/stderr",
            AccessLogSink::File(path) => path,
        };
        let path = match (&self.stdout, path) {
            (Some(instead), "/dev/stdout") => instead,
            _ => path,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(path.to_owned()).or_insert_with(|| LogFile::start(path)).clone()
    }

    /// Waits until all that was handed over has been written or given up.
    pub fn sync(&self) {
        let files: Vec<LogFile> =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for file in files {
            let (done, wait) = sync_channel(1);
            if file.queue.send(Piece::Sync(done)).is_ok() {
                let _ = wait.recv_timeout(std::time::Duration::from_secs(1));
            }
        }
    }

    /// Lines that could not be written, over all files.
    pub fn lost(&self) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|file| file.lost.load(Relaxed)).sum()
    }
}

impl LogFile {
    fn start(path: &str) -> LogFile {
        let (queue, pieces) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let (path, counter) = (path.to_owned(), lost.clone());
        let started =
            std::thread::Builder::new().name("access-log".into()).stack_size(64 * 1024).spawn(move || {
                let mut target = Target { path, file: None, complained: false };
                for piece in pieces {
                    match piece {
                        Piece::Lines(lines) => {
                            if let Err(error) = target.write(&lines) {
                                counter.fetch_add(
                                    lines.iter().filter(|byte| **byte == b'\n').count() as u64,
                                    Relaxed,
                                );
                                target.complain(&error);
                            }
                        }
                        Piece::Sync(done) => {
                            let _ = done.send(());
                        }
                    }
                }
            });
        if let Err(error) = started {
            eprintln!("filamesh: no thread for the access log: {error}");
        }
        LogFile { queue, lost }
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Piece::Lines(lines.to_vec())) {
            Ok(()) => Ok(lines.len()),
            Err(TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file itself, opened when the first line comes and again after an error.
struct Target {
    path: String,
    file: Option<std::fs::File>,
    complained: bool,
}

impl Target {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.path.as_str() {
            "/dev/stdout" => io::stdout().lock().write_all(lines).and_then(|()| io::stdout().flush()),
            "/dev/stderr" => io::stderr().lock().write_all(lines),
            path => {
                if self.file.is_none() {
                    self.file = Some(std::fs::OpenOptions::new().append(true).create(true).open(path)?);
                }
                let Some(file) = &mut self.file else { return Ok(()) };
                let written = file.write_all(lines);
                if written.is_err() {
                    self.file = None;
                } else {
                    self.complained = false;
                }
                written
            }
        }
    }

    /// Once per run of failures.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            eprintln!("filamesh: access log {}: {error}; lines are dropped and counted", self.path);
        }
    }
}
