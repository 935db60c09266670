//! Small requests on a worker that has other things to do: an upload without end, a thousand slow readers, a change
//! of configuration each second while five thousand clusters are configured.
//!
//! One hop is a gateway under a control plane, for only that takes changes; two hops, multiplexed between the two,
//! have static configurations and so no changes. Open loop: latencies count from the time a request falls due. In
//! each round a window with nothing else is compared with one with everything.
//!
//! What is measured is the proxy and not the scheduler: whoever asks and answers small requests comes before everybody
//! else on the load's core; what answers uploads and slow readers comes after them, and those themselves have what is
//! left. Two hops are two machines: the client's proxy has the load's core, the server's the other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::contenders::Contender;
use crate::figures::Figure;
use crate::hop::Plan;
use crate::http_client::Client;
use crate::idle;
use crate::load::Measured;
use crate::procfs;
use crate::running::{Class, Placement, Running, first_line, free_address};
use crate::scenario::{Pattern, Scenario, Setting};
use crate::scheduling;
use crate::statistics::ratio;
use crate::upstream::{Answer, Service};

const CLUSTERS: usize = 5000;
const READERS: usize = 1000;
const SMALL: Pattern = Pattern::Http1 { connections: 16, rate: Some(1000.0), body: 0 };
const LARGE_REPLY: usize = 1 << 20;
const START_LIMIT: Duration = Duration::from_secs(60);
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// The turns of workers, by their length in microseconds: a histogram of our proxy's.
const TURNS: &str = "filamesh_worker_turn_microseconds_bucket{le=\"";

pub fn measure(plan: &Plan<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    eprintln!("interference: one hop, {CLUSTERS} clusters");
    figures.extend(one_hop(plan).context("one hop")?);
    eprintln!("interference: two hops, multiplexed");
    figures.extend(multiplexed(plan).context("two hops")?);
    Ok(figures)
}

/// Latencies of the windows of each round, without and with the others.
#[derive(Default)]
struct Rounds(Vec<(Measured, Measured)>);

impl Rounds {
    fn figures(&self, way: &str, turns: Vec<f64>) -> Vec<Figure> {
        let times = |of: fn(&Measured) -> Option<f64>| -> Vec<f64> {
            let each = self.0.iter().filter_map(|(quiet, beside)| ratio(of(beside)?, of(quiet)?));
            each.collect()
        };
        let alone =
            |of: fn(&Measured) -> Option<f64>| self.0.iter().filter_map(|(quiet, _)| of(quiet)).collect();
        let figure = |what: &str, unit, limit: Option<f64>, rounds| {
            Figure::new(Scenario::Interference, format!("{way}: {what}"), unit, limit, rounds)
        };
        vec![
            figure("p90 of small requests beside the others / alone", "", Some(1.3), times(|m| m.p90_us)),
            figure("p99 of small requests beside the others / alone", "", Some(2.0), times(|m| m.p99_us)),
            figure("longest turn of a worker, at most", " ms", Some(5.0), turns),
            figure("p90 of small requests alone", " us", None, alone(|m| m.p90_us)),
            figure("p99 of small requests alone", " us", None, alone(|m| m.p99_us)),
            figure(
                "errors of small requests",
                "",
                Some(0.0),
                self.0.iter().map(|(quiet, beside)| (quiet.errors + beside.errors) as f64).collect(),
            ),
        ]
    }
}

/// What is measured, and what changes its configuration while it is disturbed, if anything does.
struct Way<'a> {
    target: SocketAddr,
    pids: Vec<u32>,
    admins: Vec<SocketAddr>,
    change: Option<&'a (dyn Fn(usize) -> anyhow::Result<()> + Sync)>,
}

