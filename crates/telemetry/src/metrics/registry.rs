//! Which rows exist and where their cells are. Everything here is the cold path: it runs when a label
//! set is first seen or a scrape begins, under one lock that a scrape holds only while copying pointers.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buckets::Buckets;
use super::cells::{Allocator, CellStore};
use super::handles::{Counter, Gauge, Histogram};
use super::labels::Labels;

/// All metrics of a process. Cloning shares it.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: Vec<Table>,
    cells: Allocator,
    refused: u64,
    stores: Vec<Arc<CellStore>>,
    retired: Vec<Arc<CellStore>>,
}

/// Bounds on what outsiders can make a registry hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Label sets of one table whose labels come from traffic. Past it new ones share a row whose
    /// labels say `overflow`, except for the few labels a table keeps. With Istio's histograms one
    /// row is 64 lines of about 900 bytes in a scrape, so this bounds the scrape too.
    pub rows: usize,
    /// Label sets of one table whose labels come from configuration.
    pub configured_rows: usize,
    /// Bytes of one label value; the rest is cut off.
    pub label_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { rows: 4_000, configured_rows: 100_000, label_value_bytes: 256 }
    }
}

/// Who decides which label sets a table gets, and so which limit it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Traffic,
    Configuration,
}

/// What a column counts.
#[derive(Debug, Clone)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(Arc<Buckets>),
    /// Always 1: the labels are the information.
    Info,
}

impl Kind {
    fn cells(&self) -> usize {
        match self {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(buckets) => buckets.cells(),
            Kind::Info => 0,
        }
    }
}

/// One metric family, or one fixed part of a family, that every row of a table has.
#[derive(Debug, Clone)]
pub struct Column {
    /// The name of the family as Prometheus sees it.
    pub name: Cow<'static, str>,
    pub help: Cow<'static, str>,
    pub kind: Kind,
    /// A label this column adds in front of the row's, for families split over columns
    /// (`response_code_class="2xx"`).
    pub label: Option<(&'static str, &'static str)>,
    /// The tail of the name in Envoy's `/stats`, after the row's prefix.
    pub stat: Cow<'static, str>,
}

impl Column {
    pub fn new(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>, kind: Kind) -> Column {
        Column { name: name.into(), help: help.into(), kind, label: None, stat: Cow::Borrowed("") }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableId(usize);

struct Table {
    columns: Arc<[Column]>,
    /// The first cell of each column relative to the row.
    offsets: Arc<[u32]>,
    width: usize,
    /// Sorted by labels, for lookup and for a stable order of output. Copied on write only while a
    /// scrape is reading.
    rows: Arc<Vec<RowEntry>>,
    /// Labels that keep their values in an overflow row.
    kept: &'static [&'static str],
    limit: usize,
    overflow_rows: usize,
}

#[derive(Debug, Clone)]
pub(super) struct RowEntry {
    pub labels: Arc<str>,
    /// The head of the names in `/stats`; empty for rows only Prometheus knows.
    pub stat_prefix: Arc<str>,
    pub base: u32,
    /// What it was about is gone: not shown until it comes back.
    pub hidden: bool,
}

/// A label set's cells: the handles of its columns.
#[derive(Debug, Clone)]
pub struct Row {
    pub(crate) base: u32,
    columns: Arc<[Column]>,
    offsets: Arc<[u32]>,
    /// The label set was one too many and this is the shared row.
    pub overflowed: bool,
}

impl Row {
    /// The handle of column `index`; one the table does not have counts nowhere.
    pub fn counter(&self, index: usize) -> Counter {
        Counter(self.cell(index))
    }

    /// As [`Row::counter`].
    pub fn gauge(&self, index: usize) -> Gauge {
        Gauge(self.cell(index))
    }

    /// As [`Row::counter`].
    pub fn histogram(&self, index: usize) -> Histogram {
        match self.columns.get(index).map(|column| &column.kind) {
            Some(Kind::Histogram(buckets)) => Histogram { base: self.cell(index), buckets: buckets.clone() },
            _ => Histogram { base: NOWHERE, buckets: Arc::new(Buckets::new(&[], 1)) },
        }
    }

    fn cell(&self, index: usize) -> u32 {
        self.offsets.get(index).map_or(NOWHERE, |offset| self.base + offset)
    }

