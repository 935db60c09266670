//! What a byte that a client sends costs in memory: floods of connections, heads and streams, each held as long as the
//! proxy lets it. Counted is what the worker has of the heap; what an opened connection costs before it says anything is
//! its base, and told beside.

use std::sync::Arc;

use proxy::machine::ManualTime;

use crate::config::{self, H1_HOSTS, H2_HOSTS, MAIN, address};
use crate::history::History;
use crate::machine::{Machine, proxy};
use crate::net::{Answers, EndId, Faults, MILLI, Net, Owner};
use crate::random::Dice;
use crate::trace::Trace;

struct Flood {
    name: &'static str,
    connections: usize,
    /// Said first, as any client does.
    opening: Vec<u8>,
    says: Vec<u8>,
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

/// As [`streams`], where a field of 3.9 KiB is named once and pointed to fifteen times by each.
fn pointing() -> Vec<u8> {
    let mut named = vec![0x40];
    text(b"x", &mut named);
    text(&[b'v'; 3_900], &mut named);
    let mut out = vec![];
    headers(1, "/h1/1", &named, &mut out);
    for number in 1..50u32 {
        let mut block = vec![0x82, 0x86, 0xc0, 0xbf];
        block.extend_from_slice(&[0xbe; 15]);
        frame(1, 5, number * 2 + 1, &block, &mut out);
    }
    out
}

fn floods() -> Vec<Flood> {
    let h1 = |name, connections, says: &str| Flood {
        name,
        connections,
        opening: vec![],
        says: says.as_bytes().to_vec(),
    };
    let h2 = |name, window, says| Flood { name, connections: 20, opening: opening(window), says };
    // A literal that is not kept, its name from the static table.
    let cookies = [[0x0f, 0x11, 0]; 10_666].concat();
    vec![
        h1("a head that does not end", 500, "GET /h1/1 HTTP/1.1\r\nhost: sim.l"),
        h1("a request nobody answers", 500, "GET /h1/1 HTTP/1.1\r\nhost: sim.local\r\n\r\n"),
        h1("100 direct answers unread", 50, &"GET /direct HTTP/1.1\r\nhost: sim.local\r\n\r\n".repeat(100)),
        h2("streams nobody answers", 65_535, streams(50, "/h1/1", &[])),
        h2("direct answers without a window", 0, streams(50, "/direct", &[])),
        h2("32,000 bytes of empty cookies", 0, streams(50, "/h1/1", &cookies)),
        h2("fields of 3.9 KiB pointed to", 0, pointing()),
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

    /// Turns for a few milliseconds.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.now += MILLI / 4;
            self.time.monotonic.store(self.now, std::sync::atomic::Ordering::Relaxed);
            self.net.lock().advance(self.now);
            let events = self.net.lock().events(0, 256);
            self.machine.turn(events);
            while self.net.lock().take_woken().is_some() {}
            while self.machine.piece().is_some() {}
        }
    }

    fn open(&mut self, says: &[u8]) -> EndId {
        // Takes few bytes of an answer and reads none.
        let made = self.net.lock().connect(Owner::Actor(0), address(MAIN), None, None, 2_000);
        let (end, _) = made.expect("a connection");
        self.settle();
        self.say(end, says);
        end
    }

    fn say(&mut self, end: EndId, mut says: &[u8]) {
        for _ in 0..100 {
            let sent = self.net.lock().write(end, [says, &[]]).unwrap_or(0);
            says = &says[sent..];
            self.settle();
            if says.is_empty() {
                return;
            }
        }
    }
}

#[test]
fn a_byte_sent_costs_little_memory() {
    println!("{:<34} {:>6} {:>9} {:>10} {:>7} {:>8}", "flood", "conns", "sent", "held", "base", "held/sent");
    for flood in floods() {
        let mut room = Room::new();
        // What is made once is made.
        let end = room.open(&flood.opening);
        room.net.lock().abort(end);
        room.settle();
        let empty = room.machine.heap;
        let ends: Vec<EndId> = (0..flood.connections).map(|_| room.open(&flood.opening)).collect();
        let opened = room.machine.heap;
        for end in &ends {
            room.say(*end, &flood.says);
        }
        let held = room.machine.heap - opened;
        let base = (opened - empty) / flood.connections as isize;
        let sent = (flood.says.len() * flood.connections) as isize;
        println!(
            "{:<34} {:>6} {:>9} {:>10} {:>7} {:>8.1}",
            flood.name,
            flood.connections,
            sent,
            held,
            base,
            held as f64 / sent as f64
        );
    }
}
