//! One request and its response. What its two sides speak stands in [`ClientSide`] and [`HostSide`]; all else is the same
//! for every protocol.

pub mod all;
pub mod finish;
pub mod forward;
pub mod framing;
pub mod sides;
pub mod state;
pub mod timeout;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use model::route::Priority;
use telemetry::Flags;
use wire::h1::{BodyReader, Edits, HeadStorage, Scheme, Version};
use wire::{BodyFraming, HeaderId};

use crate::clock::Time;
use crate::upstream::breaker::Taken;
use crate::upstream::counted::{PendingSlot, RequestAtHost, RequestSlot};

pub use crate::exchange::framing::Framing;
use crate::exchange::sides::{ClientSide, HostSide};
use crate::exchange::state::clear;
pub use crate::exchange::state::{Bound, Deadline, Ending, Path, Phase, Progress, Tunnel};
pub use crate::exchange_id::ExchangeId;
use crate::upstream::cluster::ClusterState;
use crate::upstream::host::HostRef;

/// One request and its response.
///
/// The buffers keep their memory from one exchange to the next; everything else is in groups that begin anew.
#[derive(Default)]
pub struct Exchange {
    /// Its number.
    pub id: ExchangeId,
    pub client_side: ClientSide,
    pub host_side: HostSide,
    pub phase: Phase,
    pub tunnel: Tunnel,
    pub ending: Ending,
    pub request: RequestState,
    pub target: Target,
    pub times: Times,
    pub response: ResponseState,
    pub counted: Counted,

    // The buffers.
    /// The head as received, with which `head_storage` and `edits` are read.
    pub head: Vec<u8>,
    pub head_storage: HeadStorage,
    pub edits: Edits,
    pub path: Path,
    /// Body bytes that were not sent yet, or may have to be sent again: as framed if the client speaks HTTP/1, else
    /// without framing.
    pub replay: Vec<u8>,
    /// The trailer section of an HTTP/2 request.
    pub trailers: Vec<u8>,
    /// What came on an HTTP/2 stream that asks to become a tunnel, before it is one.
    pub early: Vec<u8>,
    /// The response's head as received, for access logs that ask for response fields.
    pub response_head: Vec<u8>,
    pub response_storage: HeadStorage,

    // What few requests have.
    /// It is gRPC-Web, which its host gets as gRPC.
    pub web: Option<Box<crate::filters::grpc_web_codec::GrpcWeb>>,
    /// The key made here for a WebSocket whose client did not have to send one.
    pub websocket_key: Option<wire::websocket::Key>,
    /// Position in the chain of the filter that has the request.
    pub filter_at: u8,
    /// What filters remember of it.
    pub filter_state: Option<Box<crate::filters::state::FilterState>>,
    /// It is a request of our own: its client is nobody.
    pub call: Option<Box<crate::call::state::Call>>,
    /// What is kept for its copies, until the whole request has come.
    pub mirrors: Option<Box<crate::call::state::Mirroring>>,
}

/// What is known of the request beside its head and body.
#[derive(Default)]
pub struct RequestState {
    pub progress: Progress,
    /// What its target, its `:scheme` or a trusted `x-forwarded-proto` says, else the connection's.
    pub scheme: Scheme,
    pub forwarded_proto: model::view::ForwardedProto,
    /// Came over the edge of the mesh.
    pub edge: bool,
    pub obeyed: crate::exchange::state::Obeyed,
    pub id: Option<[u8; 36]>,
    /// Body bytes, framing left out.
    pub received: u64,
    /// Head bytes.
    pub received_head: u64,
    /// Takes the framing off an HTTP/1 body for a host that speaks HTTP/2.
    pub unframe: Option<Box<BodyReader>>,
    /// Bytes received and not yet credited back in the client's flow-control window (HTTP/2).
    pub held: usize,
    /// An HTTP/1 request that came restored from HTTP/2.
    pub hop: bool,
    /// All of the body read so far is in `replay`.
    pub replayable: bool,
    /// Bytes kept for the host before the client is read no further.
    pub bound: Bound,
}

/// Where the request goes, and how often it was tried.
#[derive(Default)]
pub struct Target {
    pub route: Option<crate::request::routed::Routed>,
    pub host: Option<HostRef>,
    /// The Host header becomes the picked host's name.
    pub auto_host: bool,
    /// Hosts tried, to be avoided by the next attempt.
    pub tried: Vec<HostRef>,
    pub attempts: u32,
    /// How often it was sent on another connection, because the host had closed the one it was on unasked.
    pub replaced: u8,
}

/// When things happened, and when what is given up.
#[derive(Default)]
pub struct Times {
    pub started: Time,
    /// The request was complete.
    pub request_ended: Time,
    pub attempt_started: Time,
    pub first_byte: Time,
    pub route_deadline: Deadline,
    pub try_deadline: Deadline,
    /// No byte from the host for too long, once the request is whole.
    pub try_idle_deadline: Deadline,
    /// The try must be over, response and all (the cluster's `max_stream_duration`).
    pub try_end: Deadline,
    /// The whole request must be there.
    pub request_deadline: Deadline,
    /// All of it must be over, response, retries and tunnel included.
    pub duration_deadline: Deadline,
    pub idle_deadline: Deadline,
    pub idle_timeout: Option<Duration>,
    pub route_timeout: Option<Duration>,
    /// `route_timeout` is the deadline the client itself has set (`grpc-timeout`).
    pub client_deadline: bool,
    pub per_try_timeout: Option<Duration>,
    pub per_try_idle_timeout: Option<Duration>,
    /// When a wait (back-off, injected delay) is over.
    pub wake: Deadline,
}

