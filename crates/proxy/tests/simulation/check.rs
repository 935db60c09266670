//! One history from its beginning to its end, and what must be true then.

use std::sync::mpsc::channel;

use proxy::machine::Command;

use crate::coverage::Coverage;
use crate::history::{AMPLE, ENDED, History, Script};
use crate::net::SECOND;
use crate::plan::{ClientFault, HostFault, Plan, Web};
use crate::world::World;

pub struct Outcome {
    pub wrong: Vec<String>,
    pub coverage: Coverage,
    pub trace: u64,
    pub turns: u64,
}

pub fn live(history: &History, printed: bool) -> Outcome {
    let mut world = World::new(history, printed);
    history.people(&mut world);
    world.run(ENDED);
    // What a worker could not hand over waits with it until somebody takes lines again.
    world.log_flows();
    world.run(ENDED + 5 * SECOND);
    if world.wrong.is_empty() {
        all_has_ended(&mut world, history);
    }
    if world.wrong.is_empty() {
        lines_are_written(&mut world);
        what_was_answered_came(&mut world);
    }
    if world.wrong.is_empty() {
        world.leave();
        world.run(ENDED + 20 * SECOND);
        nothing_is_left(&mut world);
    }
    if printed && !world.wrong.is_empty() {
        for actor in world.actors() {
            eprintln!("{actor}");
        }
    }
    let met = std::mem::take(&mut world.net.lock().met);
    for point in met {
        world.coverage.met(point);
    }
    let mut counted = [false; crate::coverage::COUNTED.len()];
    world.machines[0].shared.registry.each(|name, _, value| {
        for ((counter, _), met) in crate::coverage::COUNTED.iter().zip(&mut counted) {
            *met |= value != 0 && name == *counter;
        }
    });
    for ((_, point), _) in crate::coverage::COUNTED.iter().zip(counted).filter(|(_, met)| *met) {
        world.coverage.met(point);
    }
    if world
        .fates
        .iter()
        .zip(&world.plans)
        .any(|(fate, plan)| plan.path.starts_with("/hop/") && fate.seen > 0)
    {
        world.coverage.met("sometimes: over the multiplexed hop");
    }
    if world.machines.get(2).is_some_and(|second| second.turns > 20) {
        world.coverage.met("sometimes: two workers of a proxy serve");
    }
    let trace = world.net.lock().trace.hash();
    Outcome { wrong: world.wrong, coverage: world.coverage, trace, turns: world.turns }
}

/// Whatever does not heal is still there, and nobody waits for it any more.
fn all_has_ended(world: &mut World, history: &History) {
    let strict = is_strict(history);
    let interfered = drains(history);
    for (id, fate) in world.fates.iter().enumerate() {
        let plan = &world.plans[id];
        let reads = plan.client != ClientFault::NeverReads;
        if fate.asked && !fate.ended && reads && !interfered {
            world.wrong.push(format!("{id} has no end: {plan:?} {fate:?}"));
        }
        // What its client has let go of to ask for it anew is not asked.
        let began = fate.asked && fate.from_host && fate.status == 200 && fate.withheld == 0;
        if undisturbed(history) && plan.is_clean() && began && !fate.whole {
            world.wrong.push(format!("the answer of {id} began and did not end: {plan:?} {fate:?}"));
        }
        let safe = ["/h1/", "/h2/", "/hop/", "/mirrored/", "/direct", "/redirect"]
            .iter()
            .any(|path| plan.path.starts_with(path));
        let direct = plan.path.starts_with("/direct") || plan.path.starts_with("/redirect");
        let here = if plan.path.starts_with("/hop/") { &fate.far_flags } else { &fate.flags };
        let refused = here.split(';').any(|flags| is_one_retry_too_many(world, plan, flags));
        let polluted = here.split(';').any(|flags| got_what_was_too_much(world, plan, flags));
        let well = fate.whole && (direct || fate.from_host && fate.status == 200);
        if strict
            && plan.is_clean()
            && safe
            && plan.path != "/h1/ws"
            && fate.asked
            && fate.withheld == 0
            && !well
            && !((fate.status == 503 || plan.web != Web::No) && refused)
            && !(fate.status == 502 && polluted)
        {
            world.wrong.push(format!("{id} was not answered well: {plan:?} {fate:?}"));
        }
    }
    queues_are_served(world, history);
    sockets_are_gone(world);
}

/// Who waits for a connection to a host that takes few gets one, or is told at once that too many wait: if those before it
/// are soon done, whatever their host does.
fn queues_are_served(world: &mut World, history: &History) {
    let changes = |(_, step): &(u64, Script)| !matches!(step, Script::JumpOfDay(_) | Script::LogBlocks(_));
    let withheld = world.fates.iter().any(|fate| fate.withheld > 0);
    if withheld || history.slow || history.inside.no_descriptors > 0 || history.script.iter().any(changes) {
        return;
    }
    let here: Vec<&Plan> = world.plans.iter().filter(|plan| plan.path.starts_with("/limited/")).collect();
    let soon = here.iter().map(|plan| plan.thinks).sum::<u64>() < SECOND
        && here.iter().map(|plan| plan.request + plan.response).sum::<u64>() < 200_000
        && here.iter().all(|plan| plan.client == ClientFault::None && plan.host != HostFault::Dead);
    if !soon {
        return;
    }
    let plans = world.plans.iter().zip(&world.fates);
    let clean = plans.filter(|(plan, _)| plan.path.starts_with("/limited/") && plan.is_clean());
    for (plan, fate) in clean {
        // Bytes too many may come once the next request is on their connection: nobody can tell them from its answer.
        let full = fate.flags.contains("UO") || fate.flags.contains("UPE");
        if fate.asked && fate.anew == 0 && fate.lines == 1 && fate.status != 200 && !full {
            world.wrong.push(format!("{} waited in vain: {plan:?} {fate:?}", plan.id));
        }
    }
}

