//! What a request costs a worker, without the kernel: released workers over a network in memory, access log and Istio's
//! metrics on. `request_cost WORK [REQUESTS]`, where WORK is `http1`, `post`, `large`, `http2` or `hop` (two workers, all
//! requests over one connection between them). Prints calls of the network, bytes of log and nanoseconds a request;
//! nanoseconds on a machine that does something else mean little. Counted in instructions, which a busy machine does not
//! change, the network left out:
//!
//! `valgrind --tool=callgrind --toggle-collect='*take_turn*' --toggle-collect='*Given*' request_cost http1 10000`
//!
//! and the sum divided by the number of requests.
#![allow(clippy::print_stdout)]

mod clients;
mod config;
mod memory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use model::Snapshot;
use proxy::ProxyOptions;
use proxy::machine::{Clock, Command, Event, Listen, LogWriters, Mailbox, ManualTime, Piece, Shared, Worker};

use clients::{Grpc, Text, Work};
use config::Hosts;
use memory::Net;

/// A worker and where its log comes out.
struct Machine {
    worker: Worker,
    log: Receiver<Piece>,
    events: Vec<Event>,
}

/// All that takes part.
pub struct Stage {
    pub net: Net,
    time: Arc<ManualTime>,
    machines: Vec<Machine>,
    logged: usize,
    turns: usize,
    spent: Duration,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "http1".into());
    let requests = arguments.next().map_or(Ok(10_000), |count| count.parse::<usize>())?;
    let mut stage = Stage::new();
    // A listening socket is known by its port.
    let near: SocketAddr = "10.0.0.1:80".parse()?;
    let far: SocketAddr = "10.0.0.2:81".parse()?;
    let host: SocketAddr = "10.0.0.3:82".parse()?;
    let hosts = if name == "http2" { Hosts::Http2 } else { Hosts::Http1 };
    if name == "hop" {
        stage.add(near, config::snapshot("OUTBOUND", near, far, Hosts::Hop)?);
        stage.add(far, config::snapshot("INBOUND", far, host, hosts)?);
    } else {
        stage.add(near, config::snapshot("INBOUND", near, host, hosts)?);
    }
    let mut work: Box<dyn Work> = match name.as_str() {
        "http1" | "hop" => Box::new(Text::new(&stage, near, 16, 0, 1024)),
        "post" => Box::new(Text::new(&stage, near, 16, 1024, 1024)),
        "large" => Box::new(Text::new(&stage, near, 16, 0, 64 * 1024)),
        "http2" => Box::new(Grpc::new(&stage, near, 32)),
        other => bail!("{other}: not http1, post, large, http2 or hop"),
    };
    let (mut done, mut rounds) = (0, 0);
    while done < requests {
        done += work.round(&mut stage)?;
        rounds += 1;
        ensure!(rounds <= requests + 10, "requests are not answered");
    }
    let each = |number: usize| number as f64 / done as f64;
    println!(
        "{name}: {done} requests; each: {:.2} turns, {:.0} bytes of log, {:.0} ns",
        each(stage.turns),
        each(stage.logged),
        stage.spent.as_secs_f64() * 1e9 / done as f64,
    );
    Ok(())
}

impl Stage {
    fn new() -> Stage {
        let time = Arc::new(ManualTime::default());
        time.of_day.store(1_700_000_000_000_000_000, Relaxed);
        Stage { net: Net::default(), time, machines: vec![], logged: 0, turns: 0, spent: Duration::ZERO }
    }

    fn add(&mut self, listen: SocketAddr, snapshot: Arc<Snapshot>) {
        let index = self.machines.len();
        let (queue, commands) = channel();
        let mailbox = Mailbox { queue, waker: self.net.waker(index) };
        let options = ProxyOptions {
            clock: Clock::manual(self.time.clone()),
            memory_budget: Some(256 << 20),
            ..ProxyOptions::default()
        };
        let mut shared = Shared::new(&options, vec![mailbox.clone()], 10_000, 1);
        let (lines, log) = sync_channel(64);
        shared.writers = LogWriters::given(lines);
        let network = self.net.of_worker(index);
        let worker = Worker::new(0, network, commands, Arc::new(shared), Arc::default());
        let (done, _) = channel();
        mailbox.send(Command::Configure(snapshot, done));
        mailbox.send(Command::Listen(Listen {
            socket: self.net.listener(index, listen),
            listener: "listener".into(),
            redirected: false,
        }));
        self.machines.push(Machine { worker, log, events: vec![] });
        self.settle();
    }

    /// Turns of all workers until nothing happens any more.
    pub fn settle(&mut self) {
        let mut any = true;
        while std::mem::take(&mut any) {
            for (index, machine) in self.machines.iter_mut().enumerate() {
                self.net.events(index, &mut machine.events);
                // Who was left over in the turn before has no event of its own.
                if machine.events.is_empty() && machine.worker.sleep() != Some(Duration::ZERO) {
                    continue;
                }
                any = true;
                self.turns += 1;
                self.time.monotonic.fetch_add(100_000, Relaxed);
                let began = Instant::now();
                take_turn(&mut machine.worker, &machine.events);
                self.spent += began.elapsed();
                while let Ok(piece) = machine.log.try_recv() {
                    if let Piece::Lines(lines) = piece {
                        self.logged += lines.len();
                    }
                }
            }
        }
    }
}

/// What is counted: a turn, and what precedes the sleep before the next.
#[inline(never)]
fn take_turn(worker: &mut Worker, events: &[Event]) {
    std::hint::black_box(worker.sleep());
    worker.turn(events.iter().copied());
}
