//! What a byte that a client sends costs in memory: floods of connections, heads and streams, each held as long as the
//! proxy lets it. Counted is what the worker has of the heap; what an opened connection costs before it says anything is
//! its base, and told beside.

use std::sync::Arc;
use std::time::Duration;

use proxy::machine::ManualTime;

use crate::config::{self, H1_HOSTS, H2_HOSTS, MAIN, address};
use crate::history::History;
use crate::machine::{Machine, proxy};
use crate::net::{Answers, EndId, Faults, MICRO, Net, Owner};
use crate::random::Dice;
use crate::trace::Trace;

struct Flood {
    name: &'static str,
    connections: usize,
    /// Said first, as any client does.
    opening: Vec<u8>,
    says: Vec<u8>,
    /// Requests in it.
    requests: usize,
    must: Must,
}

/// What is asked of a flood.
enum Must {
    /// No more bytes are held than so many for each that was sent.
    PerByte(f64),
    /// A request is smaller than what anybody needs to remember it: so many bytes for each.
    PerRequest(isize),
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The preface, and SETTINGS with this INITIAL_WINDOW_SIZE.
fn opening(window: u32) -> Vec<u8> {
    let mut out = wire::h2::PREFACE.to_vec();
    let mut settings = vec![0, 4];
    settings.extend_from_slice(&window.to_be_bytes());
    frame(4, 0, 0, &settings, &mut out);
    out
}

/// A string of HPACK, as it is.
fn text(text: &[u8], out: &mut Vec<u8>) {
    match text.len() {
        length @ 0..127 => out.push(length as u8),
        length => {
            out.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.push(rest as u8 | 128);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
    out.extend_from_slice(text);
}

/// HEADERS of a request, of which the first names its fields and all others point to them; then `more`.
fn headers(stream: u32, path: &str, more: &[u8], out: &mut Vec<u8>) {
    let mut block = vec![0x82, 0x86];
    if stream == 1 {
        block.push(0x44);
        text(path.as_bytes(), &mut block);
        block.push(0x41);
        text(b"sim.local", &mut block);
    } else {
        block.extend_from_slice(&[0xbf, 0xbe]);
    }
    block.extend_from_slice(more);
    frames_of_head(stream, &block, out);
}

/// A header block in as many frames as it needs; nothing follows it on its stream.
fn frames_of_head(stream: u32, block: &[u8], out: &mut Vec<u8>) {
    let (first, rest) = block.split_at(block.len().min(16_384));
    frame(1, if rest.is_empty() { 5 } else { 1 }, stream, first, out);
    let mut pieces = rest.chunks(16_384).peekable();
    while let Some(piece) = pieces.next() {
        frame(9, if pieces.peek().is_none() { 4 } else { 0 }, stream, piece, out);
    }
}

/// So many streams with the same request, which say more from the second on.
fn streams(count: u32, path: &str, more: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    for number in 0..count {
        headers(number * 2 + 1, path, if number == 0 { &[] } else { more }, &mut out);
    }
    out
}

/// As [`streams`], where a field is named once and pointed to so often by each.
fn pointing(name: &[u8], value: &[u8], times: usize) -> Vec<u8> {
    let mut named = vec![0x40];
    text(name, &mut named);
    text(value, &mut named);
    let mut out = vec![];
    headers(1, "/h1/1", &named, &mut out);
    for number in 1..50u32 {
        let mut block = vec![0x82, 0x86, 0xc0, 0xbf];
        block.resize(block.len() + times, 0xbe);
        frames_of_head(number * 2 + 1, &block, &mut out);
    }
    out
}

fn floods() -> Vec<Flood> {
    let h1 = |name, connections, says: &str, requests, must| Flood {
        name,
        connections,
        opening: vec![],
        says: says.as_bytes().to_vec(),
        requests,
        must,
    };
    let h2 =
        |name, says, must| Flood { name, connections: 20, opening: opening(0), says, requests: 50, must };
    // A literal that is not kept, its name from the static table.
    let cookies = [[0x0f, 0x11, 0]; 10_666].concat();
    let get = "GET /h1/1 HTTP/1.1\r\nhost: sim.local\r\n\r\n";
    let direct = "GET /direct HTTP/1.1\r\nhost: sim.local\r\n\r\n";
    vec![
        h1("heads that do not end", 500, &get[..30], 1, Must::PerRequest(1_000)),
        h1("requests nobody answers", 500, get, 1, Must::PerRequest(6_000)),
        h1("direct answers unread", 50, &direct.repeat(100), 100, Must::PerRequest(5_000)),
        h2("streams nobody answers", streams(50, "/h1/1", &[]), Must::PerRequest(3_500)),
        h2("direct answers without a window", streams(50, "/direct", &[]), Must::PerRequest(5_000)),
        h2("10,666 empty cookies a stream", streams(50, "/h1/1", &cookies), Must::PerByte(10.0)),
        h2("32,000 of `a:` pointed to a stream", pointing(b"a", b"", 32_000), Must::PerByte(10.0)),
        h2("90 of `a:` pointed to a stream", pointing(b"a", b"", 90), Must::PerRequest(8_000)),
        h2("15 of 3.9 KiB pointed to a stream", pointing(b"x", &[b'v'; 3_900], 15), Must::PerByte(10.0)),
    ]
}

struct Room {
    net: Net,
    time: Arc<ManualTime>,
    machine: Machine,
    now: u64,
}

impl Room {
    fn new() -> Room {
        let net = Net::new(1, Faults::default(), Dice::new(1), Trace::new(false));
        let time = Arc::new(ManualTime::default());
        let machine = proxy(&[0], &net, &time, &History::draw(1), 1).remove(0);
        machine.configure(&config::ALL.near[0]);
        machine.listen(&net, "main", MAIN);
        for at in H1_HOSTS.iter().chain(&H2_HOSTS) {
            net.lock().listen(address(at), Owner::Actor(0), Answers::Accepts, 1 << 20);
        }
        let mut room = Room { net, time, machine, now: 0 };
        room.settle();
        room
    }

    /// Turns until nothing happens any more, in a few milliseconds at most.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.now += MICRO * 10;
            self.time.monotonic.store(self.now, std::sync::atomic::Ordering::Relaxed);
            self.net.lock().advance(self.now);
            let events = self.net.lock().events(0, 256);
            let idle = events.is_empty() && self.machine.worker.sleep() != Some(Duration::ZERO);
            self.machine.turn(events);
            while self.net.lock().take_woken().is_some() {}
            while self.machine.piece().is_some() {}
            if idle && self.net.lock().next_due().is_none() {
                return;
            }
        }
    }

    /// Connections that take few bytes of an answer and read none, and what each says.
    fn open(&mut self, many: usize, says: &[u8]) -> Vec<EndId> {
        let connect = |_| {
            let made = self.net.lock().connect(Owner::Actor(0), address(MAIN), None, None, 2_000);
            made.expect("a connection").0
        };
        let ends: Vec<EndId> = (0..many).map(connect).collect();
        self.settle();
        self.say(&ends, says);
        ends
    }

    fn say(&mut self, ends: &[EndId], says: &[u8]) {
        let mut said = vec![0; ends.len()];
        for _ in 0..200 {
            for (end, said) in ends.iter().zip(&mut said) {
                *said += self.net.lock().write(*end, [&says[*said..], &[]]).unwrap_or(0);
            }
            self.settle();
            if said.iter().all(|said| *said == says.len()) {
                return;
            }
        }
    }
}

#[test]
fn a_byte_sent_costs_little_memory() {
    println!(
        "{:<36} {:>5} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "flood", "conns", "sent", "held", "base", "held/sent", "a request"
    );
    for flood in floods() {
        let mut room = Room::new();
        // What is made once is made.
        for end in room.open(2, &flood.opening) {
            room.net.lock().abort(end);
        }
        room.settle();
        let empty = room.machine.heap;
        let ends = room.open(flood.connections, &flood.opening);
        let opened = room.machine.heap;
        room.say(&ends, &flood.says);
        let held = room.machine.heap - opened;
        let base = (opened - empty) / flood.connections as isize;
        let sent = flood.says.len() * flood.connections;
        let per_byte = held as f64 / sent as f64;
        let per_request = held / (flood.connections * flood.requests) as isize;
        println!(
            "{:<36} {:>5} {sent:>9} {held:>9} {base:>6} {per_byte:>9.1} {per_request:>9}",
            flood.name, flood.connections
        );
        match flood.must {
            Must::PerByte(most) => assert!(per_byte <= most, "{}: {per_byte:.1} a byte", flood.name),
            Must::PerRequest(most) => {
                assert!(per_request <= most, "{}: {per_request} a request", flood.name);
            }
        }
    }
}
