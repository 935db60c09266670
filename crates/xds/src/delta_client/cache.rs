//! The last good configuration on disk, so that a proxy starts without a control plane.
//!
//! One file, replaced as a whole: written beside, flushed, renamed. Only what changed since the last write is
//! held in memory; the rest is carried over from the file itself. Layout, integers little-endian:
//! `magic, node id, {type, name, version, body}*, xxh3 of everything before`, each text as length and bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::types::TYPES;
use super::{Resource, Update};
use crate::Any;

/// The last byte is the version of the layout.
const MAGIC: [u8; 8] = *b"FMXDS\0\0\x01";
const CHECKSUM_BYTES: usize = 8;

/// What was read from the file.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    records: BTreeMap<Key, Record>,
}

/// Index into [`TYPES`] and the resource's name.
type Key = (u8, String);

#[derive(Debug, Clone)]
struct Record {
    version: String,
    body: Bytes,
}

/// Why the file was not used. The proxy goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot read the kept configuration {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("the kept configuration {path} is ignored: {reason}", path = path.display())]
    Corrupt { path: PathBuf, reason: &'static str },
    #[error("the kept configuration {path} is ignored: it belongs to {found}", path = path.display())]
    OtherNode { path: PathBuf, found: String },
    #[error("cannot keep the configuration in {path}: {error}; going on without", path = path.display())]
    Write { path: PathBuf, error: io::Error },
}

impl Cache {
    /// Reads the file. `Ok(None)` if there is none yet.
    pub fn load(path: &Path, node_id: &str) -> Result<Option<Self>, CacheError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CacheError::Read { path: path.to_owned(), error }),
        };
        let corrupt = |reason| CacheError::Corrupt { path: path.to_owned(), reason };
        let (found, cache) = Self::decode(bytes).map_err(corrupt)?;
        if found != node_id {
            return Err(CacheError::OtherNode { path: path.to_owned(), found });
        }
        Ok(Some(cache))
    }

    /// How many resources it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// One update for each type it holds anything of, in the order to apply them.
    pub(crate) fn into_updates(self) -> Vec<Update> {
        let mut updates: Vec<Update> = TYPES
            .iter()
            .map(|&(type_url, _)| Update { type_url, resources: Vec::new(), removed: Vec::new() })
            .collect();
        for ((index, name), record) in self.records {
            if let Some(update) = updates.get_mut(usize::from(index)) {
                let body = Any { type_url: update.type_url.to_owned(), value: record.body.to_vec() };
                update.resources.push(Resource { name, version: record.version, body });
            }
        }
        updates.retain(|u| !u.resources.is_empty());
        updates
    }

    /// The node it belongs to and what it holds.
    pub(crate) fn decode(bytes: Bytes) -> Result<(String, Self), &'static str> {
        let end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or("it is cut short")?;
        let (content, checksum) = (bytes.slice(..end), bytes.slice(end..));
        if content.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err("it is of another version or no such file");
        }
        if checksum.as_ref() != xxh3_64(&content).to_le_bytes() {
            return Err("its checksum does not match");
        }
        let mut reader = Reader { rest: content.slice(MAGIC.len()..) };
        let node_id = reader.text()?;
        let mut records = BTreeMap::new();
        while !reader.rest.is_empty() {
            let index = reader.take(1)?.first().copied().unwrap_or_default();
            let (name, version, body) = (reader.text()?, reader.text()?, reader.field()?);
            records.insert((index, name), Record { version, body });
        }
        Ok((node_id, Self { records }))
    }

    fn write_to(&self, path: &Path, node_id: &str) -> io::Result<u64> {
        let beside = path.with_extension("tmp");
        let result = self.write_beside(&beside, node_id).and_then(|checksum| {
            fs::rename(&beside, path)?;
            if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
                File::open(directory)?.sync_all()?;
            }
            Ok(checksum)
        });
        if result.is_err() {
            // Gives a full disk its space back; that it is gone already is fine.
            let _ = fs::remove_file(&beside);
        }
        result
    }

    fn write_beside(&self, beside: &Path, node_id: &str) -> io::Result<u64> {
        let mut out = Hashed { hash: Xxh3Default::new(), out: BufWriter::new(File::create(beside)?) };
        out.put(&MAGIC)?;
        out.field(node_id.as_bytes())?;
        for ((index, name), record) in &self.records {
            out.put(&[*index])?;
            out.field(name.as_bytes())?;
            out.field(record.version.as_bytes())?;
            out.field(&record.body)?;
        }
        let checksum = out.hash.digest();
        out.out.write_all(&checksum.to_le_bytes())?;
        let file = out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(checksum)
    }
}