    /// Where counts go that have no place.
    fn nowhere() -> Row {
        Row { base: NOWHERE, columns: Arc::default(), offsets: Arc::default(), overflowed: true }
    }
}

/// A cell number beyond every store: writing there does nothing.
const NOWHERE: u32 = u32::MAX / 2;

impl Registry {
    pub fn new(limits: Limits) -> Registry {
        Registry(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// The cells of one more writing thread: those of one that has ended, or new ones.
    pub(super) fn hand_out(&self) -> Arc<CellStore> {
        let mut state = self.0.lock();
        state.retired.pop().unwrap_or_else(|| {
            let store = Arc::new(CellStore::new());
            state.stores.push(store.clone());
            store
        })
    }

    /// A family of families: columns that share their label sets. `kept` names the labels that keep
    /// their values in an overflow row; give only labels with few possible values.
    pub fn table(&self, columns: Vec<Column>, kept: &'static [&'static str], origin: Origin) -> TableId {
        let mut width = 0;
        let mut offsets = Vec::with_capacity(columns.len());
        for column in &columns {
            offsets.push(width as u32);
            width += column.kind.cells();
        }
        let mut state = self.0.lock();
        state.tables.push(Table {
            columns: columns.into(),
            offsets: offsets.into(),
            width,
            rows: Arc::default(),
            kept,
            limit: match origin {
                Origin::Traffic => self.0.limits.rows,
                Origin::Configuration => self.0.limits.configured_rows,
            },
            overflow_rows: 0,
        });
        TableId(state.tables.len() - 1)
    }

    /// The row of a label set, made if this is the first time. `stat_prefix` heads its names in
    /// Envoy's `/stats`. Takes the registry's lock: keep the row, never ask per request.
    pub fn row(&self, table: TableId, labels: &[(&str, &str)], stat_prefix: &str) -> Row {
        let limit = self.0.limits.label_value_bytes;
        let mut text = Labels::new(limit);
        for (name, value) in labels {
            text.push(name, value);
        }
        self.intern(table, text.as_str(), stat_prefix, |kept| {
            let mut text = Labels::new(limit);
            for (name, value) in labels {
                text.push(name, if kept.contains(name) { value } else { OVERFLOW });
            }
            text
        })
    }

    /// A row whose labels are already rendered; `overflow` renders those of the shared row.
    pub(crate) fn intern(
        &self,
        table: TableId,
        labels: &str,
        stat_prefix: &str,
        overflow: impl FnOnce(&[&str]) -> Labels,
    ) -> Row {
        let mut state = self.0.lock();
        let state = &mut *state;
        let Some(target) = state.tables.get_mut(table.0) else { return Row::nowhere() };
        if let Some(base) = target.find(labels) {
            return target.handle(base, false);
        }
        if target.rows.len() - target.overflow_rows < target.limit
            && let Some(base) = state.cells.take(target.width)
        {
            target.insert(labels, stat_prefix, base);
            return target.handle(base, false);
        }
        state.refused += 1;
        let shared = overflow(target.kept);
        if let Some(base) = target.find(shared.as_str()) {
            return target.handle(base, true);
        }
        match state.cells.take(target.width) {
            Some(base) => {
                target.overflow_rows += 1;
                target.insert(shared.as_str(), OVERFLOW, base);
                target.handle(base, true)
            }
            None => Row::nowhere(),
        }
    }

    /// A counter without siblings, for the few that stand alone.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        let table = self.table(vec![Column::new(name, help, Kind::Counter)], &[], Origin::Configuration);
        self.row(table, &[], name).counter(0)
    }

    /// A gauge without siblings.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        let table = self.table(vec![Column::new(name, help, Kind::Gauge)], &[], Origin::Configuration);
        self.row(table, &[], name).gauge(0)
    }

    /// A histogram without siblings.
    pub fn histogram(&self, name: &'static str, help: &'static str, buckets: Buckets) -> Histogram {
        let kind = Kind::Histogram(Arc::new(buckets));
        let table = self.table(vec![Column::new(name, help, kind)], &[], Origin::Configuration);
        self.row(table, &[], name).histogram(0)
    }

    /// A series that is always 1 and says something by its labels, as `istio_build` does.
    pub fn info(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) {
        let table = self.table(vec![Column::new(name, help, Kind::Info)], &[], Origin::Configuration);
        self.row(table, labels, "");
    }

    /// Stops showing the rows whose rendered labels (`a="x",b="y"`) `gone` picks, because what they
    /// were about is gone. They keep their cells, so that a late writer does no harm and one that
    /// comes back counts on.
    pub(crate) fn hide(&self, table: TableId, gone: impl Fn(&str) -> bool) {
        let mut state = self.0.lock();
        let Some(table) = state.tables.get_mut(table.0) else { return };
        if table.rows.iter().any(|row| gone(&row.labels)) {
            for row in Arc::make_mut(&mut table.rows).iter_mut().filter(|row| gone(&row.labels)) {
                row.hidden = true;
            }
        }
    }

