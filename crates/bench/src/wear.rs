//! What must not wear a proxy down: idle HTTP/2 connections, a log nobody reads, a client that asks and never reads.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::contenders::{Contender, Hop};
use crate::figures::Figure;
use crate::hop::Plan;
use crate::http2_client;
use crate::idle;
use crate::procfs;
use crate::running::Running;
use crate::scenario::{Pattern, Scenario, Setting, Shape};
use crate::statistics::ratio;

const SETTING: Setting = Setting::Hop { reply: 1024 };
/// HTTP/2 connections held.
const HELD: usize = 9_500;
/// After the last stream has ended, until a connection has given back what it kept for the next.
const RELEASED: Duration = Duration::from_secs(4);
/// Bytes of requests that nobody reads the answers to.
const UNREAD: usize = 100 << 20;
/// A proxy that takes nothing for so long has stopped reading, as it should.
const STOPPED: Duration = Duration::from_secs(2);
/// A slow one that takes everything has shown what it does after this long.
const PUSHING: Duration = Duration::from_secs(20);

const LOAD: Shape = Shape {
    scenario: Scenario::Wear,
    name: "wear",
    what: "GET, 1 KiB reply, HTTP/1, 64 connections, closed loop",
    pattern: Pattern::Http1 { connections: 64, rate: None, body: 0 },
    contenders: &[Contender::Filamesh],
};

pub fn measure(plan: &Plan<'_>, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    eprintln!("wear: idle HTTP/2 connections");
    figures.extend(idle_connections(plan, quick).context("idle HTTP/2 connections")?);
    eprintln!("wear: answers nobody reads");
    figures.extend(unread_answers(plan).context("answers nobody reads")?);
    eprintln!("wear: a log nobody reads");
    figures.push(blocked_log(plan).context("a log nobody reads")?);
    Ok(figures)
}

/// Memory of each, and how often all of them wake the process.
fn idle_connections(plan: &Plan<'_>, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let (_upstream, upstream) = plan.upstream(SETTING)?;
    let hop = plan.start(Contender::Filamesh, SETTING, upstream)?;
    let pid = pid(&hop)?;
    let at_rest = || {
        idle::settle(pid);
        procfs::memory_of_tree(pid).resident
    };
    // Once through everything, so that what serving HTTP/2 needs is in the base.
    drop(hold(plan, &hop, 200)?);
    std::thread::sleep(RELEASED);
    let base = at_rest();
    let window = Duration::from_secs(if quick { 10 } else { 30 });
    let wake_ups = || {
        let before = procfs::wake_ups_of_tree(pid);
        std::thread::sleep(window);
        procfs::wake_ups_of_tree(pid).saturating_sub(before)
    };
    let by_itself = wake_ups();
    let connections = idle::affordable(&[HELD], plan.files).first().copied().context("no open files")?;
    let held = hold(plan, &hop, connections)?;
    std::thread::sleep(RELEASED);
    let grown = at_rest().saturating_sub(base);
    let woken = wake_ups().saturating_sub(by_itself);
    drop(held);
    let each = grown as f64 / connections as f64 / 1024.0;
    let a_minute = woken as f64 * 60.0 / window.as_secs_f64();
    Ok(vec![
        Figure::new(Scenario::Wear, "memory of an idle HTTP/2 connection", " KiB", 2.0, vec![each]),
        Figure::new(
            Scenario::Wear,
            format!("wake-ups a minute of {connections} idle HTTP/2 connections"),
            "",
            60.0,
            vec![a_minute],
        ),
    ])
}

/// Ends when what is returned is dropped.
fn hold(plan: &Plan<'_>, hop: &Hop, connections: usize) -> anyhow::Result<(ChildStdin, Running)> {
    idle::hold_with(plan, hop, connections, &["--http2"])
}

