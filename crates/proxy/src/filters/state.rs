//! What the filters of one request remember: in one box, with a part for each filter that remembers something.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use model::cors::CorsField;
use model::fault::Abort;
use telemetry::{Gauge, Shard};

use crate::clock::Time;

/// What the filters of one request remember of it.
#[derive(Default)]
pub struct FilterState {
    pub(super) cors: Option<CorsAnswer>,
    pub(super) fault: Option<Injected>,
    pub(super) introduced: Introduced,
}

/// What a response to an allowed origin says, in place of what the service says.
pub(crate) struct CorsAnswer {
    pub(super) fields: Vec<(&'static str, Vec<u8>)>,
}

impl CorsAnswer {
    pub(super) fn new(fields: Vec<CorsField<'_>>) -> CorsAnswer {
        CorsAnswer { fields: fields.into_iter().map(|(name, value)| (name, value.into_owned())).collect() }
    }
}

/// A fault at work on a request: counted among the chain's, and shown, until the request is over.
pub(crate) struct Injected {
    active: Arc<AtomicU32>,
    shown: (Rc<Shard>, Gauge),
    /// When its delay is over; `None`: no delay, or none any more.
    pub(super) until: Option<Time>,
    pub(super) abort: Option<Abort>,
}

impl Injected {
    pub(super) fn new(
        active: &Arc<AtomicU32>,
        shown: (Rc<Shard>, Gauge),
        until: Option<Time>,
        abort: Option<Abort>,
    ) -> Injected {
        active.fetch_add(1, Relaxed);
        shown.0.shift(shown.1, 1);
        Injected { active: active.clone(), shown, until, abort }
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        self.active.fetch_sub(1, Relaxed);
        self.shown.0.shift(self.shown.1, -1);
    }
}

/// What a client has said of itself, and is told of us in return.
#[derive(Clone, Copy, Default)]
pub(crate) struct Introduced {
    pub(super) metadata: bool,
    pub(super) id: bool,
}
