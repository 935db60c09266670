//! What the thread is told.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::peer::Peer;
use crate::registrations::StreamId;
use crate::source::Update;

/// What changes the state.
#[derive(Debug)]
pub(crate) enum Event {
    /// Sources say something, together one change; and which of all that was said it is.
    Updates(Vec<Update>, u64),
    Connected(Arc<Peer>, Instant),
    Disconnected(StreamId),
    Left(StreamId, Instant),
    Remove {
        namespace: String,
        name: String,
        answer: oneshot::Sender<usize>,
        since: Instant,
    },
    Stop,
}
