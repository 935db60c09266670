//! Bytes both ways: raw TCP, and what an upgrade or a CONNECT leads to. The host gives back what it gets.

use crate::actor::{Actor, Cx, Next, Outbox, Pace, Read, earlier};
use crate::config::{MAIN, RAW, address};
use crate::net::{EndId, Nanos, Owner};
use crate::plan::{ClientFault, HostFault, Id, body, differs};
use crate::random::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plain,
    WebSocket,
    Connect,
}

/// The client: says so many bytes, ends its direction, gets as many back and the end.
pub struct Client {
    dice: Dice,
    id: Id,
    way: Way,
    begins: Nanos,
    end: Option<EndId>,
    out: Outbox,
    said: u64,
    got: u64,
    /// The head of the answer, while it is not complete.
    head: Option<Vec<u8>>,
    ended: bool,
    stalled: bool,
    reads: usize,
}

impl Client {
    pub fn new(dice: &mut Dice, id: Id, begins: Nanos, way: Way) -> Client {
        let mut dice = dice.fork();
        Client {
            id,
            way,
            begins,
            end: None,
            out: Outbox::new(Pace::draw(&mut dice)),
            said: 0,
            got: 0,
            head: (way != Way::Plain).then(Vec::new),
            ended: false,
            stalled: false,
            reads: *dice.pick(&[100, 5_000, 256 * 1024]),
            dice,
        }
    }

    fn done(&mut self, cx: &mut Cx<'_>, reset: bool) -> Next {
        if let Some(end) = self.end.take() {
            if reset { cx.net.lock().abort(end) } else { cx.net.lock().close(end) }
        }
        cx.fates[self.id].ended = true;
        Next::Done
    }
}

impl Actor for Client {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        let Some(end) = self.end else {
            let to = address(if self.way == Way::Plain { RAW } else { MAIN });
            let room = *self.dice.pick(&[1_000, 64 * 1024]);
            let Ok((end, _)) = cx.net.lock().connect(Owner::Actor(cx.me), to, None, None, room) else {
                return Next::Done;
            };
            self.end = Some(end);
            cx.fates[self.id].asked = true;
            let head = match self.way {
                Way::Plain => String::new(),
                Way::WebSocket => format!(
                    "GET /h1/ws HTTP/1.1\r\nhost: sim.local\r\nx-sim: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                    self.id
                ),
                Way::Connect => format!(
                    "CONNECT far.local:80 HTTP/1.1\r\nhost: far.local:80\r\nx-sim: {}\r\n\r\n",
                    self.id
                ),
            };
            self.out.bytes.extend_from_slice(head.as_bytes());
            return self.step(cx);
        };
        let plan = cx.plan(self.id).clone();
        if cx.net.lock().is_connecting(end) || self.stalled {
            return if cx.leaving { self.done(cx, true) } else { Next::Wait };
        }
        for _ in 0..64 {
            let mut idle = true;
            match cx.read(end, self.reads) {
                Read::Bytes(mut bytes) => {
                    idle = false;
                    if let Some(head) = &mut self.head {
                        head.extend_from_slice(&bytes);
                        let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                        bytes = head.split_off(at + 4);
                        let status = crate::h1::status(&String::from_utf8_lossy(head));
                        self.head = None;
                        cx.fates[self.id].status = status;
                        if status != if self.way == Way::WebSocket { 101 } else { 200 } {
                            return self.done(cx, false);
                        }
                        cx.coverage.met(if self.way == Way::WebSocket {
                            "upgraded"
                        } else {
                            "connected by CONNECT"
                        });
                    }
                    if let Some(at) = differs(self.id, false, self.got, &bytes) {
                        cx.wrong(format!("what came back of {} differs at {at}", self.id));
                    }
                    self.got += bytes.len() as u64;
                    if plan.client == ClientFault::ResetInResponse {
                        cx.coverage.met("raw client resets");
                        return self.done(cx, true);
                    }
                }
                Read::Nothing => {}
                Read::End => {
                    let whole = self.got == plan.request && self.ended;
                    cx.fates[self.id].whole = whole;
                    return self.done(cx, false);
                }
                Read::Broken => return self.done(cx, false),
            }
            let fault = plan.client;
            let most = if matches!(fault, ClientFault::StallInBody | ClientFault::ResetInBody) {
                plan.request / 2
            } else {
                plan.request
            };
            if self.head.is_none() && self.out.left() < 16 * 1024 && self.said < most {
                let to = most.min(self.said + self.dice.between(1, 32 * 1024));
                body(self.id, false, self.said, to, &mut self.out.bytes);
                self.said = to;
                idle = false;
            }
            let mut dice = self.dice.fork();
            let Some(paced) = self.out.flush(cx, &mut dice, end) else { return self.done(cx, false) };
            if self.out.left() == 0 && self.head.is_none() && self.said == most && !self.ended {
                match fault {
                    ClientFault::ResetInBody | ClientFault::ResetWhileWaiting => {
                        cx.coverage.met("raw client resets");
                        return self.done(cx, true);
                    }
                    ClientFault::StallInBody | ClientFault::StallInHead => {
                        cx.coverage.met("raw client stalls");
                    }
                    ClientFault::NeverReads => {
                        cx.coverage.met("raw client never reads");
                        self.stalled = true;
                        return Next::Wait;
                    }
                    _ => {
                        cx.coverage.met("raw client half-closes");
                        let _ = cx.net.lock().shutdown(end);
                        self.ended = true;
                    }
                }
            }
            if idle {
                return earlier(Next::Wait, paced);
            }
        }
        Next::At(cx.now + 1000)
    }

    fn describe(&self) -> String {
        format!(
            "{:?} client {}: said {} got {} ended {} end {:?}",
            self.way, self.id, self.said, self.got, self.ended, self.end
        )
    }
}

