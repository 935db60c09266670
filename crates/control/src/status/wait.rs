//! Waiting until a change is live on the proxies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use http::StatusCode;

use super::answer::{Answer, Query, failure, json};
use crate::push::Shared;
use crate::push::peer::Peer;
use crate::push::published::Published;
use crate::registrations::StreamId;
use crate::shapes::Live;

const DEFAULT: Duration = Duration::from_secs(10);
const AT_MOST: Duration = Duration::from_secs(600);

/// A file written before the question may not be read yet: only after this is what was wrong before still wrong.
const READ: Duration = Duration::from_millis(300);

/// What is waited for.
pub(super) enum Wanted<'q> {
    Generation(u64),
    Content { object: &'q str, hash: &'q str },
    Absent { object: &'q str },
}

/// Whether it is known, and since which generation.
enum Known {
    Since(u64),
    /// It is refused and will not come.
    Refused(u64),
    NotYet,
}

/// Whom a wait is for: the streams there were when it began, and those of the same proxies that come back. A proxy that
/// comes meanwhile is configured from the newest state before it serves anybody; were it waited for, a wait would not end
/// while proxies join.
pub(super) struct Audience {
    newest: StreamId,
    proxies: HashSet<String>,
}

impl Audience {
    pub(super) fn now(shared: &Shared) -> Self {
        let peers = shared.peers();
        let newest = peers.last().map_or(0, |peer| peer.id);
        Self { newest, proxies: peers.iter().map(|peer| peer.node.id.clone()).collect() }
    }

    fn holds(&self, peer: &Peer) -> bool {
        peer.id <= self.newest || self.proxies.contains(&peer.node.id)
    }
}

pub(super) async fn answer(query: &Query, shared: &Arc<Shared>) -> Answer {
    let wanted = match wanted(query) {
        Ok(wanted) => wanted,
        Err(reason) => return failure(StatusCode::BAD_REQUEST, reason),
    };
    let timeout =
        query.text("timeout_ms").and_then(|t| t.parse().ok()).map_or(DEFAULT, Duration::from_millis);
    let start = tokio::time::Instant::now();
    let deadline = start + timeout.min(AT_MOST);
    let readings = shared.published.load().readings;
    let audience = Audience::now(shared);
    let mut progress = shared.watch_progress();
    loop {
        progress.borrow_and_update();
        let looked = tokio::time::Instant::now();
        let published = shared.published.load_full();
        let settled = published.readings != readings || start.elapsed() >= READ;
        let (live, done) = match known(&wanted, shared, &published, settled) {
            Known::NotYet => (live(shared, &audience, &published, &wanted, published.generation), false),
            Known::Refused(generation) => (live(shared, &audience, &published, &wanted, generation), true),
            Known::Since(generation) => {
                let live = live(shared, &audience, &published, &wanted, generation);
                let done = live.pending.is_empty();
                (live, done)
            }
        };
        if done {
            return answered(live, shared);
        }
        let until = if settled { deadline } else { deadline.min(start + READ) };
        // Every stream is looked at, and every acknowledgement is progress: looking takes a third of the time at most.
        tokio::time::sleep_until(until.min(tokio::time::Instant::now() + 2 * looked.elapsed())).await;
        // The sender lives as long as what is shared.
        let _ = tokio::time::timeout_at(until, progress.changed()).await;
        if tokio::time::Instant::now() >= deadline {
            let mut answer = answered(live, shared);
            *answer.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            return answer;
        }
    }
}

fn wanted(query: &Query) -> Result<Wanted<'_>, &'static str> {
    match (query.text("generation"), query.text("object"), query.text("hash"), query.text("absent")) {
        (Some(number), None, None, None) => {
            number.parse().map(Wanted::Generation).map_err(|_| "generation is a number")
        }
        (None, Some(object), Some(hash), None) => Ok(Wanted::Content { object, hash }),
        (None, Some(object), None, Some("true")) => Ok(Wanted::Absent { object }),
        _ => Err("expected generation=N, or object=KIND/NAMESPACE/NAME with hash=HEX or absent=true"),
    }
}

fn known(wanted: &Wanted<'_>, shared: &Shared, published: &Published, settled: bool) -> Known {
    match wanted {
        Wanted::Generation(generation) if *generation <= published.generation => Known::Since(*generation),
        Wanted::Generation(_) => Known::NotYet,
        Wanted::Content { object, hash } => match shared.objects().meant(object) {
            Some(held) if !held.loaded.stale && hash_text(&held.loaded.object) == *hash => {
                Known::Since(held.since)
            }
            _ if settled && published.problems_of(object).iter().any(|p| p.is_error()) => {
                Known::Refused(published.generation)
            }
            _ => Known::NotYet,
        },
        Wanted::Absent { object } => {
            let store = shared.objects();
            // It may have gone by a change that is not published yet.
            let since = store.generation().max(published.generation);
            if store.meant(object).is_none() { Known::Since(since) } else { Known::NotYet }
        }
    }
}

/// As `objects` shows it.
fn hash_text(object: &Object) -> String {
    format!("{:016x}", object.content_hash())
}

/// With what is refused, which is asked of every stream once.
fn answered(live: Live, shared: &Shared) -> Answer {
    json(&Live { refused: shared.peers().iter().flat_map(|p| p.refused()).collect(), ..live })
}

pub(super) fn live(
    shared: &Shared,
    audience: &Audience,
    published: &Published,
    wanted: &Wanted<'_>,
    generation: u64,
) -> Live {
    let mut peers = shared.peers();
    peers.retain(|peer| audience.holds(peer));
    let newest = shared.generation();
    let pending = peers.iter().filter(|p| p.live_generation(newest) < generation);
    let pending: Vec<String> = pending.map(|p| p.node.id.clone()).collect();
    let problems = match wanted {
        Wanted::Content { object, .. } | Wanted::Absent { object } => published.problems_of(object),
        Wanted::Generation(_) => Vec::new(),
    };
    Live {
        generation,
        live: peers.len() - pending.len(),
        of: peers.len(),
        pending,
        refused: Vec::new(),
        problems: problems.into_iter().map(ToString::to_string).collect(),
    }
}
