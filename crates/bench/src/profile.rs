//! Where the time of our proxy goes under one load: samples of `perf`, put together as kernel by system call, our
//! program by crate and module, and the rest by library.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::contenders::Contender;
use crate::goal::Goal;
use crate::hop::{Plan, WARM_UP};
use crate::load::Measured;
use crate::running::{Class, Placement, Running, output_within};
use crate::scenario::{GROUPS, Scenario, Setting, Shape};
use crate::table::{Table, figure};

/// Of sampling; beside it the machine does what it does for a window of load.
const SECONDS: f64 = 3.0;
const QUICK_SECONDS: f64 = 1.0;
const START_LIMIT: Duration = Duration::from_secs(20);
const READ_LIMIT: Duration = Duration::from_secs(120);
/// Rows of each table; what is rarer says nothing.
const ROWS: usize = 12;
const SYMBOLS: usize = 20;

/// For each shape of a scenario, and each of our contenders that meets it, a text.
pub fn profile(plan: &Plan<'_>, scenario: Scenario) -> anyhow::Result<String> {
    let perf = perf()?;
    let mut text = String::new();
    for group in GROUPS {
        for shape in group.shapes.iter().filter(|shape| shape.scenario == scenario) {
            let ours = |contender: &&Contender| contender.ours() && shape.contenders.contains(contender);
            for contender in plan.contenders.iter().filter(ours) {
                let (measured, samples) = sample(plan, &perf, group.setting, shape, *contender, SECONDS)?;
                let cpu_us = measured.cpu_us();
                writeln!(text, "\n{}: {} ({})", shape.name, contender.name(), shape.what)?;
                let us = figure(cpu_us, 1);
                writeln!(text, "  {} samples, {us} us of CPU a request while sampled", samples.all)?;
                samples.write(&mut text, cpu_us)?;
            }
        }
    }
    ensure!(!text.is_empty(), "{}: no load of this name that one of ours meets", scenario.name());
    Ok(text)
}

/// Where the time of a line goes that misses a goal.
#[derive(Debug, Clone, Serialize)]
pub struct Spent {
    pub line: &'static str,
    pub contender: &'static str,
    /// Microseconds of CPU for each request: all, and in parts as the table has them.
    pub cpu_us: f64,
    pub parts: [f64; PARTS.len()],
}

pub const PARTS: [&str; 10] = [
    "send",
    "receive",
    "epoll",
    "kernel else",
    "proxy",
    "wire",
    "model",
    "telemetry",
    "own else",
    "libraries",
];

/// Ours and the floor, for each line on which ours misses a goal.
pub fn missed(plan: &Plan<'_>, goals: &[Goal], quick: bool) -> anyhow::Result<Vec<Spent>> {
    let seconds = if quick { QUICK_SECONDS } else { SECONDS };
    let mut all = Vec::new();
    for group in GROUPS {
        for shape in group.shapes {
            let misses = |contender: &&Contender| {
                goals.iter().any(|goal| {
                    goal.line == shape.name && goal.contender == contender.name() && goal.met() == Some(false)
                })
            };
            for ours in shape.contenders.iter().filter(misses) {
                for contender in [*ours, ours.floor()] {
                    if !plan.contenders.contains(&contender) {
                        continue;
                    }
                    // Without the prototypes ours is shown alone.
                    match sample(plan, &perf()?, group.setting, shape, contender, seconds) {
                        Ok((measured, samples)) => {
                            let cpu_us = measured.cpu_us().context("no CPU time")?;
                            let parts = samples.parts().map(|share| share * cpu_us);
                            all.push(Spent { line: shape.name, contender: contender.name(), cpu_us, parts });
                        }
                        Err(e) if contender.ours() => return Err(e.context(shape.name)),
                        Err(_) => {}
                    }
                }
            }
        }
    }
    Ok(all)
}

pub fn table(all: &[Spent]) -> Table {
    let mut table = Table::new(&[["", "CPU us"].as_slice(), PARTS.as_slice()].concat());
    for Spent { line, contender, cpu_us, parts } in all {
        let mut row = vec![format!("{line}: {contender}"), figure(Some(*cpu_us), 1)];
        row.extend(parts.map(|us| figure(Some(us), 2)));
        table.row(row);
    }
    table
}

fn perf() -> anyhow::Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join("perf")).find(|perf| perf.is_file());
    Ok(found.context("perf is not installed (Debian: linux-perf): no profile")?.display().to_string())
}