/// A worker that said that nothing is under way any more has delivered what it says it answered.
fn what_was_answered_came(world: &mut World) {
    if !world.stopped_well {
        return;
    }
    for (id, fate) in world.fates.iter().enumerate() {
        let plan = &world.plans[id];
        let well = fate.logged == 200 || fate.logged == 301;
        // The host of a tunnel may end it as it likes.
        let tunnel = plan.path == "/raw" || plan.path == "/h1/ws";
        if plan.is_clean()
            && !tunnel
            && fate.anew == 0
            && fate.withheld == 0
            && well
            && fate.flags == "-"
            && !fate.whole
        {
            world.wrong.push(format!("the answer of {id} was stopped on its way: {plan:?} {fate:?}"));
        }
    }
}

/// What an exchange's cluster lets it do at once.
const RETRIES: usize = 3;

/// The breaker of retries has refused this one another attempt, as it must when more need one at once than it lets: a
/// host of HTTP/2 refuses streams that were opened before it had said how many it takes.
fn is_one_retry_too_many(world: &World, plan: &Plan, flags: &str) -> bool {
    let of_h2 = |plan: &&Plan| plan.path.contains("/h2/");
    flags == "UR,UO" && of_h2(&plan) && world.plans.iter().filter(of_h2).count() > RETRIES
}

/// Another answer of the same pool had bytes behind it, which came when the next request was on their connection: nobody
/// can tell them from its answer.
fn got_what_was_too_much(world: &World, plan: &Plan, flags: &str) -> bool {
    let pool = |plan: &Plan| {
        let near = plan.path.starts_with("/h1/") || plan.path.starts_with("/mirrored/");
        (near, plan.path.starts_with("/hop/h1/"))
    };
    let mut others = world.plans.iter().filter(|other| other.host == HostFault::TooMuch);
    flags == "UPE" && pool(plan) != (false, false) && others.any(|other| pool(other) == pool(plan))
}

/// Nothing happens in it that may keep a request that nobody disturbs from its answer.
fn is_strict(history: &History) -> bool {
    !drains(history) && undisturbed(history)
}

fn drains(history: &History) -> bool {
    history.script.iter().any(|(_, step)| matches!(step, Script::Drain | Script::Stop))
}

/// Nothing happens in it that may keep an answer from its end that has begun: neither a lack of descriptors, nor the end of
/// a host's connection that others share.
fn undisturbed(history: &History) -> bool {
    let closes = |plan: &Plan| plan.host == HostFault::CloseFirst && plan.path.contains("/h2/");
    history.inside.no_descriptors == 0 && history.budget == AMPLE && !history.plans.iter().any(closes)
}

fn sockets_are_gone(world: &mut World) {
    for index in 0..world.machines.len() {
        let open = world.net.lock().open_of(index);
        for end in open {
            let text = world.net.lock().describe(end);
            world.wrong.push(format!("worker {index} still holds {text}"));
        }
        let census = world.machines[index].worker.census();
        if census.exchanges != 0 {
            world.wrong.push(format!("worker {index} still has {} exchanges", census.exchanges));
        }
    }
}

/// Each exchange has one line: those a host has seen and those that were answered.
fn lines_are_written(world: &mut World) {
    let dropped = dropped_lines(world);
    for (id, fate) in world.fates.iter().enumerate() {
        let raw = world.plans[id].path == "/raw";
        let certain = fate.asked && (fate.seen > 0 || fate.status != 0) && !raw;
        // A client that asks anew has a line for each.
        if certain && fate.lines == 0 && !dropped || fate.lines > 1 + fate.anew {
            world
                .wrong
                .push(format!("{id} has {} lines in the log: {:?} {fate:?}", fate.lines, world.plans[id]));
        }
    }
}

fn dropped_lines(world: &World) -> bool {
    let mut dropped = false;
    world.machines[0].shared.registry.each(|name, _, value| {
        dropped |= value != 0 && name == "filamesh_access_log_dropped_lines_total";
    });
    dropped
}

fn nothing_is_left(world: &mut World) {
    sockets_are_gone(world);
    for index in 0..world.machines.len() {
        for (cluster, taken) in world.machines[index].shared.breakers.taken() {
            if taken != 0 {
                world.wrong.push(format!("worker {index}: {taken} still taken of the breakers of {cluster}"));
            }
        }
        let (registry, stopped) = (&world.machines[index].shared.registry, world.machines[index].stopped);
        let wrong = &mut world.wrong;
        registry.each(|name, labels, value| {
            if name.ends_with("_active") && value != 0 && !stopped {
                wrong.push(format!("worker {index}: {name}{{{labels}}} {}", value.cast_signed()));
            }
        });
        let machine = &mut world.machines[index];
        let (answer, answers) = channel();
        machine.queue.send(Command::Report(answer));
        machine.worker.turn([crate::machine::WOKEN]);
        for host in answers.try_recv().unwrap_or_default() {
            if host.active != 0 || host.connections != 0 {
                world.wrong.push(format!("worker {index}: {host:?}"));
            }
        }
    }
}
