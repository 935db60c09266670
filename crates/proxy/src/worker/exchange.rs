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
        exchange.started = now;
        exchange.bound_down = HIGH_WATER;
        exchange.bound_up = HIGH_WATER;
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
        self.wheel.set(id.0.index(), &mut exchange.timer, deadline);
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
            |places, slot| Some(&mut places.at_mut(slot)?.as_mut()?.timer),
            |places, _, slot| into.extend(places.key_at(slot).map(ExchangeId)),
        );
    }
}

#[derive(Default)]
pub struct Exchange {
    /// Its number.
    pub id: ExchangeId,
    pub client_side: ClientSide,
    pub host_side: HostSide,
    pub started: Time,
    /// The request is complete.
    pub request_ended: Time,
    pub phase: Phase,

    // The request.
    /// The head as received, with which `request` and `edits` are read.
    pub head: Vec<u8>,
    pub request: HeadStorage,
    pub edits: Edits,
    /// The canonical path, where it is not the one received.
    pub path: Vec<u8>,
    pub path_changed: bool,
    /// `path` is where the client is sent to instead.
    pub redirect_to_path: bool,
    /// What its target, its `:scheme` or a trusted `x-forwarded-proto` says, else the connection's.
    pub scheme: Scheme,
    pub forwarded_proto: model::view::ForwardedProto,
    /// Came over the edge of the mesh.
    pub edge: bool,
    pub obeyed: super::request::Obeyed,
    pub request_id: Option<[u8; 36]>,
    pub request_done: bool,
    /// Body bytes, framing left out.
    pub received: u64,
    /// Head bytes.
    pub received_head: u64,
    /// Body bytes that were not sent yet, or may have to be sent again: as framed if the client speaks HTTP/1, else
    /// without framing.
    pub replay: Vec<u8>,
    /// The trailer section of an HTTP/2 request.
    pub trailers: Vec<u8>,
    /// Takes the framing off an HTTP/1 body for a host that speaks HTTP/2.
    pub unframe: Option<Box<BodyReader>>,
    /// Bytes of the body the client was not yet allowed to replace (HTTP/2).
    pub held: usize,
    /// The same of the response's, towards the host.
    pub held_up: usize,
    /// What came on an HTTP/2 stream that asks to become a tunnel, before it is one.
    pub early: Vec<u8>,
    /// The client has ended its direction of it already.
    pub early_end: bool,
    /// Interim responses (1xx) passed on.
    pub interim: u8,
    /// An HTTP/1 request that came restored from HTTP/2.
    pub hop: bool,
    /// Bytes kept for the client, and for the host, before the other side is read no further.
    pub bound_down: usize,
    pub bound_up: usize,
    /// All of the body read so far is in `replay`.
    pub replayable: bool,

    // Where to.
    pub route: Option<super::route::Routed>,
    pub host: Option<HostRef>,
    /// The Host header becomes the picked host's name.
    pub auto_host: bool,
    /// Hosts tried, to be avoided by the next attempt.
    pub tried: Vec<HostRef>,
    pub attempts: u32,
    /// How often it was sent on another connection, because the host had closed the one it was on unasked.
    pub replaced: u8,
    pub counted: Counted,

    // When what is given up.
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
    pub timer: Timer,

