//! What machine this is, and how quiet it was: without that, figures of two days cannot be compared.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cores::Cores;
use crate::procfs::{self, Ticks};
use crate::statistics::Spread;

#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub kernel: String,
    pub processor: String,
    pub cores: usize,
    pub proxy_core: usize,
    pub load_core: usize,
    pub real_time: bool,
    pub congestion_control: String,
    pub open_files: u64,
}

impl Machine {
    pub fn read(cores: Cores, real_time: bool, open_files: u64) -> Machine {
        let line = |path: &str| {
            fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine {
            kernel: line("/proc/sys/kernel/osrelease"),
            processor: model(&processor).unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            proxy_core: cores.proxy,
            load_core: cores.load,
            real_time,
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            open_files,
        }
    }
}

/// How quiet the machine was while something was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Noise {
    /// Milliseconds of a fixed piece of work on the proxies' core, before and after.
    pub calibration_before: Option<Spread>,
    pub calibration_after: Option<Spread>,
    /// Share of the proxies' core that others used just before.
    pub busy_before: f64,
    /// Share of all cores' time that the hypervisor gave to others.
    pub steal: f64,
    pub load_average: String,
}

/// A measurement of noise under way.
#[derive(Debug)]
pub struct Watch {
    before: Option<Spread>,
    busy: f64,
    ticks: Ticks,
}

impl Watch {
    pub fn begin(cores: Cores) -> Watch {
        let core = format!("cpu{}", cores.proxy);
        let first = procfs::ticks(&core).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(300));
        let busy = procfs::ticks(&core).unwrap_or_default().since(first).busy_share();
        Watch { before: calibrate(cores), busy, ticks: procfs::ticks("cpu").unwrap_or_default() }
    }

    pub fn end(self, cores: Cores) -> Noise {
        let steal = procfs::ticks("cpu").unwrap_or_default().since(self.ticks).steal_share();
        Noise {
            calibration_before: self.before,
            calibration_after: calibrate(cores),
            busy_before: self.busy,
            steal,
            load_average: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// Milliseconds that the same work takes, nine times, on the proxies' core. It fits a cache: what it shows is the
/// clock and the neighbours.
fn calibrate(cores: Cores) -> Option<Spread> {
    let on_core = std::thread::spawn(move || {
        // Unpinned it is a worse measure and still one.
        let _ = crate::scheduling::pin(cores.proxy);
        let rounds: Vec<f64> = (0..9).map(|_| work().as_secs_f64() * 1e3).collect();
        Spread::of(rounds)
    });
    on_core.join().ok().flatten()
}

fn work() -> Duration {
    let started = Instant::now();
    let mut value = 1_u64;
    for step in 0..10_000_000_u64 {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
    black_box(value);
    started.elapsed()
}

/// x86 names a model; other processors may name nothing.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: Some CPU @ 2.6GHz\n"),
            Some("Some CPU @ 2.6GHz".to_owned())
        );
        assert_eq!(model("processor\t: 0\n"), None);
    }
}
