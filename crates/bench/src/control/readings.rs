//! Figures read out of the steps of a run: one for each repetition, none where the step was not taken. Megabytes are decimal;
//! the kB that `/proc` tells are 1,024 bytes.

use super::steps::Kind::{DestinationRule, Endpoint, Service, VirtualService};
use super::steps::{Arrival, Change, Kind, Steps};

impl Steps {
    fn changes_of(&self, kind: Kind) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |(of, _)| *of == kind).map(|(_, change)| change)
    }

    pub fn start_cpu(&self) -> Vec<f64> {
        self.start.iter().map(|start| start.server_cpu_s).collect()
    }

    /// Milliseconds for each proxy, over all that connected. The first of a class pay for it.
    pub fn sync_cpu(&self) -> Vec<f64> {
        let Some(last) = self.syncs.last().filter(|last| last.proxies > 0) else { return Vec::new() };
        let seconds: f64 = self.syncs.iter().map(|sync| sync.server_cpu_s).sum();
        vec![seconds * 1e3 / last.proxies as f64]
    }

    pub fn idle(&self) -> Vec<f64> {
        self.idles.iter().map(|idle| idle.cpu_percent_of_a_core).collect()
    }

    pub fn cpu(&self, kind: Kind) -> Vec<f64> {
        self.changes_of(kind).map(|change| change.cpu_ms).collect()
    }

    pub fn cpu_per_pushed(&self, kind: Kind) -> Vec<f64> {
        let pushed = self.changes_of(kind).filter(|change| change.proxies_with_response > 0);
        pushed.map(|change| change.cpu_ms * 1e3 / change.proxies_with_response as f64).collect()
    }

    fn arrivals(&self, kind: Kind, of: fn(&Arrival) -> Option<f64>) -> Vec<f64> {
        self.changes_of(kind).filter_map(|change| of(&change.arrival)).collect()
    }

    pub fn p99(&self, kind: Kind) -> Vec<f64> {
        self.arrivals(kind, |arrival| arrival.p99)
    }

    pub fn last(&self, kind: Kind) -> Vec<f64> {
        self.arrivals(kind, |arrival| arrival.last)
    }

    /// Percent of what all changes of a kind had sent that the proxies already held, byte for byte: 0 only if no change did.
    pub fn unchanged(&self, kind: Kind) -> Vec<f64> {
        let sent = self.changes_of(kind).map(|change| (change.unchanged_bytes, change.bytes));
        share(sent).into_iter().collect()
    }

    pub fn worst_unchanged(&self) -> Vec<f64> {
        let changes = [Endpoint, VirtualService, DestinationRule, Service].map(|kind| self.unchanged(kind));
        let churns =
            self.churns.iter().filter_map(|(_, churn)| share([(churn.unchanged_bytes, churn.bytes)]));
        changes.concat().into_iter().chain(churns).reduce(f64::max).into_iter().collect()
    }

    pub fn churn_cpu(&self, rate: u32) -> Vec<f64> {
        let churns = self.churns.iter().filter(|(of, _)| *of == rate);
        churns.map(|(_, churn)| churn.cpu_percent_during).collect()
    }

    pub fn churn_p99(&self, rate: u32) -> Vec<f64> {
        let churns = self.churns.iter().filter(|(of, _)| *of == rate);
        churns.filter_map(|(_, churn)| churn.arrival.p99).collect()
    }

    fn settled_bytes(&self) -> Option<f64> {
        self.idles.last().map(|idle| idle.rss_kb_after as f64 * 1024.0)
    }

    pub fn settled(&self) -> Vec<f64> {
        self.settled_bytes().map(|bytes| bytes / 1e6).into_iter().collect()
    }

    pub fn memory_per_proxy(&self) -> Vec<f64> {
        let figure = || {
            let before = self.start.as_ref()?.rss_kb_after as f64 * 1024.0;
            let proxies = self.syncs.last()?.proxies as f64;
            Some((self.settled_bytes()? - before) / 1e3 / proxies)
        };
        figure().into_iter().collect()
    }

    /// Those that come back arrive over one second.
    pub fn resynced(&self) -> Vec<f64> {
        let restart = self.restart.iter().filter(|restart| restart.initial_resource_versions);
        restart.filter_map(|restart| restart.resync_since_ready.last).map(|last| last / 1e3).collect()
    }

    pub fn restart_cpu(&self) -> Vec<f64> {
        self.restart.iter().map(|restart| restart.server_cpu_s).collect()
    }

    pub fn restart_bytes(&self) -> Vec<f64> {
        self.restart.iter().map(|restart| restart.bytes as f64 / 1e6).collect()
    }

    /// Each proxy asks for one thing that it holds, to know when it is in sync: that one is no fault.
    pub fn sent_again(&self) -> Vec<f64> {
        let restarts = self.restart.iter();
        restarts.map(|restart| restart.unchanged_resources.saturating_sub(restart.proxies) as f64).collect()
    }

    /// The highest of the process that was killed and of the one that took all proxies back at once.
    pub fn peak(&self) -> Vec<f64> {
        let restarted = self.restart.iter().map(|restart| restart.peak_rss_kb * 1024);
        let peak = restarted.chain(self.peak_rss).max();
        peak.zip(self.settled_bytes()).map(|(peak, settled)| peak as f64 / settled).into_iter().collect()
    }
}

/// Of pairs of a part and its whole, in percent. `None` if the wholes are nothing.
fn share(pairs: impl IntoIterator<Item = (u64, u64)>) -> Option<f64> {
    let (part, whole) = pairs.into_iter().fold((0, 0), |(part, whole), (p, w)| (part + p, whole + w));
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::quantities::tests::steps;

    #[test]
    fn the_peak_is_the_higher_of_both_processes() {
        let mut steps = steps(1000);
        assert_eq!(steps.peak(), [1.25]);
        steps.peak_rss = Some(60_000 * 1024);
        assert_eq!(steps.peak(), [1.5]);
        steps.restart = None;
        assert_eq!(steps.peak(), [1.5]);
        steps.idles.clear();
        assert_eq!(steps.peak(), [0.0; 0]);
    }

    #[test]
    fn shares_are_of_sums() {
        assert_eq!(share([(1, 10), (3, 30)]), Some(10.0));
        assert_eq!(share([(0, 10)]), Some(0.0));
        assert_eq!(share([(0, 0)]), None);
        assert_eq!(share([]), None);
    }

    #[test]
    fn memory_of_a_proxy_is_what_the_settled_has_more_than_the_started() {
        let mut steps = steps(1000);
        // 40,000 kB less 30,000 kB, for 1,000.
        assert_eq!(steps.memory_per_proxy(), [10.24]);
        steps.start = None;
        assert_eq!(steps.memory_per_proxy(), [0.0; 0]);
    }
}
