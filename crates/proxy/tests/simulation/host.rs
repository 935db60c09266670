//! Hosts that speak HTTP/1: each request says by its number how it is to be answered.

use std::net::SocketAddr;

use crate::actor::{Actor, Cx, Next, Outbox, Pace, Read, earlier};
use crate::h1::{Part, Reader, field, frame, frame_end};
use crate::net::{EndId, Nanos, Owner};
use crate::plan::{Framing, HostFault, Id, body, differs};
use crate::random::Dice;

/// Which protocol the connections of a host speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
    Raw,
}

/// Accepts connections.
pub struct Host {
    pub address: SocketAddr,
    pub speaks: Speaks,
    pub dice: Dice,
}

impl Actor for Host {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        loop {
            let accepted = cx.net.lock().accept(self.address, Owner::Actor(cx.me));
            let Ok(end) = accepted else { break };
            let dice = self.dice.fork();
            let actor: Box<dyn Actor> = match self.speaks {
                Speaks::Http1 => Box::new(Served::new(dice, end)),
                Speaks::Http2 => Box::new(crate::h2::Served::new(dice, end, cx.now)),
                Speaks::Raw => Box::new(crate::raw::Echo::new(dice, end)),
            };
            cx.spawn(end, actor);
        }
        Next::Wait
    }

    fn describe(&self) -> String {
        format!("host {}", self.address)
    }
}

const SWITCHES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The host's end of one connection.
struct Served {
    dice: Dice,
    end: EndId,
    reader: Reader,
    out: Outbox,
    serving: Option<Serving>,
    /// Neither reads nor writes any more.
    dead: bool,
    /// Closes once all is sent; `Some(true)`: with a reset.
    closes: Option<bool>,
    done: bool,
}

struct Serving {
    id: Id,
    got: u64,
    /// The request is complete.
    whole: bool,
    /// When the answer begins; how much of its body has gone into the outbox.
    answers_at: Option<Nanos>,
    sent: Option<u64>,
}

impl Served {
    fn new(mut dice: Dice, end: EndId) -> Served {
        let pace = Pace::draw(&mut dice);
        Served {
            dice,
            end,
            reader: Reader::new(),
            out: Outbox::new(pace),
            serving: None,
            dead: false,
            closes: None,
            done: false,
        }
    }

    fn close(&mut self, cx: &mut Cx<'_>, reset: bool) {
        let mut net = cx.net.lock();
        if reset {
            net.abort(self.end);
        } else {
            net.close(self.end);
        }
        self.done = true;
    }

