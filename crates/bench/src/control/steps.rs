//! What meshload says of each step of a run, read from its JSON.

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Endpoint,
    VirtualService,
    DestinationRule,
    Service,
}

/// In milliseconds from just before a file is renamed until the proxies have it, or from the start of the step. Absent when no
/// proxy got anything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// Of how many.
    pub n: u64,
    #[serde(rename = "p50_ms")]
    pub p50: Option<f64>,
    #[serde(rename = "p99_ms")]
    pub p99: Option<f64>,
    #[serde(rename = "last_ms")]
    pub last: Option<f64>,
}

/// From the start of the process until it says that it is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub ready_s: f64,
    pub server_cpu_s: f64,
    pub rss_kb_after: u64,
}

/// Proxies that connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    pub from_proxies: u64,
    /// In all, at the end.
    pub proxies: u64,
    pub all_synced: bool,
    pub server_cpu_s: f64,
    pub bytes: u64,
    pub unchanged_bytes: u64,
    #[serde(default)]
    pub stream_errors: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    pub cpu_percent_of_a_core: f64,
    pub rss_kb_after: u64,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Of the control plane, in milliseconds, less what it uses when nothing happens.
    #[serde(rename = "server_cpu_ms_less_idle")]
    pub cpu_ms: f64,
    pub bytes: u64,
    pub unchanged_bytes: u64,
    /// How many got something.
    pub proxies_with_response: u64,
    pub arrival: Arrival,
    #[serde(default)]
    pub stream_errors: u64,
}

/// Changes of endpoints at a steady rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    pub cpu_percent_during: f64,
    pub changes: u64,
    /// That no proxy got.
    pub changes_unseen: u64,
    pub bytes: u64,
    pub unchanged_bytes: u64,
    pub arrival: Arrival,
    #[serde(default)]
    pub stream_errors: u64,
}

/// The control plane killed and started, all proxies back at once over a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    pub proxies: u64,
    pub initial_resource_versions: bool,
    pub all_synced: bool,
    /// Each proxy holds what it held before.
    pub state_same: bool,
    /// Without the start itself.
    pub server_cpu_s: f64,
    pub bytes: u64,
    pub unchanged_resources: u64,
    pub resync_since_ready: Arrival,
    pub peak_rss_kb: u64,
}

/// A run, by kind of step, each in the order in which they were taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Steps {
    pub start: Option<Start>,
    pub syncs: Vec<Sync>,
    pub idles: Vec<Idle>,
    pub changes: Vec<(Kind, Change)>,
    /// With changes per second.
    pub churns: Vec<(u32, Churn)>,
    pub restart: Option<Restart>,
    /// Bytes resident at most, of any control plane of the run; from the system, not from the tool.
    pub peak_rss: Option<u64>,
}

#[derive(Deserialize)]
struct Written {
    results: Vec<Value>,
}

impl Steps {
    /// Fields that are not known are passed over: the tool says more than is used here. A step that is not known is an error,
    /// as a figure of it would be missing without a word.
    pub fn read(text: &str) -> anyhow::Result<Steps> {
        let written: Written = serde_json::from_str(text).context("meshload's result")?;
        let mut steps = Steps::default();
        for value in written.results {
            let name = value["scenario"].as_str().context("meshload: a step without a name")?.to_owned();
            steps.take(&name, value).with_context(|| format!("meshload: step {name}"))?;
        }
        Ok(steps)
    }

