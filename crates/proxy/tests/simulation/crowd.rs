//! Many connections at once, more than a worker serves in one turn: each asks for many small answers, reads them and asks
//! anew. Whoever is not served in order shows here.

use crate::actor::{Actor, Cx, Next, Read};
use crate::config::{MAIN, address};
use crate::net::{EndId, Nanos, Owner};
use crate::random::Dice;

const REQUEST: &str = "GET /redirect HTTP/1.1\r\nhost: sim.local\r\n\r\n";
/// Requests sent at once: fewer than ten connections use up what a turn may do.
const AT_ONCE: u32 = 60;

pub struct Crowd {
    begins: Nanos,
    many: usize,
    rounds: u32,
    all: Vec<One>,
}

struct One {
    end: EndId,
    rest: Vec<u8>,
    rounds: u32,
    /// Answers still to come.
    open: u32,
    /// Bytes of the end of a head seen so far.
    matched: usize,
    over: bool,
}

impl Crowd {
    pub fn new(dice: &mut Dice, begins: Nanos) -> Crowd {
        Crowd { begins, many: dice.between(20, 60) as usize, rounds: dice.between(2, 4) as u32, all: vec![] }
    }
}

impl One {
    fn step(&mut self, cx: &mut Cx<'_>) {
        if self.over || cx.net.lock().is_connecting(self.end) {
            return;
        }
        loop {
            match cx.read(self.end, 64 * 1024) {
                Read::Bytes(bytes) => self.count(&bytes),
                Read::Nothing => break,
                Read::End | Read::Broken => {
                    cx.net.lock().close(self.end);
                    self.over = true;
                    return;
                }
            }
        }
        if self.open == 0 && self.rest.is_empty() && self.rounds > 0 {
            self.rounds -= 1;
            self.open = AT_ONCE;
            self.rest = REQUEST.repeat(AT_ONCE as usize).into_bytes();
        }
        if !self.rest.is_empty()
            && let Some(sent) = cx.write(self.end, &self.rest)
        {
            self.rest.drain(..sent);
        }
    }

    /// Answers have no bodies: each ends with its head.
    fn count(&mut self, bytes: &[u8]) {
        const END: &[u8] = b"\r\n\r\n";
        for byte in bytes {
            self.matched = match (*byte == END[self.matched], *byte) {
                (true, _) => self.matched + 1,
                (false, b'\r') => 1,
                _ => 0,
            };
            if self.matched == END.len() {
                self.matched = 0;
                self.open = self.open.saturating_sub(1);
            }
        }
    }
}

impl Actor for Crowd {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        if self.all.is_empty() {
            cx.coverage.met("h1 crowd");
            for _ in 0..self.many {
                let made = cx.net.lock().connect(Owner::Actor(cx.me), address(MAIN), None, None, 64 * 1024);
                let Ok((end, _)) = made else { continue };
                let rounds = self.rounds;
                self.all.push(One { end, rest: vec![], rounds, open: 0, matched: 0, over: false });
            }
        }
        for one in &mut self.all {
            one.step(cx);
        }
        if cx.leaving {
            for one in self.all.iter().filter(|one| !one.over) {
                if one.open > 0 {
                    cx.wrong.push(format!("one of a crowd still waits for {} answers", one.open));
                }
                cx.net.lock().abort(one.end);
            }
            return Next::Done;
        }
        Next::Wait
    }

    fn describe(&self) -> String {
        let waiting = self.all.iter().filter(|one| !one.over && one.open > 0).count();
        format!("crowd: {} connections, {waiting} wait", self.all.len())
    }
}