/// What is known of the response, and is counted and logged.
#[derive(Default)]
pub struct ResponseState {
    pub status: u16,
    pub flags: Flags,
    /// Envoy's `response_code_details`.
    pub details: Cow<'static, str>,
    pub termination: Option<&'static str>,
    pub failure: Option<String>,
    pub framing: Framing,
    /// Interim responses (1xx) passed on.
    pub interim: u8,
    /// Body bytes to the client, framing left out.
    pub sent: u64,
    pub sent_head: u64,
    pub service_millis: Option<u64>,
    pub upstream_local: Option<std::net::SocketAddr>,
    pub upstream_remote: Option<std::net::SocketAddr>,
    /// What the host speaks.
    pub upstream_version: Option<Version>,
    pub grpc_status: Option<u8>,
    /// Bytes received and not yet credited back in the host's flow-control window (HTTP/2).
    pub held: usize,
    /// Bytes kept for the client before the host is read no further.
    pub bound: Bound,
}

/// What this exchange counts for in its cluster. Each is given back when it is dropped or replaced.
#[derive(Default)]
pub struct Counted {
    /// The cluster of the attempts so far, and their priority there.
    pub cluster: Option<Rc<ClusterState>>,
    pub priority: Priority,
    pub request: Option<RequestSlot>,
    pub retry: Option<Taken>,
    /// While the attempt waits for a connection.
    pub pending: Option<PendingSlot>,
    /// While the attempt is its host's.
    pub host: Option<RequestAtHost>,
}

impl Exchange {
    pub fn head_view(&self) -> wire::h1::RequestHead<'_> {
        self.head_storage.request(&self.head)
    }

    /// Asks for another protocol: what comes behind its head belongs to the tunnel, if there will be one.
    pub fn asks_for_tunnel(&self) -> bool {
        self.tunnel != Tunnel::No
    }

    /// The client says nothing more: of a tunnel its direction has ended, else the request is whole.
    pub fn client_has_ended(&self) -> bool {
        match self.tunnel {
            Tunnel::Open { client_ended, .. } => client_ended,
            Tunnel::No | Tunnel::Asked { .. } => self.request.progress.is_whole(),
        }
    }

    /// The client gets the response's body as payload, framed by HTTP/2 or as gRPC-Web.
    pub fn takes_payload(&self) -> bool {
        self.client_side.is_h2() || self.web.is_some()
    }

    /// The final head has gone to the client, or is about to.
    pub fn response_began(&self) -> bool {
        self.phase == Phase::Response
    }

    /// All that the client has to say has come.
    pub fn request_whole(&self) -> bool {
        self.request.progress.is_whole() && !self.asks_for_tunnel()
    }

    /// An HTTP/1.0 client is answered in its own version, as Envoy does. `head`: as for HTTP/1.1.
    pub fn name_version(&self, head: &mut [u8]) {
        let old =
            !self.client_side.is_h2() && self.has_head() && self.head_view().version() == Version::Http10;
        if let (true, Some(minor)) = (old, head.get_mut(b"HTTP/1.".len())) {
            *minor = b'0';
        }
    }

    /// False for a request whose head could not be read.
    pub fn has_head(&self) -> bool {
        !self.head.is_empty()
    }

    /// An HTTP/2 request that says it has no body and has not ended: a host that speaks HTTP/1 would take its head for all
    /// of it, and there would be no taking it back when more comes (bad-inputs N-16).
    pub fn must_end_first(&self) -> bool {
        self.client_side.is_h2()
            && !self.request.progress.is_whole()
            && self.head_view().framing() == BodyFraming::None
            && !self.asks_for_tunnel()
    }

    /// HTTP/2 says by itself that there is no body; HTTP/1 where one is to be expected (RFC 9110 §8.6).
    pub fn must_say_no_body(&self) -> bool {
        let head = self.head_view();
        head.version() == Version::Http2
            && head.framing() == BodyFraming::None
            && !matches!(head.method(), b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"CONNECT")
            && head.known(HeaderId::ContentLength).is_none()
    }

    pub fn route_name(&self) -> &str {
        self.target.route.as_ref().and_then(|routed| routed.route()).map_or("", |route| &route.name)
    }

    /// Makes it blank again, the memory of its buffers kept. A field forgotten here does not compile.
    pub fn reset(&mut self) {
        let Exchange {
            id,
            client_side,
            host_side,
            phase,
            tunnel,
            ending,
            request,
            target,
            times,
            response,
            counted,
            head,
            // Written before it is read.
            head_storage: _,
            edits,
            path,
            replay,
            trailers,
            early,
            response_head,
            response_storage: _,
            web,
            websocket_key,
            filter_at,
            filter_state,
            call,
            mirrors,
        } = self;
        [head, replay, trailers, early, response_head].into_iter().for_each(clear);
        edits.clear();
        path.reset();
        (*id, *client_side, *host_side) = Default::default();
        (*phase, *tunnel, *ending) = Default::default();
        *request = RequestState::default();
        *target = Target::default();
        *times = Times::default();
        *response = ResponseState::default();
        *counted = Counted::default();
        (*web, *websocket_key, *filter_at, *filter_state) = Default::default();
        (*call, *mirrors) = Default::default();
    }
}
