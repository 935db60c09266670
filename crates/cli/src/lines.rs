//! Lines handed to a thread that writes them, so that whoever has something to say never waits for whoever reads it: a
//! terminal that is stopped, a log on a disk that does not answer.
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many bytes wait; what comes on top is left out, and how many lines were is said in their place.
const AT_MOST: usize = 1 << 20;

/// A queue of lines.
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    left_out: u64,
    /// One is being written.
    busy: bool,
}

impl Lines {
    /// `write` gets one line after the other, each with its line feed, on a thread of its own. What it cannot write is lost.
    pub fn start(write: impl FnMut(&str) -> io::Result<()> + Send + 'static) -> io::Result<Lines> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("lines".to_owned()).spawn(move || of_thread.run(write))?;
        Ok(Lines(shared))
    }

    /// Never waits.
    pub fn push(&self, line: String) {
        let mut waiting = self.0.lock();
        if waiting.bytes + line.len() > AT_MOST {
            waiting.left_out += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, or for the limit.
    pub fn settle(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut waiting = self.0.lock();
        while waiting.busy || !waiting.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = self.0.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut write: impl FnMut(&str) -> io::Result<()>) {
        loop {
            let line = self.next();
            // Nowhere is left to say that it failed.
            let _ = write(&line);
        }
    }

    /// Waits for a line. What was left out comes after those that waited then.
    fn next(&self) -> String {
        let mut waiting = self.lock();
        waiting.busy = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.busy = true;
                return line;
            }
            let left_out = std::mem::take(&mut waiting.left_out);
            if left_out > 0 {
                waiting.busy = true;
                return format!("... {left_out} lines are left out: nobody read them\n");
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn whoever_speaks_never_waits_and_what_is_left_out_is_counted() {
        let (wrote, written) = channel();
        let (let_go, go) = channel::<()>();
        let lines = Lines::start(move |line| {
            wrote.send(line.to_owned()).unwrap();
            // A reader that reads when it is let.
            go.recv().map_err(io::Error::other)
        })
        .unwrap();
        lines.push("first\n".to_owned());
        assert_eq!(written.recv().unwrap(), "first\n");
        let long = "x".repeat(1023) + "\n";
        for _ in 0..2000 {
            lines.push(long.clone());
        }
        lines.settle(Duration::from_millis(1));
        assert!(written.try_recv().is_err(), "the first is not read yet");
        drop(let_go);
        lines.settle(Duration::from_secs(60));
        let rest: Vec<String> = written.try_iter().collect();
        assert_eq!(rest.len(), 1025, "a megabyte, and how much was left out");
        assert_eq!(rest[1024], "... 976 lines are left out: nobody read them\n");
        lines.push("last\n".to_owned());
        lines.settle(Duration::from_secs(60));
        assert_eq!(written.try_recv().unwrap(), "last\n");
    }
}
