use super::*;

fn advance(wheel: &mut Wheel, fired: &mut Vec<usize>, now: Time) {
    wheel.advance(now, |slot| fired.push(slot));
}

fn millis(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

/// How many entries lie in the wheel.
fn entries(wheel: &Wheel) -> usize {
    wheel.levels.iter().flat_map(|level| &level.lists).map(Vec::len).sum()
}

#[test]
fn every_timer_fires_once_and_not_early() {
    let mut wheel = Wheel::new(Time(0));
    let deadlines = [1u64, 4, 5, 999, 1000, 1024, 1025, 5000, 65_535, 65_536, 65_537, 70_000, 600_000];
    let mut fired = vec![];
    for (slot, deadline) in deadlines.iter().enumerate() {
        wheel.set(slot, millis(*deadline));
    }
    for now in 0..700_000u64 {
        advance(&mut wheel, &mut fired, millis(now));
        for slot in fired.drain(..) {
            assert!(now >= deadlines[slot], "{slot} early at {now}");
            assert!(now <= deadlines[slot] + 8, "{slot} late at {now}");
        }
    }
    assert_eq!(entries(&wheel), 0);
}

#[test]
fn moving_later_costs_no_entry_and_moving_earlier_fires_in_time() {
    let mut wheel = Wheel::new(Time(0));
    let mut fired = vec![];
    for later in 100..200 {
        wheel.set(0, millis(later));
    }
    assert_eq!(entries(&wheel), 1);
    wheel.set(0, millis(50));
    advance(&mut wheel, &mut fired, millis(60));
    assert_eq!(fired, [0]);
    advance(&mut wheel, &mut fired, millis(1000));
    assert_eq!(fired, [0]);
    assert_eq!(entries(&wheel), 0);
}

#[test]
fn a_new_owner_of_the_slot_is_not_woken_by_the_former() {
    let mut wheel = Wheel::new(Time(0));
    let mut fired = vec![];
    wheel.set(0, millis(50));
    wheel.set(0, Time::NEVER);
    advance(&mut wheel, &mut fired, millis(100));
    assert!(fired.is_empty());
}

#[test]
fn sleep_reaches_the_next_entry_and_no_further() {
    let mut wheel = Wheel::new(Time(0));
    assert_eq!(wheel.sleep(Time(0)), None);
    wheel.set(0, millis(40));
    assert_eq!(wheel.sleep(Time(0)), Some(40_000_000));
}

/// The first timer after a long silence: the wheel jumps, it does not walk through what nobody waited for.
#[test]
fn a_silence_of_a_year_costs_a_step() {
    let mut wheel = Wheel::new(Time(0));
    let mut fired = vec![];
    let year = 365 * 24 * 3_600_000;
    wheel.set(0, millis(year + 1000));
    let started = std::time::Instant::now();
    for round in 0..100 {
        wheel.set(0, Time::NEVER);
        let now = year * (round + 1);
        wheel.set(0, millis(now + 1000));
        advance(&mut wheel, &mut fired, millis(now));
        assert!(fired.is_empty());
        advance(&mut wheel, &mut fired, millis(now + 1004));
        assert_eq!(std::mem::take(&mut fired), [0]);
    }
    // Walking would be 800 billion ticks.
    assert!(started.elapsed().as_secs() < 5);
}

/// Idle connections with a timeout of an hour: nobody is woken for them but at the minutes in which one may be due.
#[test]
fn ten_thousand_idle_timers_of_an_hour_wake_less_than_once_a_second() {
    let mut wheel = Wheel::new(Time(0));
    let mut fired = vec![];
    for slot in 0..10_000u64 {
        // Opened over ten seconds.
        wheel.set(slot as usize, millis(3_600_000 + slot));
    }
    let (mut now, mut wakes) = (Time(0), 0);
    while let Some(sleep) = wheel.sleep(now)
        && now.0 + sleep < millis(3_590_000).0
    {
        now = Time(now.0 + sleep);
        advance(&mut wheel, &mut fired, now);
        wakes += 1;
    }
    assert!(fired.is_empty());
    assert!(wakes < 10, "{wakes}");
    advance(&mut wheel, &mut fired, millis(3_611_000));
    assert_eq!(fired.len(), 10_000);
}

/// Against a list of deadlines: whatever is set, moved, taken away and waited for, in any order.
#[test]
fn the_wheel_does_as_a_plain_list_does() {
    let mut random = wire::id::Random::from_seed(7);
    for round in 0..300 {
        let mut now = Time(random.next_u64() % (1 << 50));
        let mut wheel = Wheel::new(now);
        let mut fired = vec![];
        let mut plain = [Time::NEVER; 8];
        for _ in 0..400 {
            let slot = (random.next_u64() % 8) as usize;
            match random.next_u64() % 8 {
                0 => {
                    wheel.set(slot, Time::NEVER);
                    plain[slot] = Time::NEVER;
                }
                1 => {
                    wheel.set(slot, Time::NEVER);
                    plain[slot] = Time::NEVER;
                }
                2..5 => {
                    let ahead = random.next_u64() % (1 << (random.next_u64() % 44));
                    plain[slot] = Time(now.0 + ahead);
                    wheel.set(slot, plain[slot]);
                }
                5 => now = Time(now.0 + random.next_u64() % (1 << (random.next_u64() % 44))),
                _ => {
                    // As a worker sleeps: to the next list, where something must be done or found moved.
                    let earliest = plain.iter().min().copied().unwrap_or(Time::NEVER);
                    match wheel.sleep(now) {
                        Some(sleep) => {
                            let late = now.0 + sleep;
                            assert!(earliest == Time::NEVER || late <= earliest.0.max(now.0) + 2 * TICK);
                            now = Time(late);
                        }
                        None => assert_eq!(earliest, Time::NEVER),
                    }
                }
            }
            advance(&mut wheel, &mut fired, now);
            for slot in fired.drain(..) {
                assert!(plain[slot] <= now, "round {round}: {slot} early");
                plain[slot] = Time::NEVER;
            }
            for deadline in plain {
                assert!(
                    deadline.0.saturating_add(2 * TICK) > now.0,
                    "round {round}: {deadline:?} late at {now:?}"
                );
            }
        }
    }
}

/// A hundred thousand requests, one after the other at a few places, each with an idle timeout of five minutes and a deadline
/// of its own: what they leave behind is an entry a second for each place (when its entry is reached between two owners, the
/// next one's idle timeout is put in first), not one for each request.
#[test]
fn owners_of_a_place_leave_no_entries_behind() {
    let mut wheel = Wheel::new(Time(0));
    let mut most = 0;
    for request in 0..100_000u64 {
        let (place, now) = ((request % 8) as usize, request / 10);
        wheel.set(place, millis(now + 300_000));
        wheel.set(place, millis(now + 1_000));
        wheel.set(place, Time::NEVER);
        advance(&mut wheel, &mut vec![], millis(now));
        most = most.max(entries(&wheel));
    }
    // For ten seconds.
    assert!(most <= 8 * (10 + 2), "{most} entries");
}