impl Way<'_> {
    fn measure(&self, plan: &Plan<'_>, name: &str) -> anyhow::Result<Vec<Figure>> {
        let mut rounds = Rounds::default();
        let (mut turns, mut busy) = (Vec::new(), Vec::new());
        let load = || plan.load_at(SMALL, self.target, &self.pids, plan.seconds);
        for _ in 0..plan.rounds {
            let quiet = load()?;
            let others = self.disturb(plan)?;
            let before = self.turns()?;
            let (used, began) = (procfs::cpu_of_trees(&self.pids), Instant::now());
            let beside = std::thread::scope(|scope| {
                let (stop, stopped) = std::sync::mpsc::channel::<()>();
                let changes = self.change.map(|_| scope.spawn(move || self.go_on_changing(&stopped)));
                let beside = load();
                drop(stop);
                if let Some(Ok(changed)) = changes.map(|changes| changes.join()) {
                    changed?;
                }
                beside
            })?;
            let used = procfs::cpu_of_trees(&self.pids).since(used).total;
            busy.push(100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64());
            turns.push(longest(&before, &self.turns()?));
            drop(others);
            rounds.0.push((quiet, beside));
        }
        let mut figures = rounds.figures(name, turns);
        let what = format!("{name}: CPU of the proxies beside the others, of a core");
        figures.push(Figure::new(Scenario::Interference, what, " %", None, busy));
        Ok(figures)
    }

    fn go_on_changing(&self, stopped: &std::sync::mpsc::Receiver<()>) -> anyhow::Result<()> {
        let mut number = 0;
        while let Some(change) = self.change
            && stopped.recv_timeout(CHANGE_EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            change(number)?;
            number += 1;
        }
        Ok(())
    }

    /// The slow readers have what their connections hold before the upload begins: what is measured is the worker with
    /// all of them, not how it got there.
    fn disturb(&self, plan: &Plan<'_>) -> anyhow::Result<[(ChildStdin, Running); 2]> {
        let program = std::env::current_exe()?.display().to_string();
        let (target, readers) = (self.target.to_string(), READERS.to_string());
        let placement = leftover(plan);
        let begin = |name: &str, arguments: &[&str]| {
            let command = [&[program.as_str(), "disturb", target.as_str()], arguments].concat();
            let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
            idle::begin(plan, name, &command, "disturbing", placement).context("the others")
        };
        let slow = begin("readers", &["--readers", &readers])?;
        self.pids.iter().for_each(|pid| idle::settle(*pid));
        Ok([slow, begin("upload", &["--upload"])?])
    }

    /// Cumulative, by the bound in microseconds, over all proxies.
    fn turns(&self) -> anyhow::Result<Vec<(f64, f64)>> {
        let mut sum: Vec<(f64, f64)> = Vec::new();
        for admin in &self.admins {
            let reply = Client::connect(*admin)?.get(&admin.to_string(), "/stats/prometheus")?;
            let turns = turns_in(&String::from_utf8_lossy(&reply.body));
            ensure!(!turns.is_empty(), "{admin} shows no {TURNS}");
            match sum.is_empty() {
                true => sum = turns,
                false => sum.iter_mut().zip(turns).for_each(|(sum, (_, count))| sum.1 += count),
            }
        }
        Ok(sum)
    }
}

fn turns_in(text: &str) -> Vec<(f64, f64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(TURNS)?.split_once("\"} "));
    let read = |(bound, count): (&str, &str)| {
        let bound = if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() };
        Some((bound?, count.parse().ok()?))
    };
    lines.filter_map(read).collect()
}

/// The least bound, in milliseconds, that all turns in between stayed under.
fn longest(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let grown: Vec<(f64, f64)> =
        before.iter().zip(after).map(|((bound, before), (_, after))| (*bound, after - before)).collect();
    let all = grown.last().map_or(0.0, |(_, count)| *count);
    grown.iter().find(|(_, count)| *count >= all).map_or(f64::INFINITY, |(bound, _)| bound / 1000.0)
}

/// On the load's core, after whoever asks and answers small requests.
fn beside(plan: &Plan<'_>) -> Placement {
    Placement { core: Some(plan.cores.load), class: Class::Ordinary }
}

/// What all others on the load's core leave.
fn leftover(plan: &Plan<'_>) -> Placement {
    Placement { core: Some(plan.cores.load), class: Class::Leftover }
}

/// What answers, and where: small requests, and large ones and uploads.
struct Upstreams {
    small: SocketAddr,
    large: SocketAddr,
    _running: [Running; 2],
}