    // The response.
    pub attempt_started: Time,
    pub first_byte: Time,
    pub status: u16,
    pub flags: Flags,
    /// Envoy's `response_code_details`.
    pub details: Cow<'static, str>,
    pub termination: Option<&'static str>,
    pub failure: Option<String>,
    /// Its head went to the client.
    pub response_started: bool,
    /// All of it has.
    pub response_done: bool,
    pub response_framing: Framing,
    /// Body bytes to the client, framing left out.
    pub sent: u64,
    pub sent_head: u64,
    pub service_millis: Option<u64>,
    /// The head as received, for access logs that ask for response fields.
    pub response_head: Vec<u8>,
    pub response_storage: HeadStorage,
    pub upstream_local: Option<std::net::SocketAddr>,
    pub upstream_remote: Option<std::net::SocketAddr>,
    /// What the host speaks.
    pub upstream_version: Option<Version>,
    pub grpc_status: Option<u8>,
    /// It is gRPC-Web, which its host gets as gRPC.
    pub web: Option<Box<super::grpc_web::GrpcWeb>>,
    /// The key made here for a WebSocket whose client did not have to send one.
    pub websocket_key: Option<wire::websocket::Key>,
    /// Position in the chain of the filter that has the request.
    pub filter_at: u8,
    /// What filters remember of it.
    pub filter_state: Option<Box<super::filters::FilterState>>,
    /// The client's connection can not be used any more.
    pub broken: bool,
    /// A CONNECT that ends here: its bytes go to the host without any HTTP.
    pub terminates: bool,
    /// It is a request of our own: its client is nobody.
    pub call: Option<Box<super::call::Call>>,
    /// What is kept for its copies, until the whole request has come.
    pub mirrors: Option<Box<super::mirror::Mirroring>>,
    /// The connections have become a byte pipe.
    pub tunnel: bool,
    pub tunnel_host_ended: bool,
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
        self.request.request(&self.head)
    }

    /// Asks for another protocol: what comes behind its head belongs to the tunnel, if there will be one.
    pub fn asks_for_tunnel(&self) -> bool {
        let head = self.head_view();
        head.upgrade().is_some() || head.is_connect()
    }

    /// All that the client has to say has come.
    pub fn request_whole(&self) -> bool {
        self.request_done && !(self.has_head() && self.asks_for_tunnel())
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
            && !self.request_done
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
        self.route.as_ref().and_then(|routed| routed.route()).map_or("", |route| &route.name)
    }

    /// Makes it blank again, its memory kept. Field by field, because moving a whole one is what a request would notice;
    /// a field forgotten here does not compile.
    fn reset(&mut self) {
        let Exchange {
            id,
            client_side,
            host_side,
            started,
            request_ended,
            phase,
            head,
            request: _,
            edits,
            path,
            path_changed,
            redirect_to_path,
            scheme,
            forwarded_proto,
            edge,
            obeyed,
            request_id,
            request_done,
            received,
            received_head,
            replay,
            trailers,
            unframe,
            held,
            held_up,
            early,
            early_end,
            interim,
            hop,
            bound_down,
            bound_up,
            replayable,
            route,
            host,
            auto_host,
            tried,
            attempts,
            replaced,
            counted,
            route_deadline,
            try_deadline,
            try_idle_deadline,
            try_end,
            request_deadline,
            duration_deadline,
            idle_deadline,
            idle_timeout,
            route_timeout,
            client_deadline,
            per_try_timeout,
            per_try_idle_timeout,
            wake,
            timer,
            attempt_started,
            first_byte,
            status,
            flags,
            details,
            termination,
            failure,
            response_started,
            response_done,
            response_framing,
            sent,
            sent_head,
            service_millis,
            response_head,
            response_storage: _,
            upstream_local,
            upstream_remote,
            upstream_version,
            grpc_status,
            web,
            websocket_key,
            filter_at,
            filter_state,
            broken,
            terminates,
            call,
            mirrors,
            tunnel,
            tunnel_host_ended,
        } = self;
        for buffer in [head, path, replay, trailers, early, response_head] {
            buffer.clear();
            buffer.shrink_to(SPARE_BUFFER);
        }
        edits.clear();
        tried.clear();
        *id = Default::default();
        *client_side = Default::default();
        *host_side = Default::default();
        *unframe = Default::default();
        *held = Default::default();
        *held_up = Default::default();
        *hop = Default::default();
        *early_end = Default::default();
        *interim = Default::default();
        *timer = Default::default();
        *upstream_version = Default::default();
        *started = Default::default();
        *request_ended = Default::default();
        *phase = Default::default();
        *path_changed = Default::default();
        *redirect_to_path = Default::default();
        *scheme = Default::default();
        *forwarded_proto = Default::default();
        *edge = Default::default();
        *obeyed = Default::default();
        *request_id = Default::default();
        *request_done = Default::default();
        *received = Default::default();
        *received_head = Default::default();
        *bound_down = Default::default();
        *bound_up = Default::default();
        *replayable = Default::default();
        *route = Default::default();
        *host = Default::default();
        *auto_host = Default::default();
        *attempts = Default::default();
        *replaced = Default::default();
        *counted = Default::default();
        *route_deadline = Default::default();
        *try_deadline = Default::default();
        *try_idle_deadline = Default::default();
        *try_end = Default::default();
        *request_deadline = Default::default();
        *duration_deadline = Default::default();
        *idle_deadline = Default::default();
        *idle_timeout = Default::default();
        *route_timeout = Default::default();
        *client_deadline = Default::default();
        *per_try_timeout = Default::default();
        *per_try_idle_timeout = Default::default();
        *wake = Default::default();
        *attempt_started = Default::default();
        *first_byte = Default::default();
        *status = Default::default();
        *flags = Default::default();
        *details = Default::default();
        *termination = Default::default();
        *failure = Default::default();
        *response_started = Default::default();
        *response_done = Default::default();
        *response_framing = Default::default();
        *sent = Default::default();
        *sent_head = Default::default();
        *service_millis = Default::default();
        *upstream_local = Default::default();
        *upstream_remote = Default::default();
        *grpc_status = Default::default();
        *web = Default::default();
        *websocket_key = Default::default();
        *filter_at = Default::default();
        *filter_state = Default::default();
        *broken = Default::default();
        *terminates = Default::default();
        *call = Default::default();
        *mirrors = Default::default();
        *tunnel = Default::default();
        *tunnel_host_ended = Default::default();
    }
}
