//! A client that asks again and again for small answers and reads none of them.

use crate::actor::{Actor, Cx, Next};
use crate::config::{MAIN, address};
use crate::net::{EndId, MILLI, Nanos, Owner};
use crate::random::Dice;

pub struct Flood {
    begins: Nanos,
    end: Option<EndId>,
    asked: u32,
    what: What,
    /// Part of a request that did not go out yet.
    rest: Vec<u8>,
}

enum What {
    Http1(&'static str),
    /// Redirects whose requests say something long that is logged.
    LongLines,
    /// Redirects, whose answers have no body: their streams are closed at once.
    Http2,
}

/// As much as makes megabytes of answers.
const MOST: u32 = 12_000;
const AT_ONCE: u32 = 50;

impl Flood {
    pub fn new(dice: &mut Dice, begins: Nanos) -> Flood {
        let what = match dice.below(6) {
            0 => What::Http1("GET /direct HTTP/1.1\r\nhost: sim.local\r\n\r\n"),
            1 => What::Http1("GET /nowhere HTTP/1.1\r\nhost: sim.local\r\n\r\n"),
            2 => What::Http1("GET /redirect HTTP/1.1\r\nhost: sim.local\r\n\r\n"),
            _ => What::Http2,
        };
        Flood { begins, end: None, asked: 0, what, rest: vec![] }
    }

    pub fn of_long_lines(begins: Nanos) -> Flood {
        Flood { begins, end: None, asked: 0, what: What::LongLines, rest: vec![] }
    }

    fn most(&self) -> u32 {
        match self.what {
            // More than a full buffer of lines and what waits in the queue behind it.
            What::LongLines => 600,
            What::Http1(_) => MOST,
            // Its answers are heads of few bytes.
            What::Http2 => 2 * MOST,
        }
    }

    fn more(&mut self) {
        match self.what {
            What::Http1(request) => self.rest = request.repeat(AT_ONCE as usize).into_bytes(),
            What::LongLines => {
                let said = "l".repeat(4_000);
                let request = format!("GET /redirect HTTP/1.1\r\nhost: sim.local\r\nx-sim: {said}\r\n\r\n");
                self.rest = request.repeat(AT_ONCE as usize).into_bytes();
            }
            What::Http2 => {
                if self.asked == 0 {
                    self.rest.extend_from_slice(wire::h2::PREFACE);
                    self.rest.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
                }
                for number in self.asked..self.asked + AT_ONCE {
                    // GET, http, `:path` and `:authority` as literals: HEADERS with END_STREAM and END_HEADERS.
                    let mut block = vec![0x82, 0x86, 0x04, 9];
                    block.extend_from_slice(b"/redirect");
                    block.extend_from_slice(&[0x01, 9]);
                    block.extend_from_slice(b"sim.local");
                    self.rest.extend_from_slice(&[0, 0, block.len() as u8, 1, 5]);
                    self.rest.extend_from_slice(&(number * 2 + 1).to_be_bytes());
                    self.rest.extend(block);
                }
            }
        }
        self.asked += AT_ONCE;
    }
}

impl Actor for Flood {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        let Some(end) = self.end else {
            let made = cx.net.lock().connect(Owner::Actor(cx.me), address(MAIN), None, None, 4_000);
            self.end = made.ok().map(|(end, _)| end);
            cx.coverage.met(match self.what {
                What::Http1(_) => "h1 flood that reads nothing",
                What::LongLines => "h1 flood of long log lines",
                What::Http2 => "h2 flood that reads nothing",
            });
            return Next::Wait;
        };
        if cx.leaving || cx.net.lock().is_dead(end) {
            cx.net.lock().abort(end);
            return Next::Done;
        }
        if cx.net.lock().is_connecting(end) {
            return Next::Wait;
        }
        for _ in 0..10 {
            if self.rest.is_empty() {
                if self.asked >= self.most() {
                    return Next::Wait;
                }
                self.more();
            }
            let Some(sent) = cx.write(end, &self.rest) else { return Next::Wait };
            self.rest.drain(..sent);
            if !self.rest.is_empty() {
                return Next::Wait;
            }
        }
        Next::At(cx.now + MILLI / 10)
    }

    fn describe(&self) -> String {
        format!("flood: end {:?} asked {}", self.end, self.asked)
    }
}
