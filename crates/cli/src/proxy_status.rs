//! `filamesh proxy-status`: how far each proxy is with the configuration.
use clap::Args;
use control::shapes::{ProxyStatus, SyncState};

use crate::exit::Outcome;
use crate::output::{Format, Table, list};
use crate::target::{self, Target};

/// Whether every proxy has the newest configuration, and what it refused
#[derive(Debug, Args)]
pub struct ProxyStatusArgs {
    #[command(flatten)]
    target: Target,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(args: &ProxyStatusArgs) -> Outcome {
    let mesh = args.target.find()?;
    let mut proxies = target::proxies(&mesh)?;
    proxies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let newest = proxies.iter().map(|p| p.generation).max().unwrap_or(0);
    list(args.output, "ProxyStatusList", &proxies, name, || {
        let mut table =
            Table::new(&["NAME", "CDS", "LDS", "EDS", "RDS", "GENERATION", "REFUSED", "PROFILE", "VERSION"])
                .wide_from(7);
        for proxy in &proxies {
            let behind = newest.saturating_sub(proxy.generation);
            let generation = if behind == 0 {
                proxy.generation.to_string()
            } else {
                format!("{} ({behind} behind)", proxy.generation)
            };
            let mut cells = vec![name(proxy)];
            cells.extend(["CDS", "LDS", "EDS", "RDS"].map(|kind| sync(proxy, kind)));
            cells.extend([generation, refused(proxy), proxy.profile.clone(), proxy.version.clone()]);
            table.row(cells);
        }
        table
    })
}

fn name(proxy: &ProxyStatus) -> String {
    format!("{}.{}", proxy.name, proxy.namespace)
}

fn sync(proxy: &ProxyStatus, kind: &str) -> String {
    match proxy.types.iter().find(|t| t.kind == kind).map(|t| t.state) {
        Some(SyncState::Synced) => "SYNCED",
        Some(SyncState::Stale) => "STALE",
        Some(SyncState::NotSent) | None => "NOT SENT",
    }
    .to_owned()
}

fn refused(proxy: &ProxyStatus) -> String {
    match proxy.refused.as_slice() {
        [] => "-".to_owned(),
        [one] => format!("{} {}: {}", one.kind, one.resource, one.reason),
        [one, rest @ ..] => {
            format!("{} {}: {} (and {} more)", one.kind, one.resource, one.reason, rest.len())
        }
    }
}