impl Upstreams {
    fn start(plan: &Plan<'_>, directory: &Path) -> anyhow::Result<Upstreams> {
        let program = std::env::current_exe()?.display().to_string();
        let start = |name: &str, length: usize, placement: Placement| {
            let service = Service { address: free_address()?, answer: Answer::Http1(length) };
            let command = [program.clone(), "upstream".to_owned(), service.to_string()];
            let mut running = Running::start(name, &command, &[], placement, directory, false)?;
            running.wait_listening(service.address)?;
            anyhow::Ok((running, service.address))
        };
        let (first, small) = start("upstream", 1024, plan.load_placement())?;
        let (second, large) = start("large", LARGE_REPLY, beside(plan))?;
        Ok(Upstreams { small, large, _running: [first, second] })
    }
}

fn pin(pid: u32, threads: &str, core: usize) -> anyhow::Result<()> {
    procfs::threads_named(pid, threads)
        .into_iter()
        .try_for_each(|thread| scheduling::pin_thread(thread, core))
}

fn multiplexed(plan: &Plan<'_>) -> anyhow::Result<Vec<Figure>> {
    let upstreams = Upstreams::start(plan, plan.directory)?;
    let (small, large) = (upstreams.small, Some(upstreams.large));
    let hop = plan.start_before(Contender::FilameshMux, Setting::Pair, small, large)?;
    let client_side = *hop.pids().first().context("no proxy")?;
    pin(client_side, "", plan.cores.load)?;
    let way = Way { target: hop.address, pids: hop.pids(), admins: hop.admins(), change: None };
    way.measure(plan, "two hops multiplexed")
}

fn one_hop(plan: &Plan<'_>) -> anyhow::Result<Vec<Figure>> {
    let directory = plan.directory.join("interference");
    let mesh = directory.join("mesh");
    std::fs::create_dir_all(&mesh)?;
    let upstreams = Upstreams::start(plan, &directory)?;
    write_mesh(&mesh, free_address()?.port(), upstreams.small, upstreams.large)?;
    let filamesh = plan.programs.filamesh.clone().map_err(anyhow::Error::msg)?.display().to_string();
    let (xds, http) = (free_address()?, free_address()?);
    let control = [
        filamesh.clone(),
        "control".to_owned(),
        format!("--config={}", mesh.display()),
        format!("--state-dir={}", directory.join("control").display()),
        format!("--xds={xds}"),
        format!("--http={http}"),
    ];
    let mut control = Running::start("control", &control, &[], beside(plan), &directory, false)?;
    control.wait_listening(xds)?;
    let gateway = [
        filamesh,
        "proxy".to_owned(),
        "--gateway=istio-bench".to_owned(),
        format!("--xds={xds}"),
        format!("--state-dir={}", directory.join("gateway").display()),
        "--concurrency=1".to_owned(),
        "--output=json".to_owned(),
    ];
    // The worker gets the proxies' core; the threads that take and compile a change run on the other.
    let placement = Placement { core: Some(plan.cores.load), class: Class::Urgent };
    let mut gateway = Running::start("gateway", &gateway, &[], placement, &directory, true)?;
    let (_stdin, said) = gateway.pipes().context("no pipes")?;
    let line = first_line(said, START_LIMIT).with_context(|| gateway.last_words())?;
    let ready: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
    let address = |value: &Value| value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let target = address(&ready["listeners"][0]).with_context(|| format!("no listener: {line}"))?;
    let admin = address(&ready["admin"]).with_context(|| format!("no admin port: {line}"))?;
    wait_for_answers(target)?;
    let workers = procfs::threads_named(gateway.pid(), "worker-");
    ensure!(workers.len() == 1, "one worker: {workers:?}");
    pin(gateway.pid(), "worker-", plan.cores.proxy)?;
    let change = |number: usize| write_churn(&mesh, number).context("a change");
    let way = Way { target, pids: vec![gateway.pid()], admins: vec![admin], change: Some(&change) };
    way.measure(plan, "one hop")
}

