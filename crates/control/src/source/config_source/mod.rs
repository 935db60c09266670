//! MeshConfig's `configSources`: other control planes that this one listens to, by MCP over xDS, and directories.
//!
//! Each server is listened to by a thread of its own and has its last good state on disk: one that is lost, sends what cannot
//! be read or is away at a start keeps what it said, and costs the others nothing. The list is followed as the mesh
//! configuration changes (Istio reads it at its start, pilot/pkg/bootstrap/configcontroller.go). A directory is watched as
//! those of flags are.
//!
//! | module | what |
//! |---|---|
//! | `address` | which server or directory a `configSources` entry means, or why none |
//! | `collections` | what a server has said: responses in, deltas of objects out |
//! | `object` | one resource as an object |
//! | `kept` | the same on disk |
//! | `listener` | the thread that listens |

mod address;
mod collections;
mod kept;
mod listener;
mod object;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use api::MeshConfig;
use api::mesh_config::ConfigSource;

use super::file::whole_file;
use super::{Directories, SourceId, Standing, Update};
use address::Place;
use listener::{Listener, Prepared};

pub(crate) use collections::Collections;

/// The list that the mesh configuration has.
pub(crate) fn listed(mesh: Option<&MeshConfig>) -> Vec<ConfigSource> {
    mesh.map(|mesh| mesh.config_sources.clone()).unwrap_or_default()
}

/// All config sources, by their positions.
pub(crate) struct ConfigSources {
    state_dir: PathBuf,
    log: fn(&str),
    sources: Vec<Source>,
}

struct Source {
    position: usize,
    listed: ConfigSource,
    state: State,
}

enum State {
    /// Refused: the entry's problem says why.
    None,
    /// Watched beside those of flags, which tells what it holds.
    Directory(PathBuf),
    Prepared(Prepared),
    /// Its thread ends when it is dropped.
    Listening {
        _listener: Listener,
    },
}

/// Has these directories watched and no others; what that tells is returned or told before it returns.
type Watched<'w> = &'w mut dyn FnMut(Vec<(SourceId, PathBuf)>) -> Vec<Update>;

impl ConfigSources {
    pub(crate) fn new(state_dir: PathBuf, log: fn(&str)) -> Self {
        Self { state_dir, log, sources: Vec::new() }
    }

    /// Makes the list this one. Sources at whose position another entry stands now are given up, and new ones say what they
    /// are known to hold from before; they are listened to from [`Self::listen`] on.
    pub(crate) fn set(&mut self, list: Vec<ConfigSource>, watch: Watched<'_>, now: Instant) -> Vec<Update> {
        let mut before: Vec<Option<Source>> =
            std::mem::take(&mut self.sources).into_iter().map(Some).collect();
        let watched = directories(before.iter().flatten());
        // Given up before anything is read from disk: a listener writes its file to the end. All of them are empty before
        // any says something new, or an object that moves to another position would be in conflict with itself.
        let mut updates = Vec::new();
        for (position, known) in before.iter_mut().enumerate() {
            let listed = list.get(position);
            if known.as_ref().map(|source| &source.listed) != listed {
                *known = None;
                let told_by_itself =
                    listed.is_some_and(|listed| matches!(address::of(listed), Ok(Place::Directory(_))));
                updates.extend((!told_by_itself).then(|| Update::all(SourceId::ConfigSource(position), now)));
            }
        }
        for (position, listed) in list.into_iter().enumerate() {
            if let Some(known) = before.get_mut(position).and_then(Option::take) {
                self.sources.push(known);
                continue;
            }
            let (state, update) = self.prepare(position, &listed, now);
            updates.extend(update);
            self.sources.push(Source { position, listed, state });
        }
        let directories = directories(&self.sources);
        if directories != watched {
            updates.extend(watch(directories));
        }
        updates
    }

    /// Listens to every source that is not listened to yet.
    pub(crate) fn listen(&mut self, tell: &Tell) {
        for source in &mut self.sources {
            let prepared = match std::mem::replace(&mut source.state, State::None) {
                State::Prepared(prepared) => prepared,
                other => {
                    source.state = other;
                    continue;
                }
            };
            let address = prepared.address().clone();
            match prepared.listen(tell.clone(), self.log) {
                Ok(listener) => source.state = State::Listening { _listener: listener },
                Err(error) => {
                    (self.log)(&format!("config source {address}: its thread cannot be started: {error}"));
                }
            }
        }
    }

    /// Follows the list until nobody can change it any more.
    pub(crate) fn follow(
        mut self,
        lists: &Receiver<Vec<ConfigSource>>,
        directories: &Directories,
        tell: &Tell,
    ) {
        self.listen(tell);
        while let Ok(mut list) = lists.recv() {
            list = lists.try_iter().last().unwrap_or(list);
            let mut watch = |list| {
                directories.set(list);
                Vec::new()
            };
            let updates = self.set(list, &mut watch, Instant::now());
            if !updates.is_empty() {
                tell(updates);
            }
            self.listen(tell);
        }
    }

    /// No update: another source tells what there is.
    fn prepare(&self, position: usize, listed: &ConfigSource, now: Instant) -> (State, Option<Update>) {
        let id = SourceId::ConfigSource(position);
        let mut update = Update::all(id, now);
        let place = address::of(listed);
        let refused = match place {
            Ok(place)
                if self.sources.iter().any(|known| address::of(&known.listed).as_ref() == Ok(&place)) =>
            {
                "is listed twice; the first counts".to_owned()
            }
            Ok(Place::Directory(path)) => return (State::Directory(path), None),
            Ok(Place::Server(address)) => {
                let prepared = Prepared::read(id, address, &self.state_dir, &mut update, self.log);
                return (State::Prepared(prepared), Some(update));
            }
            Err(reason) => reason,
        };
        let part: Arc<str> = format!("configSources[{position}]").into();
        let problem = whole_file(&part, format!("{:?} {refused}", listed.address));
        update.problems.push((part, vec![problem]));
        update.standing = Some(Standing::Unread);
        (State::None, Some(update))
    }
}

fn directories<'s>(sources: impl IntoIterator<Item = &'s Source>) -> Vec<(SourceId, PathBuf)> {
    let directory = |source: &Source| match &source.state {
        State::Directory(path) => Some((SourceId::ConfigSource(source.position), path.clone())),
        _ => None,
    };
    sources.into_iter().filter_map(directory).collect()
}

/// Takes what the sources say.
pub(crate) type Tell = Arc<dyn Fn(Vec<Update>) + Send + Sync>;
