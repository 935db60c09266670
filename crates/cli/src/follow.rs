//! A log that grows, repeated on stderr as `tail -f` does. The writer never waits for whoever reads here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::output::say;

/// How soon a line is seen. A look costs one `stat`.
const EVERY: Duration = Duration::from_millis(200);
/// Of what came between two looks, no more than this is repeated.
const AT_ONCE: u64 = 1 << 20;

/// How long a log is now; 0 if there is none.
pub fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Repeats the file's lines from a place on, from a thread of its own.
pub fn follow(path: PathBuf, from: u64) {
    std::thread::spawn(move || {
        let mut tail = Tail { read: from, begun: Vec::new() };
        loop {
            tail.look(&path).iter().for_each(say);
            std::thread::sleep(EVERY);
        }
    });
}

/// How far a file was read.
#[derive(Default)]
struct Tail {
    read: u64,
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
}

impl Tail {
    /// The lines that were finished since the last look. A file that cannot be read has none for now.
    fn look(&mut self, path: &Path) -> Vec<String> {
        let Ok(length) = path.metadata().map(|metadata| metadata.len()) else { return Vec::new() };
        if length < self.read {
            // It was cut off: what is there is new.
            (self.read, self.begun) = (0, Vec::new());
        }
        if length == self.read {
            return Vec::new();
        }
        let mut skipped = None;
        if length - self.read > AT_ONCE {
            self.begun.clear();
            skipped = Some(format!("... more in {}", path.display()));
            self.read = length - AT_ONCE;
        }
        let mut new = Vec::new();
        let read = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.take(length - self.read).read_to_end(&mut new)
        });
        let Ok(count) = read else { return Vec::new() };
        self.read += count as u64;
        self.begun.extend(new);
        let end = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.begun.drain(..end).collect();
        let lines = String::from_utf8_lossy(&lines);
        skipped.into_iter().chain(lines.lines().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_line_is_told_once_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut tail = Tail::default();
        assert!(tail.look(&path).is_empty(), "there is no file yet");
        let mut file = File::create(&path).unwrap();
        file.write_all("one\ntwo: 评".as_bytes()).unwrap();
        assert_eq!(tail.look(&path), ["one"]);
        assert!(tail.look(&path).is_empty());
        file.write_all("论\nthree\n".as_bytes()).unwrap();
        assert_eq!(tail.look(&path), ["two: 评论", "three"]);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(tail.look(&path), ["new"], "a file that was cut off begins anew");
        let long = "x".repeat(99) + "\n";
        std::fs::write(&path, long.repeat(20_000)).unwrap();
        let lines = tail.look(&path);
        assert!(lines.len() < 12_000 && lines[0].starts_with("... more in"), "{}", lines.len());
    }
}
