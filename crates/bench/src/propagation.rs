//! How long a changed file takes until the last proxy acts on it.
//!
//! A VirtualService is rewritten as editors and tools do it, by a rename, so that reviews go to another version.
//! Two witnesses: the page's reviews come from that version, which is the acting proxy itself; and the control
//! plane says that every connected proxy has confirmed the change, which is the last one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use crate::demo::Ready;
use crate::http_client::Client;
use crate::statistics::Spread;

const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
const REVIEWS: &str = "/api/v1/products/0/reviews";
const OBJECT: &str = "/filamesh/v1/objects?kind=VirtualService&namespace=default&name=reviews";

/// Milliseconds from the rename, one for each change.
#[derive(Debug, Clone, Serialize)]
pub struct Propagation {
    pub acted: Vec<f64>,
    pub confirmed: Vec<f64>,
}

impl Propagation {
    /// The later of both, for each change.
    pub fn last(&self) -> Option<Spread> {
        Spread::of(self.acted.iter().zip(&self.confirmed).map(|(acted, confirmed)| acted.max(*confirmed)))
    }
}

pub fn measure(ready: &Ready, changes: usize) -> anyhow::Result<Propagation> {
    let mut propagation = Propagation { acted: Vec::new(), confirmed: Vec::new() };
    let versions = ["v1", "v3"];
    // The first brings the object; from the second on it changes.
    for (index, version) in versions.iter().cycle().take(changes + 1).enumerate() {
        let before = generation(&mut Client::connect(ready.control)?, ready.control)?;
        let started = Instant::now();
        rewrite(&ready.config_dir, version)?;
        let control = ready.control;
        let confirmed = std::thread::spawn(move || confirmed(control, before).map(|()| started.elapsed()));
        acted(ready.gateway, version).with_context(|| format!("change {index}, to {version}"))?;
        let acted = started.elapsed();
        let confirmed = match confirmed.join() {
            Ok(confirmed) => confirmed.with_context(|| format!("change {index}, to {version}"))?,
            Err(_) => bail!("the thread that waits for the control plane ended"),
        };
        if index > 0 {
            propagation.acted.push(acted.as_secs_f64() * 1e3);
            propagation.confirmed.push(confirmed.as_secs_f64() * 1e3);
        }
    }
    Ok(propagation)
}

fn rewrite(directory: &Path, version: &str) -> anyhow::Result<()> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\n  namespace: default\n\
         spec:\n  hosts:\n  - reviews\n  http:\n  - route:\n    - destination:\n        host: reviews\n        subset: {version}\n"
    );
    let path = directory.join("bench-reviews.yaml");
    let fresh = directory.join(".bench-reviews.yaml.new");
    std::fs::write(&fresh, text).with_context(|| fresh.display().to_string())?;
    std::fs::rename(&fresh, &path).with_context(|| path.display().to_string())
}

/// Until the reviews come from this version.
fn acted(gateway: SocketAddr, version: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut client = Client::connect(gateway)?;
    let wanted = format!("reviews-{version}");
    loop {
        let reply = client.get(&gateway.to_string(), REVIEWS)?;
        let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let served = said["podname"].as_str().unwrap_or_default();
        if served.starts_with(&wanted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("after {} s still {served:?} (status {})", LIMIT.as_secs(), reply.status);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Until the control plane has the new content and every connected proxy has confirmed it.
fn confirmed(control: SocketAddr, before: Option<u64>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut client = Client::connect(control)?;
    let generation = loop {
        let now = generation(&mut client, control)?;
        if let Some(generation) = now.filter(|_| now != before) {
            break generation;
        }
        if Instant::now() > deadline {
            bail!("the control plane did not take the change within {} s", LIMIT.as_secs());
        }
        std::thread::sleep(PAUSE);
    };
    let path = format!("/filamesh/v1/wait?generation={generation}&timeout_ms={}", LIMIT.as_millis() - 1000);
    let reply = client.get(&control.to_string(), &path)?;
    if reply.status != 200 {
        bail!("not live everywhere: {}", String::from_utf8_lossy(&reply.body));
    }
    Ok(())
}

/// In which the object has its present content; `None` while there is none.
fn generation(client: &mut Client, control: SocketAddr) -> anyhow::Result<Option<u64>> {
    let reply = client.get(&control.to_string(), OBJECT)?;
    if reply.status == 404 {
        return Ok(None);
    }
    let said: Value = serde_json::from_slice(&reply.body).context("what the control plane said")?;
    Ok(said[0]["generation"].as_u64())
}
