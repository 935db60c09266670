//! Coarse timers: a wheel of two levels, 4 ms and 1 s.
//!
//! A connection has one deadline, which moves with every request. Moving it later costs nothing: the entry in the
//! wheel fires early, finds that it is not yet time, and is put back. Only moving it earlier than the entry adds a new
//! one. An entry carries the generation it was made for, so the entries of a slot's former owner fall away by
//! themselves; they lie at most [`HORIZON`] ahead, which bounds how many there are under churn.

use crate::clock::Time;

/// One tick of the fine level in nanoseconds, the most a timer is late.
pub const TICK: u64 = 4_000_000;
const FINE: usize = 256;
const COARSE: usize = 64;
/// Ticks in one slot of the coarse level, and ticks ahead that the wheel reaches.
const SPAN: u64 = FINE as u64;
const HORIZON: u64 = SPAN * (COARSE as u64 - 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    slot: u32,
    generation: u32,
    /// The tick at which it is due, at most [`HORIZON`] after it was put in.
    due: u64,
}

/// What a slot keeps of its timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
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

impl Timer {
    pub fn deadline(&self) -> Time {
        self.deadline
    }
}

/// The wheel of one worker.
pub struct Wheel {
    fine: Vec<Vec<Entry>>,
    coarse: Vec<Vec<Entry>>,
    /// All entries due before this tick have been taken out.
    at: u64,
    entries: usize,
    /// Counts up with every entry, so that no two have the same.
    generation: u32,
    expired: Vec<Entry>,
}

impl Wheel {
    pub fn new(now: Time) -> Wheel {
        Wheel {
            fine: vec![vec![]; FINE],
            coarse: vec![vec![]; COARSE],
            at: now.0 / TICK,
            entries: 0,
            generation: 0,
            expired: vec![],
        }
    }

    /// Sets the deadline of `slot`. Free unless it is earlier than all that is scheduled for it.
    #[inline]
    pub fn set(&mut self, slot: usize, timer: &mut Timer, deadline: Time) {
        timer.deadline = deadline;
        if deadline.0 != u64::MAX && deadline.0 / TICK < timer.scheduled {
            self.schedule(slot, timer);
        }
    }

    #[cold]
    fn schedule(&mut self, slot: usize, timer: &mut Timer) {
        // Rounded up: a timer may be late by a tick, never early.
        let due = (timer.deadline.0.div_ceil(TICK)).clamp(self.at + 1, self.at + HORIZON);
        self.generation = self.generation.wrapping_add(1).max(1);
        timer.generation = self.generation;
        timer.scheduled = due;
        let Ok(slot) = u32::try_from(slot) else { return };
        self.put(Entry { slot, generation: timer.generation, due });
        self.entries += 1;
    }

    fn put(&mut self, entry: Entry) {
        let level = if entry.due - self.at < SPAN {
            self.fine.get_mut((entry.due % SPAN) as usize)
        } else {
            self.coarse.get_mut((entry.due / SPAN % COARSE as u64) as usize)
        };
        if let Some(list) = level {
            list.push(entry);
        }
    }

    /// Moves on to `now` and calls `fire` for every slot whose deadline has passed. `timers` gives a slot's timer, if
    /// it still is anyone's.
    pub fn advance<T>(
        &mut self,
        now: Time,
        owner: &mut T,
        timers: impl Fn(&mut T, usize) -> Option<&mut Timer>,
        mut fire: impl FnMut(&mut T, &mut Wheel, usize),
    ) {
        let target = now.0 / TICK;
        if self.entries == 0 {
            self.at = self.at.max(target);
            return;
        }
        while self.at < target {
            self.at += 1;
            if self.at.is_multiple_of(SPAN) {
                self.cascade();
            }
            let index = (self.at % SPAN) as usize;
            if self.fine.get(index).is_none_or(Vec::is_empty) {
                continue;
            }
            let mut expired = std::mem::take(&mut self.expired);
            if let Some(list) = self.fine.get_mut(index) {
                std::mem::swap(list, &mut expired);
            }
            self.entries -= expired.len();
            for entry in expired.drain(..) {
                let slot = entry.slot as usize;
                let Some(timer) = timers(owner, slot) else { continue };
                if timer.generation != entry.generation {
                    continue;
                }
                timer.scheduled = u64::MAX;
                if timer.deadline > now {
                    let mut again = *timer;
                    if again.deadline != Time::NEVER {
                        self.schedule(slot, &mut again);
                    }
                    if let Some(timer) = timers(owner, slot) {
                        *timer = again;
                    }
                } else {
                    timer.deadline = Time::NEVER;
                    fire(owner, self, slot);
                }
            }
            self.expired = expired;
        }
    }

