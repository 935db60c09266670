//! One request and its response. What its two sides speak stands in [`ClientSide`] and [`HostSide`], with the verbs that
//! differ; all else is the same for every protocol.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use model::route::Priority;
use telemetry::Flags;
use wire::h1::{BodyReader, Edits, HeadStorage, Scheme, Version};
use wire::{BodyFraming, HeaderId};

use super::client_side::ClientSide;
use super::host_side::HostSide;
use crate::clock::Time;
use crate::net::sockets::HIGH_WATER;
use crate::net::timers::{Timer, Wheel};
use crate::table::Table;
use crate::upstream::breaker::Taken;
use crate::upstream::counted::{PendingSlot, RequestAtHost, RequestSlot};
use crate::upstream::{ClusterState, HostRef};

pub use crate::exchange_id::ExchangeId;

/// The exchanges under way. Finished ones are kept for their memory: a small request allocates nothing.
pub struct Exchanges {
    /// `None` in an occupied place while somebody works on it.
    places: Table<Option<Box<Exchange>>>,
    #[allow(clippy::vec_box, reason = "boxes move between here and `places`")]
    spare: Vec<Box<Exchange>>,
    /// How many have been given a number.
    begun: usize,
    /// Deadlines of exchanges that share their client's connection with others; one that has the connection for itself
    /// uses that socket's.
    wheel: Wheel,
}

/// Spare exchanges kept under load; more are given back to the allocator.
const SPARE: usize = 256;
/// Those kept while nothing is to do, so that a burst leaves no lasting mark.
const SPARE_IDLE: usize = 16;
/// Memory a spare exchange may keep in one buffer.
const SPARE_BUFFER: usize = 16 * 1024;

impl Exchanges {
    pub fn new(now: Time) -> Exchanges {
        Exchanges { places: Table::default(), spare: vec![], begun: 0, wheel: Wheel::new(now) }
    }

    /// A blank exchange for this client, not yet known by a number.
    pub fn blank(&mut self, client: ClientSide, now: Time) -> Box<Exchange> {
        let mut exchange = self.spare.pop().unwrap_or_default();
        exchange.client_side = client;
        exchange.times.started = now;
        exchange
    }

    /// A number for an exchange somebody holds.
    pub fn reserve(&mut self, exchange: &mut Exchange) -> ExchangeId {
        self.begun = self.begun.wrapping_add(1);
        exchange.id = ExchangeId(self.places.insert(None));
        exchange.id
    }

    /// Takes it out to work on it. Whoever takes it puts it back or retires it.
    pub fn take(&mut self, id: ExchangeId) -> Option<Box<Exchange>> {
        self.places.get_mut(id.0)?.take()
    }

    pub fn put_back(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        if let Some(place) = self.places.get_mut(id.0) {
            *place = Some(exchange);
        }
    }

    pub fn get(&self, id: ExchangeId) -> Option<&Exchange> {
        self.places.get(id.0)?.as_deref()
    }

    pub fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.places.get_mut(id.0)?.as_deref_mut()
    }

    /// The exchange is over.
    pub fn retire(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        self.places.remove(id.0);
        self.recycle(exchange);
    }

    /// As [`Exchanges::retire`], for one that never got a number.
    pub fn recycle(&mut self, mut exchange: Box<Exchange>) {
        if self.spare.len() < SPARE {
            exchange.reset();
            self.spare.push(exchange);
        }
    }

    /// More is kept than a worker needs that has nothing to do.
    pub fn could_rest(&self) -> bool {
        self.spare.len() > SPARE_IDLE && self.places.is_empty()
    }

    /// Nothing was to do for a while.
    pub fn rest(&mut self) {
        if self.could_rest() {
            self.spare.truncate(SPARE_IDLE);
            self.spare.shrink_to_fit();
        }
    }

    /// How many have been given a number so far, wrapping around.
    pub fn begun(&self) -> usize {
        self.begun
    }

    pub fn active(&self) -> usize {
        self.places.len()
    }

    /// Bytes kept of requests on their way.
    pub fn kept(&self) -> usize {
        let exchanges = self.places.iter().filter_map(|(_, place)| place.as_ref());
        exchanges
            .map(|exchange| {
                let parts = [&exchange.head, &exchange.replay, &exchange.early, &exchange.trailers];
                let kept: usize = parts.into_iter().map(Vec::capacity).sum();
                let mirrors = exchange.mirrors.as_ref().map_or(0, |mirrors| mirrors.held());
                kept + exchange.path.capacity() + exchange.response_head.capacity() + mirrors
            })
            .sum()
    }

    /// Sets the deadline of an exchange somebody holds.
    pub fn set_deadline(&mut self, id: ExchangeId, exchange: &mut Exchange, deadline: Time) {
        self.wheel.set(id.0.index(), &mut exchange.times.timer, deadline);
    }

    /// How long the worker may sleep, in nanoseconds.
    pub fn sleep(&self, now: Time) -> Option<u64> {
        self.wheel.sleep(now)
    }

    /// Appends the exchanges whose deadline has passed.
    pub fn expired(&mut self, now: Time, into: &mut Vec<ExchangeId>) {
        self.wheel.advance(
            now,
            &mut self.places,
            |places, slot| Some(&mut places.at_mut(slot)?.as_mut()?.times.timer),
            |places, _, slot| into.extend(places.key_at(slot).map(ExchangeId)),
        );
    }
}

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
    pub web: Option<Box<super::grpc_web::GrpcWeb>>,
    /// The key made here for a WebSocket whose client did not have to send one.
    pub websocket_key: Option<wire::websocket::Key>,
    /// Position in the chain of the filter that has the request.
    pub filter_at: u8,
    /// What filters remember of it.
    pub filter_state: Option<Box<super::filters::FilterState>>,
    /// It is a request of our own: its client is nobody.
    pub call: Option<Box<super::call::Call>>,
    /// What is kept for its copies, until the whole request has come.
    pub mirrors: Option<Box<super::mirror::Mirroring>>,
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
    pub obeyed: super::request::Obeyed,
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
    pub route: Option<super::route::Routed>,
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
    /// That is the deadline the client itself has set (`grpc-timeout`).
    pub client_deadline: bool,
    pub per_try_timeout: Option<Duration>,
    pub per_try_idle_timeout: Option<Duration>,
    /// When a wait (back-off, injected delay) is over.
    pub wake: Deadline,
    /// Its place in the wheel of [`Exchanges`].
    pub timer: Timer,
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