fn wait_for_answers(target: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match Client::connect(target).and_then(|mut client| client.get("bench.local", "/")) {
            Ok(reply) if reply.status == 200 => return Ok(()),
            other if Instant::now() > deadline => anyhow::bail!("the gateway does not answer: {other:?}"),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn service_entry(name: &str, endpoint: SocketAddr) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": { "name": name, "namespace": "bench" },
        "spec": {
            "hosts": [format!("{name}.bench.local")],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
            "endpoints": [{ "address": endpoint.ip().to_string(), "ports": { "http": endpoint.port() } }],
        },
    })
}

fn write_mesh(mesh: &Path, port: u16, small: SocketAddr, large: SocketAddr) -> anyhow::Result<()> {
    let to = |name: &str| json!([{ "destination": { "host": format!("{name}.bench.local"), "port": { "number": 80 } } }]);
    let edge = [
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": { "name": "edge", "namespace": "istio-system" },
            "spec": {
                "selector": { "istio": "bench" },
                "servers": [{
                    "port": { "number": port, "name": "http", "protocol": "HTTP" }, "hosts": ["*"],
                }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "name": "edge", "namespace": "bench" },
            "spec": {
                "hosts": ["bench.local"],
                "gateways": ["istio-system/edge"],
                "http": [
                    { "match": [{ "uri": { "prefix": "/large" } }], "route": to("large") },
                    { "route": to("small") },
                ],
            },
        }),
        service_entry("small", small),
        service_entry("large", large),
    ];
    write(mesh.join("edge.yaml"), edge)?;
    write(mesh.join("many.yaml"), (0..CLUSTERS).map(|n| service_entry(&format!("many-{n}"), small)))?;
    write_churn(mesh, 0)
}

/// One service of many has another host than before.
fn write_churn(mesh: &Path, number: usize) -> anyhow::Result<()> {
    let port = 1 + u16::try_from(number % 1000)?;
    write(mesh.join("churn.yaml"), [service_entry("churn", ([127, 0, 0, 1], port).into())])
}

/// JSON is YAML. Renamed into place, so that no half of it is read.
fn write(path: PathBuf, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let text: String = objects.into_iter().map(|object| format!("---\n{object}\n")).collect();
    let beside = path.with_extension("part");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, &path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_the_bound_that_no_turn_passed() {
        let text = |counts: [u32; 3]| {
            let line = |(bound, count)| format!("{TURNS}{bound}\"}} {count}\n");
            ["1000", "5000", "+Inf"].into_iter().zip(counts).map(line).collect::<String>() + "other 5\n"
        };
        let turns = |counts| turns_in(&text(counts));
        assert_eq!(turns([1, 2, 2]), [(1000.0, 1.0), (5000.0, 2.0), (f64::INFINITY, 2.0)]);
        for (before, after, expected) in [
            ([1, 2, 2], [9, 10, 10], 1.0),
            ([1, 2, 2], [9, 12, 12], 5.0),
            ([1, 2, 2], [9, 12, 13], f64::INFINITY),
        ] {
            assert_eq!(longest(&turns(before), &turns(after)), expected);
        }
    }

    #[test]
    fn rounds_compare_each_window_with_its_own_neighbour() {
        let measured = |p90: f64| Measured {
            replies: 1,
            served: 1,
            errors: 1,
            first_error: None,
            seconds: 1.0,
            rps: 1.0,
            user_us: None,
            system_us: None,
            p50_us: None,
            p90_us: Some(p90),
            p99_us: None,
            p999_us: None,
            max_us: None,
        };
        let rounds = Rounds(vec![(measured(100.0), measured(150.0)), (measured(200.0), measured(200.0))]);
        let figures = rounds.figures("way", vec![1.0]);
        let of = |what: &str| &figures.iter().find(|figure| figure.what.contains(what)).unwrap().rounds;
        assert_eq!(of("p90 of small requests beside"), &[1.5, 1.0]);
        assert_eq!(of("errors"), &[2.0, 2.0]);
        assert_eq!(of("longest turn"), &[1.0]);
        assert!(of("p99 of small requests beside").is_empty());
    }
}
