//! Connections that come and go without a word, in any order: whoever comes after them gets their places in the worker's
//! tables in an order that nobody chose.

use crate::actor::{Actor, Cx, Next};
use crate::config::{MAIN, address};
use crate::net::{EndId, Nanos, Owner, SECOND};
use crate::random::Dice;

pub struct Visitors {
    dice: Dice,
    begins: Nanos,
    here: Vec<EndId>,
    left: u64,
}

impl Visitors {
    pub fn new(dice: &mut Dice, begins: Nanos) -> Visitors {
        let mut dice = dice.fork();
        Visitors { left: dice.between(5, 60), begins, here: vec![], dice }
    }
}

impl Actor for Visitors {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        if cx.leaving {
            self.here.iter().for_each(|end| cx.net.lock().close(*end));
            return Next::Done;
        }
        cx.coverage.met("visitors come and go");
        let mut net = cx.net.lock();
        for _ in 0..self.dice.between(1, 6) {
            let some = self.here.len() as u64;
            if self.left > 0 && (some == 0 || self.dice.one_in(2)) {
                self.left -= 1;
                let made = net.connect(Owner::Actor(cx.me), address(MAIN), None, None, 4_000);
                self.here.extend(made.ok().map(|(end, _)| end));
            } else if some > 0 {
                let end = self.here.swap_remove(self.dice.below(some) as usize);
                if self.dice.one_in(4) { net.abort(end) } else { net.close(end) }
            }
        }
        if self.left == 0 && self.here.is_empty() {
            return Next::Done;
        }
        // Some stay until they are told to go.
        Next::At(cx.now + self.dice.below(if self.left > 0 { SECOND / 50 } else { 20 * SECOND }))
    }

    fn describe(&self) -> String {
        format!("visitors: {} here, {} to come", self.here.len(), self.left)
    }
}
