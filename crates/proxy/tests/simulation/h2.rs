//! HTTP/2, both ends: by the codec of `wire`, which has tests of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wire::h1::Scheme;
use wire::h2::{Config, Connection, ErrorCode, Event, OpenError, RequestParts, Scratch, Stream, Trailers};

use crate::actor::{Actor, Cx, Next, Read, earlier};
use crate::config::{DIRECT, MAIN, address};
use crate::net::{EndId, MILLI, Nanos, Owner, SECOND};
use crate::plan::{ClientFault, Framing, HostFault, Id, Web, body, differs};
use crate::random::Dice;

/// A connection and its socket.
struct Wire {
    end: EndId,
    codec: Connection,
    scratch: Scratch,
    /// Writes at most so much at once.
    piece: usize,
    input: Vec<u8>,
}

/// What happened on a connection, without what it borrows.
enum Seen {
    Request { stream: Stream, id: Option<Id>, path: String, end: bool },
    Response { token: u64, status: u16, id: Option<Id>, end: bool },
    Data { stream: Stream, token: u64, bytes: Vec<u8>, end: bool },
    Trailers { stream: Stream, token: u64 },
    Reset { stream: Stream, token: u64 },
    Writable,
    GoAway,
}

impl Wire {
    /// Sends what may go; false: the connection is broken.
    fn flush(&mut self, cx: &mut Cx<'_>) -> bool {
        while !self.codec.output().is_empty() {
            let length = self.codec.output().len().min(self.piece);
            let Some(sent) = cx.write(self.end, &self.codec.output()[..length]) else { return false };
            self.codec.sent(sent);
            if sent < length {
                break;
            }
        }
        true
    }

    /// What happened since, with these bytes; `None`: the connection is in error.
    fn take(&mut self, bytes: &[u8], now: Nanos) -> (Vec<Seen>, bool) {
        self.input.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.input);
        let mut rest = &all[..];
        let mut seen = vec![];
        loop {
            let event = self.codec.next(&mut rest, &mut self.scratch, Duration::from_nanos(now));
            match event {
                Ok(Some(event)) => seen.extend(Seen::of(event)),
                Ok(None) => break,
                Err(_) => return (seen, false),
            }
        }
        self.input = rest.to_vec();
        (seen, true)
    }
}

fn number(head: impl Iterator<Item = (String, String)>, name: &str) -> Option<Id> {
    let mut head = head;
    head.find(|(n, _)| n.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.parse().ok())
}

impl Seen {
    fn of(event: Event<'_>) -> Option<Seen> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match event {
            Event::Request { stream, head, end } => {
                let fields = head.fields().map(|field| (text(field.name), text(field.value)));
                Seen::Request { stream, id: number(fields, "x-sim"), path: text(head.target()), end }
            }
            Event::Response { token, head, end, .. } => {
                let fields = head.fields().map(|field| (text(field.name), text(field.value)));
                Seen::Response { token, status: head.status(), id: number(fields, "x-sim-id"), end }
            }
            Event::Data { stream, token, bytes, end } => {
                Seen::Data { stream, token, bytes: bytes.to_vec(), end }
            }
            Event::Trailers { stream, token, .. } => Seen::Trailers { stream, token },
            Event::Reset { stream, token, .. } => Seen::Reset { stream, token },
            Event::Writable { .. } => Seen::Writable,
            Event::GoAway { .. } => Seen::GoAway,
            Event::Settings | Event::Pong | Event::Refused { .. } => return None,
        })
    }
}

struct Call {
    id: Id,
    /// Body sent so far; `None` when all is.
    sent: Option<u64>,
    answered: bool,
    got: u64,
}

/// A client: all its requests over one connection, several at once.
pub struct Client {
    dice: Dice,
    ask: VecDeque<Id>,
    calls: BTreeMap<u64, (Stream, Call)>,
    wire: Option<Wire>,
    config: Arc<Config>,
    at_once: usize,
    begins: Nanos,
    room: usize,
    stalled: bool,
    /// Gives back no window, ever.
    withholds: bool,
    leaves_at: Option<Nanos>,
    /// Connections in a row that ended.
    refused: u32,
}

