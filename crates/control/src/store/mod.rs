//! The objects of all sources: one identity, one winner, and what changed.
//!
//! [`ObjectStore`] is owned by one thread and has no locks. It takes the [`Update`]s of the sources, decides which of
//! several objects of one identity wins, and answers with a [`Delta`]: the identities whose content is another one now.
//! Applying an update costs by the size of the update, never by the number of all objects.
//!
//! **Precedence.** The source decides first, in the order of [`SourceId`]'s variants: the file of the mesh configuration,
//! what was applied, directories in the order of their flags, Kubernetes, `configSources` in their order, registries.
//! Within a source the path decides, by its bytes, then the position in the file: the first wins. A loser stays known and
//! takes over when the winner goes.
//!
//! **How an engine uses it.** On the thread that pushes:
//!
//! ```text
//! let records = Records::open(&state_dir, log)?;
//! let files = Files::new(config_dirs).remembering(records, accept_empty).with_mesh_file(MeshFile::open(path)?);
//! let (begun, first) = Watch::begin(files, log);
//! let mut store = ObjectStore::default();
//! let delta = store.apply_all(first, 1);                     // generation 1: everything is a change from nothing
//! let watch = begun.spawn(move |updates| shared.send(Event::Updates(updates)))?;
//! // Then for each batch of events: all updates of the batch are one change and one generation.
//! let delta = store.apply_all(updates, generation + 1);
//! ```
//!
//! * [`Delta::changed`] empty: nothing behind the store has to be computed again. [`Delta::shown`]: the status pages have
//!   to be made anew (an object stands at another line, became stale, lost or won; problems came or went).
//! * [`Delta::mesh`]: [`ObjectStore::mesh_config`] is another one. Its ConfigMap is among the changes too; ConfigMaps that
//!   are not in the root namespace never count.
//! * [`Delta::told`]: problems that were not there before; log each once.
//! * While [`ObjectStore::waiting`] has something, serve nothing: proxies keep what they have. Its problem says what is
//!   waited for and was in `told`.
//! * Applied objects, an API server, a registry send [`Update`]s of their own [`SourceId`]; nothing else is needed.
//!   [`ObjectStore::expect`] makes a source count as not read until its first update.
//! * The objects behind the store keep their places (lines) of when they last changed: for messages take the object of
//!   [`ObjectStore::get`], whose places are those of now.
//!
//! | module | what |
//! |---|---|
//! | `apply` | an update taken in |
//! | `delta` | what it changed |
//! | `query` | what the status pages ask |
//! | `problems` | what is wrong, and what is not acted on |

mod apply;
mod delta;
mod problems;
mod query;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{ObjectId, Problem};

#[cfg(doc)]
use crate::source::Update;
use crate::source::{Loaded, Slot, SourceId, Standing};

pub use delta::{Change, Delta};
pub use query::{Held, Loser};

/// Istio's, unless the file of the mesh configuration says another.
const ROOT_NAMESPACE: &str = "istio-system";

/// The objects of all sources.
#[derive(Debug, Default)]
pub struct ObjectStore {
    objects: BTreeMap<Arc<ObjectId>, Entry>,
    sources: BTreeMap<SourceId, Source>,
    /// Identities with losers.
    contested: BTreeSet<Arc<ObjectId>>,
    /// Identities whose winner is a last good version.
    stale: BTreeSet<Arc<ObjectId>>,
    /// Identities whose winner is a ConfigMap with a mesh configuration.
    mesh: BTreeSet<Arc<ObjectId>>,
    /// By API version and kind: the winners of kinds nothing acts on.
    unsupported: BTreeMap<(String, String), BTreeSet<Arc<ObjectId>>>,
    /// Of the newest change of any of them.
    generation: u64,
}

/// One identity: all objects that have it.
#[derive(Debug)]
struct Entry {
    /// By precedence, the winner first; never empty but while an update is applied.
    candidates: Vec<Candidate>,
    /// The generation since which the winner says what it says.
    since: u64,
}

#[derive(Debug, Clone)]
struct Candidate {
    source: SourceId,
    slot: Slot,
    loaded: Loaded,
}

#[derive(Debug)]
struct Source {
    standing: Standing,
    /// By the name of the file, or other part of the source, they are about.
    problems: BTreeMap<Arc<str>, Vec<Problem>>,
}

impl Default for Source {
    fn default() -> Self {
        Self { standing: Standing::Unread, problems: BTreeMap::new() }
    }
}

impl ObjectStore {
    /// A source that is configured, and will have its say: until then it counts as not read.
    pub fn expect(&mut self, source: SourceId) {
        self.sources.entry(source).or_default();
    }
}
