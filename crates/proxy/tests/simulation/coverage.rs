//! What was reached, counted: a simulation that does not get somewhere proves nothing about it.

use std::collections::BTreeMap;

#[derive(Clone, Default)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    pub fn met(&mut self, point: &str) {
        match self.0.get_mut(point) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(point.to_owned(), 1);
            }
        }
    }

    pub fn add(&mut self, other: &Coverage) {
        for (point, count) in &other.0 {
            *self.0.entry(point.clone()).or_default() += count;
        }
    }

    pub fn count(&self, point: &str) -> u64 {
        self.0.get(point).copied().unwrap_or(0)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(point, count)| (point.as_str(), *count))
    }
}
