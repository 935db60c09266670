//! A disk in memory that fills up, and that loses at a power failure what was not flushed.

use super::*;

/// What survives a power failure, and what the process sees.
#[derive(Debug, Default)]
pub(super) struct Platter {
    durable: Vec<u8>,
    seen: Vec<u8>,
    /// Writes since the last flush, any part of which may have reached the disk.
    unflushed: Vec<(usize, Vec<u8>)>,
    /// Operations until the disk is full; from then on the power may be lost as well.
    pub(super) left: Option<u64>,
}

/// A disk that does not answer: flushing waits until it is let go.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: Mutex<bool>,
    changed: std::sync::Condvar,
    waiting: Mutex<u32>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Disk(pub(super) Arc<Mutex<Platter>>, Arc<Gate>);

impl Platter {
    /// Counts an operation that changes the disk.
    fn operation(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk {
    /// The machine comes back: of what was not flushed, each write is there or not as `kept` says.
    pub(super) fn power_failure(&self, mut kept: impl FnMut() -> bool) {
        let mut platter = self.0.lock().unwrap();
        let writes = std::mem::take(&mut platter.unflushed);
        for (at, bytes) in writes {
            if kept() {
                put(&mut platter.durable, at, &bytes);
            }
        }
        platter.seen = platter.durable.clone();
        platter.left = None;
    }

    pub(super) fn opener(&self) -> Box<dyn Fn(bool) -> Result<Option<Database>, DatabaseError> + Send> {
        let disk = self.clone();
        Box::new(move |create| {
            let empty = disk.0.lock().unwrap().seen.is_empty();
            if empty && !create {
                return Ok(None);
            }
            Database::builder().set_cache_size(1 << 20).create_with_backend(disk.clone()).map(Some)
        })
    }

    pub(super) fn store(&self) -> Result<Store, AppliedError> {
        Store::over(PathBuf::from("memory"), Limits { revisions: 4, bytes: 1 << 20 }, self.opener())
    }
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        *self.waiting.lock().unwrap() += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(closed, |closed| *closed).unwrap());
        *self.waiting.lock().unwrap() -= 1;
    }

    /// Returns when somebody waits for the disk.
    fn met(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.changed.wait_while(closed, |_| *self.waiting.lock().unwrap() == 0).unwrap());
    }
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let platter = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        match platter.seen.get(start..start + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        let len = usize::try_from(len).unwrap();
        platter.seen.resize(len, 0);
        // The length is journaled by the file system: it is there at once.
        platter.durable.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.1.pass();
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        platter.durable = platter.seen.clone();
        platter.unflushed.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        let at = usize::try_from(offset).unwrap();
        put(&mut platter.seen, at, data);
        platter.unflushed.push((at, data.to_vec()));
        Ok(())
    }
}

/// A disk that is full at any moment of a batch: nothing is changed, it is said, and the next batch finds the disk as it
/// was. A power failure at any moment: the batch is there whole or not at all, and all before it.
#[test]
fn a_batch_is_there_whole_or_not_at_all_whatever_the_disk_does() {
    let mut failed = [0; 2];
    for power in [false, true] {
        for limit in 0.. {
            let disk = Disk::default();
            let mut seed = limit + 1;
            let mut random = move || {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed % 2 == 0
            };
            let (all, readings) = source(disk.store().unwrap());
            all.first(directories(""));
            all.apply(read(&virtual_service("before", "/")), cause(), false).unwrap();
            disk.0.lock().unwrap().left = Some(limit);
            let batch: Vec<String> = (0..20).map(|n| virtual_service(&format!("n{n}"), "/")).collect();
            let done = all.apply(read(&batch.join("---\n")), cause(), false);
            let succeeded = done.is_ok();
            let handed_on = readings.lock().unwrap().len();
            assert_eq!(handed_on, if succeeded { 2 } else { 1 }, "a batch that failed changes nothing");
            if let Err(error) = done {
                failed[usize::from(power)] += 1;
                let line = error.to_string();
                assert!(line.contains("nothing was changed") && !line.contains('\n'), "{line}");
            }
            let all = if power {
                drop(all);
                disk.power_failure(&mut random);
                source(disk.store().unwrap()).0
            } else {
                disk.0.lock().unwrap().left = None;
                all
            };
            if !power {
                // There is room again: the same process goes on.
                all.apply(read(&virtual_service("after", "/")), cause(), false).unwrap();
            }
            let reading = all.first(directories(""));
            let found: Vec<String> = names(&reading).into_iter().map(|(name, _)| name).collect();
            let of_batch = found.iter().filter(|name| name.starts_with('n')).count();
            assert!(found.contains(&"before".to_owned()), "{limit}: {found:?}");
            match (succeeded, power) {
                (true, _) => assert_eq!(of_batch, 20, "what was answered is on disk"),
                (false, false) => assert_eq!(of_batch, 0, "{limit}: it was said that nothing was changed"),
                (false, true) => assert!(of_batch == 0 || of_batch == 20, "{limit}: {of_batch}"),
            }
            if succeeded {
                break;
            }
        }
    }
    assert!(failed.iter().all(|count| *count > 5), "the disk failed at many moments: {failed:?}");
}

/// While a batch waits for a slow disk, what directories say is handed on, and then the batch.
#[test]
fn a_slow_disk_holds_up_nothing_but_its_batch() {
    let disk = Disk::default();
    let (all, readings) = source(disk.store().unwrap());
    all.first(directories(""));
    all.apply(read(&virtual_service("before", "/")), cause(), false).unwrap();
    disk.1.set(true);
    std::thread::scope(|scope| {
        let batch = scope.spawn(|| all.apply(read(&virtual_service("slow", "/")), cause(), false));
        disk.1.met();
        let meanwhile = all.directories(directories(&virtual_service("file", "/")));
        let applied = all.revision_of(&id("slow"));
        let mut lines = Vec::new();
        for limit in [3600, 0, 0] {
            all.tell_slow_disk(Duration::from_secs(limit), |line| lines.push(line.to_owned()));
        }
        assert!(
            lines.len() == 1 && lines[0].contains("have not been written to memory"),
            "told once: {lines:?}"
        );
        disk.1.set(false);
        assert_eq!(names(&meanwhile).len(), 2, "the file and the one before");
        assert_eq!(applied, None);
        assert_eq!(batch.join().unwrap().unwrap().revision, Some(2));
    });
    all.tell_slow_disk(Duration::ZERO, |line| panic!("nothing is written: {line}"));
    let last = readings.lock().unwrap().pop().unwrap();
    assert_eq!(
        names(&last).into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["before", "slow", "file"]
    );
}
