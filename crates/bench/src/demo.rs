//! A running demo mesh without load: what its processes weigh.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::http_client::address_of;
use crate::idle::settle;
use crate::procfs::{self, Memory};
use crate::running::{Placement, Running, first_line};

const START_LIMIT: Duration = Duration::from_secs(60);
/// From ready to at rest: a sidecar gives back what its start needed within seconds, and then reads again, page by
/// page, what its timers and the control plane's updates use; after this long that has come to its end.
const REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Demo {
    running: Running,
    since: Instant,
    pub ready: Ready,
}

/// What the ready event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub startup_ms: u64,
    pub config_dir: PathBuf,
    pub control_pid: u32,
    pub control: SocketAddr,
    pub gateway: SocketAddr,
    pub workloads: Vec<Workload>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    pub name: String,
    pub pid: Option<u32>,
    pub proxy_pid: u32,
}

impl Demo {
    pub fn start(filamesh: &Path, directory: &Path) -> anyhow::Result<Demo> {
        let command = [
            filamesh.display().to_string(),
            "demo".to_owned(),
            "--no-load".to_owned(),
            "-o".to_owned(),
            "json".to_owned(),
        ];
        let mut running = Running::start("demo", &command, &[], Placement::default(), directory, true)?;
        // It reads no input: that end of the pipe may close.
        let (_stdin, said) = running.pipes().context("no pipes")?;
        let line =
            first_line(said, START_LIMIT).with_context(|| format!("demo: {}", running.last_words()))?;
        let ready = Ready::read(&line).with_context(|| format!("the demo's ready event: {}", line.trim()))?;
        Ok(Demo { running, since: Instant::now(), ready })
    }

    /// Every process once it is at rest.
    pub fn weigh(&self) -> Weights {
        std::thread::sleep(REST.saturating_sub(self.since.elapsed()));
        settle(self.running.pid());
        let named = |name: &str, pid: u32| Weight::of(name, procfs::memory(pid).unwrap_or_default());
        Weights {
            sidecars: self.ready.workloads.iter().map(|w| named(&w.name, w.proxy_pid)).collect(),
            control: named("control plane", self.ready.control_pid),
            whole: Weight::of("whole demo", procfs::memory_of_tree(self.running.pid())),
            processes: procfs::tree(self.running.pid()).len(),
        }
    }
}

/// Bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Weight {
    pub name: String,
    pub resident: u64,
    pub proportional: u64,
    pub anonymous: u64,
}

impl Weight {
    fn of(name: &str, memory: Memory) -> Weight {
        let Memory { resident, proportional, anonymous } = memory;
        Weight { name: name.to_owned(), resident, proportional, anonymous }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Weights {
    pub sidecars: Vec<Weight>,
    pub control: Weight,
    /// All processes, applications included.
    pub whole: Weight,
    pub processes: usize,
}

impl Weights {
    /// Bytes resident of the heaviest sidecar.
    pub fn heaviest_sidecar(&self) -> Option<u64> {
        self.sidecars.iter().map(|weight| weight.resident).max()
    }
}

impl Ready {
    pub fn read(line: &str) -> anyhow::Result<Ready> {
        let event: Value = serde_json::from_str(line)?;
        ensure!(event["event"] == "ready", "not a ready event");
        let text = |value: &Value, key: &str| -> anyhow::Result<String> {
            Ok(value[key].as_str().with_context(|| format!("no {key}"))?.to_owned())
        };
        let pid = |value: &Value| value.as_u64().and_then(|pid| u32::try_from(pid).ok());
        let mut workloads = Vec::new();
        for workload in event["workloads"].as_array().context("no workloads")? {
            workloads.push(Workload {
                name: text(workload, "name")?,
                pid: pid(&workload["pid"]),
                proxy_pid: pid(&workload["proxy_pid"]).context("no proxy_pid")?,
            });
        }
        Ok(Ready {
            startup_ms: event["startup_ms"].as_u64().context("no startup_ms")?,
            config_dir: text(&event, "config_dir")?.into(),
            control_pid: pid(&event["control"]["pid"]).context("no control.pid")?,
            control: address_of(&text(&event["control"], "http")?)?,
            gateway: address_of(&text(&event, "gateway")?)?,
            workloads,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_event() {
        let line = r#"{"event":"ready","startup_ms":240,"state_dir":"/s","config_dir":"/s/config",
            "control":{"pid":7,"xds":"127.0.0.1:1","http":"http://127.0.0.1:2"},"gateway":"http://127.0.0.1:3",
            "page":"http://127.0.0.1:3/productpage","workloads":[{"name":"reviews-v1","namespace":"default",
            "service":"reviews","version":"v1","address":"127.77.0.1","pid":9,"proxy_pid":8,"admin":"http://127.77.0.1:15000"}]}"#;
        let ready = Ready::read(line).unwrap();
        assert_eq!((ready.startup_ms, ready.control_pid), (240, 7));
        assert_eq!(ready.control, "127.0.0.1:2".parse().unwrap());
        assert_eq!(ready.workloads, [Workload { name: "reviews-v1".into(), pid: Some(9), proxy_pid: 8 }]);
        for broken in ["", "{}", r#"{"event":"ready"}"#, r#"{"event":"stopped"}"#] {
            assert!(Ready::read(broken).is_err(), "{broken}");
        }
    }
}
