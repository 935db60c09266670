use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::scrape;

fn text(registry: &Registry) -> String {
    let mut out = Vec::new();
    prometheus(registry, &Filter::default(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn shards_are_summed_and_the_text_is_exact() {
    let registry = Registry::new(Limits::default());
    let buckets = Arc::new(Buckets::new(&[0.5, 1.0, 5.0], 1000));
    let table = registry.table(
        vec![
            Column::new("b_total", "Counts \\ and\nmore.", Kind::Counter),
            Column::new("a_milliseconds", "", Kind::Histogram(buckets)),
            Column::new("c", "Open.", Kind::Gauge),
        ],
        &[],
        Origin::Traffic,
    );
    let row = registry.row(table, &[("name", "x\"y\n"), ("other", "")], "");
    let (one, two) = (registry.shard(), registry.shard());
    for shard in [&one, &two] {
        shard.add(row.counter(0), 3);
        shard.observe(&row.histogram(1), 500);
        shard.observe(&row.histogram(1), 501);
        shard.observe(&row.histogram(1), 9_000);
    }
    one.shift(row.gauge(2), 2);
    two.shift(row.gauge(2), -5);
    let expected = r#"# TYPE a_milliseconds histogram
a_milliseconds_bucket{name="x\"y\n",other="",le="0.5"} 2
a_milliseconds_bucket{name="x\"y\n",other="",le="1"} 4
a_milliseconds_bucket{name="x\"y\n",other="",le="5"} 4
a_milliseconds_bucket{name="x\"y\n",other="",le="+Inf"} 6
a_milliseconds_sum{name="x\"y\n",other=""} 20.002
a_milliseconds_count{name="x\"y\n",other=""} 6
# HELP b_total Counts \\ and\nmore.
# TYPE b_total counter
b_total{name="x\"y\n",other=""} 6
# HELP c Open.
# TYPE c gauge
c{name="x\"y\n",other=""} -3
"#;
    let text = text(&registry);
    assert_eq!(
        text.split_inclusive("# HELP filamesh_").next().unwrap().replace("# HELP filamesh_", ""),
        expected
    );
}

#[test]
fn istio_has_twenty_buckets_and_bounds_are_inclusive() {
    let buckets = Buckets::istio_bytes();
    assert_eq!(buckets.len(), 20);
    assert_eq!(
        buckets.texts().join(","),
        "0.5,1,5,10,25,50,100,250,500,1000,2500,5000,10000,30000,60000,300000,600000,1800000,3600000"
    );
    for (value, index) in
        [(0, 0), (1, 1), (2, 2), (5, 2), (6, 3), (3_600_000, 18), (3_600_001, 19), (u64::MAX, 19)]
    {
        assert_eq!(buckets.index(value), index, "{value}");
    }
    let durations = Buckets::istio_duration();
    for (micros, index) in [(0, 0), (500, 0), (501, 1), (1000, 1), (1001, 2)] {
        assert_eq!(durations.index(micros), index, "{micros}");
    }
    assert_eq!(Buckets::new(&[5.0, f64::NAN, 1.0, -1.0, 5.0, f64::INFINITY], 1).bounds(), [1.0, 5.0]);
}

#[test]
fn a_label_set_is_interned_once() {
    let registry = Registry::new(Limits::default());
    let table = registry.table(vec![Column::new("n_total", "", Kind::Counter)], &[], Origin::Traffic);
    let first = registry.row(table, &[("a", "1")], "");
    let again = registry.row(table, &[("a", "1")], "");
    let other = registry.row(table, &[("a", "2")], "");
    assert_eq!(first.counter(0), again.counter(0));
    assert_ne!(first.counter(0), other.counter(0));
    assert_eq!(registry.rows(), 2);
}

#[test]
fn past_the_bound_new_label_sets_share_a_named_row() {
    let registry = Registry::new(Limits { rows: 2, label_value_bytes: 4, ..Limits::default() });
    let table = registry.table(vec![Column::new("n_total", "", Kind::Counter)], &["side"], Origin::Traffic);
    let shard = registry.shard();
    for path in 0..10 {
        let row = registry.row(table, &[("side", "in"), ("path", &path.to_string())], "");
        assert_eq!(row.overflowed, path >= 2);
        shard.inc(row.counter(0));
    }
    let text = text(&registry);
    assert!(text.contains("n_total{side=\"in\",path=\"0\"} 1\n"), "{text}");
    // "overflow" is cut like any value.
    assert!(text.contains("n_total{side=\"in\",path=\"over\"} 8\n"), "{text}");
    assert!(text.contains("filamesh_metric_label_sets_refused_total 8\n"), "{text}");
    assert!(text.contains("filamesh_metric_label_sets 2\n"), "{text}");
}

#[test]
fn a_shard_that_ends_leaves_its_counts() {
    let registry = Registry::new(Limits::default());
    let counter = registry.counter("n_total", "");
    registry.shard().add(counter, 5);
    let next = registry.shard();
    next.add(counter, 2);
    assert!(text(&registry).contains("n_total 7\n"));
}

#[test]
fn handles_of_another_registry_do_no_harm() {
    let (registry, other) = (Registry::new(Limits::default()), Registry::new(Limits::default()));
    let table = other.table(vec![Column::new("n_total", "", Kind::Counter)], &[], Origin::Traffic);
    let row = other.row(table, &[], "");
    let shard = registry.shard();
    shard.inc(row.counter(7));
    shard.observe(&row.histogram(0), 1);
    shard.inc(row.counter(0));
    assert!(!text(&registry).contains("n_total"));
}

#[test]
fn filters_leave_out_by_name_and_by_use() {
    let registry = Registry::new(Limits::default());
    let used = registry.counter("used_total", "");
    registry.counter("unused_total", "");
    registry.shard().inc(used);
    let mut out = Vec::new();
    prometheus(&registry, &Filter { used_only: true, name: Some(&|name| name.contains("used")) }, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "# TYPE used_total counter\nused_total 1\n");
    let mut out = Vec::new();
    stats(&registry, &Filter::default(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "unused_total: 0\nused_total: 1\n");
}

/// A scraper reads while two writers count and grow: no counter ever goes back, no histogram's count
/// disagrees with its infinite bucket, and nothing is lost in the end.
#[test]
fn scrapes_see_counters_only_grow_while_writers_grow() {
    const ROWS: usize = 400;
    const ROUNDS: usize = 20;
    let registry = Registry::new(Limits::default());
    let buckets = Arc::new(Buckets::istio_bytes());
    let table = registry.table(
        vec![Column::new("n_total", "", Kind::Counter), Column::new("size", "", Kind::Histogram(buckets))],
        &[],
        Origin::Traffic,
    );
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let shard = registry.shard();
                let registry = registry.clone();
                scope.spawn(move || {
                    for row in 0..ROWS {
                        let row = registry.row(table, &[("row", &row.to_string())], "");
                        for round in 0..ROUNDS {
                            shard.inc(row.counter(0));
                            shard.observe(&row.histogram(1), round as u64);
                        }
                    }
                })
            })
            .collect();
        let scraper = scope.spawn(|| {
            let mut before = std::collections::HashMap::<String, f64>::new();
            let mut scrapes = 0;
            while !done.load(Ordering::Relaxed) || scrapes == 0 {
                let text = text(&registry);
                for sample in scrape::parse(&text).unwrap() {
                    let series = format!("{}{:?}", sample.name, sample.labels);
                    let was = before.insert(series.clone(), sample.value).unwrap_or(0.0);
                    assert!(sample.value >= was, "{series} went from {was} to {}", sample.value);
                }
                scrapes += 1;
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        scraper.join().unwrap();
    });
    let text = text(&registry);
    let samples = scrape::parse(&text).unwrap();
    let total = |name: &str| {
        samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum::<f64>()
    };
    assert_eq!(total("n_total"), (2 * ROWS * ROUNDS) as f64);
    assert_eq!(total("size_count"), (2 * ROWS * ROUNDS) as f64);
}

#[test]
fn a_scrape_in_pieces_is_the_same_text() {
    let registry = Registry::new(Limits::default());
    let table = registry.table(vec![Column::new("n_total", "", Kind::Counter)], &[], Origin::Configuration);
    for row in 0..5000 {
        registry.row(table, &[("row", &row.to_string())], "");
    }
    let mut pieces = Pieces::default();
    prometheus_to(&registry, &Filter::default(), &mut pieces).unwrap();
    assert!(pieces.count >= 2 && pieces.largest < 80 * 1024, "{} up to {}", pieces.count, pieces.largest);
    assert_eq!(String::from_utf8(pieces.all).unwrap(), text(&registry));
}

#[derive(Default)]
struct Pieces {
    all: Vec<u8>,
    count: usize,
    largest: usize,
}

impl std::io::Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.all.extend_from_slice(piece);
        self.count += 1;
        self.largest = self.largest.max(piece.len());
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