/// How much of the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Progress {
    #[default]
    Coming,
    Whole,
}

impl Progress {
    pub fn of(whole: bool) -> Progress {
        if whole { Progress::Whole } else { Progress::Coming }
    }

    pub fn is_whole(self) -> bool {
        self == Progress::Whole
    }
}

/// Whether the two connections (or streams of them) become one byte pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tunnel {
    #[default]
    No,
    /// The request asks for it: what comes behind its head waits for the host's answer. `ends_here`: it is a CONNECT whose
    /// bytes go to the host without any HTTP.
    Asked { client_ended: bool, ends_here: bool },
    /// The host has granted it.
    Open { client_ended: bool, host_ended: bool },
}

impl Tunnel {
    pub fn asked_by(head: &wire::h1::RequestHead<'_>) -> Tunnel {
        match head.is_connect() || head.upgrade().is_some() {
            true => Tunnel::Asked { client_ended: false, ends_here: false },
            false => Tunnel::No,
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, Tunnel::Open { .. })
    }

    pub fn ends_here(self) -> bool {
        matches!(self, Tunnel::Asked { ends_here: true, .. })
    }

    pub fn client_ended(self) -> bool {
        matches!(self, Tunnel::Asked { client_ended: true, .. } | Tunnel::Open { client_ended: true, .. })
    }

    pub fn host_ended(self) -> bool {
        matches!(self, Tunnel::Open { host_ended: true, .. })
    }

    pub fn open(&mut self) {
        *self = Tunnel::Open { client_ended: self.client_ended(), host_ended: false };
    }

    pub fn set_ends_here(&mut self, here: bool) {
        if let Tunnel::Asked { ends_here, .. } = self {
            *ends_here = here;
        }
    }

    pub fn end_client(&mut self) {
        if let Tunnel::Asked { client_ended, .. } | Tunnel::Open { client_ended, .. } = self {
            *client_ended = true;
        }
    }

    pub fn end_host(&mut self) {
        if let Tunnel::Open { host_ended, .. } = self {
            *host_ended = true;
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ending {
    /// Not yet, or with an answer of our own.
    #[default]
    Clean,
    /// All of the host's answer has passed.
    Whole,
    /// The client got a part, or could not be answered: its connection (or stream) is of no further use.
    Broken,
}

/// The canonical path, where it is not the one received.
#[derive(Default)]
pub struct Path {
    text: Vec<u8>,
    is: PathIs,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum PathIs {
    #[default]
    AsReceived,
    Changed,
    /// The client is sent to it instead.
    Redirect,
}

impl Path {
    /// From here on the request has this path, for whoever decides on it and for its host.
    pub fn set(&mut self, path: &[u8], edits: &mut Edits) {
        self.put(path, PathIs::Changed);
        edits.target(path);
    }

    pub fn redirect_to(&mut self, path: &[u8]) {
        self.put(path, PathIs::Redirect);
    }

    fn put(&mut self, path: &[u8], is: PathIs) {
        self.text.clear();
        self.text.extend_from_slice(path);
        self.is = is;
    }

    /// The path, if it is not the one received.
    pub fn changed(&self) -> Option<&[u8]> {
        (self.is == PathIs::Changed).then_some(&self.text)
    }

    pub fn is_redirect(&self) -> bool {
        self.is == PathIs::Redirect
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    fn capacity(&self) -> usize {
        self.text.capacity()
    }

    fn reset(&mut self) {
        clear(&mut self.text);
        self.is = PathIs::AsReceived;
    }
}

/// A mark of bytes; until configuration says otherwise, the usual one.
#[derive(Clone, Copy, Debug)]
pub struct Bound(pub usize);

impl Default for Bound {
    fn default() -> Bound {
        Bound(HIGH_WATER)
    }
}

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Request,
    /// Whatever the filter that has it waits for.
    Filters,
    /// The end of a request that says it has no body (`must_end_first`).
    Unended,
    /// A connection of the pool.
    Queued,
    /// The time of the next attempt.
    BackOff,
    /// A connection to be made, or the answer.
    Attempt,
    /// The rest of the answer.
    Response,
}

/// A time that may not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Time);

impl Default for Deadline {
    fn default() -> Deadline {
        Deadline(Time::NEVER)
    }
}

impl Deadline {
    pub const NEVER: Deadline = Deadline(Time::NEVER);

    pub fn passed(self, now: Time) -> bool {
        self.0 <= now
    }
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

/// How the response's body is written to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    /// As it comes.
    #[default]
    Same,
    /// It comes without an announced end; chunks are put around it.
    Chunk,
    /// It comes in chunks and the client does not know chunks, or frames by itself.
    Unchunk,
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
    fn reset(&mut self) {
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

/// Empties a buffer and keeps a little of its memory.
fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(SPARE_BUFFER);
}