    fn parts(&mut self, cx: &mut Cx<'_>) {
        loop {
            // One request at a time: no proxy of ours sends ahead.
            let part = match self.reader.next(false) {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(what) => return cx.wrong(format!("a host got what is no HTTP: {what}")),
            };
            match part {
                Part::Head(head) => {
                    if let Some(serving) = &self.serving {
                        return cx.wrong(format!("a host got a request while it served {}", serving.id));
                    }
                    let Some(id) = field(&head, "x-sim").and_then(|id| id.parse::<usize>().ok()) else {
                        return cx.wrong(format!("a host got what nobody asked: {head:?}"));
                    };
                    cx.fates[id].seen += 1;
                    cx.say(|| format!("h1 host on end {} gets {head:?}; {:?}", self.end, cx.plan(id)));
                    let fault = cx.plan(id).host;
                    if field(&head, "upgrade").is_some() {
                        self.out.bytes.extend_from_slice(SWITCHES);
                        let mut echo = crate::raw::Echo::new(self.dice.fork(), self.end);
                        echo.begin(std::mem::take(&mut self.out.bytes), self.reader.rest());
                        cx.spawn(self.end, Box::new(echo));
                        self.done = true;
                        return;
                    }
                    self.serving = Some(Serving { id, got: 0, whole: false, answers_at: None, sent: None });
                    cx.coverage.met(fault.point());
                    match fault {
                        HostFault::ResetFirst => return self.close(cx, true),
                        HostFault::CloseFirst => return self.close(cx, false),
                        HostFault::Dead => {
                            self.dead = true;
                            return;
                        }
                        HostFault::Early => self.answer(cx),
                        _ => {}
                    }
                    if field(&head, "expect").is_some() && fault != HostFault::Early {
                        self.out.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                }
                Part::Body(bytes) => {
                    let Some(serving) = &mut self.serving else { continue };
                    if let Some(at) = differs(serving.id, false, serving.got, &bytes) {
                        cx.wrong.push(format!("the request of {} differs at {at}", serving.id));
                    }
                    serving.got += bytes.len() as u64;
                }
                Part::End => {
                    let Some(serving) = &mut self.serving else { continue };
                    serving.whole = true;
                    cx.request_ended(serving.id, serving.got);
                    // One that answered before the request had ended has answered.
                    if serving.answers_at.is_none() && serving.sent.is_none() {
                        self.answer(cx);
                    }
                    self.is_served(cx);
                }
            }
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>) {
        let Some(serving) = &mut self.serving else { return };
        serving.answers_at = Some(cx.now + cx.plans[serving.id].thinks);
    }

    fn fill(&mut self, cx: &mut Cx<'_>) -> Option<Nanos> {
        let Some(serving) = &mut self.serving else { return None };
        let at = serving.answers_at?;
        if at > cx.now {
            return Some(at);
        }
        let plan = &cx.plans[serving.id];
        let unavailable = plan.host == HostFault::Unavailable;
        let out = &mut self.out.bytes;
        let sent = match serving.sent {
            Some(sent) => sent,
            None => {
                if plan.host == HostFault::Garbage {
                    out.extend_from_slice(b"SSH-2.0-this is no HTTP\r\n\r\n");
                    self.closes = Some(false);
                    return None;
                }
                let framing = match plan.response_framing {
                    _ if unavailable => "content-length: 0\r\n".to_owned(),
                    Framing::Length => format!("content-length: {}\r\n", plan.response),
                    Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
                    Framing::Close => String::new(),
                };
                let status = if unavailable { "503 Service Unavailable" } else { "200 OK" };
                out.extend_from_slice(
                    format!("HTTP/1.1 {status}\r\nx-sim-id: {}\r\n{framing}\r\n", serving.id).as_bytes(),
                );
                0
            }
        };
        let all = if unavailable { 0 } else { plan.response };
        let cut = matches!(plan.host, HostFault::ResetWithin | HostFault::CloseWithin);
        let most = if cut { all / 2 } else { all };
        let to = most.min(sent + self.dice.between(1, 64 * 1024));
        let mut bytes = vec![];
        body(serving.id, true, sent, to, &mut bytes);
        frame(plan.response_framing, &bytes, out);
        serving.sent = Some(to);
        if to < most {
            return None;
        }
        serving.answers_at = None;
        if cut {
            self.closes = Some(plan.host == HostFault::ResetWithin);
            return None;
        }
        if !unavailable {
            frame_end(plan.response_framing, plan.trailers, out);
        }
        if plan.host == HostFault::TooMuch {
            out.extend_from_slice(b"and more");
        }
        if plan.response_framing == Framing::Close && !unavailable {
            self.closes = Some(false);
        }
        self.is_served(cx);
        None
    }

    fn is_served(&mut self, cx: &mut Cx<'_>) {
        let Some(serving) = &self.serving else { return };
        let answered = serving.sent.is_some() && serving.answers_at.is_none();
        if !answered {
            return;
        }
        if serving.whole {
            self.serving = None;
        } else if cx.plans[serving.id].host != HostFault::Early {
            self.closes = Some(false);
        }
    }
}

impl Actor for Served {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if self.done {
            return Next::Done;
        }
        if self.dead {
            if cx.leaving || cx.net.lock().is_dead(self.end) {
                self.close(cx, true);
                return Next::Done;
            }
            return Next::Wait;
        }
        for _ in 0..64 {
            let mut came = false;
            if self.closes.is_none() {
                match cx.read(self.end, 64 * 1024) {
                    Read::Bytes(bytes) => {
                        came = true;
                        self.reader.feed(&bytes);
                        self.parts(cx);
                        if self.done {
                            return Next::Done;
                        }
                        if self.dead {
                            return Next::Wait;
                        }
                    }
                    Read::Nothing => {}
                    Read::End | Read::Broken => {
                        self.close(cx, false);
                        return Next::Done;
                    }
                }
            }
            let mut waits = None;
            if self.out.left() < 64 * 1024 && self.closes.is_none() {
                waits = self.fill(cx);
            }
            let mut dice = self.dice.fork();
            let Some(paced) = self.out.flush(cx, &mut dice, self.end) else {
                self.close(cx, false);
                return Next::Done;
            };
            if self.out.left() == 0
                && let Some(reset) = self.closes
            {
                self.close(cx, reset);
                return Next::Done;
            }
            let more = self.out.left() == 0
                && self
                    .serving
                    .as_ref()
                    .is_some_and(|serving| serving.answers_at.is_some_and(|at| at <= cx.now));
            if !more && !came {
                return earlier(earlier(Next::Wait, waits), paced);
            }
        }
        Next::At(cx.now + 1000)
    }

    fn describe(&self) -> String {
        let serving = self
            .serving
            .as_ref()
            .map(|serving| (serving.id, serving.got, serving.whole, serving.sent, serving.answers_at));
        format!(
            "h1 host: end {} serving {serving:?} out {} closes {:?} dead {}",
            self.end,
            self.out.left(),
            self.closes,
            self.dead
        )
    }
}

impl HostFault {
    pub fn point(self) -> &'static str {
        match self {
            HostFault::None => "h1 host answers",
            HostFault::ResetFirst => "h1 host resets first",
            HostFault::CloseFirst => "h1 host closes first",
            HostFault::ResetWithin => "h1 host resets within its answer",
            HostFault::CloseWithin => "h1 host closes within its answer",
            HostFault::TooMuch => "h1 host sends too much",
            HostFault::Garbage => "h1 host answers what is no HTTP",
            HostFault::Dead => "h1 host is dead",
            HostFault::Early => "h1 host answers early",
            HostFault::Unavailable => "h1 host is unavailable",
        }
    }
}
