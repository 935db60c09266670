//! The host that copies of requests go to. What it does with them must not be felt by anybody.

use crate::actor::{Actor, Cx, Next, Outbox, Pace, Read, earlier};
use crate::config::{SHADOW, address};
use crate::h1::{Part, Reader, field};
use crate::net::{EndId, MILLI, Nanos, Owner};
use crate::plan::{Id, body, differs};
use crate::random::Dice;

pub struct Shadow {
    pub dice: Dice,
}

impl Actor for Shadow {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        loop {
            let accepted = cx.net.lock().accept(address(SHADOW), Owner::Actor(cx.me));
            let Ok(end) = accepted else { return Next::Wait };
            let mut dice = self.dice.fork();
            let out = Outbox::new(Pace::draw(&mut dice));
            let reader = Reader::new();
            cx.spawn(
                end,
                Box::new(Served { dice, end, reader, out, copy: None, answers_at: None, dead: false }),
            );
        }
    }

    fn describe(&self) -> String {
        "host of copies".into()
    }
}

struct Served {
    dice: Dice,
    end: EndId,
    reader: Reader,
    out: Outbox,
    /// Of which request a copy is read, and how much of its body has come.
    copy: Option<(Id, u64)>,
    answers_at: Option<Nanos>,
    dead: bool,
}

impl Served {
    /// False: the connection is given up.
    fn part(&mut self, cx: &mut Cx<'_>, part: Part) -> bool {
        match part {
            Part::Head(head) => {
                let Some(id) = field(&head, "x-sim").and_then(|id| id.parse::<usize>().ok()) else {
                    cx.wrong(format!("a copy of what nobody asked: {head:?}"));
                    return false;
                };
                cx.coverage.met("a copy is asked of its host");
                self.copy = Some((id, 0));
                match self.dice.below(8) {
                    0 => {
                        cx.coverage.met("a host of copies is dead");
                        self.dead = true;
                    }
                    1 => {
                        cx.coverage.met("a host of copies resets");
                        cx.net.lock().abort(self.end);
                        return false;
                    }
                    2 => {
                        cx.coverage.met("a host of copies answers what is no HTTP");
                        self.out.bytes.extend_from_slice(b"SSH-2.0-this is no HTTP\r\n\r\n");
                    }
                    _ => {}
                }
            }
            Part::Body(bytes) => {
                let Some((id, got)) = &mut self.copy else { return true };
                if let Some(at) = differs(*id, false, *got, &bytes) {
                    cx.wrong.push(format!("the copy of {id} differs at {at}"));
                }
                *got += bytes.len() as u64;
            }
            Part::End => {
                let Some((id, got)) = self.copy else { return true };
                let plan = cx.plan(id);
                if plan.post && got != plan.request {
                    cx.wrong(format!("the copy of {id} has {got} bytes"));
                }
                self.answers_at = Some(cx.now + self.dice.below(20 * MILLI));
            }
        }
        true
    }

    /// Says an answer nobody waits for.
    fn answer(&mut self, now: Nanos) {
        if self.answers_at.is_none_or(|at| at > now) {
            return;
        }
        self.answers_at = None;
        let Some((id, _)) = self.copy.take() else { return };
        let length = self.dice.size(200_000);
        let status = if self.dice.one_in(4) { "503 Service Unavailable" } else { "200 OK" };
        let head = format!("HTTP/1.1 {status}\r\nx-sim-id: shadow-{id}\r\ncontent-length: {length}\r\n\r\n");
        self.out.bytes.extend_from_slice(head.as_bytes());
        body(id, true, 0, length, &mut self.out.bytes);
    }
}

impl Actor for Served {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if self.dead {
            if cx.leaving || cx.net.lock().is_dead(self.end) {
                cx.net.lock().abort(self.end);
                return Next::Done;
            }
            return Next::Wait;
        }
        loop {
            match cx.read(self.end, 64 * 1024) {
                Read::Bytes(bytes) => self.reader.feed(&bytes),
                Read::Nothing => break,
                Read::End | Read::Broken => {
                    cx.net.lock().close(self.end);
                    return Next::Done;
                }
            }
            loop {
                match self.reader.next(false) {
                    Ok(Some(part)) => {
                        if !self.part(cx, part) {
                            return Next::Done;
                        }
                    }
                    Ok(None) => break,
                    Err(what) => {
                        cx.wrong(format!("a host of copies got what is no HTTP: {what}"));
                        return Next::Done;
                    }
                }
            }
            if self.dead {
                return Next::Wait;
            }
        }
        self.answer(cx.now);
        let mut dice = self.dice.fork();
        let Some(paced) = self.out.flush(cx, &mut dice, self.end) else {
            cx.net.lock().close(self.end);
            return Next::Done;
        };
        earlier(earlier(Next::Wait, self.answers_at), paced)
    }

    fn describe(&self) -> String {
        format!("shadow: end {} copy {:?} out {} dead {}", self.end, self.copy, self.out.left(), self.dead)
    }
}