/// What changed since the last write. `None`: removed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Nothing is collected when nothing is kept.
    pub(crate) enabled: bool,
    records: BTreeMap<Key, Option<Record>>,
}

impl Changes {
    pub fn new(enabled: bool) -> Self {
        Self { enabled, records: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, type_url: &str, name: &str, version: &str, body: Vec<u8>) {
        let record = Record { version: version.to_owned(), body: body.into() };
        self.put(type_url, name, Some(record));
    }

    pub(crate) fn removed(&mut self, type_url: &str, name: &str) {
        self.put(type_url, name, None);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Puts back what could not be written, unless something newer came meanwhile.
    pub(crate) fn restore(&mut self, older: Self) {
        for (key, record) in older.records {
            self.records.entry(key).or_insert(record);
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        Self { enabled: self.enabled, records: std::mem::take(&mut self.records) }
    }

    fn put(&mut self, type_url: &str, name: &str, record: Option<Record>) {
        let index = TYPES.iter().position(|(t, _)| *t == type_url).and_then(|i| u8::try_from(i).ok());
        if let (true, Some(index)) = (self.enabled, index) {
            self.records.insert((index, name.to_owned()), record);
        }
    }
}

/// Keeps the file up to date. Blocking: it is called off the client's task.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    node_id: String,
    /// Of the file as last written or read. `None`: there is no file of ours yet.
    checksum: Option<u64>,
}

/// How a write went.
#[derive(Debug)]
pub(crate) enum Kept {
    Written,
    /// Somebody else changed or deleted the file: what is not among the changes is lost on disk.
    Lost,
    Failed(CacheError, Changes),
}

impl Keeper {
    /// Opens the file and reads what it holds. An error leaves a keeper that starts anew.
    pub(crate) fn open(path: PathBuf, node_id: String) -> (Self, Result<Option<Cache>, CacheError>) {
        let loaded = Cache::load(&path, &node_id);
        let checksum = match &loaded {
            Ok(Some(_)) => checksum_of(&path),
            _ => None,
        };
        (Self { path, node_id, checksum }, loaded)
    }

    /// Merges the changes into the file.
    pub(crate) fn write(&mut self, changes: Changes) -> Kept {
        let mut cache = match self.checksum {
            None => Cache::default(),
            Some(checksum) => match Cache::load(&self.path, &self.node_id) {
                Ok(Some(cache)) if checksum_of(&self.path) == Some(checksum) => cache,
                _ => {
                    self.checksum = None;
                    return Kept::Lost;
                }
            },
        };
        for (key, record) in &changes.records {
            match record {
                Some(record) => cache.records.insert(key.clone(), record.clone()),
                None => cache.records.remove(key),
            };
        }
        match cache.write_to(&self.path, &self.node_id) {
            Ok(checksum) => {
                self.checksum = Some(checksum);
                Kept::Written
            }
            Err(error) => Kept::Failed(CacheError::Write { path: self.path.clone(), error }, changes),
        }
    }
}

fn checksum_of(path: &Path) -> Option<u64> {
    use std::io::{Read, Seek};
    let mut file = File::open(path).ok()?;
    file.seek(io::SeekFrom::End(-8)).ok()?;
    let mut last = [0; CHECKSUM_BYTES];
    file.read_exact(&mut last).ok()?;
    Some(u64::from_le_bytes(last))
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn take(&mut self, len: usize) -> Result<Bytes, &'static str> {
        if len > self.rest.len() {
            return Err("a record is cut short");
        }
        Ok(self.rest.split_to(len))
    }

    fn field(&mut self) -> Result<Bytes, &'static str> {
        let len = self.take(4)?;
        let len: [u8; 4] = len.as_ref().try_into().map_err(|_| "a record is cut short")?;
        self.take(usize::try_from(u32::from_le_bytes(len)).map_err(|_| "a record is too long")?)
    }

    fn text(&mut self) -> Result<String, &'static str> {
        String::from_utf8(self.field()?.into()).map_err(|_| "a name is not UTF-8")
    }
}

struct Hashed<W> {
    hash: Xxh3Default,
    out: W,
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a resource over 4 GiB"))?;
        self.put(&len.to_le_bytes())?;
        self.put(bytes)
    }
}