    fn take(&mut self, name: &str, value: Value) -> anyhow::Result<()> {
        fn typed<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
            Ok(serde_json::from_value(value)?)
        }
        match name.split_once(':').unwrap_or((name, "")) {
            ("start", "") => self.start = Some(typed(value)?),
            ("sync", "") => self.syncs.push(typed(value)?),
            ("idle", "") => self.idles.push(typed(value)?),
            ("restart", "") => self.restart = Some(typed(value)?),
            ("change", kind) => {
                let kind = match kind {
                    "endpoint" => Kind::Endpoint,
                    "virtualservice" => Kind::VirtualService,
                    "destinationrule" => Kind::DestinationRule,
                    "service" => Kind::Service,
                    _ => bail!("no such kind"),
                };
                self.changes.push((kind, typed(value)?));
            }
            ("churn", rate) => {
                let rate = rate.strip_suffix("/s").and_then(|rate| rate.parse().ok()).context("no rate")?;
                self.churns.push((rate, typed(value)?));
            }
            _ => bail!("not known"),
        }
        Ok(())
    }

    /// What makes figures of a run worthless, or shows that proxies were not served.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for sync in self.syncs.iter().filter(|sync| !sync.all_synced) {
            faults.push(format!("of {} proxies not all got everything", sync.proxies));
        }
        let unseen = self.changes.iter().filter(|(_, change)| change.arrival.n == 0).count() as u64;
        let unseen = unseen + self.churns.iter().map(|(_, churn)| churn.changes_unseen).sum::<u64>();
        if unseen > 0 {
            faults.push(format!("{unseen} changes reached no proxy"));
        }
        let lost = self.syncs.iter().map(|sync| sync.stream_errors).sum::<u64>()
            + self.changes.iter().map(|(_, change)| change.stream_errors).sum::<u64>()
            + self.churns.iter().map(|(_, churn)| churn.stream_errors).sum::<u64>();
        if lost > 0 {
            faults.push(format!("{lost} streams broke while the control plane ran"));
        }
        if let Some(restart) = &self.restart {
            if !restart.all_synced {
                faults.push("not all proxies came back after the restart".to_owned());
            }
            if !restart.state_same {
                faults.push("proxies hold something else after the restart".to_owned());
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::quantities::tests::{change, restart, sync};

    fn read(results: Value) -> anyhow::Result<Steps> {
        Steps::read(&json!({ "results": results, "mesh": {} }).to_string())
    }

    /// As meshload writes it, shortened.
    #[test]
    fn a_result_is_read() {
        let arrival =
            json!({"n": 50, "first_ms": 9, "p50_ms": 30.5, "p90_ms": 44, "p99_ms": 44.6, "last_ms": 45});
        let steps = read(json!([
            {"scenario": "start", "ready_s": 0.071, "server_cpu_s": 0.064, "rss_kb_after": 30600, "at": "x"},
            {"scenario": "idle", "cpu_percent_of_a_core": 0.16, "rss_kb_after": 33012, "window_s": 3},
            {"scenario": "change:endpoint", "server_cpu_ms_less_idle": 42, "bytes": 1884, "unchanged_bytes": 0,
             "proxies_with_response": 50, "arrival": arrival, "by_type": {"eds": {"bytes": 1884}}},
            {"scenario": "churn:10/s", "cpu_percent_during": 43.2, "changes": 30, "changes_unseen": 0,
             "bytes": 70, "unchanged_bytes": 7, "arrival": arrival},
        ]))
        .unwrap();
        assert_eq!(steps.start.as_ref().map(|start| start.server_cpu_s), Some(0.064));
        let (kind, change) = &steps.changes[0];
        assert_eq!((*kind, change.cpu_ms, change.arrival.p99), (Kind::Endpoint, 42.0, Some(44.6)));
        assert_eq!((steps.churns[0].0, steps.churns[0].1.unchanged_bytes), (10, 7));
        assert_eq!(steps.faults(), Vec::<String>::new());
    }

    #[test]
    fn what_is_broken_is_refused_by_name() {
        for (results, said) in [
            (json!([{"scenario": "reconnect"}]), "step reconnect: not known"),
            (json!([{"scenario": "change:pod"}]), "step change:pod: no such kind"),
            (json!([{"scenario": "churn:fast"}]), "step churn:fast: no rate"),
            (json!([{"scenario": "idle:3"}]), "step idle:3: not known"),
            (json!([{"scenario": "idle", "rss_kb_after": 1}]), "missing field `cpu_percent_of_a_core`"),
            (json!([{"scenario": "idle", "rss_kb_after": -1}]), "step idle"),
            (json!([{}]), "a step without a name"),
            (json!({}), "meshload's result"),
        ] {
            let error = format!("{:#}", read(results).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
        assert!(Steps::read("").is_err() && Steps::read("[1]").is_err());
    }

    /// As a load that is killed while it writes leaves it.
    #[test]
    fn a_result_cut_anywhere_is_refused() {
        let step = json!({"scenario": "idle", "cpu_percent_of_a_core": 0.16, "rss_kb_after": 33012});
        let text = json!({ "results": [step] }).to_string();
        assert_eq!(Steps::read(&text).unwrap().idles.len(), 1);
        for end in 0..text.len() {
            assert!(Steps::read(&text[..end]).is_err(), "{}", &text[..end]);
        }
    }

    #[test]
    fn faults_are_told() {
        let good = Steps {
            syncs: vec![sync(100, 0.1)],
            changes: vec![(Kind::Service, change(1.0, 5))],
            restart: Some(restart(100)),
            ..Steps::default()
        };
        assert_eq!(good.faults(), Vec::<String>::new());
        type Break = fn(&mut Steps);
        let broken: [(Break, &str); 5] = [
            (|steps| steps.syncs[0].all_synced = false, "of 100 proxies not all got everything"),
            (|steps| steps.syncs[0].stream_errors = 2, "2 streams broke"),
            (|steps| steps.changes[0].1.arrival.n = 0, "1 changes reached no proxy"),
            (|steps| steps.restart.as_mut().unwrap().all_synced = false, "not all proxies came back"),
            (|steps| steps.restart.as_mut().unwrap().state_same = false, "something else after the restart"),
        ];
        for (breaking, said) in broken {
            let mut steps = good.clone();
            breaking(&mut steps);
            assert!(steps.faults().len() == 1 && steps.faults()[0].contains(said), "{:?}", steps.faults());
        }
    }
}
