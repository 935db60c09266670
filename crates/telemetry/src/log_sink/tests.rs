use super::*;

fn add(buffer: &mut LogBuffer, now: Instant, line: &str) {
    buffer.line(now, |out| out.extend_from_slice(line.as_bytes()));
}

fn taken(buffer: &mut LogBuffer, now: Instant) -> Vec<u8> {
    let mut taken = Vec::new();
    buffer.hand_over(now, |lines| {
        taken = lines;
        Handover::Taken
    });
    taken
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
    assert_eq!(taken(&mut buffer, start), b"1234\n56789\n");
    assert!(!buffer.due(start + Duration::from_secs(9)));
}

#[test]
fn a_full_sink_drops_new_lines_and_keeps_old_ones_in_order() {
    let now = Instant::now();
    let mut buffer = LogBuffer::new(4, 12, Duration::from_secs(1));
    for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n"] {
        add(&mut buffer, now, line);
    }
    assert_eq!(buffer.take_dropped(), 2);
    buffer.hand_over(now, Handover::Full);
    assert_eq!(buffer.pending(), 15);
    add(&mut buffer, now, "ffff\n");
    assert_eq!(buffer.take_dropped(), 1);
    assert_eq!(taken(&mut buffer, now), b"aaaa\nbbbb\ncccc\n");
    assert_eq!(buffer.take_dropped(), 0);
}

/// A sink that blocks must not make requests dearer: the same bytes come back (no copy), and it is
/// asked once per [`RETRY`] although every line is past the mark where it would be asked.
#[test]
fn a_full_sink_costs_no_copy_and_is_asked_seldom() {
    let start = Instant::now();
    let mut buffer = LogBuffer::default();
    let (mut asked, mut moved, mut place) = (0, 0, None);
    let lines = 20_000;
    for line in 0..lines {
        // 20 000 lines a second, 200 bytes each: the bound is met in the middle.
        let now = start + Duration::from_micros(50 * line);
        add(&mut buffer, now, &"x".repeat(199));
        if buffer.due(now) {
            asked += 1;
            buffer.hand_over(now, |lines| {
                place = Some((lines.as_ptr(), lines.len()));
                Handover::Full(lines)
            });
            moved += u64::from(place != Some((buffer.bytes.as_ptr(), buffer.bytes.len())));
        }
    }
    assert_eq!(moved, 0, "what is taken back is the buffer itself");
    assert!((90..=100).contains(&asked), "asked {asked} times in a second");
    assert!(buffer.dropped > 10_000, "{} dropped", buffer.dropped);
    // Without traffic the worker is woken once per interval, not per retry.
    let end = start + Duration::from_secs(1) + RETRY;
    assert!(buffer.deadline().is_some_and(|due| due > end + Duration::from_millis(900)));
    assert!(buffer.due(end), "the next line may try again");
    assert_eq!(taken(&mut buffer, end).len(), 1024 * 1024 + 24);
}

#[test]
fn lines_without_a_sink_are_counted_as_dropped() {
    let now = Instant::now();
    let mut buffer = LogBuffer::default();
    add(&mut buffer, now, "aaaa\n");
    add(&mut buffer, now, "bbbb\n");
    buffer.hand_over(now, Handover::Gone);
    assert_eq!((buffer.take_dropped(), buffer.pending()), (2, 0));
    assert!(buffer.deadline().is_none());
}

#[test]
fn a_burst_gives_its_memory_back() {
    let now = Instant::now();
    let mut buffer = LogBuffer::new(64, 1 << 20, Duration::from_secs(1));
    for _ in 0..10_000 {
        add(&mut buffer, now, "a line of some length, as they are\n");
    }
    assert_eq!(taken(&mut buffer, now).len(), 350_000);
    assert_eq!(buffer.bytes.capacity(), 0);
    add(&mut buffer, now, "one\n");
    assert!(buffer.bytes.capacity() <= 128);
}

#[test]
fn lines_given_up_at_the_end_are_counted_as_dropped() {
    let now = Instant::now();
    let mut buffer = LogBuffer::new(64, 1024, Duration::from_secs(1));
    for _ in 0..3 {
        buffer.line(now, |out| out.extend_from_slice(b"one\n"));
    }
    buffer.hand_over(now, Handover::Full);
    buffer.give_up();
    assert_eq!((buffer.pending(), buffer.take_dropped(), buffer.deadline()), (0, 3, None));
}
