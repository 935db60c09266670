//! `filamesh stat`: success, rate and latency of every workload, from two scrapes of the proxies themselves.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use telemetry::scrape::{self, Traffic};

use crate::exit::{Failure, Outcome};
use crate::http_client;
use crate::mesh::MeshFile;
use crate::output::{Format, Table, list, put, say};
use crate::target::{self, Target};

/// Live success rate, requests a second and latencies of every workload
#[derive(Debug, Args)]
#[command(
    after_help = "Each row is what arrived at the workload, measured by its own proxy; a workload that nobody calls
(a gateway, a client) shows what it sent, marked with \"out\".

Examples:
  filamesh stat
  filamesh stat -w
  filamesh stat --window 5 -o json"
)]
pub struct Stat {
    /// Only these workloads
    workloads: Vec<String>,
    #[command(flatten)]
    target: Target,
    /// Seconds between the two looks; 0: everything since each proxy's start
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    window: f64,
    /// Again and again until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    namespace: String,
    version: String,
    /// `in`: measured where it arrived; `out`: where it was sent.
    direction: &'static str,
    requests: f64,
    rps: f64,
    /// 0 to 1; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
    tcp_bytes: f64,
}

pub fn run(args: &Stat) -> Outcome {
    if !(args.window.is_finite() && (0.0..=3600.0).contains(&args.window)) {
        return Err(Failure::usage(format!("--window {}: 0 to 3600 seconds", args.window)));
    }
    let mesh = args.target.find()?;
    loop {
        let rows = rows(&mesh, args)?;
        if args.watch && args.output == Format::Table {
            put("\x1b[2J\x1b[H")?;
        }
        list(
            args.output,
            "StatList",
            &rows,
            |row| format!("{}.{}", row.name, row.namespace),
            || table(&rows),
        )?;
        if !args.watch {
            return Ok(());
        }
    }
}

/// One proxy's scrape and when it was taken.
struct Scrape {
    at: Instant,
    text: String,
}

fn rows(mesh: &MeshFile, args: &Stat) -> Result<Vec<Row>, Failure> {
    let workloads: Vec<_> = target::workloads(mesh)?
        .into_iter()
        .map(|w| w.workload)
        .filter(|w| {
            args.workloads.is_empty()
                || args.workloads.iter().any(|n| *n == w.name || w.service.as_ref() == Some(n))
        })
        .collect();
    let look = || -> Vec<Option<Scrape>> {
        workloads
            .iter()
            .map(|w| {
                let admin = w.admin.as_ref()?;
                match http_client::get(&format!("http://{admin}/stats/prometheus")) {
                    Ok(body) => {
                        Some(Scrape { at: Instant::now(), text: String::from_utf8_lossy(&body).into_owned() })
                    }
                    Err(failure) => {
                        say(format_args!("{}.{}: {failure}", w.name, w.namespace));
                        None
                    }
                }
            })
            .collect()
    };
    let before = if args.window > 0.0 { look() } else { workloads.iter().map(|_| None).collect() };
    if args.window > 0.0 {
        std::thread::sleep(Duration::from_secs_f64(args.window));
    }
    let after = look();
    let mut rows = Vec::new();
    for ((workload, before), after) in workloads.iter().zip(&before).zip(&after) {
        let Some(after) = after else { continue };
        let parse = |text| {
            scrape::parse(text).map_err(|e| {
                Failure::new(crate::exit::Code::Failure, format!("metrics of {}: {e}", workload.name))
            })
        };
        let (old, elapsed) = match before {
            Some(before) => (parse(&before.text)?, after.at.duration_since(before.at)),
            None => (Vec::new(), Duration::from_secs(1)),
        };
        let new = parse(&after.text)?;
        let by_reporter: BTreeMap<String, Traffic> =
            scrape::traffic(&old, &new, elapsed, |s| s.label("reporter").map(str::to_owned));
        let none = Traffic::default();
        let inbound = by_reporter.get("destination");
        let (direction, traffic) = match inbound {
            Some(traffic) => ("in", traffic),
            None => ("out", by_reporter.get("source").unwrap_or(&none)),
        };
        rows.push(Row {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            version: workload.version.clone().unwrap_or_default(),
            direction,
            requests: traffic.requests,
            rps: traffic.rate,
            success: traffic.success(),
            p50_ms: traffic.latency_ms(0.50),
            p95_ms: traffic.latency_ms(0.95),
            p99_ms: traffic.latency_ms(0.99),
            tcp_bytes: traffic.tcp_sent + traffic.tcp_received,
        });
    }
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(rows)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "VERSION",
        "SUCCESS",
        "RPS",
        "P50",
        "P95",
        "P99",
        "DIR",
        "NAMESPACE",
        "TCP_BYTES",
    ])
    .wide_from(8);
    let latency =
        |ms: Option<f64>| ms.filter(|v| v.is_finite()).map_or("-".to_owned(), |v| format!("{v:.1}ms"));
    for row in rows {
        let success = row.success.map_or("-".to_owned(), |s| format!("{:.2} %", s * 100.0));
        table.row(vec![
            row.name.clone(),
            row.version.clone(),
            success,
            format!("{:.1}", row.rps),
            latency(row.p50_ms),
            latency(row.p95_ms),
            latency(row.p99_ms),
            row.direction.to_owned(),
            row.namespace.clone(),
            format!("{:.0}", row.tcp_bytes),
        ]);
    }
    table
}
