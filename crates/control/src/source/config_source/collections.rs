//! What a server has said: responses in, deltas of objects out. Without I/O.
//!
//! A response is all of its collection: an object that is missing in it is gone. What cannot be read takes nothing away: an
//! object that is refused keeps its last good version, and a response in which one cannot tell which objects it holds changes
//! nothing. (istiod's client drops what it cannot read, and with it the object; pkg/adsc/adsc.go, `handleMCP`.)
//!
//! The server is told by a NACK what could not be read. An object that can be read and is refused by Istio's rules is
//! acknowledged, as in istiod: its verdict is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use api::{Object, ObjectId, Problem, Severity};
use mcp::{Collection, Name, Reader, Resource};
use xds::Any;
use xds::discovery::DiscoveryResponse;

use super::object::{Read, read};
use crate::source::file::whole_file;
use crate::source::update::{Loaded, Origin, Slot, SourceId, Update, Upsert};

/// Objects that are named in one NACK.
const NAMED: usize = 10;

/// All collections of one server.
pub(crate) struct Collections {
    id: SourceId,
    /// `xds://10.0.0.7:15010`
    address: Arc<str>,
    reader: Reader,
    objects: BTreeMap<(Kind, Name), Versions>,
    /// Collections whose last response could not be read.
    unread: BTreeSet<&'static str>,
}

/// Group and kind.
type Kind = (&'static str, &'static str);

/// An object as each collection of its kind has it, the preferred API version first.
type Versions = BTreeMap<&'static Collection, Sent>;

/// An object in one collection.
struct Sent {
    /// As it was sent last.
    bytes: Arc<Any>,
    good: Option<Good>,
    problems: Vec<Problem>,
    unreadable: Option<String>,
    /// The response held another one of its name before it.
    twice: bool,
}

/// Its last good version.
#[derive(Clone)]
struct Good {
    bytes: Arc<Any>,
    object: Arc<Object>,
    version: Arc<str>,
}

/// What became of a response.
pub(crate) struct Taken {
    pub(crate) update: Update,
    /// What the server is told of what cannot be read.
    pub(crate) answer: Result<(), String>,
    /// Whether what is kept on disk is another now.
    pub(crate) changed: bool,
}

impl Collections {
    pub(crate) fn new(id: SourceId, address: Arc<str>) -> Self {
        Self { id, address, reader: Reader::default(), objects: BTreeMap::new(), unread: BTreeSet::new() }
    }

    /// How many objects are known.
    pub(crate) fn len(&self) -> usize {
        self.objects.values().filter(|versions| best(versions).is_some()).count()
    }

    /// The last good versions, a response for each collection that has any.
    pub(crate) fn last_good(&self) -> Vec<(&'static str, Vec<Arc<Any>>)> {
        let mut all: BTreeMap<&'static Collection, Vec<Arc<Any>>> = BTreeMap::new();
        for (collection, sent) in self.objects.values().flatten() {
            if let Some(good) = &sent.good {
                all.entry(collection).or_default().push(good.bytes.clone());
            }
        }
        all.into_iter().map(|(collection, resources)| (collection.type_url, resources)).collect()
    }

    /// Takes in all there is of a collection.
    pub(crate) fn take(&mut self, response: DiscoveryResponse, now: Instant) -> Taken {
        let mut update = Update::part(self.id, now);
        let Some(collection) = Collection::of(&response.type_url) else {
            let answer = Err(format!("{} was not asked for", response.type_url));
            return Taken { update, answer, changed: false };
        };
        let part: Arc<str> = format!("{} {}", self.address, collection.type_url).into();
        let named = match open(response.resources) {
            Ok(named) => named,
            Err(reason) => {
                let message = format!("a response of {} is refused: {reason}", collection.type_url);
                let problem = whole_file(&self.place(""), format!("{message}; what it said before stays"));
                update.problems.push((part, vec![problem]));
                self.unread.insert(collection.type_url);
                return Taken { update, answer: Err(reason), changed: false };
            }
        };
        if self.unread.remove(collection.type_url) {
            update.problems.push((part, Vec::new()));
        }
        let touched = self.replace(collection, named);
        for name in &touched {
            self.tell((collection.group(), collection.kind), name, &mut update);
        }
        Taken { update, answer: self.answer(collection), changed: !touched.is_empty() }
    }

