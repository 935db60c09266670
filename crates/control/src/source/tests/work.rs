//! How much is read and parsed for how much of a change.

use super::*;

fn many(count: usize, dir: &Path) {
    for i in 0..count {
        fs::write(dir.join(format!("{i:03}.yaml")), service(&format!("s{i:03}"), 80)).unwrap();
    }
}

#[test]
fn one_changed_file_reads_one_file_and_is_one_change() {
    let dir = TempDir::new().unwrap();
    many(10_000, dir.path());
    let now = Instant::now();
    let mut read = Read::first(Files::new(vec![dir.path().to_owned()]), now);
    assert_eq!((read.files.reads(), read.store.len(), read.changed().len()), (10_000, 10_000, 10_000));
    let file = dir.path().join("500.yaml");
    fs::write(&file, service("s500", 81)).unwrap();
    read.look_at(&[&file], now);
    assert_eq!((read.files.reads(), read.changed()), (10_001, vec!["s500".to_owned()]));
    assert_eq!(read.files.scans(), 1, "no other file was looked at");
    // A look at all of them reads none again.
    read.scan(now);
    assert_eq!((read.files.reads(), read.changed().len()), (10_001, 0));
    assert!(read.delta.is_none(), "nothing to say");
    fs::remove_file(&file).unwrap();
    read.look_at(&[&file], now);
    let due = read.files.due().unwrap();
    assert!(read.changed().is_empty() && due - now <= Duration::from_millis(50));
    read.look_at(&[], due);
    assert_eq!(
        (read.files.reads(), read.changed(), read.store.len()),
        (10_001, vec!["s500".to_owned()], 9_999)
    );
    assert_eq!(read.files.scans(), 2);
}

/// Content decides, not the text: places follow, and nothing behind the store hears of it.
#[test]
fn what_is_written_again_and_says_the_same_is_no_change() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, service("a", 80)).unwrap();
    let now = Instant::now();
    let mut read = Read::first(Files::new(vec![dir.path().to_owned()]), now);
    let id = read.store.iter().next().unwrap().loaded.object.identity().clone();
    fs::write(&file, format!("# a comment\n\n{}", service("a", 80))).unwrap();
    read.look_at(&[&file], now);
    assert!(read.changed().is_empty());
    assert!(read.delta.as_ref().is_some_and(|delta| delta.shown));
    assert_eq!(read.store.get(&id).unwrap().loaded.object.source.line, 3);
    // The same from another file.
    fs::rename(&file, dir.path().join("b.yaml")).unwrap();
    read.scan(now);
    read.scan(now + Duration::from_secs(1));
    assert!(read.changed().is_empty());
    assert!(read.store.get(&id).unwrap().loaded.object.source.file.ends_with("b.yaml"));
}

/// A thousand files renamed into place one by one make one read each, in as many or fewer updates.
#[test]
fn a_watched_batch_reads_each_file_once() {
    let (dir, beside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    many(1000, beside.path());
    let (sender, updates) = channel();
    let (begun, first) = Watch::begin(Files::new(vec![dir.path().to_owned()]), |_| {});
    assert_eq!(first.iter().map(|update| update.upserts.len()).sum::<usize>(), 0);
    let watch = begun.spawn(move |updates| drop(sender.send(updates))).unwrap();
    for entry in fs::read_dir(beside.path()).unwrap().flatten() {
        fs::rename(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let deadline = Instant::now() + DEADLINE;
    let mut upserts = 0;
    while upserts < 1000 {
        let left = deadline.saturating_duration_since(Instant::now());
        let batch = updates.recv_timeout(left).unwrap_or_else(|_| panic!("{upserts} of 1000 came"));
        upserts += batch.iter().map(|update| update.upserts.len()).sum::<usize>();
    }
    drop(watch);
    assert_eq!((upserts, updates.iter().flatten().count()), (1000, 0));
}

/// Time stamps of files move in ticks of the kernel: of two writes within one, the second leaves the stamp of the first. An
/// event tells of it all the same.
#[test]
fn a_second_change_with_the_same_stamp_is_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.yaml");
    let now = Instant::now();
    // A stamp is fresh for 50 ms: on a busy machine not every round is quick enough.
    let read = (0..100).any(|_| {
        let mut update = Update::part(SourceId::Directory(0), now);
        let mut file = file::SourceFile::new("a.yaml", file::Format::Documents);
        fs::write(&path, service("a", 10)).unwrap();
        let stamp = tree::stamp(&path).unwrap();
        assert!(file.refresh(&path, stamp, true, now, &mut update));
        fs::write(&path, service("a", 11)).unwrap();
        assert!(!file.refresh(&path, stamp, false, now, &mut update), "nothing tells that it has changed");
        file.refresh(&path, stamp, true, now, &mut update)
    });
    assert!(read);
}
