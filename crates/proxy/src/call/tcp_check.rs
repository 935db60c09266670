//! Health checks by TCP: a connection, and perhaps something said and something heard on it.

use model::health_check::{CheckResult, Probe};

use crate::call::state::CheckId;
use crate::net::sockets::Key;
use crate::worker::Worker;
use crate::worker::connection::Conn;

/// What is kept of an answer that does not match yet.
const MOST_KEPT: usize = 64 * 1024;

impl Worker {
    pub(crate) fn begin_tcp_check(&mut self, id: CheckId) {
        let Some(host) = self.checks.get(id) else { return };
        host.tcp.asking = true;
        host.tcp.heard.clear();
        let (config, target) = (host.config.clone(), host.target.clone());
        let Some(check) = &config.health_check else { return };
        let deadline = self.now.after(check.timeout);
        if let Some(key) = host.tcp.connection.filter(|key| self.sockets.is_open(*key)) {
            self.sockets.set_deadline(key, deadline);
            return self.tcp_check_ready(key, id);
        }
        let Ok(key) = self.open_socket(&config, &target) else {
            return self.end_tcp_check(id, CheckResult::Network);
        };
        self.put(key, Conn::Check(id));
        self.sockets.set_deadline(key, deadline);
        if let Some(host) = self.checks.get(id) {
            host.tcp.connection = Some(key);
        }
        if !self.sockets.is_connecting(key) {
            self.tcp_check_ready(key, id);
        }
    }

    /// The connection is there: a check that expects nothing has passed.
    pub(crate) fn tcp_check_ready(&mut self, key: Key, id: CheckId) {
        let Some(host) = self.checks.get(id) else { return self.sockets.close(key) };
        let config = host.config.clone();
        let Some(Probe::Tcp { send, receive }) = config.health_check.as_ref().map(|check| &check.probe)
        else {
            return;
        };
        self.sockets.send(key, send, b"");
        if receive.is_empty() {
            self.close_tcp_check(id);
            self.end_tcp_check(id, CheckResult::Passed);
        }
    }

    pub(crate) fn tcp_check_bytes(&mut self, key: Key, id: CheckId, bytes: &[u8]) {
        let Some(host) = self.checks.get(id).filter(|host| host.tcp.asking) else {
            return self.tcp_check_gone(key, id);
        };
        host.tcp.heard.extend_from_slice(bytes);
        let Some(check) = host.check() else { return };
        let Probe::Tcp { receive, .. } = &check.probe else { return };
        let (reuse, too_much) = (check.reuse_connection, host.tcp.heard.len() > MOST_KEPT);
        if matches(&host.tcp.heard, receive) {
            match reuse {
                true => self.sockets.set_deadline(key, crate::clock::Time::NEVER),
                false => self.close_tcp_check(id),
            }
            self.end_tcp_check(id, CheckResult::Passed);
        } else if too_much {
            self.tcp_check_gone(key, id);
        }
    }

    /// The connection has ended, broken, or not brought what it should in time.
    pub(crate) fn tcp_check_gone(&mut self, key: Key, id: CheckId) {
        self.sockets.close(key);
        let Some(host) = self.checks.get(id).filter(|host| host.tcp.connection == Some(key)) else { return };
        host.tcp.connection = None;
        if host.tcp.asking {
            self.end_tcp_check(id, CheckResult::Network);
        }
    }

    fn close_tcp_check(&mut self, id: CheckId) {
        if let Some(key) = self.checks.get(id).and_then(|host| host.tcp.connection.take()) {
            // Nothing more is read or said.
            self.sockets.close(key);
        }
    }

    fn end_tcp_check(&mut self, id: CheckId, result: CheckResult) {
        if let Some(host) = self.checks.get(id) {
            host.tcp.asking = false;
            host.tcp.heard = Vec::new();
        }
        self.check_ended(id, result);
    }
}

/// Whether all blocks stand in what was heard, in their order, none overlapping another.
fn matches(heard: &[u8], blocks: &[std::sync::Arc<[u8]>]) -> bool {
    let mut rest = heard;
    for block in blocks {
        let Some(at) = rest.windows(block.len().max(1)).position(|window| window == &**block) else {
            return false;
        };
        rest = rest.get(at + block.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// Envoy: `TcpHealthCheckMatcher`, "fuzzy" matching.
    #[test]
    fn blocks_are_found_in_order_with_anything_between() {
        let cases: [(&str, &[&str], bool); 6] = [
            ("abc", &["abc"], true),
            ("xxabcyydezz", &["abc", "de"], true),
            ("deabc", &["abc", "de"], false),
            ("abab", &["ab", "ab"], true),
            ("aba", &["ab", "ba"], false),
            ("", &["a"], false),
        ];
        for (heard, blocks, expected) in cases {
            let blocks: Vec<_> = blocks.iter().map(|block| block.as_bytes().into()).collect();
            assert_eq!(matches(heard.as_bytes(), &blocks), expected, "{heard}");
        }
    }
}
