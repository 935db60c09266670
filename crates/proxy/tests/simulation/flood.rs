//! A client that asks again and again for small answers and reads none of them.

use crate::actor::{Actor, Cx, Next};
use crate::config::{MAIN, address};
use crate::net::{EndId, MILLI, Nanos, Owner};
use crate::random::Dice;

pub struct Flood {
    begins: Nanos,
    end: Option<EndId>,
    asked: u32,
    request: &'static str,
}

/// As much as makes megabytes of answers.
const MOST: u32 = 2_000;

impl Flood {
    pub fn new(dice: &mut Dice, begins: Nanos) -> Flood {
        let request = *dice.pick(&[
            "GET /direct HTTP/1.1\r\nhost: sim.local\r\n\r\n",
            "GET /nowhere HTTP/1.1\r\nhost: sim.local\r\n\r\n",
            "GET /redirect HTTP/1.1\r\nhost: sim.local\r\n\r\n",
        ]);
        Flood { begins, end: None, asked: 0, request }
    }
}

impl Actor for Flood {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        let Some(end) = self.end else {
            self.end = cx
                .net
                .lock()
                .connect(Owner::Actor(cx.me), address(MAIN), None, None, 4_000)
                .ok()
                .map(|(end, _)| end);
            cx.coverage.met("h1 flood that reads nothing");
            return Next::Wait;
        };
        if cx.leaving || cx.net.lock().is_dead(end) {
            cx.net.lock().abort(end);
            return Next::Done;
        }
        if cx.net.lock().is_connecting(end) {
            return Next::Wait;
        }
        while self.asked < MOST {
            let many = self.request.repeat(20);
            match cx.write(end, many.as_bytes()) {
                Some(sent) if sent == many.len() => self.asked += 20,
                // A piece of a request may have gone: it is of no use to go on.
                _ => {
                    self.asked = MOST;
                    return Next::Wait;
                }
            }
            if self.asked.is_multiple_of(200) {
                return Next::At(cx.now + MILLI / 10);
            }
        }
        Next::Wait
    }

    fn describe(&self) -> String {
        format!("flood: end {:?} asked {}", self.end, self.asked)
    }
}
