//! `static_proxy FILE.json [WORKERS]`: a proxy from a static Envoy bootstrap in JSON. For measuring this crate alone.
use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: static_proxy FILE.json [WORKERS]")?;
    let workers = arguments.next().map_or(Ok(1), |count| count.parse())?;
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let bootstrap = xds::json::from_json(&serde_json::from_str(&text)?)?;
    let options = proxy::ProxyOptions { workers, ..Default::default() };
    Ok(proxy::run_static(&bootstrap, options)?)
}