impl Client {
    pub fn new(dice: &mut Dice, ask: Vec<Id>, begins: Nanos) -> Client {
        let mut dice = dice.fork();
        let withholds = dice.one_in(10);
        let window = if withholds { 0 } else { *dice.pick(&[1_000, 65_535, 1 << 20]) };
        Client {
            ask: ask.into(),
            calls: BTreeMap::new(),
            wire: None,
            config: Arc::new(Config { stream_window: window, ..Config::default() }),
            at_once: dice.between(1, 8) as usize,
            begins,
            room: *dice.pick(&[3_000, 64 * 1024]),
            stalled: false,
            withholds,
            leaves_at: None,
            refused: 0,
            dice,
        }
    }

    fn connect(&mut self, cx: &mut Cx<'_>) -> bool {
        let Ok((end, _)) = cx.net.lock().connect(Owner::Actor(cx.me), address(MAIN), None, None, self.room)
        else {
            return false;
        };
        let codec = Connection::client(self.config.clone(), Duration::from_nanos(cx.now));
        let piece = if self.dice.one_in(3) { self.dice.between(1, 500) as usize } else { usize::MAX };
        self.wire = Some(Wire { end, codec, scratch: Scratch::new(), piece, input: vec![] });
        true
    }

    fn ask(&mut self, cx: &mut Cx<'_>) {
        let Some(wire) = &mut self.wire else { return };
        while self.calls.len() < self.at_once && wire.codec.can_open().is_ok() {
            let Some(id) = self.ask.pop_front() else { return };
            let plan = &cx.plans[id];
            let length = match plan.post && plan.request_framing == Framing::Length {
                true => format!("content-length: {}\r\n", plan.request),
                false => String::new(),
            };
            let lines = format!("x-sim: {id}\r\n{length}");
            let parts = RequestParts {
                method: if plan.post { b"POST" } else { b"GET" },
                scheme: Scheme::Http,
                authority: b"sim.local",
                path: plan.path.as_bytes(),
                lines: lines.as_bytes(),
            };
            let token = id as u64 + 1;
            let Ok(stream) = wire.codec.open_parts(&parts, !plan.post, token) else {
                self.ask.push_front(id);
                return;
            };
            cx.fates[id].asked = true;
            cx.net.lock().trace.say(|| format!("h2 client on end {} asks {plan:?}", wire.end));
            cx.fates[id].withheld += u32::from(self.withholds);
            let sent = plan.post.then_some(0);
            self.calls.insert(token, (stream, Call { id, sent, answered: false, got: 0 }));
        }
    }

    /// Sends on what can be sent of bodies, and does to streams what their plans say.
    fn send(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(wire) = &mut self.wire else { return false };
        let mut over = vec![];
        let mut moved = false;
        for (token, (stream, call)) in &mut self.calls {
            let plan = &cx.plans[call.id];
            let stops = matches!(plan.client, ClientFault::StallInBody | ClientFault::ResetInBody);
            let most = if stops { plan.request / 2 } else { plan.request };
            if let Some(sent) = call.sent {
                let capacity = wire.codec.send_capacity(*stream) as u64;
                let to = most.min(sent + capacity.min(16_000));
                let end = to == plan.request && !stops;
                if to > sent || end {
                    let mut bytes = vec![];
                    body(call.id, false, sent, to, &mut bytes);
                    moved = true;
                    let trailing = end && plan.trailers;
                    if wire.codec.data(*stream, &bytes, end && !trailing).is_err() {
                        call.sent = None;
                        continue;
                    }
                    if trailing {
                        let _ =
                            wire.codec.trailers(*stream, &Trailers::from_section(b"x-trailer: 1\r\n\r\n"));
                    }
                    call.sent = (!end).then_some(to);
                    if to == most && plan.client == ClientFault::StallInBody {
                        cx.coverage.met("h2 client stalls in body");
                    }
                }
            }
            let reset = match plan.client {
                ClientFault::ResetInBody => call.sent.is_none_or(|sent| sent >= most),
                ClientFault::ResetWhileWaiting => call.sent.is_none(),
                ClientFault::ResetInResponse => call.answered,
                _ => false,
            };
            if reset {
                cx.coverage.met(match plan.client {
                    ClientFault::ResetInBody => "h2 client resets a stream in its body",
                    ClientFault::ResetWhileWaiting => "h2 client resets a stream while waiting",
                    _ => "h2 client resets a stream in the answer",
                });
                wire.codec.reset(*stream, ErrorCode::CANCEL);
                over.push(*token);
            }
        }
        for token in over {
            if let Some((_, call)) = self.calls.remove(&token) {
                cx.fates[call.id].ended = true;
            }
        }
        moved
    }