    /// Makes a collection hold these and no others. Which are not as they were.
    fn replace(
        &mut self,
        collection: &'static Collection,
        mut named: BTreeMap<Name, Opened>,
    ) -> BTreeSet<Name> {
        let kind = (collection.group(), collection.kind);
        let mut touched = BTreeSet::new();
        for ((of_kind, name), versions) in &mut self.objects {
            if *of_kind == kind && !named.contains_key(name) && versions.remove(collection).is_some() {
                touched.insert(name.clone());
            }
        }
        let known = |(name, opened): &(&Name, &mut Opened)| {
            let key = (kind, (*name).clone());
            let sent = self.objects.get(&key).and_then(|versions| versions.get(collection));
            sent.is_some_and(|sent| *sent.bytes == *opened.bytes && sent.twice == opened.twice)
        };
        let same: BTreeSet<Name> = named.iter_mut().filter(known).map(|(name, _)| name.clone()).collect();
        named.retain(|name, _| !same.contains(name));
        for (name, opened) in named {
            let sent = self.sent(collection, &name, opened);
            touched.insert(name.clone());
            self.objects.entry((kind, name)).or_default().insert(collection, sent);
        }
        touched
    }

    /// One that is new or another one, with its last good version if this is none.
    fn sent(&self, collection: &'static Collection, name: &Name, opened: Opened) -> Sent {
        let Opened { bytes, resource, twice } = opened;
        let version = shown(resource.version());
        let place = self.place(&version);
        let Read { object, mut problems, unreadable } =
            read(&self.reader, &place, collection, name, &resource);
        if twice {
            let about = Some(format!("{}/{name}", collection.kind));
            let message = format!("is twice in {}; the last is used", collection.type_url);
            problems.push(Problem {
                severity: Severity::Warning,
                object: about,
                ..whole_file(&place, message)
            });
        }
        let good = match object {
            Some(object) => Some(Good { bytes: bytes.clone(), object, version: version.into() }),
            None => {
                let key = ((collection.group(), collection.kind), name.clone());
                self.objects
                    .get(&key)
                    .and_then(|versions| versions.get(collection))
                    .and_then(|s| s.good.clone())
            }
        };
        Sent { bytes, good, problems, unreadable, twice }
    }

    /// Adds what an object is now.
    fn tell(&mut self, kind: Kind, name: &Name, update: &mut Update) {
        let key = (kind, name.clone());
        let id = Arc::new(ObjectId {
            group: kind.0.to_owned(),
            kind: kind.1.to_owned(),
            namespace: name.namespace.clone(),
            name: name.name.clone(),
        });
        let versions = self.objects.get(&key);
        match versions.and_then(best) {
            Some((sent, good)) => {
                let loaded = Loaded {
                    object: good.object.clone(),
                    stale: sent.bytes != good.bytes,
                    origin: Origin::ConfigSource {
                        address: self.address.clone(),
                        version: good.version.clone(),
                    },
                };
                update.upserts.push(Upsert { slot: Slot::Only, loaded });
            }
            None => update.deletes.push((id.clone(), Slot::Only)),
        }
        let mut problems: Vec<Problem> = Vec::new();
        for problem in versions.into_iter().flatten().flat_map(|(_, sent)| &sent.problems) {
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
        }
        update.problems.push((format!("{}/{id}", id.group).into(), problems));
        if versions.is_some_and(BTreeMap::is_empty) {
            self.objects.remove(&key);
        }
    }

    /// A NACK names what cannot be read of all the collection holds.
    fn answer(&self, collection: &'static Collection) -> Result<(), String> {
        let kind = (collection.group(), collection.kind);
        let of_kind = self.objects.iter().filter(|((of_kind, _), _)| *of_kind == kind);
        let mut refused = of_kind.filter_map(|((_, name), versions)| {
            let reason = versions.get(collection)?.unreadable.as_ref()?;
            Some(format!("{name}: {reason}"))
        });
        let named: Vec<String> = refused.by_ref().take(NAMED).collect();
        match (named.is_empty(), refused.count()) {
            (true, _) => Ok(()),
            (false, 0) => Err(named.join("; ")),
            (false, more) => Err(format!("{}; and {more} more", named.join("; "))),
        }
    }

    /// What objects and problems are said to come from.
    fn place(&self, version: &str) -> String {
        match version {
            "" => format!("config source {}", self.address),
            version => format!("config source {}, version {version}", self.address),
        }
    }
}

/// The one that is used of an object that several collections have.
fn best(versions: &Versions) -> Option<(&Sent, &Good)> {
    versions.values().find_map(|sent| Some((sent, sent.good.as_ref()?)))
}

/// A version as it is shown to people, whatever its server wrote.
fn shown(version: &str) -> String {
    const LONGEST: usize = 64;
    version.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

/// A resource out of its envelope.
struct Opened {
    bytes: Arc<Any>,
    resource: Resource,
    twice: bool,
}

/// The resources by name; of two of one name the last, as in istiod.
fn open(resources: Vec<Any>) -> Result<BTreeMap<Name, Opened>, String> {
    let mut named = BTreeMap::new();
    for any in resources {
        let (name, resource) = Resource::open(&any).map_err(|error| error.to_string())?;
        let twice = named.contains_key(&name);
        named.insert(name, Opened { bytes: Arc::new(any), resource, twice });
    }
    Ok(named)
}
