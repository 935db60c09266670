//! Coarse timers: a wheel of three levels, of ticks of 4 ms, about a second, and about a minute.
//!
//! A connection has one deadline, which moves with every request. Moving it later costs nothing: the entry in the
//! wheel is reached early, finds that it is not yet time, and is put back. Only moving it earlier than
//! the entry adds a new one, and the older one falls away when it is reached: it carries the number it was made under.
//!
//! A timer belongs to a place of a table, not to who has the place: the next owner finds the former's entry and sets his
//! deadline behind it for nothing. Were timers the owners', each would leave an entry where its deadline was, minutes ahead:
//! hundreds of megabytes under a hundred thousand requests a second.
//!
//! A bitmap a level says which lists hold entries: finding the next one reads a few words, and a worker is woken for
//! lists that hold something and for no others.

use crate::clock::Time;

/// One tick of the finest level in nanoseconds, the most a timer is late.
pub const TICK: u64 = 4_000_000;
/// Ticks of one list of each level; the lists of one level together reach as far as one of the next.
const SPANS: [u64; 3] = [1, FINE as u64, (FINE * COARSE) as u64];
const FINE: usize = 256;
const COARSE: usize = 64;
/// Ticks ahead that the wheel reaches: a little more than an hour. What is due later is put back then.
const HORIZON: u64 = SPANS[2] * (COARSE as u64 - 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    slot: u32,
    generation: u32,
    /// The tick at which it is due, at most [`HORIZON`] after it was put in.
    due: u64,
}

/// The timer of a place.
#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline: Time,
    /// The tick of the live entry in the wheel, `u64::MAX` for none.
    scheduled: u64,
    generation: u32,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { deadline: Time::NEVER, scheduled: u64::MAX, generation: 0 }
    }
}

/// The lists of one level, a ring, and which of them hold entries.
struct Level {
    /// As many as a power of two.
    lists: Vec<Vec<Entry>>,
    occupied: [u64; FINE / 64],
}

impl Level {
    fn new(lists: usize) -> Level {
        Level { lists: vec![vec![]; lists], occupied: [0; FINE / 64] }
    }

    fn put(&mut self, index: u64, entry: Entry) {
        let index = index as usize & (self.lists.len() - 1);
        if let (Some(list), Some(word)) = (self.lists.get_mut(index), self.occupied.get_mut(index / 64)) {
            list.push(entry);
            *word |= 1 << (index % 64);
        }
    }

    /// Appends what a list holds to `into` and empties it.
    fn take(&mut self, index: u64, into: &mut Vec<Entry>) {
        let index = index as usize & (self.lists.len() - 1);
        if let (Some(list), Some(word)) = (self.lists.get_mut(index), self.occupied.get_mut(index / 64)) {
            into.append(list);
            *word &= !(1 << (index % 64));
        }
    }

    /// How many lists after the one of `at` the next one with entries lies, once round at most.
    fn next(&self, at: u64) -> Option<u64> {
        let lists = self.lists.len();
        let first = (at as usize + 1) & (lists - 1);
        let words = lists / 64;
        for step in 0..=words {
            let index = (first / 64 + step) & (words - 1);
            let word = self.occupied.get(index).copied().unwrap_or(0);
            let word = match step {
                0 => word & (u64::MAX << (first % 64)),
                // Round once: what of the first word lies before the beginning.
                step if step == words => word & !(u64::MAX << (first % 64)),
                _ => word,
            };
            if word != 0 {
                let found = index * 64 + word.trailing_zeros() as usize;
                return Some((((found + lists - first) & (lists - 1)) + 1) as u64);
            }
        }
        None
    }
}

/// The wheel of one worker.
pub struct Wheel {
    /// By place.
    timers: Vec<Timer>,
    levels: [Level; 3],
    /// All entries due up to this tick have been taken out.
    at: u64,
    /// The tick at which the next list with entries is reached; `u64::MAX` for none. Worked out only when one was: every
    /// turn of a worker asks for it twice.
    soonest: u64,
    /// Counts up with every entry, so that no two have the same.
    generation: u32,
    /// Where entries are looked at, and the slots of those whose deadline had moved away.
    reached: Vec<Entry>,
    not_yet: Vec<u32>,
}

