//! What a filter says: of a request, of a response's head; and which filters have something to say.

use std::rc::Rc;

use model::filter::{Filter, HttpFilter};
use telemetry::Flags;
use wire::HeaderId;

use crate::clock::Time;

/// What a filter wants done with a request.
pub(crate) enum Step {
    /// The next filter is asked, after the last the verdict of the route is acted on.
    Next,
    /// Answered here; no further filter sees the request.
    Reply(FilterReply),
    /// The same filter is asked again at this time.
    WaitUntil(Time),
}

/// A filter's own answer.
pub(crate) struct FilterReply {
    pub status: u16,
    pub body: &'static [u8],
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub flags: Flags,
    pub details: &'static str,
}

/// A change to a response's head.
pub(crate) enum Edit<'e> {
    /// One line of this name, with this value.
    Set(&'e str, &'e [u8]),
    Remove(HeaderId),
}

/// Whether a filter has anything to do with requests. The others are settings of metrics and of transports.
fn walks(filter: &Filter) -> bool {
    match filter.kind {
        HttpFilter::Fault(_) | HttpFilter::Cors | HttpFilter::GrpcWeb | HttpFilter::PeerMetadata(_) => true,
        HttpFilter::GrpcStats | HttpFilter::Alpn { .. } | HttpFilter::Stats(_) => false,
    }
}

/// The filters of a chain that walk.
pub(crate) fn of_chain(filters: &[Filter]) -> Rc<[Filter]> {
    filters.iter().filter(|filter| walks(filter)).cloned().collect()
}
