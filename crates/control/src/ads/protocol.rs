//! The two ADS methods: delta, and the state of the world.

use std::time::Instant;

use xds::core;
use xds::delta_server::frame::{self, DiscoveryMessage, Frame, FrameError, Requests};
use xds::delta_server::{Connection, Heard, Kind, TooManyNames};
use xds::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds::state_server::StateStream;

/// What the server calls itself in every response.
const IDENTIFIER: &str = concat!("filamesh ", env!("CARGO_PKG_VERSION"));

/// Which method a stream is of, with what it has read in part.
#[derive(Debug)]
pub(super) enum Protocol {
    Delta(Requests<DeltaDiscoveryRequest>),
    /// Boxed: most streams are delta.
    State(Requests<DiscoveryRequest>, Box<StateStream>),
}

#[derive(Debug)]
pub(super) enum Request {
    Delta(DeltaDiscoveryRequest),
    State(DiscoveryRequest),
}

/// A response as it goes out.
pub(super) struct Written {
    /// The type, if it is served, and how many resources of it.
    pub(super) kind: Option<(Kind, usize)>,
    pub(super) frame: Frame,
}

impl Request {
    pub(super) fn node(&self) -> Option<&core::Node> {
        match self {
            Self::Delta(request) => request.node(),
            Self::State(request) => request.node(),
        }
    }

    /// What it asks for by name.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Delta(request) => &request.resource_names_subscribe,
            Self::State(request) => &request.resource_names,
        }
    }

    /// The reason of a NACK.
    pub(super) fn error(&self) -> Option<&str> {
        let error = match self {
            Self::Delta(request) => &request.error_detail,
            Self::State(request) => &request.error_detail,
        };
        error.as_ref().map(|error| error.message.as_str())
    }
}

impl Protocol {
    pub(super) fn delta() -> Self {
        Self::Delta(Requests::default())
    }

    pub(super) fn state_of_the_world() -> Self {
        Self::State(Requests::default(), Box::default())
    }

    pub(super) fn is_state_of_the_world(&self) -> bool {
        matches!(self, Self::State(..))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Delta(requests) => requests.push(bytes),
            Self::State(requests, _) => requests.push(bytes),
        }
    }

    pub(super) fn take(&mut self) -> Result<Option<Request>, FrameError> {
        Ok(match self {
            Self::Delta(requests) => requests.take()?.map(Request::Delta),
            Self::State(requests, _) => requests.take()?.map(Request::State),
        })
    }

    /// See [`Requests::node`].
    pub(super) fn node(&self) -> Result<Option<core::Node>, FrameError> {
        match self {
            Self::Delta(requests) => requests.node(),
            Self::State(requests, _) => requests.node(),
        }
    }

    pub(super) fn accept(&mut self) {
        match self {
            Self::Delta(requests) => requests.accept(),
            Self::State(requests, _) => requests.accept(),
        }
    }

    pub(super) fn awaited(&self) -> usize {
        match self {
            Self::Delta(requests) => requests.awaited(),
            Self::State(requests, _) => requests.awaited(),
        }
    }

    pub(super) fn hear(
        &mut self,
        connection: &mut Connection,
        request: &Request,
        now: Instant,
    ) -> Result<Heard, TooManyNames> {
        match (self, request) {
            (Self::State(_, stream), Request::State(request)) => stream.request(connection, request, now),
            (_, Request::Delta(request)) => connection.request(request, now),
            // A stream reads requests of its own method.
            (Self::Delta(_), Request::State(_)) => Ok(Heard::default()),
        }
    }

    pub(super) fn deadline(&self, connection: &Connection) -> Option<Instant> {
        match self {
            Self::Delta(_) => connection.deadline(),
            Self::State(_, stream) => stream.deadline(connection),
        }
    }

    pub(super) fn next(&mut self, connection: &mut Connection, now: Instant) -> Option<Written> {
        let (kind, resources, frame) = match self {
            Self::Delta(_) => {
                let response = connection.next(now)?;
                let kind = Kind::of(&response.type_url);
                (kind, response.resources.len(), frame::encode(&response, IDENTIFIER))
            }
            Self::State(_, stream) => {
                let response = stream.next(connection, now)?;
                let kind = Kind::of(&response.type_url);
                (kind, response.resources.len(), frame::encode_state(&response, IDENTIFIER))
            }
        };
        Some(Written { kind: kind.map(|kind| (kind, resources)), frame })
    }
}