impl Wheel {
    pub fn new(now: Time) -> Wheel {
        Wheel {
            timers: vec![],
            levels: [Level::new(FINE), Level::new(COARSE), Level::new(COARSE)],
            at: now.0 / TICK,
            soonest: u64::MAX,
            generation: 0,
            reached: vec![],
            not_yet: vec![],
        }
    }

    /// Sets the deadline of `slot`. Free unless it is earlier than all that is scheduled for it.
    #[inline]
    pub fn set(&mut self, slot: usize, deadline: Time) {
        match self.timers.get_mut(slot) {
            Some(timer) => {
                timer.deadline = deadline;
                if deadline.0 != u64::MAX && deadline.0 / TICK < timer.scheduled {
                    self.schedule(slot);
                }
            }
            None if deadline == Time::NEVER => {}
            None => self.grow(slot, deadline),
        }
    }

    #[cold]
    fn grow(&mut self, slot: usize, deadline: Time) {
        self.timers.resize(slot + 1, Timer::default());
        self.set(slot, deadline);
    }

    /// When `slot` is due; [`Time::NEVER`] if it is not to be.
    pub fn deadline(&self, slot: usize) -> Time {
        self.timers.get(slot).map_or(Time::NEVER, |timer| timer.deadline)
    }

    #[cold]
    fn schedule(&mut self, place: usize) {
        let Some(timer) = self.timers.get_mut(place) else { return };
        // Rounded up: a timer may be late by a tick, never early.
        let due = (timer.deadline.0.div_ceil(TICK)).clamp(self.at + 1, self.at + HORIZON);
        let Ok(slot) = u32::try_from(place) else { return };
        self.generation = self.generation.wrapping_add(1).max(1);
        timer.generation = self.generation;
        timer.scheduled = due;
        let generation = timer.generation;
        self.put(Entry { slot, generation, due });
    }

    fn put(&mut self, entry: Entry) {
        let ahead = entry.due.saturating_sub(self.at);
        let level = SPANS.iter().rposition(|span| ahead >= *span).unwrap_or(0);
        if let (Some(level), Some(span)) = (self.levels.get_mut(level), SPANS.get(level)) {
            level.put(entry.due / span, entry);
            self.soonest = self.soonest.min(entry.due / span * span);
        }
    }

    /// The tick at which the next list with entries is reached.
    fn next(&self) -> Option<u64> {
        let level =
            |(level, span): (&Level, &u64)| Some((self.at / span + level.next(self.at / span)?) * span);
        self.levels.iter().zip(&SPANS).filter_map(level).min()
    }

    /// Moves on to `now` and calls `fire` for every slot whose deadline has passed.
    pub fn advance(&mut self, now: Time, mut fire: impl FnMut(usize)) {
        let target = now.0 / TICK;
        if self.at >= target {
            return;
        }
        if self.soonest > target {
            self.at = target;
            return;
        }
        let mut reached = std::mem::take(&mut self.reached);
        while let Some(next) = self.next().filter(|next| *next <= target) {
            self.at = next;
            for (level, span) in self.levels.iter_mut().zip(&SPANS) {
                if next.is_multiple_of(*span) {
                    level.take(next / span, &mut reached);
                }
            }
            for entry in reached.drain(..) {
                let slot = entry.slot as usize;
                let timer = self.timers.get_mut(slot).filter(|timer| timer.generation == entry.generation);
                let Some(timer) = timer else { continue };
                timer.scheduled = u64::MAX;
                if timer.deadline <= now {
                    timer.deadline = Time::NEVER;
                    fire(slot);
                } else if timer.deadline != Time::NEVER {
                    self.not_yet.push(entry.slot);
                }
            }
        }
        self.reached = reached;
        self.at = target;
        self.soonest = self.next().unwrap_or(u64::MAX);
        // Put in again as seen from now: from a list on the way they would be met once for every span of a long silence.
        while let Some(slot) = self.not_yet.pop() {
            let slot = slot as usize;
            self.set(slot, self.deadline(slot));
        }
    }

    /// How long a worker may sleep, in nanoseconds; `None` for ever.
    pub fn sleep(&self, now: Time) -> Option<u64> {
        (self.soonest != u64::MAX).then(|| (self.soonest * TICK).saturating_sub(now.0))
    }
}

#[cfg(test)]
mod tests;
