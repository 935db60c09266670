use super::*;

/// Takes what its script says: bytes, a block, or an error.
struct Scripted {
    steps: Vec<Step>,
    taken: Vec<u8>,
}

enum Step {
    Take(usize),
    Fail(ErrorKind),
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let step = if self.steps.is_empty() { Step::Take(usize::MAX) } else { self.steps.remove(0) };
        match step {
            Step::Take(limit) => {
                let taken = bytes.len().min(limit);
                self.taken.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
            Step::Fail(kind) => Err(kind.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn sink(steps: Vec<Step>) -> Scripted {
    Scripted { steps, taken: Vec::new() }
}

fn add(buffer: &mut LogBuffer, now: Instant, line: &str) {
    buffer.line(now, |out| out.extend_from_slice(line.as_bytes()));
}

#[test]
fn lines_are_due_by_size_or_age() {
    let start = Instant::now();
    let mut buffer = LogBuffer::new(10, 100, Duration::from_secs(1));
    assert!(!buffer.due(start + Duration::from_secs(9)) && buffer.deadline().is_none());
    add(&mut buffer, start, "1234");
    assert!(!buffer.due(start));
    assert!(buffer.due(start + Duration::from_secs(1)));
    assert_eq!(buffer.deadline(), Some(start + Duration::from_secs(1)));
    add(&mut buffer, start, "56789\n");
    assert!(buffer.due(start));
    let mut out = sink(vec![]);
    assert!(matches!(buffer.flush(&mut out, start), Flush::Done));
    assert_eq!(out.taken, b"1234\n56789\n");
    assert!(!buffer.due(start + Duration::from_secs(9)));
}

#[test]
fn a_blocked_sink_drops_new_lines_and_keeps_old_ones_whole() {
    let now = Instant::now();
    let mut buffer = LogBuffer::new(4, 12, Duration::from_secs(1));
    for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n"] {
        add(&mut buffer, now, line);
    }
    assert_eq!(buffer.take_dropped(), 2);
    let mut out = sink(vec![Step::Take(7), Step::Fail(ErrorKind::WouldBlock)]);
    assert!(matches!(buffer.flush(&mut out, now), Flush::Blocked));
    assert_eq!(buffer.pending(), 8);
    add(&mut buffer, now, "ffff\n");
    assert!(matches!(buffer.flush(&mut out, now), Flush::Done));
    assert_eq!(out.taken, b"aaaa\nbbbb\ncccc\nffff\n");
    assert_eq!(buffer.take_dropped(), 0);
}

#[test]
fn a_full_disk_loses_lines_by_number_and_breaks_no_later_one() {
    let now = Instant::now();
    let mut buffer = LogBuffer::default();
    add(&mut buffer, now, "aaaa\n");
    add(&mut buffer, now, "bbbb\n");
    let mut out = sink(vec![Step::Take(7), Step::Fail(ErrorKind::StorageFull)]);
    match buffer.flush(&mut out, now) {
        Flush::Failed { error, lines } => assert_eq!((error.kind(), lines), (ErrorKind::StorageFull, 1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(buffer.take_dropped(), 1);
    add(&mut buffer, now, "cccc\n");
    out.steps = vec![Step::Fail(ErrorKind::Interrupted)];
    // An interrupted write before the repair is simply tried again later.
    assert!(matches!(buffer.flush(&mut out, now), Flush::Blocked));
    assert!(matches!(buffer.flush(&mut out, now), Flush::Done));
    assert_eq!(out.taken, b"aaaa\nbb\ncccc\n");
}

#[test]
fn a_burst_gives_its_memory_back() {
    let now = Instant::now();
    let mut buffer = LogBuffer::new(64, 1 << 20, Duration::from_secs(1));
    for _ in 0..10_000 {
        add(&mut buffer, now, "a line of some length, as they are\n");
    }
    assert!(matches!(buffer.flush(&mut sink(vec![]), now), Flush::Done));
    assert!(buffer.bytes.capacity() <= 128);
}