fn sample(
    plan: &Plan<'_>,
    perf: &str,
    setting: Setting,
    shape: &Shape,
    contender: Contender,
    seconds: f64,
) -> anyhow::Result<(Measured, Samples)> {
    let (_upstream, upstream) = plan.upstream(setting)?;
    let hop = plan.start(contender, setting, upstream)?;
    eprintln!("profile: {} under {}", contender.name(), shape.name);
    let file = plan.directory.join(format!("{}-{}.perf", shape.name, contender.name()));
    let data = file.display().to_string();
    let pids: Vec<String> = hop.pids().iter().map(ToString::to_string).collect();
    // No counter of the processor: virtual machines often have none.
    let options = ["record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-o", &data, "-p"];
    let mut record = vec![perf.to_owned()];
    record.extend(options.map(str::to_owned));
    record.push(pids.join(","));
    plan.load(shape, &hop, WARM_UP)?;
    // Both cores are taken by then: it must not wait for them.
    let placement = Placement { core: None, class: Class::Urgent };
    let mut recorder = Running::start("perf", &record, &[], placement, plan.directory, false)?;
    let deadline = Instant::now() + START_LIMIT;
    while !file.exists() {
        let ended = recorder.ended();
        ensure!(ended.is_none(), "{}", ended.unwrap_or_default());
        ensure!(Instant::now() < deadline, "perf did not start: {}", recorder.last_words());
        std::thread::sleep(Duration::from_millis(10));
    }
    let measured = plan.load(shape, &hop, seconds)?;
    drop(recorder);
    let mut read = Command::new(perf);
    read.args(["script", "--no-inline", "-F", "ip,sym,dso", "-i", &data]);
    let output = output_within(read, READ_LIMIT)?;
    ensure!(output.status.success(), "perf: {}", String::from_utf8_lossy(&output.stderr).trim());
    let samples = Samples::read(&String::from_utf8_lossy(&output.stdout));
    ensure!(samples.all > 0, "perf took no samples: {}", String::from_utf8_lossy(&output.stderr));
    Ok((measured, samples))
}

/// How many samples fell where.
#[derive(Debug, Default)]
struct Samples {
    all: u64,
    /// Kernel, by the system call that led there.
    calls: HashMap<String, u64>,
    /// Our program, by crate, and by crate and modules.
    crates: HashMap<String, u64>,
    modules: HashMap<String, u64>,
    libraries: HashMap<String, u64>,
    symbols: HashMap<String, u64>,
}

impl Samples {
    /// Each sample is a block of lines `address symbol (library)`, the innermost frame first.
    fn read(script: &str) -> Samples {
        let mut samples = Samples::default();
        for block in script.split("\n\n") {
            let frames: Vec<(&str, &str)> = block.lines().filter_map(frame).collect();
            let Some((symbol, library)) = frames.first().copied() else { continue };
            let mut count = |of: fn(&mut Samples) -> &mut HashMap<String, u64>, key: String| {
                *of(&mut samples).entry(key).or_default() += 1;
            };
            if is_kernel(library) {
                let call = frames.iter().find_map(|(symbol, _)| system_call(symbol));
                count(|s| &mut s.calls, call.unwrap_or("entry, exit, interrupts").to_owned());
                count(|s| &mut s.symbols, format!("[kernel] {symbol}"));
            } else if !is_library(library) {
                let module = module(symbol);
                let name = module.split("::").next().unwrap_or(&module).to_owned();
                count(|s| &mut s.crates, name);
                count(|s| &mut s.modules, module);
                count(|s| &mut s.symbols, symbol.to_owned());
            } else {
                let name = library.rsplit('/').next().unwrap_or(library);
                count(|s| &mut s.libraries, name.to_owned());
                count(|s| &mut s.symbols, format!("[{name}] {symbol}"));
            }
            samples.all += 1;
        }
        samples
    }

