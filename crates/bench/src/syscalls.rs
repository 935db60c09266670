//! System calls of a small HTTP/1 request, counted by strace while the closed loop runs. Being traced makes a proxy
//! slow, not talkative: it sends and receives as often as before.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::contenders::{Contender, Hop};
use crate::hop::{Missing, Plan, miss};
use crate::running::{Class, Placement, Running};
use crate::scenario::{Pattern, Scenario, Setting, Shape};

pub const CONTENDERS: [Contender; 4] =
    [Contender::Envoy, Contender::Filamesh, Contender::Floor, Contender::Relay];
const SECONDS: f64 = 1.0;
const ATTACH_LIMIT: Duration = Duration::from_secs(10);
/// Fewer replies would count connections and not requests.
const ENOUGH: u64 = 500;

const LOAD: Shape = Shape {
    scenario: Scenario::Syscalls,
    name: "syscalls",
    what: "GET, 1 KiB reply, HTTP/1, 16 connections, closed loop",
    pattern: Pattern::Http1 { connections: 16, rate: None, body: 0 },
    contenders: &CONTENDERS,
};

/// Calls for each request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Syscalls {
    pub contender: &'static str,
    /// Those that move bytes on sockets.
    pub network: f64,
    /// Those that wait for sockets.
    pub wait: f64,
    pub others: f64,
}

pub fn measure(plan: &Plan<'_>, missing: &mut Vec<Missing>) -> anyhow::Result<Vec<Syscalls>> {
    let strace = plan.programs.strace.clone().map_err(anyhow::Error::msg)?;
    let setting = Setting::Hop { reply: 1024 };
    let (_upstream, upstream) = plan.upstream(setting)?;
    let mut all = Vec::new();
    for contender in CONTENDERS.into_iter().filter(|contender| plan.contenders.contains(contender)) {
        eprintln!("syscalls: {}", contender.name());
        match plan.start(contender, setting, upstream).and_then(|hop| count(plan, &strace, &hop)) {
            Ok(counted) => all.push(counted),
            Err(e) => miss(missing, "syscalls", contender, &e),
        }
    }
    Ok(all)
}

fn count(plan: &Plan<'_>, strace: &Path, hop: &Hop) -> anyhow::Result<Syscalls> {
    let pid = hop.pids().first().copied().context("it has no process")?;
    let summary = plan.directory.join("strace");
    let command = [
        strace.display().to_string(),
        "-f".to_owned(),
        "-c".to_owned(),
        "-o".to_owned(),
        summary.display().to_string(),
        "-p".to_owned(),
        pid.to_string(),
    ];
    // Both cores are taken by then: it must not wait for them.
    let placement = Placement { core: None, class: Class::Urgent };
    let mut tracer = Running::start("strace-of-proxy", &command, &[], placement, plan.directory, false)?;
    let deadline = Instant::now() + ATTACH_LIMIT;
    while !tracer.last_words().contains("attached") {
        if let Some(ended) = tracer.ended() {
            anyhow::bail!(ended);
        }
        ensure!(Instant::now() < deadline, "strace did not attach: {}", tracer.last_words());
        std::thread::sleep(Duration::from_millis(10));
    }
    let measured = plan.load(&LOAD, hop, SECONDS)?;
    // Asked to end it lets go of the process and writes its summary.
    drop(tracer);
    ensure!(measured.served >= ENOUGH, "{} replies in all: too few to tell", measured.served);
    let text = std::fs::read_to_string(&summary).with_context(|| summary.display().to_string())?;
    per_request(hop.contender.name(), &text, measured.served)
}

fn per_request(contender: &'static str, summary: &str, served: u64) -> anyhow::Result<Syscalls> {
    let (mut network, mut wait, mut others) = (0, 0, 0);
    for (name, calls) in summary.lines().filter_map(call) {
        let of = match name {
            "recvfrom" | "recvmsg" | "recvmmsg" | "readv" | "sendto" | "sendmsg" | "sendmmsg" | "writev"
            | "splice" | "sendfile" => &mut network,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "ppoll" => &mut wait,
            _ => &mut others,
        };
        *of += calls;
    }
    ensure!(network > 0, "strace counted no call that moves bytes");
    let each = |calls: u64| calls as f64 / served as f64;
    Ok(Syscalls { contender, network: each(network), wait: each(wait), others: each(others) })
}

/// `% time, seconds, usecs/call, calls, [errors,] syscall` of strace's table.
fn call(line: &str) -> Option<(&str, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let name = *fields.last()?;
    fields.first()?.parse::<f64>().ok()?;
    (name != "total").then_some((name, fields.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.10    0.123456           6      2000           sendto
 30.00    0.061111           3      2010        10 recvfrom
  9.00    0.010000           9       100           epoll_wait
  0.90    0.001000           9        10           write
------ ----------- ----------- --------- --------- ----------------
100.00    0.195567           4      4120        10 total
";

    #[test]
    fn a_summary_is_read() {
        let counted = per_request("c", SUMMARY, 1000).unwrap();
        assert_eq!(counted, Syscalls { contender: "c", network: 4.01, wait: 0.1, others: 0.01 });
        assert!(per_request("c", "", 1000).is_err());
    }
}