    fn see(&mut self, cx: &mut Cx<'_>, seen: Seen) {
        let Some(wire) = &mut self.wire else { return };
        match seen {
            Seen::Response { token, status, id, end, .. } => {
                let Some((_, call)) = self.calls.get_mut(&token) else { return };
                if status == 100 {
                    return;
                }
                call.answered = true;
                let fate = &mut cx.fates[call.id];
                fate.status = status;
                fate.from_host = id.is_some();
                if let Some(of) = id
                    && of != call.id
                {
                    cx.wrong.push(format!("stream of {} got the answer of {of}", call.id));
                }
                if end {
                    self.ended(cx, token);
                }
            }
            Seen::Data { stream, token, bytes, end } => {
                let Some((_, call)) = self.calls.get_mut(&token) else {
                    wire.codec.consume(stream, bytes.len());
                    return;
                };
                if cx.fates[call.id].from_host
                    && let Some(at) = differs(call.id, true, call.got, &bytes)
                {
                    cx.wrong.push(format!("the answer of {} differs at {at}", call.id));
                }
                call.got += bytes.len() as u64;
                if cx.plans[call.id].client == ClientFault::NeverReads {
                    cx.coverage.met("h2 client gives back no window");
                } else if !self.withholds {
                    wire.codec.consume(stream, bytes.len());
                }
                if end {
                    self.ended(cx, token);
                }
            }
            Seen::Trailers { token, .. } => self.ended(cx, token),
            Seen::Reset { token, .. } => {
                if let Some((_, call)) = self.calls.remove(&token) {
                    let fate = &mut cx.fates[call.id];
                    fate.ended = true;
                    fate.cut = call.answered;
                }
            }
            Seen::Request { .. } | Seen::Writable | Seen::GoAway => {}
        }
    }

    fn ended(&mut self, cx: &mut Cx<'_>, token: u64) {
        let Some((_, call)) = self.calls.remove(&token) else { return };
        let plan = &cx.plans[call.id];
        let fate = &mut cx.fates[call.id];
        fate.whole = true;
        fate.ended = true;
        if fate.from_host && fate.status == 200 && call.got != plan.response && !plan.may_be_short() {
            cx.wrong.push(format!(
                "the answer of {} ended well after {} of {} bytes",
                call.id, call.got, plan.response
            ));
        }
        if plan.path.starts_with("/direct") && fate.status == 200 && call.got != DIRECT as u64 {
            cx.wrong.push(format!("a direct answer of {} bytes", call.got));
        }
    }

    fn is_left(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.codec.can_open() == Err(OpenError::Leaving))
    }

    fn over(&mut self, cx: &mut Cx<'_>, reset: bool) {
        if let Some(wire) = self.wire.take() {
            if reset { cx.net.lock().abort(wire.end) } else { cx.net.lock().close(wire.end) }
        }
        for (_, (_, call)) in std::mem::take(&mut self.calls) {
            cx.fates[call.id].ended = true;
            cx.fates[call.id].cut = call.answered;
        }
    }
}

impl Actor for Client {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        if self.wire.is_none() && (self.ask.is_empty() || cx.leaving || !self.connect(cx)) {
            return Next::Done;
        }
        if cx.leaving && (self.withholds || !self.calls.is_empty() || self.stalled) {
            self.over(cx, true);
            return Next::Done;
        }
        let Some(end) = self.wire.as_ref().map(|wire| wire.end) else { return Next::Done };
        if cx.net.lock().is_connecting(end) {
            return Next::Wait;
        }
        for _ in 0..64 {
            self.ask(cx);
            let sent = self.send(cx);
            let mut bytes = vec![];
            let mut ended = false;
            match cx.read(end, 64 * 1024) {
                Read::Bytes(read) => bytes = read,
                Read::Nothing => {}
                Read::End | Read::Broken => ended = true,
            }
            let Some(wire) = &mut self.wire else { return Next::Done };
            let (seen, well) = wire.take(&bytes, cx.now);
            for seen in seen {
                self.see(cx, seen);
            }
            let Some(wire) = &mut self.wire else { return Next::Done };
            let broken = !wire.flush(cx);
            if ended || broken || !well {
                self.over(cx, false);
                self.begins = cx.now + (self.dice.between(MILLI, 10 * MILLI) << self.refused.min(10));
                self.refused += 1;
                return if self.ask.is_empty() { Next::Done } else { Next::At(self.begins) };
            }
            if !self.ask.is_empty() && self.calls.is_empty() && self.is_left() {
                // It takes no more; the rest goes by another connection.
                self.over(cx, false);
                self.begins = cx.now + MILLI;
                return Next::At(self.begins);
            }
            if self.ask.is_empty() && self.calls.is_empty() {
                // Idle for a while, or for ever.
                let leaves = *self.leaves_at.get_or_insert(
                    cx.now + if self.dice.one_in(3) { 100 * SECOND } else { self.dice.below(SECOND) },
                );
                if leaves > cx.now + 50 * SECOND {
                    cx.coverage.met("h2 client stays idle");
                }
                if cx.now >= leaves {
                    self.over(cx, false);
                    return Next::Done;
                }
                if bytes.is_empty() {
                    return Next::At(leaves);
                }
            }
            if bytes.is_empty() && !sent {
                return Next::Wait;
            }
        }
        Next::At(cx.now + 1000)
    }

    fn describe(&self) -> String {
        let calls: Vec<_> =
            self.calls.values().map(|(_, call)| (call.id, call.sent, call.answered, call.got)).collect();
        format!("h2 client: calls {calls:?} ask {:?} withholds {}", self.ask, self.withholds)
    }
}

