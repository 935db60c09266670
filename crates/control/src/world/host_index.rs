//! Values by host name or wildcard, and the most specific one for a host.

use std::collections::HashMap;

use api::hosts::is_wildcard;

/// Wildcards are found by the label boundaries of the host asked for, so a look-up costs its number of labels.
#[derive(Debug, Clone)]
pub struct HostIndex<T> {
    exact: HashMap<String, T>,
    wildcard: HashMap<String, T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> HostIndex<T> {
    /// The value of exactly this host or wildcard; `make` adds it if there is none.
    pub fn entry_or(&mut self, host: &str, make: impl FnOnce() -> T) -> &mut T {
        let map = if is_wildcard(host) { &mut self.wildcard } else { &mut self.exact };
        map.entry(host.to_owned()).or_insert_with(make)
    }

    /// The value of exactly this host or wildcard.
    pub fn exactly(&self, host: &str) -> Option<&T> {
        if is_wildcard(host) { self.wildcard.get(host) } else { self.exact.get(host) }
    }

    /// Puts a value in the place of that of exactly this host or wildcard.
    pub fn set(&mut self, host: &str, value: Option<T>) {
        let map = if is_wildcard(host) { &mut self.wildcard } else { &mut self.exact };
        match value {
            Some(value) => {
                map.insert(host.to_owned(), value);
            }
            None => {
                map.remove(host);
            }
        }
    }

    /// The value of the most specific host or wildcard that covers `host` (itself possibly a wildcard).
    pub fn most_specific(&self, host: &str) -> Option<&T> {
        if let Some(rest) = host.strip_prefix('*') {
            if let Some(value) = self.wildcard.get(host) {
                return Some(value);
            }
            // The wildcard itself is taken; look at wider ones only.
            return self.covering(rest.get(1..).unwrap_or_default());
        }
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        self.covering(host)
    }

    fn covering(&self, host: &str) -> Option<&T> {
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some(dot) = rest.find('.') {
            let suffix = rest.get(dot..).unwrap_or_default();
            if let Some(value) = self.wildcard.get(format!("*{suffix}").as_str()) {
                return Some(value);
            }
            rest = rest.get(dot + 1..).unwrap_or_default();
        }
        self.wildcard.get("*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `istio-behaviour` rule 6: the longest wildcard wins, `*` comes last.
    #[test]
    fn the_longest_wildcard_wins() {
        let mut index = HostIndex::default();
        for host in ["*", "*.com", "*.foo.com", "a.foo.com"] {
            index.entry_or(host, || host);
        }
        for (host, expected) in [
            ("a.foo.com", "a.foo.com"),
            ("b.foo.com", "*.foo.com"),
            ("b.c.foo.com", "*.foo.com"),
            ("foo.com", "*.com"),
            ("x.org", "*"),
            ("*.foo.com", "*.foo.com"),
            ("*.bar.com", "*.com"),
            ("*.b.foo.com", "*.foo.com"),
        ] {
            assert_eq!(index.most_specific(host), Some(&expected), "{host}");
        }
    }
}
