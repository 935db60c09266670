//! A client of HTTP/2.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wire::h1::Scheme;
use wire::h2::{Config, Connection, ErrorCode, OpenError, RequestParts, Scratch, Stream, Trailers};

use super::{Seen, Wire};
use crate::actor::{Actor, Cx, Next, Read};
use crate::config::{DIRECT, MAIN, address};
use crate::net::{MILLI, Nanos, Owner, SECOND};
use crate::plan::{ClientFault, Framing, Id, body, differs};
use crate::random::Dice;

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