    /// Shows the rows whose rendered labels are in `present`, and hides all others as [`Registry::hide`]
    /// does.
    pub(crate) fn show_only(&self, table: TableId, present: &HashSet<String>) {
        let mut state = self.0.lock();
        let Some(table) = state.tables.get_mut(table.0) else { return };
        let gone = |row: &RowEntry| !present.contains(&*row.labels);
        if table.rows.iter().any(|row| row.hidden != gone(row)) {
            for row in Arc::make_mut(&mut table.rows) {
                row.hidden = gone(row);
            }
        }
    }

    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Label sets held, without the overflow rows.
    pub fn rows(&self) -> usize {
        self.0.lock().rows()
    }

    /// How often a new label set met the bound. A label set is asked for about once per worker, so
    /// this counts refusals, not requests.
    pub fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// Every counter and gauge there is: the name of its column, its rendered labels and its sum over all shards.
    /// Cheaper than a scrape by all the text, for whoever asks often.
    pub fn each(&self, mut see: impl FnMut(&str, &str, u64)) {
        let snapshot = self.snapshot();
        let mut total = vec![];
        for table in &snapshot.tables {
            for row in table.rows.iter() {
                for (column, offset) in table.columns.iter().zip(table.offsets.iter()) {
                    if matches!(column.kind, Kind::Counter | Kind::Gauge) {
                        snapshot.sum(row.base + offset, 1, &mut total);
                        see(&column.name, &row.labels, total.first().copied().unwrap_or(0));
                    }
                }
            }
        }
    }

    pub(super) fn retire(&self, store: &Arc<CellStore>) {
        self.0.lock().retired.push(store.clone());
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.0.lock();
        Snapshot {
            tables: state.tables.iter().map(TableSnapshot::of).collect(),
            stores: state.stores.clone(),
            rows: state.rows(),
            refused: state.refused,
        }
    }
}

/// The value of the labels an overflow row does not keep.
pub(crate) const OVERFLOW: &str = "overflow";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Label sets held, without the overflow rows.
    fn rows(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len() - table.overflow_rows).sum()
    }
}

impl Table {
    /// The first cell of a row there is; shows it again if it was hidden.
    fn find(&mut self, labels: &str) -> Option<u32> {
        let at = self.rows.binary_search_by(|row| (*row.labels).cmp(labels)).ok()?;
        let row = self.rows.get(at)?;
        let base = row.base;
        if row.hidden
            && let Some(row) = Arc::make_mut(&mut self.rows).get_mut(at)
        {
            row.hidden = false;
        }
        Some(base)
    }

    fn insert(&mut self, labels: &str, stat_prefix: &str, base: u32) {
        let at = self.rows.partition_point(|row| *row.labels < *labels);
        let entry = RowEntry { labels: labels.into(), stat_prefix: stat_prefix.into(), base, hidden: false };
        Arc::make_mut(&mut self.rows).insert(at, entry);
    }

    fn handle(&self, base: u32, overflowed: bool) -> Row {
        Row { base, columns: self.columns.clone(), offsets: self.offsets.clone(), overflowed }
    }
}

/// What a scrape reads, outside the lock.
pub(super) struct Snapshot {
    pub tables: Vec<TableSnapshot>,
    pub stores: Vec<Arc<CellStore>>,
    pub rows: usize,
    pub refused: u64,
}

pub(super) struct TableSnapshot {
    pub columns: Arc<[Column]>,
    pub offsets: Arc<[u32]>,
    pub rows: Arc<Vec<RowEntry>>,
}

impl TableSnapshot {
    fn of(table: &Table) -> TableSnapshot {
        TableSnapshot {
            columns: table.columns.clone(),
            offsets: table.offsets.clone(),
            rows: table.rows.clone(),
        }
    }
}

impl Snapshot {
    /// Adds up `width` cells from `base` over all shards into `totals`.
    pub(super) fn sum(&self, base: u32, width: usize, totals: &mut Vec<u64>) {
        totals.clear();
        totals.resize(width, 0);
        for store in &self.stores {
            for (total, cell) in totals.iter_mut().zip(store.read(base, width).unwrap_or(&[])) {
                *total = total.wrapping_add(cell.load(std::sync::atomic::Ordering::Relaxed));
            }
        }
    }
}
