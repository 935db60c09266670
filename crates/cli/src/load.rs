//! A steady load on one address: open loop, so that a slow answer does not hide the next request.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Counted by the load's thread, read by anybody.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    /// Answered or failed.
    ended: AtomicU64,
    stopping: AtomicBool,
}

impl Counts {
    /// Sends no more, and waits a moment for the answers still to come.
    pub fn finish(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let until = std::time::Instant::now() + PATIENCE;
        while self.ended.load(Ordering::SeqCst) < self.sent.load(Ordering::SeqCst)
            && std::time::Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waited for answers when the load ends.
const PATIENCE: Duration = Duration::from_millis(500);

/// Requests in flight at the most; beyond that a request is counted as failed without being sent.
const IN_FLIGHT: usize = 256;

/// One request in a quarter of an hour to a hundred thousand a second.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=100_000.0).contains(rate));
    rate.ok_or_else(|| format!("{text}: a number from 0.001 to 100000"))
}

/// Sends `rps` requests a second to the address from a thread of its own, until the process ends.
pub fn start(address: Uri, rps: f64) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    std::thread::spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(send(address, rps, shared));
        }
    });
    counts
}

async fn send(address: Uri, rps: f64, counts: Arc<Counts>) {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(16).build_http();
    let mut tick = interval(Duration::from_secs_f64(1.0 / rps));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let permits = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT));
    loop {
        tick.tick().await;
        if counts.stopping.load(Ordering::SeqCst) {
            // Those under way go on until the process ends.
            std::future::pending::<()>().await;
        }
        counts.sent.fetch_add(1, Ordering::SeqCst);
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            counts.ended.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        let (client, counts, address) = (client.clone(), Arc::clone(&counts), address.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let deadline = Instant::now() + Duration::from_secs(10);
            let exchange = async {
                let request = Request::get(address)
                    .header("user-agent", "filamesh-demo-load")
                    .body(Empty::<Bytes>::new())
                    .ok()?;
                let reply = client.request(request).await.ok()?;
                let good = reply.status().is_success();
                reply.into_body().collect().await.ok()?;
                good.then_some(())
            };
            if !matches!(tokio::time::timeout_at(deadline, exchange).await, Ok(Some(()))) {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            counts.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Review B31: the time between two requests must be one that a clock can tell.
    #[test]
    fn a_rate_that_no_clock_can_keep_is_refused() {
        for (text, rate) in [
            ("20", Some(20.0)),
            ("0.001", Some(0.001)),
            ("1e5", Some(1e5)),
            ("1e-20", None),
            ("0", None),
            ("-1", None),
            ("100001", None),
            ("NaN", None),
            ("inf", None),
            ("", None),
        ] {
            let read = parse_rate(text).ok();
            assert_eq!(read, rate, "{text}");
            assert!(read.is_none_or(|rate| Duration::try_from_secs_f64(1.0 / rate).is_ok()), "{text}");
        }
    }
}