    /// The entries of the coming second come down to the fine level.
    fn cascade(&mut self) {
        let index = (self.at / SPAN % COARSE as u64) as usize;
        let Some(list) = self.coarse.get_mut(index) else { return };
        for entry in std::mem::take(list) {
            self.put(entry);
        }
    }

    /// How long a worker may sleep, in nanoseconds; `None` for ever.
    pub fn sleep(&self, now: Time) -> Option<u64> {
        if self.entries == 0 {
            return None;
        }
        let tick = (1..=SPAN)
            .map(|ahead| self.at + ahead)
            .find(|tick| {
                tick.is_multiple_of(SPAN)
                    || self.fine.get((tick % SPAN) as usize).is_some_and(|list| !list.is_empty())
            })
            .unwrap_or(self.at + SPAN);
        Some((tick * TICK).saturating_sub(now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slots(Vec<Timer>, Vec<usize>);

    fn advance(wheel: &mut Wheel, slots: &mut Slots, millis: u64) {
        wheel.advance(Time(millis * 1_000_000), slots, |s, k| s.0.get_mut(k), |s, _, k| s.1.push(k));
    }

    #[test]
    fn every_timer_fires_once_and_not_early() {
        let mut wheel = Wheel::new(Time(0));
        let deadlines = [1u64, 4, 5, 999, 1000, 1024, 1025, 5000, 70_000, 600_000];
        let mut slots = Slots(deadlines.iter().map(|_| Timer::default()).collect(), vec![]);
        for (slot, millis) in deadlines.iter().enumerate() {
            wheel.set(slot, &mut slots.0[slot], Time(millis * 1_000_000));
        }
        for millis in 0..700_000u64 {
            advance(&mut wheel, &mut slots, millis);
            for slot in slots.1.drain(..) {
                assert!(millis >= deadlines[slot], "{slot} early at {millis}");
                assert!(millis <= deadlines[slot] + 8, "{slot} late at {millis}");
            }
        }
        assert_eq!(wheel.entries, 0);
    }

    #[test]
    fn moving_later_costs_no_entry_and_moving_earlier_fires_in_time() {
        let mut wheel = Wheel::new(Time(0));
        let mut slots = Slots(vec![Timer::default()], vec![]);
        for millis in 100..200 {
            wheel.set(0, &mut slots.0[0], Time(millis * 1_000_000));
        }
        assert_eq!(wheel.entries, 1);
        wheel.set(0, &mut slots.0[0], Time(50_000_000));
        advance(&mut wheel, &mut slots, 60);
        assert_eq!(slots.1, [0]);
        advance(&mut wheel, &mut slots, 1000);
        assert_eq!(slots.1, [0]);
        assert_eq!(wheel.entries, 0);
    }

    #[test]
    fn a_new_owner_of_the_slot_is_not_woken_by_the_former() {
        let mut wheel = Wheel::new(Time(0));
        let mut slots = Slots(vec![Timer::default()], vec![]);
        wheel.set(0, &mut slots.0[0], Time(50_000_000));
        slots.0[0] = Timer::default();
        advance(&mut wheel, &mut slots, 100);
        assert!(slots.1.is_empty());
    }

    #[test]
    fn sleep_reaches_the_next_entry_and_no_further() {
        let mut wheel = Wheel::new(Time(0));
        let mut timer = Timer::default();
        assert_eq!(wheel.sleep(Time(0)), None);
        wheel.set(0, &mut timer, Time(40_000_000));
        assert_eq!(wheel.sleep(Time(0)), Some(40_000_000));
    }
}
