//! The two texts of a scrape: Prometheus' exposition format 0.0.4 and Envoy's `/stats`.
//!
//! Families come in the order of their names and rows in the order of their labels, so that two
//! scrapes of the same process differ only in numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::buckets::Buckets;
use super::registry::{Column, Kind, Registry, RowEntry, Snapshot, TableSnapshot};
use crate::decimal::{push_i64, push_u64};

/// What to leave out.
#[derive(Default)]
pub struct Filter<'a> {
    /// Envoy's `usedonly`: counters and gauges at zero and histograms without observations.
    pub used_only: bool,
    /// Keeps a name (of the family, or of the stat in `/stats`) when it answers true.
    pub name: Option<&'a dyn Fn(&str) -> bool>,
}

impl Filter<'_> {
    fn keeps(&self, name: &str) -> bool {
        self.name.is_none_or(|keep| keep(name))
    }
}

/// Appends every family as Prometheus text, content type `text/plain; version=0.0.4`.
pub fn prometheus(registry: &Registry, filter: &Filter<'_>, out: &mut Vec<u8>) {
    // Written to memory: no error can occur.
    let _ = encode(registry, filter, out, &mut |_| Ok(()));
}

/// As [`prometheus`], in pieces of about 64 KiB: a proxy with many series never holds its whole scrape.
pub fn prometheus_to(
    registry: &Registry,
    filter: &Filter<'_>,
    sink: &mut impl std::io::Write,
) -> std::io::Result<()> {
    let mut piece = Vec::new();
    encode(registry, filter, &mut piece, &mut |piece| {
        if piece.len() >= PIECE {
            sink.write_all(piece)?;
            piece.clear();
        }
        Ok(())
    })?;
    sink.write_all(&piece)
}

const PIECE: usize = 64 * 1024;

/// `row_done` may take what has been written so far.
fn encode(
    registry: &Registry,
    filter: &Filter<'_>,
    out: &mut Vec<u8>,
    row_done: &mut dyn FnMut(&mut Vec<u8>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let snapshot = registry.snapshot();
    let mut families: BTreeMap<&str, Vec<Part<'_>>> = BTreeMap::new();
    for part in parts(&snapshot) {
        families.entry(part.column.name.as_ref()).or_default().push(part);
    }
    let mut totals = Vec::new();
    for (name, parts) in &families {
        if filter.keeps(name) {
            family(&snapshot, name, parts, filter, &mut totals, out, row_done)?;
        }
    }
    own(&snapshot, filter, out);
    Ok(())
}

/// Appends what Envoy's admin shows at `/stats`: `name: value` lines in order, histograms as
/// percentiles since the start. Rows without an Envoy name are Prometheus' alone and left out.
pub fn stats(registry: &Registry, filter: &Filter<'_>, out: &mut Vec<u8>) {
    let snapshot = registry.snapshot();
    let mut lines: Vec<(String, Vec<u8>)> = Vec::new();
    let mut totals = Vec::new();
    for part in parts(&snapshot) {
        for row in part.rows.iter().filter(|row| !row.stat_prefix.is_empty() && !row.hidden) {
            let name = format!("{}{}", row.stat_prefix, part.column.stat);
            snapshot.sum(row.base + part.offset, part.width(), &mut totals);
            if !filter.keeps(&name) || (filter.used_only && totals.iter().all(|total| *total == 0)) {
                continue;
            }
            let mut value = Vec::new();
            match &part.column.kind {
                Kind::Counter | Kind::Info => push_u64(&mut value, totals.first().copied().unwrap_or(1)),
                Kind::Gauge => push_i64(&mut value, first(&totals).cast_signed()),
                Kind::Histogram(buckets) => percentiles(&totals, buckets, &mut value),
            }
            lines.push((name, value));
        }
    }
    lines.sort();
    for (name, value) in &lines {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.push(b'\n');
    }
}

/// One column of one table with its rows.
struct Part<'a> {
    column: &'a Column,
    offset: u32,
    rows: &'a [RowEntry],
}

impl Part<'_> {
    fn width(&self) -> usize {
        match &self.column.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(buckets) => buckets.cells(),
            Kind::Info => 0,
        }
    }
}

fn parts(snapshot: &Snapshot) -> impl Iterator<Item = Part<'_>> {
    let columns = |table: &'_ TableSnapshot| table.columns.iter().zip(table.offsets.iter()).len();
    snapshot.tables.iter().flat_map(move |table| {
        (0..columns(table)).filter_map(move |index| {
            Some(Part {
                column: table.columns.get(index)?,
                offset: *table.offsets.get(index)?,
                rows: &table.rows,
            })
        })
    })
}

