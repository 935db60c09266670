//! A history, drawn from a seed: who is there, what each does, what happens to the machine meanwhile.

use crate::client::Client;
use crate::config::{H1_HOSTS, H2_HOSTS, LIMITED, REFUSING, SHADOW, SWALLOWING, TCP_HOSTS, address};
use crate::host::{Host, Speaks};
use crate::net::{Answers, Faults, MILLI, Nanos, Owner, SECOND};
use crate::plan::{ClientFault, Framing, HostFault, Id, Plan, Web};
use crate::random::Dice;
use crate::shadow::Shadow;
use crate::world::World;

#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// One of the configurations.
    Configure(usize),
    /// The time of day is set.
    JumpOfDay(i64),
    Drain,
    /// The same, and the worker is stopped when it says that nothing is under way.
    Stop,
    /// Nobody takes log lines any more, or somebody does again.
    LogBlocks(bool),
}

impl Script {
    pub fn number(self) -> u64 {
        match self {
            Script::Configure(which) => which as u64,
            Script::JumpOfDay(by) => by as u64,
            Script::Drain => 99,
            Script::Stop => 98,
            Script::LogBlocks(blocks) => 100 + u64::from(blocks),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http2,
    Raw,
    /// Asks again and again for small answers and reads none.
    Flood,
    /// The same, each with a long line in the log.
    LongLines,
    /// Many connections that ask for small answers and read them.
    Crowd,
    /// Connections that come and go without a word.
    Visitors,
    WebSocket,
    Connect,
}

#[derive(Clone, Debug)]
pub struct Party {
    pub kind: Kind,
    pub begins: Nanos,
    pub plans: Vec<Id>,
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct History {
    pub seed: u64,
    pub plans: Vec<Plan>,
    pub parties: Vec<Party>,
    pub script: Vec<(Nanos, Script)>,
    pub inside: Faults,
    pub early: u64,
    pub faults: bool,
    pub budget: usize,
    /// All clients read slowly.
    pub slow: bool,
    /// The nearer proxy has two.
    pub two_workers: bool,
    /// Pieces of log lines that may wait to be taken.
    pub log_queue: usize,
}

/// What a whole history is about: where everything is rare, two rare things never meet.
#[derive(Clone, Copy, Default)]
struct Theme {
    path: Option<&'static str>,
    /// Every other host does this.
    host: Option<HostFault>,
    slow: bool,
    /// All begin at once.
    together: bool,
    /// Small requests and answers, of clients that do nothing else.
    small: bool,
    /// The worker is stopped while answers are on their way to clients that read slowly.
    stops: bool,
    /// Log lines are long and nobody takes them.
    lines: bool,
    /// Bodies may be large.
    large: bool,
    /// Little memory.
    poor: bool,
    /// More than a worker serves in one turn, from the beginning.
    crowds: bool,
    /// Whoever asks without end and reads nothing.
    floods: bool,
}

impl Theme {
    fn draw(dice: &mut Dice) -> Theme {
        let theme = Theme {
            path: dice.one_in(4).then(|| *dice.pick(&PATHS)),
            host: dice.one_in(6).then(|| *dice.pick(&HOST_FAULTS)),
            slow: dice.one_in(6),
            together: dice.one_in(3),
            large: dice.one_in(8),
            ..Theme::default()
        };
        let special = Theme { together: true, ..Theme::default() };
        match dice.below(96) {
            // Many small requests wait for the few connections of one host, which does something else meanwhile.
            0..8 => Theme {
                path: Some("/limited/"),
                host: Some(*dice.pick(&[HostFault::TooMuch, HostFault::CloseFirst, HostFault::Unavailable])),
                small: true,
                ..special
            },
            8..12 => Theme { slow: true, stops: true, large: true, ..special },
            12..14 => Theme { lines: true, ..special },
            14..18 => Theme { poor: true, large: true, slow: true, ..special },
            18..20 => Theme { crowds: true, ..special },
            20 => Theme { floods: true, ..special },
            _ => theme,
        }
    }

    fn kind(&self, dice: &mut Dice) -> Kind {
        let quiet = self.small || self.stops;
        match dice.below(if quiet { 64 } else { 96 }) {
            _ if self.lines => Kind::LongLines,
            0..64 if self.crowds => Kind::Crowd,
            _ if self.floods => Kind::Flood,
            0..40 => Kind::Http1,
            40..64 => Kind::Http2,
            64..80 => Kind::Raw,
            // Each is as much work as a hundred others.
            80 => *dice.pick(&[Kind::Flood, Kind::Crowd, Kind::Http1]),
            81..85 => Kind::Visitors,
            85..90 => *dice.pick(&[Kind::WebSocket, Kind::Connect]),
            _ => Kind::Http1,
        }
    }

    /// What happens to the machine meanwhile, in its order.
    fn script(&self, dice: &mut Dice) -> Vec<(Nanos, Script)> {
        let mut script = vec![];
        if dice.one_in(3) {
            for step in 1..=dice.between(1, 4) as usize {
                script.push((dice.below(BEGUN + 2 * SECOND), Script::Configure(step)));
            }
        }
        if dice.one_in(8) {
            let by = dice.below(1 << 45) as i64;
            script.push((dice.below(BEGUN), Script::JumpOfDay(if dice.one_in(2) { by } else { -by })));
        }
        if self.stops {
            script.push((dice.below(300 * MILLI), Script::Stop));
        } else if dice.one_in(8) {
            let step = if dice.one_in(2) { Script::Drain } else { Script::Stop };
            script.push((dice.below(BEGUN + SECOND), step));
        }
        if self.lines {
            script.push((0, Script::LogBlocks(true)));
        } else if dice.one_in(5) {
            let from = dice.below(BEGUN);
            script.push((from, Script::LogBlocks(true)));
            script.push((from + dice.below(10 * SECOND), Script::LogBlocks(false)));
        }
        script.sort_by_key(|(at, _)| *at);
        script
    }
}

const PATHS: [&str; 12] = [
    "/h1/",
    "/h1/",
    "/h2/",
    "/h2/",
    "/limited/",
    "/broken/",
    "/ejecting/",
    "/mirrored/",
    "/hop/h1/",
    "/hop/h2/",
    "/direct",
    "/redirect",
];

const HOST_FAULTS: [HostFault; 9] = [
    HostFault::ResetFirst,
    HostFault::CloseFirst,
    HostFault::ResetWithin,
    HostFault::CloseWithin,
    HostFault::TooMuch,
    HostFault::Garbage,
    HostFault::Dead,
    HostFault::Early,
    HostFault::Unavailable,
];

/// A budget of memory nobody comes near to.
pub const AMPLE: usize = 256 << 20;

/// Everybody has begun by then.
pub const BEGUN: Nanos = 3 * SECOND;
/// Everything has ended by then, whatever does not heal: the longest chain of timeouts there is.
pub const ENDED: Nanos = BEGUN + 120 * SECOND;

impl History {
    pub fn draw(seed: u64) -> History {
        let mut dice = Dice::new(seed);
        let theme = Theme::draw(&mut dice);
        let mut plans = vec![];
        let mut parties = vec![];
        let many = match () {
            () if theme.small => dice.between(4, 6),
            () if theme.lines => 1,
            () if theme.crowds => dice.between(1, 4),
            () if theme.floods => dice.between(1, 2),
            // Most are small: what fails in one is soon understood.
            () if dice.one_in(4) => dice.between(2, 6),
            () => dice.between(1, 3),
        };
        for _ in 0..many {
            let kind = theme.kind(&mut dice);
            let count = match kind {
                Kind::Http1 => dice.between(1, 4),
                Kind::Http2 => dice.between(1, 6),
                _ => 1,
            };
            let mut own = vec![];
            for _ in 0..count {
                let id = plans.len();
                plans.push(draw_plan(&mut dice, id, kind, &theme));
                own.push(id);
            }
            let begins = dice.below(if theme.together { 2 * MILLI } else { BEGUN });
            parties.push(Party { kind, begins, plans: own, seed: dice.next() });
        }
        let script = theme.script(&mut dice);
        let stops = script.iter().any(|(_, step)| matches!(step, Script::Stop));
        let rate = |dice: &mut Dice, often: u64| if dice.one_in(3) { dice.between(2, often) } else { 0 };
        History {
            seed,
            plans,
            parties,
            script,
            inside: Faults {
                short: rate(&mut dice, 30),
                would_block: rate(&mut dice, 30),
                shuffle: dice.one_in(2),
                no_descriptors: if dice.one_in(8) { dice.between(2, 10) } else { 0 },
            },
            early: if dice.one_in(3) { dice.between(2, 20) } else { 0 },
            faults: true,
            budget: if theme.poor { 1 << dice.between(15, 20) } else { AMPLE },
            slow: theme.slow,
            two_workers: !stops && dice.one_in(4),
            // As long as the queue to a thread that writes, or shorter.
            log_queue: if theme.lines || dice.one_in(4) { 1 } else { 8 },
        }
    }

    /// The actors of the history, in a world.
    pub fn people(&self, world: &mut World) {
        let mut dice = Dice::new(self.seed ^ 0x7079);
        let mut hosts: Vec<(&'static str, Speaks, Answers)> = vec![];
        hosts.extend(H1_HOSTS.map(|at| (at, Speaks::Http1, Answers::Accepts)));
        hosts.extend(H2_HOSTS.map(|at| (at, Speaks::Http2, Answers::Accepts)));
        hosts.extend(TCP_HOSTS.map(|at| (at, Speaks::Raw, Answers::Accepts)));
        hosts.push((LIMITED, Speaks::Http1, Answers::Accepts));
        hosts.push((REFUSING, Speaks::Http1, Answers::Refuses));
        hosts.push((SWALLOWING, Speaks::Http1, Answers::Swallows));
        let owner = Owner::Actor(world.next_actor());
        world.net.lock().listen(address(SHADOW), owner, Answers::Accepts, 64 * 1024);
        world.add(Box::new(Shadow { dice: dice.fork() }));
        for (at, speaks, answers) in hosts {
            let room = *dice.pick(&[4_000, 64 * 1024, 512 * 1024]);
            let owner = Owner::Actor(world.next_actor());
            world.net.lock().listen(address(at), owner, answers, room);
            world.add(Box::new(Host { address: address(at), speaks, dice: dice.fork() }));
        }
        for party in &self.parties {
            let mut dice = Dice::new(party.seed);
            match party.kind {
                Kind::Http1 => {
                    world.add(Box::new(Client::new(&mut dice, party.plans.clone(), party.begins, self.slow)))
                }
                Kind::Http2 => {
                    world.add(Box::new(crate::h2::Client::new(&mut dice, party.plans.clone(), party.begins)))
                }
                Kind::Raw => world.add(Box::new(crate::raw::Client::new(
                    &mut dice,
                    party.plans[0],
                    party.begins,
                    crate::raw::Way::Plain,
                ))),
                Kind::WebSocket => world.add(Box::new(crate::raw::Client::new(
                    &mut dice,
                    party.plans[0],
                    party.begins,
                    crate::raw::Way::WebSocket,
                ))),
                Kind::Connect => world.add(Box::new(crate::raw::Client::new(
                    &mut dice,
                    party.plans[0],
                    party.begins,
                    crate::raw::Way::Connect,
                ))),
                Kind::Visitors => {
                    world.add(Box::new(crate::visitors::Visitors::new(&mut dice, party.begins)));
                }
                Kind::Crowd => world.add(Box::new(crate::crowd::Crowd::new(&mut dice, party.begins))),
                Kind::Flood => world.add(Box::new(crate::flood::Flood::new(&mut dice, party.begins))),
                Kind::LongLines => world.add(Box::new(crate::flood::Flood::of_long_lines(party.begins))),
            }
        }
    }
}

fn draw_plan(dice: &mut Dice, id: Id, kind: Kind, theme: &Theme) -> Plan {
    let path = match kind {
        Kind::Raw | Kind::Connect => "/raw".into(),
        Kind::WebSocket => "/h1/ws".into(),
        _ => {
            let base = theme.path.unwrap_or_else(|| *dice.pick(&PATHS));
            format!("{base}{id}")
        }
    };
    let host = match (theme.host, HOST_FAULTS.get(dice.below(30) as usize)) {
        (Some(fault), _) if dice.one_in(2) => fault,
        (_, Some(fault)) => *fault,
        (_, None) => HostFault::None,
    };
    let client = match dice.below(30) {
        _ if theme.small || theme.stops => ClientFault::None,
        0 => ClientFault::ResetInHead,
        1 => ClientFault::ResetInBody,
        2 => ClientFault::ResetWhileWaiting,
        3 => ClientFault::ResetInResponse,
        4 => ClientFault::HalfClose,
        5 => ClientFault::StallInHead,
        6 => ClientFault::StallInBody,
        7 => ClientFault::NeverReads,
        _ => ClientFault::None,
    };
    let h2 = path.contains("/h2/");
    // Whatever lasts until the end of its connection has nothing behind it.
    let close = !h2 && host != HostFault::TooMuch && dice.one_in(8);
    let (most_request, most_response) = match () {
        () if theme.small => (2_000, 2_000),
        () if theme.large => (300_000, 600_000),
        () => (6_000, 12_000),
    };
    let web = match (kind, path.strip_prefix("/h2/")) {
        (Kind::Http1, Some(_)) if dice.one_in(3) => *dice.pick(&[Web::Binary, Web::Text]),
        _ => Web::No,
    };
    Plan {
        id,
        path,
        post: dice.one_in(2) || web != Web::No,
        web,
        request: dice.size(most_request),
        request_framing: if dice.one_in(2) { Framing::Chunked } else { Framing::Length },
        expect: dice.one_in(8),
        response: if theme.stops { dice.below(300_000) } else { dice.size(most_response) },
        response_framing: if close {
            Framing::Close
        } else if dice.one_in(2) {
            Framing::Chunked
        } else {
            Framing::Length
        },
        trailers: dice.one_in(4),
        thinks: match dice.one_in(4) {
            true => dice.below(if theme.small { 10 * MILLI } else { 500 * MILLI }),
            false => dice.below(MILLI),
        },
        host,
        client,
    }
}