struct Serving {
    stream: Stream,
    id: Id,
    got: u64,
    whole: bool,
    answers_at: Option<Nanos>,
    sent: Option<u64>,
    dead: bool,
}

/// The host's end of one connection.
pub struct Served {
    wire: Wire,
    serving: Vec<Serving>,
    dice: Dice,
    done: bool,
}

impl Served {
    pub fn new(mut dice: Dice, end: EndId, now: Nanos) -> Served {
        let config = Config { max_concurrent_streams: *dice.pick(&[1, 3, 100]), ..Config::default() };
        let codec = Connection::server(Arc::new(config), Duration::from_nanos(now));
        let piece = if dice.one_in(3) { dice.between(1, 2_000) as usize } else { usize::MAX };
        Served {
            wire: Wire { end, codec, scratch: Scratch::new(), piece, input: vec![] },
            serving: vec![],
            dice,
            done: false,
        }
    }

    fn see(&mut self, cx: &mut Cx<'_>, seen: Seen) {
        match seen {
            Seen::Request { stream, id, path, end } => {
                let Some(id) = id else {
                    return cx.wrong(format!("an h2 host got what nobody asked: {path}"));
                };
                cx.fates[id].seen += 1;
                cx.say(|| format!("h2 host on end {} is asked {:?}", self.wire.end, cx.plan(id)));
                let fault = cx.plan(id).host;
                let thinks = cx.plan(id).thinks;
                match fault {
                    HostFault::Dead => cx.coverage.met("h2 host is dead"),
                    HostFault::Unavailable => cx.coverage.met("h2 host is unavailable"),
                    _ => {}
                }
                cx.coverage.met("h2 host is asked");
                if fault == HostFault::ResetFirst {
                    cx.coverage.met("h2 host resets first");
                    let code = if self.dice.one_in(2) {
                        ErrorCode::REFUSED_STREAM
                    } else {
                        ErrorCode::INTERNAL_ERROR
                    };
                    return self.wire.codec.reset(stream, code);
                }
                if fault == HostFault::CloseFirst {
                    cx.coverage.met("h2 host closes");
                    cx.net.lock().close(self.wire.end);
                    self.done = true;
                    return;
                }
                self.wire.codec.set_token(stream, id as u64 + 1);
                let now = end || fault == HostFault::Early;
                let answers_at = now.then_some(cx.now + thinks);
                self.serving.push(Serving {
                    stream,
                    id,
                    got: 0,
                    whole: end,
                    answers_at,
                    sent: None,
                    dead: fault == HostFault::Dead,
                });
            }
            Seen::Data { stream, bytes, end, .. } => {
                self.wire.codec.consume(stream, bytes.len());
                let Some(serving) = self.serving.iter_mut().find(|s| s.stream == stream) else { return };
                if let Some(at) = differs(serving.id, false, serving.got, &bytes) {
                    cx.wrong.push(format!("the request of {} differs at {at}", serving.id));
                }
                serving.got += bytes.len() as u64;
                if end {
                    self.whole(cx, stream);
                }
            }
            Seen::Trailers { stream, .. } => self.whole(cx, stream),
            Seen::Reset { stream, .. } => self.serving.retain(|s| s.stream != stream),
            Seen::Response { .. } | Seen::Writable | Seen::GoAway => {}
        }
    }

