//! The exchanges of a worker.

use crate::clock::Time;
use crate::exchange::Exchange;
use crate::exchange::sides::ClientSide;
use crate::exchange_id::ExchangeId;
use crate::net::timers::Wheel;
use crate::table::Table;

/// The exchanges under way. Finished ones are kept for their memory: a small request allocates nothing.
pub struct Exchanges {
    /// `None` in an occupied place while somebody works on it.
    places: Table<Option<Box<Exchange>>>,
    #[allow(clippy::vec_box, reason = "boxes move between here and `places`")]
    spare: Vec<Box<Exchange>>,
    /// How many have been given a number, and how many have ended.
    passed: usize,
    /// Deadlines of exchanges that share their client's connection with others; one that has the connection for itself
    /// uses that socket's.
    wheel: Wheel,
}

/// Spare exchanges kept under load; more are given back to the allocator.
const SPARE: usize = 256;
/// Those kept while nothing is to do, so that a burst leaves no lasting mark.
const SPARE_IDLE: usize = 16;

impl Exchanges {
    pub fn new(now: Time) -> Exchanges {
        Exchanges { places: Table::default(), spare: vec![], passed: 0, wheel: Wheel::new(now) }
    }

    /// A blank exchange for this client, not yet known by a number.
    pub fn blank(&mut self, client: ClientSide, now: Time) -> Box<Exchange> {
        let mut exchange = self.spare.pop().unwrap_or_default();
        exchange.client_side = client;
        exchange.times.started = now;
        exchange
    }

    /// A number for an exchange somebody holds.
    pub fn reserve(&mut self, exchange: &mut Exchange) -> ExchangeId {
        self.passed = self.passed.wrapping_add(1);
        exchange.id = ExchangeId(self.places.insert(None));
        exchange.id
    }

    /// Takes it out to work on it. Whoever takes it puts it back or retires it.
    pub fn take(&mut self, id: ExchangeId) -> Option<Box<Exchange>> {
        self.places.get_mut(id.0)?.take()
    }

    pub fn put_back(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        if let Some(place) = self.places.get_mut(id.0) {
            *place = Some(exchange);
        }
    }

    pub fn get(&self, id: ExchangeId) -> Option<&Exchange> {
        self.places.get(id.0)?.as_deref()
    }

    pub fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.places.get_mut(id.0)?.as_deref_mut()
    }

    /// The exchange is over.
    pub fn retire(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        self.places.remove(id.0);
        self.wheel.set(id.0.index(), Time::NEVER);
        self.passed = self.passed.wrapping_add(1);
        self.recycle(exchange);
    }

    /// As [`Exchanges::retire`], for one that never got a number.
    pub fn recycle(&mut self, mut exchange: Box<Exchange>) {
        if self.spare.len() < SPARE {
            exchange.reset();
            self.spare.push(exchange);
        }
    }

    /// More is kept than a worker needs that has nothing to do.
    pub fn could_rest(&self) -> bool {
        self.spare.len() > SPARE_IDLE && self.places.is_empty()
    }

    /// Nothing was to do for a while.
    pub fn rest(&mut self) {
        if self.could_rest() {
            self.spare.truncate(SPARE_IDLE);
            self.spare.shrink_to_fit();
        }
    }

    /// How many have begun and how many have ended so far, together, wrapping around: what a turn is measured by.
    pub fn passed(&self) -> usize {
        self.passed
    }

    pub fn active(&self) -> usize {
        self.places.len()
    }

    /// The earliest deadline of all, looked for one by one.
    pub fn next_due(&self) -> Option<Time> {
        let all = self.places.iter().map(|(id, _)| self.wheel.deadline(id.index()));
        all.filter(|due| *due != Time::NEVER).min()
    }

    /// All that have a number; `None` for one that somebody works on.
    pub fn all(&self) -> impl Iterator<Item = (ExchangeId, Option<&Exchange>)> {
        self.places.iter().map(|(id, place)| (ExchangeId(id), place.as_deref()))
    }

    /// Bytes kept of requests on their way.
    pub fn kept(&self) -> usize {
        let exchanges = self.places.iter().filter_map(|(_, place)| place.as_ref());
        exchanges
            .map(|exchange| {
                let parts = [&exchange.head, &exchange.replay, &exchange.early, &exchange.trailers];
                let kept: usize = parts.into_iter().map(Vec::capacity).sum();
                let mirrors = exchange.mirrors.as_ref().map_or(0, |mirrors| mirrors.held());
                kept + exchange.path.capacity() + exchange.response_head.capacity() + mirrors
            })
            .sum()
    }

    /// Sets the deadline of an exchange.
    pub fn set_deadline(&mut self, id: ExchangeId, deadline: Time) {
        if self.places.get(id.0).is_some() {
            self.wheel.set(id.0.index(), deadline);
        }
    }

    /// How long the worker may sleep, in nanoseconds.
    pub fn sleep(&self, now: Time) -> Option<u64> {
        self.wheel.sleep(now)
    }

    /// Appends the exchanges whose deadline has passed.
    pub fn expired(&mut self, now: Time, into: &mut Vec<ExchangeId>) {
        let places = &self.places;
        self.wheel.advance(now, |place| into.extend(places.key_at(place).map(ExchangeId)));
    }
}