    /// Shares of all, as `PARTS` names them.
    fn parts(&self) -> [f64; PARTS.len()] {
        let share = |count: u64| count as f64 / self.all.max(1) as f64;
        let calls = |names: &[&str]| -> u64 { names.iter().filter_map(|name| self.calls.get(*name)).sum() };
        let own = |name: &str| self.crates.get(name).copied().unwrap_or(0);
        let [send, receive, epoll] = [
            calls(&["sendto", "sendmsg", "writev"]),
            calls(&["recvfrom", "recvmsg", "readv"]),
            calls(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
        ];
        let named = ["proxy", "wire", "model", "telemetry"].map(own);
        let [proxy, wire, model, telemetry] = named.map(share);
        let kernel: u64 = self.calls.values().sum();
        let program: u64 = self.crates.values().sum();
        let rest = |all: u64, named: u64| share(all.saturating_sub(named));
        [
            share(send),
            share(receive),
            share(epoll),
            rest(kernel, send + receive + epoll),
            proxy,
            wire,
            model,
            telemetry,
            rest(program, named.iter().sum()),
            share(self.libraries.values().sum()),
        ]
    }

    /// With what each share is of the CPU time of a request.
    fn write(&self, out: &mut String, cpu_us: Option<f64>) -> std::fmt::Result {
        let parts = [
            ("kernel, by system call", &self.calls, ROWS),
            ("our program, by crate", &self.crates, ROWS),
            ("our program, by module", &self.modules, ROWS),
            ("libraries", &self.libraries, ROWS),
            ("symbols", &self.symbols, SYMBOLS),
        ];
        for (name, counts, rows) in parts {
            let of_all = |count: u64| count as f64 / self.all.max(1) as f64;
            let share = |count: u64| figure(Some(of_all(count) * 100.0), 1);
            let time = |count: u64| figure(cpu_us.map(|us| us * of_all(count)), 2);
            let all: u64 = counts.values().sum();
            let mut table = Table::new(&[name, &format!("{} %", share(all)), &format!("{} us", time(all))]);
            let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
            sorted.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
            for (key, count) in sorted.into_iter().take(rows) {
                // Names of generic functions have no end.
                let short: String = key.chars().take(100).collect();
                table.row(vec![format!("  {short}"), share(*count), time(*count)]);
            }
            write!(out, "{table}")?;
        }
        Ok(())
    }
}

fn frame(line: &str) -> Option<(&str, &str)> {
    let (address, rest) = line.trim().split_once(' ')?;
    u64::from_str_radix(address, 16).ok()?;
    let (symbol, library) = rest.trim().rsplit_once(" (")?;
    let symbol = symbol.rsplit_once("+0x").map_or(symbol, |(symbol, _)| symbol);
    Some((symbol, library.trim_end_matches(')')))
}

/// Shared ones, and what the kernel lends. The rest is the program itself.
fn is_library(library: &str) -> bool {
    library.contains(".so") || library.starts_with('[')
}

fn is_kernel(library: &str) -> bool {
    library.starts_with("[kernel") || library.starts_with("[guest.kernel") || library.ends_with(".ko")
}

/// `__x64_sys_sendto` and its like of other processors.
fn system_call(symbol: &str) -> Option<&str> {
    ["__x64_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_"]
        .into_iter()
        .find_map(|prefix| symbol.strip_prefix(prefix))
}

/// Crate and modules of a function: `wire::h1` of `<wire::h1::Reader as core::iter::Iterator>::next`.
fn module(symbol: &str) -> String {
    const DEEPEST: usize = 3;
    let path = symbol.trim_start_matches(['<', '&', '*', '(']);
    let path = path.strip_prefix("mut ").unwrap_or(path);
    let end = path.find([' ', '<', '>', '(']).unwrap_or(path.len());
    let segments: Vec<&str> = path.get(..end).unwrap_or(path).split("::").collect();
    let Some((name, modules)) = segments.split_last() else { return symbol.to_owned() };
    match modules {
        [] => (*name).to_owned(),
        [library @ ("core" | "alloc" | "std" | "hashbrown" | "mio" | "memchr" | "httparse"), ..] => {
            (*library).to_owned()
        }
        // Types of methods are capitalized.
        [first, rest @ ..] => {
            let inner = rest.iter().take_while(|name| !name.starts_with(char::is_uppercase));
            [first].into_iter().chain(inner).take(DEEPEST).copied().collect::<Vec<_>>().join("::")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_put_together() {
        let script = "
\tffffffff81 tcp_sendmsg_locked+0x10 ([kernel.kallsyms])
\tffffffff82 __x64_sys_sendto+0x20 ([kernel.kallsyms])
\t    7f0001 __send+0x1 (/usr/lib/libc.so.6)

\tffffffff83 entry_SYSCALL_64 ([kernel.kallsyms])

\t      5501 <wire::h1::Reader as core::iter::Iterator>::next+0x2 (/t/release/filamesh)
\t    7f0002 main+0x1 (/t/release/filamesh)

\t    7f0003 __memmove_avx+0x2 (/usr/lib/libc.so.6)
";
        let samples = Samples::read(script);
        assert_eq!(samples.all, 4);
        assert_eq!(samples.calls["sendto"], 1);
        assert_eq!(samples.calls["entry, exit, interrupts"], 1);
        assert_eq!((samples.crates["wire"], samples.modules["wire::h1"]), (1, 1));
        assert_eq!(samples.libraries["libc.so.6"], 1);
        let parts: Vec<(&str, f64)> =
            PARTS.into_iter().zip(samples.parts()).filter(|(_, s)| *s > 0.0).collect();
        assert_eq!(parts, [("send", 0.25), ("kernel else", 0.25), ("wire", 0.25), ("libraries", 0.25)]);
        let mut text = String::new();
        samples.write(&mut text, Some(8.0)).unwrap();
        assert!(text.contains("50.0 %  4.00 us") && text.contains("[kernel] tcp_sendmsg_locked"), "{text}");
    }

    #[test]
    fn modules() {
        for (symbol, expected) in [
            ("proxy::worker::turn::run", "proxy::worker::turn"),
            ("proxy::worker::up::<impl proxy::worker::Worker>::cut", "proxy::worker::up"),
            ("proxy::pool::Pool::take", "proxy::pool"),
            ("a::b::c::d::e", "a::b::c"),
            ("<&mut wire::h1::Head as core::fmt::Debug>::fmt", "wire::h1"),
            ("core::ptr::drop_in_place<proxy::x::Y>", "core"),
            ("malloc", "malloc"),
            ("<alloc::vec::Vec<T> as core::ops::Drop>::drop", "alloc"),
            ("", ""),
        ] {
            assert_eq!(module(symbol), expected, "{symbol}");
        }
    }
}