    fn whole(&mut self, cx: &mut Cx<'_>, stream: Stream) {
        let Some(serving) = self.serving.iter_mut().find(|s| s.stream == stream) else { return };
        serving.whole = true;
        let plan = &cx.plans[serving.id];
        if plan.post && serving.got != plan.request {
            cx.wrong.push(format!(
                "the request of {} ended after {} of {}",
                serving.id, serving.got, plan.request
            ));
        }
        serving.answers_at.get_or_insert(cx.now + plan.thinks);
    }

    /// Sends answers on; when to come back.
    fn send(&mut self, cx: &mut Cx<'_>) -> (bool, Option<Nanos>) {
        let mut moved = false;
        let mut wakes: Option<Nanos> = None;
        let mut over = vec![];
        for serving in &mut self.serving {
            let (Some(at), false) = (serving.answers_at, serving.dead) else { continue };
            if at > cx.now {
                wakes = Some(wakes.map_or(at, |wakes| wakes.min(at)));
                continue;
            }
            let plan = &cx.plans[serving.id];
            let unavailable = plan.host == HostFault::Unavailable;
            let codec = &mut self.wire.codec;
            let sent = match serving.sent {
                Some(sent) => sent,
                None => {
                    let length = match plan.response_framing {
                        _ if unavailable => "content-length: 0\r\n".into(),
                        Framing::Length => format!("content-length: {}\r\n", plan.response),
                        _ => String::new(),
                    };
                    let kind = if plan.web == Web::No { "" } else { "content-type: application/grpc\r\n" };
                    let lines = format!("x-sim-id: {}\r\n{kind}{length}", serving.id);
                    moved = true;
                    if codec
                        .respond_parts(
                            serving.stream,
                            if unavailable { 503 } else { 200 },
                            lines.as_bytes(),
                            unavailable,
                        )
                        .is_err()
                        || unavailable
                    {
                        over.push(serving.stream);
                        continue;
                    }
                    0
                }
            };
            let cut = matches!(plan.host, HostFault::ResetWithin | HostFault::CloseWithin);
            let most = if cut { plan.response / 2 } else { plan.response };
            let capacity = codec.send_capacity(serving.stream) as u64;
            let to = most.min(sent + capacity.min(64 * 1024));
            let end = to == plan.response && !cut;
            if to > sent || end {
                let mut bytes = vec![];
                body(serving.id, true, sent, to, &mut bytes);
                moved = true;
                let trailing = end && plan.trailers;
                if codec.data(serving.stream, &bytes, end && !trailing).is_err() {
                    over.push(serving.stream);
                    continue;
                }
                if trailing {
                    let _ = codec.trailers(serving.stream, &Trailers::from_section(b"x-trailer: 1\r\n\r\n"));
                }
            }
            serving.sent = Some(to);
            if end {
                over.push(serving.stream);
            } else if cut && to == most {
                cx.coverage.met("h2 host resets within its answer");
                codec.reset(serving.stream, ErrorCode::INTERNAL_ERROR);
                over.push(serving.stream);
            }
        }
        self.serving.retain(|s| !over.contains(&s.stream));
        (moved, wakes)
    }
}

impl Actor for Served {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if self.done {
            return Next::Done;
        }
        for _ in 0..64 {
            let mut bytes = vec![];
            let mut ended = false;
            match cx.read(self.wire.end, 64 * 1024) {
                Read::Bytes(read) => bytes = read,
                Read::Nothing => {}
                Read::End | Read::Broken => ended = true,
            }
            let (seen, well) = self.wire.take(&bytes, cx.now);
            if !well {
                cx.wrong("an h2 host met an error of its connection".into());
            }
            for seen in seen {
                self.see(cx, seen);
                if self.done {
                    return Next::Done;
                }
            }
            let (moved, wakes) = self.send(cx);
            let broken = !self.wire.flush(cx);
            if ended || broken || (cx.leaving && self.serving.iter().any(|s| s.dead)) {
                cx.net.lock().close(self.wire.end);
                return Next::Done;
            }
            if bytes.is_empty() && !moved {
                return earlier(Next::Wait, wakes);
            }
        }
        Next::At(cx.now + 1000)
    }

    fn describe(&self) -> String {
        let all: Vec<_> = self.serving.iter().map(|s| (s.id, s.got, s.whole, s.sent, s.dead)).collect();
        format!("h2 host: end {} serving {all:?}", self.wire.end)
    }
}
