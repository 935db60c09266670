//! Clients and hosts: small machines that are stepped when something happens to their connections or their time has come.

use crate::coverage::Coverage;
use crate::net::{EndId, Nanos, Net};
use crate::plan::{Fate, Id, Plan};
use crate::random::Dice;

/// When an actor is stepped again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something happens to its connections.
    Wait,
    /// Then too, and at this time at the latest.
    At(Nanos),
    Done,
}

pub trait Actor {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next;
    /// What it waits for, for people.
    fn describe(&self) -> String;
}

/// What an actor may touch.
pub struct Cx<'w> {
    pub now: Nanos,
    pub me: usize,
    pub net: &'w Net,
    pub plans: &'w [Plan],
    pub fates: &'w mut Vec<Fate>,
    pub born: &'w mut Vec<(usize, Box<dyn Actor>)>,
    /// The number the next actor will have.
    pub next_actor: usize,
    pub coverage: &'w mut Coverage,
    pub wrong: &'w mut Vec<String>,
    /// All is over but what does not heal: whoever only waits goes.
    pub leaving: bool,
}

impl Cx<'_> {
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// A host has the whole request, of which it got so many bytes.
    pub fn request_ended(&mut self, id: Id, got: u64) {
        let plan = &self.plans[id];
        if plan.post && got != plan.request {
            self.wrong(format!("the request of {id} ended after {got} of {}", plan.request));
        }
    }

    /// Another actor, for a connection that was accepted.
    pub fn spawn(&mut self, end: EndId, actor: Box<dyn Actor>) {
        let number = self.next_actor + self.born.len();
        self.net.lock().owned_by(end, number);
        self.born.push((number, actor));
    }

    pub fn read(&mut self, end: EndId, most: usize) -> Read {
        match self.net.lock().read_some(end, most) {
            Ok(bytes) if bytes.is_empty() => Read::End,
            Ok(bytes) => Read::Bytes(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Read::Nothing,
            Err(_) => Read::Broken,
        }
    }

    /// How much went; `None`: the connection is broken.
    pub fn write(&mut self, end: EndId, bytes: &[u8]) -> Option<usize> {
        match self.net.lock().write(end, [bytes, &[]]) {
            Ok(length) => Some(length),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    pub fn plan(&self, id: Id) -> &Plan {
        &self.plans[id]
    }

    /// For whoever reads a trace.
    pub fn say(&self, text: impl FnOnce() -> String) {
        self.net.lock().trace.say(text);
    }
}

pub enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Broken,
}

/// How bytes leave: in pieces, with pauses.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Pieces of at most so many bytes; 0 for all at once.
    pub piece: u64,
    pub pause: Nanos,
}

impl Pace {
    pub fn draw(dice: &mut Dice) -> Pace {
        match dice.below(4) {
            0 => Pace { piece: dice.between(1, 40), pause: dice.below(200_000) },
            1 => Pace { piece: dice.between(1, 3000), pause: dice.below(2_000_000) },
            _ => Pace { piece: 0, pause: 0 },
        }
    }

    /// The size of the next piece, of so many bytes. Nobody trickles for ever: what is much goes faster.
    pub fn take(&self, dice: &mut Dice, have: usize) -> usize {
        match self.piece {
            0 => have,
            piece if have as u64 > piece * 50 => have / 3,
            piece => have.min(dice.between(1, piece) as usize),
        }
    }
}

/// Bytes on their way out.
pub struct Outbox {
    pub bytes: Vec<u8>,
    at: usize,
    next: Nanos,
    pub pace: Pace,
}

impl Outbox {
    pub fn new(pace: Pace) -> Outbox {
        Outbox { bytes: vec![], at: 0, next: 0, pace }
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Sends what may go now. `None`: broken. Else when to come back, if the network does not say so itself.
    pub fn flush(&mut self, cx: &mut Cx<'_>, dice: &mut Dice, end: EndId) -> Option<Option<Nanos>> {
        while self.left() > 0 {
            if self.next > cx.now {
                return Some(Some(self.next));
            }
            let piece = self.pace.take(dice, self.left());
            let sent = cx.write(end, &self.bytes[self.at..self.at + piece])?;
            self.at += sent;
            if self.pace.pause > 0 {
                self.next = cx.now + 1 + dice.below(self.pace.pause);
            }
            if sent < piece {
                return Some(None);
            }
        }
        self.bytes.clear();
        self.at = 0;
        Some(None)
    }
}

/// The earlier of what may come.
pub fn earlier(one: Next, at: Option<Nanos>) -> Next {
    match (one, at) {
        (Next::Done, _) => Next::Done,
        (one, None) => one,
        (Next::Wait, Some(at)) => Next::At(at),
        (Next::At(one), Some(at)) => Next::At(one.min(at)),
    }
}