/// Gives back what it gets, and its end.
pub struct Echo {
    end: EndId,
    out: Outbox,
    dice: Dice,
    ended: bool,
    said_end: bool,
    /// After so many bytes it reads no more, or resets.
    fails_after: Option<(u64, HostFault)>,
    got: u64,
    dead: bool,
}

impl Echo {
    pub fn new(mut dice: Dice, end: EndId) -> Echo {
        let fails_after = match dice.below(12) {
            0 => Some((dice.size(50_000), HostFault::Dead)),
            1 => Some((dice.size(50_000), HostFault::ResetWithin)),
            2 => Some((dice.size(50_000), HostFault::CloseWithin)),
            _ => None,
        };
        Echo {
            end,
            out: Outbox::new(Pace::draw(&mut dice)),
            dice,
            ended: false,
            said_end: false,
            fails_after,
            got: 0,
            dead: false,
        }
    }

    /// What it says first, and what came already.
    pub fn begin(&mut self, says: Vec<u8>, came: Vec<u8>) {
        self.out.bytes = says;
        self.got = came.len() as u64;
        self.out.bytes.extend(came);
    }
}

impl Actor for Echo {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if self.dead {
            if cx.leaving || cx.net.lock().is_dead(self.end) {
                cx.net.lock().abort(self.end);
                return Next::Done;
            }
            return Next::Wait;
        }
        for _ in 0..64 {
            let mut idle = true;
            if self.out.left() < 64 * 1024 && !self.ended {
                match cx.read(self.end, 16 * 1024) {
                    Read::Bytes(bytes) => {
                        idle = false;
                        self.got += bytes.len() as u64;
                        self.out.bytes.extend_from_slice(&bytes);
                    }
                    Read::Nothing => {}
                    Read::End => self.ended = true,
                    Read::Broken => {
                        cx.net.lock().close(self.end);
                        return Next::Done;
                    }
                }
            }
            if let Some((after, how)) = self.fails_after
                && self.got > after
            {
                match how {
                    HostFault::Dead => {
                        cx.coverage.met("raw host is dead");
                        self.dead = true;
                        return Next::Wait;
                    }
                    HostFault::ResetWithin => {
                        cx.coverage.met("raw host resets");
                        cx.net.lock().abort(self.end);
                    }
                    _ => {
                        cx.coverage.met("raw host closes");
                        cx.net.lock().close(self.end);
                    }
                }
                return Next::Done;
            }
            let mut dice = self.dice.fork();
            let Some(paced) = self.out.flush(cx, &mut dice, self.end) else {
                cx.net.lock().close(self.end);
                return Next::Done;
            };
            if self.ended && self.out.left() == 0 && !self.said_end {
                self.said_end = true;
                let _ = cx.net.lock().shutdown(self.end);
            }
            if self.said_end {
                cx.net.lock().close(self.end);
                return Next::Done;
            }
            if idle {
                return earlier(Next::Wait, paced);
            }
        }
        Next::At(cx.now + 1000)
    }

    fn describe(&self) -> String {
        format!(
            "echo: end {} got {} out {} ended {} dead {}",
            self.end,
            self.got,
            self.out.left(),
            self.ended,
            self.dead
        )
    }
}