fn family(
    snapshot: &Snapshot,
    name: &str,
    parts: &[Part<'_>],
    filter: &Filter<'_>,
    totals: &mut Vec<u64>,
    out: &mut Vec<u8>,
    row_done: &mut dyn FnMut(&mut Vec<u8>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut headed = false;
    for part in parts {
        for row in part.rows.iter().filter(|row| !row.hidden) {
            snapshot.sum(row.base + part.offset, part.width(), totals);
            let unused = !matches!(part.column.kind, Kind::Info) && totals.iter().all(|total| *total == 0);
            if filter.used_only && unused {
                continue;
            }
            if !headed {
                head(name, &part.column.help, &part.column.kind, out);
                headed = true;
            }
            let labels = labels(part.column, row);
            match &part.column.kind {
                Kind::Counter => sample(out, name, "", &labels, |out| push_u64(out, first(totals))),
                Kind::Gauge => {
                    sample(out, name, "", &labels, |out| push_i64(out, first(totals).cast_signed()))
                }
                Kind::Info => sample(out, name, "", &labels, |out| out.push(b'1')),
                Kind::Histogram(buckets) => histogram(out, name, &labels, totals, buckets),
            }
            row_done(out)?;
        }
    }
    Ok(())
}

fn head(name: &str, help: &str, kind: &Kind, out: &mut Vec<u8>) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    if !help.is_empty() {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        for piece in ["# HELP ", name, " ", &help, "\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    for piece in ["# TYPE ", name, " ", kind, "\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn labels<'a>(column: &Column, row: &'a RowEntry) -> Cow<'a, str> {
    match column.label {
        None => Cow::Borrowed(&row.labels),
        Some((name, value)) if row.labels.is_empty() => Cow::Owned(format!("{name}=\"{value}\"")),
        Some((name, value)) => Cow::Owned(format!("{name}=\"{value}\",{}", row.labels)),
    }
}

fn sample(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    if !labels.is_empty() {
        out.push(b'{');
        out.extend_from_slice(labels.as_bytes());
        out.push(b'}');
    }
    out.push(b' ');
    value(out);
    out.push(b'\n');
}

fn histogram(out: &mut Vec<u8>, name: &str, labels: &str, totals: &[u64], buckets: &Buckets) {
    let separator = if labels.is_empty() { "" } else { "," };
    let mut count = 0u64;
    for (index, in_bucket) in totals.iter().take(buckets.len()).enumerate() {
        count = count.wrapping_add(*in_bucket);
        let bound = buckets.texts().get(index).map_or("+Inf", String::as_str);
        for piece in [name, "_bucket{", labels, separator, "le=\"", bound, "\"} "] {
            out.extend_from_slice(piece.as_bytes());
        }
        push_u64(out, count);
        out.push(b'\n');
    }
    let sum = totals.get(buckets.len()).copied().unwrap_or(0);
    sample(out, name, "_sum", labels, |out| push_scaled(out, sum, buckets.scale()));
    sample(out, name, "_count", labels, |out| push_u64(out, count));
}

/// `value / scale`, exactly when the scale is a power of ten no larger than a million.
fn push_scaled(out: &mut Vec<u8>, value: u64, scale: u64) {
    push_u64(out, value / scale);
    let rest = value % scale;
    if rest > 0 {
        let fraction = format!("{:.6}", rest as f64 / scale as f64);
        let digits = fraction.trim_start_matches('0').trim_end_matches('0');
        out.extend_from_slice(digits.as_bytes());
    }
}

/// Envoy's line for a histogram: `P50(nan,3.05)`, the interval value (which we do not keep) as `nan`.
fn percentiles(totals: &[u64], buckets: &Buckets, out: &mut Vec<u8>) {
    let mut count = 0.0;
    let cumulative: Vec<(f64, f64)> = totals
        .iter()
        .take(buckets.len())
        .zip(buckets.bounds().iter().copied().chain([f64::INFINITY]))
        .map(|(in_bucket, bound)| {
            count += *in_bucket as f64;
            (bound, count)
        })
        .collect();
    if count == 0.0 {
        out.extend_from_slice(b"No recorded values");
        return;
    }
    let shown = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0].map(|percent| {
        let value = crate::scrape::quantile(&cumulative, percent / 100.0).unwrap_or(f64::NAN);
        format!("P{percent}(nan,{:.3})", value)
    });
    out.extend_from_slice(shown.join(" ").as_bytes());
}

/// The registry's own health: how many label sets it holds and how many it refused.
fn own(snapshot: &Snapshot, filter: &Filter<'_>, out: &mut Vec<u8>) {
    let rows = (
        "filamesh_metric_label_sets",
        "Label sets held; past the limit new ones are counted under \"overflow\".",
        Kind::Gauge,
        snapshot.rows as u64,
    );
    let refused = (
        "filamesh_metric_label_sets_refused_total",
        "Times a worker met a new label set past the limit.",
        Kind::Counter,
        snapshot.refused,
    );
    for (name, help, kind, value) in [rows, refused] {
        if filter.keeps(name) && !(filter.used_only && value == 0) {
            head(name, help, &kind, out);
            sample(out, name, "", "", |out| push_u64(out, value));
        }
    }
}

fn first(totals: &[u64]) -> u64 {
    totals.first().copied().unwrap_or(0)
}