/// The resident memory that a client costs which sends requests, and reads nothing.
fn unread_answers(plan: &Plan<'_>) -> anyhow::Result<Vec<Figure>> {
    let (_upstream, upstream) = plan.upstream(SETTING)?;
    let mut figures = Vec::new();
    for http2 in [false, true] {
        let mut hop = plan.start(Contender::Filamesh, SETTING, upstream)?;
        let pid = pid(&hop)?;
        plan.load(&LOAD, &hop, 0.5)?;
        idle::settle(pid);
        let before = procfs::memory_of_tree(pid).resident;
        let mut most = before;
        let sent = push(&hop, http2, || most = most.max(procfs::memory_of_tree(pid).resident))?;
        ensure!(hop.ended().is_none(), "{:?}", hop.ended());
        let protocol = if http2 { "HTTP/2" } else { "HTTP/1" };
        figures.push(Figure::new(
            Scenario::Wear,
            format!(
                "growth by {protocol} requests whose answers nobody reads ({} KiB of 100 MiB taken)",
                sent >> 10
            ),
            " MiB",
            4.0,
            vec![most.saturating_sub(before) as f64 / f64::from(1 << 20)],
        ));
    }
    Ok(figures)
}

/// Sends until everything is taken, nothing more is, or the connection is ended. How many bytes were taken.
fn push(hop: &Hop, http2: bool, mut meanwhile: impl FnMut()) -> anyhow::Result<usize> {
    const PIECE: usize = 64 * 1024;
    let (mut stream, mut client) = if http2 {
        let client = http2_client::Client::connect(hop.address)?;
        (client.stream.try_clone()?, Some(client))
    } else {
        (TcpStream::connect(hop.address)?, None)
    };
    stream.set_write_timeout(Some(STOPPED))?;
    let mut sent = 0;
    let mut piece = Vec::with_capacity(PIECE);
    let began = Instant::now();
    while sent < UNREAD && began.elapsed() < PUSHING {
        piece.clear();
        while piece.len() < PIECE {
            match &mut client {
                Some(client) => client.request(&mut piece),
                None => piece.extend_from_slice(b"GET / HTTP/1.1\r\nhost: bench.local\r\n\r\n"),
            }
        }
        let taken = stream.write(&piece);
        meanwhile();
        match taken {
            // A request cut in two may go on in the next write only.
            Ok(taken) if taken == piece.len() => sent += taken,
            Ok(taken) => {
                sent += taken;
                if stream.write_all(piece.get(taken..).unwrap_or_default()).is_err() {
                    break;
                }
                sent += piece.len() - taken;
            }
            Err(_) => break,
        }
    }
    // What it still does with what it has taken.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(50));
        meanwhile();
    }
    Ok(sent)
}

/// CPU of a request while the access log goes to a pipe that nobody reads, of one that somebody does.
fn blocked_log(plan: &Plan<'_>) -> anyhow::Result<Figure> {
    let (_upstream, upstream) = plan.upstream(SETTING)?;
    let start = |name: &str| -> anyhow::Result<(Hop, PathBuf)> {
        let directory = plan.directory.join(name);
        let log = Hop::access_log_in(&directory, Contender::Filamesh);
        std::fs::create_dir_all(log.parent().context("no directory")?)?;
        rustix::fs::mkfifoat(rustix::fs::CWD, &log, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        let plan = Plan { directory: &directory, ..plan.clone() };
        Ok((plan.start(Contender::Filamesh, SETTING, upstream)?, log))
    };
    let (blocked, blocked_log) = start("blocked")?;
    let (drained, drained_log) = start("drained")?;
    // Open, so that writing can begin, and never read: a pipe holds 64 KiB.
    let _unread = File::options().read(true).write(true).open(&blocked_log)?;
    let _reader = Drain::begin(&drained_log)?;
    // Until its pipe, the queue of its writer and its buffer are full.
    plan.load(&LOAD, &blocked, 1.0)?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let of = |hop: &Hop| -> anyhow::Result<f64> {
            plan.load(&LOAD, hop, plan.seconds)?.cpu_us().context("no CPU time was measured")
        };
        rounds.extend(ratio(of(&blocked)?, of(&drained)?));
    }
    Ok(Figure::new(Scenario::Wear, "CPU with a log nobody reads / with one that is read", "", 1.05, rounds))
}

/// Reads a pipe to nowhere until dropped.
struct Drain(Arc<AtomicBool>);

impl Drain {
    fn begin(path: &Path) -> anyhow::Result<Drain> {
        // For reading and writing: neither open nor read ends for want of a writer.
        let mut pipe = File::options().read(true).write(true).open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let began = Instant::now();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while !stopped.load(SeqCst) && began.elapsed() < Duration::from_secs(600) {
                if pipe.read(&mut buffer).is_err() {
                    return;
                }
            }
        });
        Ok(Drain(stop))
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn pid(hop: &Hop) -> anyhow::Result<u32> {
    hop.pids().first().copied().context("it has no process")
}
