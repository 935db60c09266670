use std::io::ErrorKind;

use super::*;

/// Takes what its script says: a number of bytes, or an error; everything when it is at its end.
struct Scripted {
    steps: Vec<Result<usize, ErrorKind>>,
    taken: Vec<u8>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = if self.steps.is_empty() { Ok(usize::MAX) } else { self.steps.remove(0) };
        let taken = bytes.len().min(step.map_err(io::Error::from)?);
        self.taken.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_loses_lines_by_number_and_breaks_no_later_one() {
    let steps = vec![Err(ErrorKind::Interrupted), Ok(7), Err(ErrorKind::StorageFull)];
    let mut sink = Scripted { steps, taken: vec![] };
    let mut broken = false;
    let (error, gone) = write_lines(&mut sink, b"aaaa\nbbbb\ncccc\n", &mut broken).unwrap_err();
    assert_eq!((error.kind(), gone, broken), (ErrorKind::StorageFull, 2, true));
    write_lines(&mut sink, b"dddd\n", &mut broken).unwrap();
    assert_eq!(sink.taken, b"aaaa\nbb\ndddd\n");
    assert!(!broken);
}

#[test]
fn a_thread_that_stands_still_gives_lines_back_uncopied() {
    let (queue, pieces) = sync_channel(QUEUE);
    let file = LogFile { queue, lost: Arc::default() };
    for _ in 0..QUEUE {
        assert!(matches!(file.hand_over(b"line\n".to_vec()), Handover::Taken));
    }
    let lines = b"one too many\n".to_vec();
    let place = lines.as_ptr();
    match file.hand_over(lines) {
        Handover::Full(back) => assert_eq!((back.as_ptr(), back.len()), (place, 13)),
        other => panic!("{other:?}"),
    }
    drop(pieces);
    assert!(matches!(file.hand_over(b"line\n".to_vec()), Handover::Gone(_)));
}

/// A process told to end must end, though nobody reads its log.
#[test]
fn a_thread_that_stands_still_does_not_keep_the_process() {
    let (queue, pieces) = sync_channel(QUEUE);
    let file = LogFile { queue, lost: Arc::default() };
    while let Handover::Taken = file.hand_over(b"line\n".to_vec()) {}
    let open = Mutex::new(HashMap::from([("/dev/stdout".to_owned(), file)]));
    let writers = LogWriters { stdout: None, given: None, teller: Teller::default(), open };
    let (synced, done) = sync_channel(1);
    std::thread::spawn(move || {
        writers.sync();
        let _ = synced.send(());
    });
    assert!(done.recv_timeout(Duration::from_secs(20)).is_ok());
    assert_eq!(pieces.try_iter().count(), QUEUE);
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_the_file_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later/access.log");
    let writers = LogWriters::new(None, Teller::default());
    let file = writers.open(&AccessLogSink::File(path.to_str().unwrap().into()));
    assert!(matches!(file.hand_over(b"one\ntwo\n".to_vec()), Handover::Taken));
    writers.sync();
    assert_eq!(writers.lost(), 2);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    assert!(matches!(file.hand_over(b"three\n".to_vec()), Handover::Taken));
    writers.sync();
    assert_eq!((std::fs::read(&path).unwrap().as_slice(), writers.lost()), (&b"three\n"[..], 2));
}

#[test]
fn standard_output_can_be_lead_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out").to_str().unwrap().to_owned();
    let writers = LogWriters::new(Some(path.clone()), Teller::default());
    let file = writers.open(&AccessLogSink::Stdout);
    assert!(matches!(file.hand_over(b"here\n".to_vec()), Handover::Taken));
    writers.sync();
    assert_eq!(std::fs::read(path).unwrap(), b"here\n");
}
