//! Our HTTP/1 connection to a host: its bytes cut into responses, and its end.

use std::io;

use wire::Reject;
use wire::h1::{PartialHead, ResponseTo};

use crate::exchange::sides::HostSide;
use crate::exchange::{ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::response::body::Passed;
use crate::response::head::Judged;
use crate::worker::Worker;
use crate::worker::connection::{Conn, Reading};

/// What came of a piece of a response.
enum Step {
    /// So many bytes are used; there may be more to do.
    Used(usize),
    /// The head is not complete.
    Wait,
    /// The connection is no longer this request's.
    Over,
}

impl Worker {
    pub(crate) fn upstream_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(up) = self.upstream(key) else { return };
        let Some(id) = up.exchange else {
            // Nobody asked: a 408 before closing, or the rest of a broken response. Not to be believed.
            self.discard_upstream(key);
            return;
        };
        up.answered = true;
        if up.inbox.is_empty() {
            let used = self.cut_response(key, id, bytes);
            if let (Some(rest @ [_, ..]), Some(up)) = (bytes.get(used..), self.upstream(key)) {
                up.inbox = rest.to_vec();
            }
        } else {
            let mut kept = std::mem::take(&mut up.inbox);
            kept.extend_from_slice(bytes);
            let used = self.cut_response(key, id, &kept);
            if used < kept.len()
                && let Some(up) = self.upstream(key)
            {
                kept.drain(..used);
                up.inbox = kept;
            }
        }
    }

    fn cut_response(&mut self, key: Key, id: ExchangeId, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(up) = self.upstream(key) else { return bytes.len() };
            if up.exchange != Some(id) {
                self.response_over(key, rest);
                return bytes.len();
            }
            if rest.is_empty() {
                return at;
            }
            let step = match up.reading {
                Reading::Head => self.response_head(key, id, rest),
                Reading::Body => self.response_body(key, id, rest),
                Reading::Waiting => Step::Over,
            };
            match step {
                Step::Used(used) => at += used,
                Step::Wait => return at,
                Step::Over => return bytes.len(),
            }
        }
    }

    /// A response has ended. Only now that the read it came from is known to be used up may the connection carry
    /// another request: bytes behind the end of a response belong to nobody, and what follows them can not be told from
    /// an answer.
    fn response_over(&mut self, key: Key, rest: &[u8]) {
        match self.upstream(key) {
            Some(up) if up.exchange.is_some() => {}
            Some(up) if up.keep_alive && rest.is_empty() => self.pool_upstream(key),
            _ => self.discard_upstream(key),
        }
    }

    /// A head, and what of its body lies right behind it.
    fn response_head(&mut self, key: Key, id: ExchangeId, bytes: &[u8]) -> Step {
        let Some(mut exchange) = self.exchanges.take(id) else { return Step::Over };
        let to = ResponseTo::request(&exchange.head_view());
        let limits = self.shared.upstream_limits;
        let mut partial = self.upstream(key).map_or(PartialHead::default(), |up| up.partial);
        let parsed = partial.response(bytes, &mut self.response, &limits, to);
        if let (Ok(_), Some(up)) = (&parsed, self.upstream(key)) {
            up.partial = partial;
        }
        let (length, judged) = match parsed {
            Ok(Some(length)) => (length, self.judge_head(id, &mut exchange, bytes)),
            Ok(None) => {
                self.exchanges.put_back(id, exchange);
                return Step::Wait;
            }
            Err(_) => {
                self.exchanges.put_back(id, exchange);
                self.response_refused(key, id);
                return Step::Over;
            }
        };
        let passed = match judged {
            Judged::Interim => Some(Ok(Passed { used: length, done: false })),
            Judged::Answer => Some(self.pass_answer(key, &mut exchange, bytes, length)),
            Judged::TooMany | Judged::Again => None,
        };
        self.exchanges.put_back(id, exchange);
        match passed {
            Some(passed) => self.passed(key, id, passed),
            None => {
                if let Judged::TooMany = judged {
                    self.response_refused(key, id);
                }
                Step::Over
            }
        }
    }

    /// More of a response's body.
    fn response_body(&mut self, key: Key, id: ExchangeId, bytes: &[u8]) -> Step {
        let Some(mut exchange) = self.exchanges.take(id) else { return Step::Over };
        let passed = self.pass_body(key, &mut exchange, bytes);
        self.exchanges.put_back(id, exchange);
        self.passed(key, id, passed)
    }

    fn passed(&mut self, key: Key, id: ExchangeId, passed: Result<Passed, Reject>) -> Step {
        match passed {
            Ok(passed) => {
                if passed.done {
                    self.response_complete(key, id);
                }
                Step::Used(passed.used)
            }
            Err(_) => {
                self.response_refused(key, id);
                Step::Over
            }
        }
    }

    /// The host has ended its direction (`error`: or the connection broke).
    pub(crate) fn upstream_ended(&mut self, key: Key, error: Option<io::ErrorKind>) {
        let now = self.now;
        let Some(up) = self.upstream(key) else { return };
        let (exchange, connecting) = (up.exchange, up.connecting);
        let Some(id) = exchange else {
            if error.is_none() && up.requests > 0 {
                let mut limit = up.host.idle_limit.get();
                limit.closed(now, up.opened, now.since(up.idle_since), up.requests);
                up.host.idle_limit.set(limit);
            }
            self.discard_upstream(key);
            return;
        };
        if connecting {
            self.connect_failed(key, id, error);
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            self.discard_upstream(key);
            return;
        };
        if exchange.tunnel.is_open() {
            if error.is_some() {
                self.finish_tunnel(id);
            } else {
                self.host_half_closed(id);
            }
            return;
        }
        let phase = exchange.phase;
        if phase == Phase::Response {
            let whole = error.is_none() && self.upstream(key).is_some_and(|up| up.body.finish().is_ok());
            if whole {
                self.response_ended_by_close(key, id);
            } else {
                self.response_cut_short(id, false);
            }
            return;
        }
        self.attempt_reset(key, id, error);
    }

    /// The connection is made; what waited for it goes out by itself.
    pub(crate) fn upstream_connected(&mut self, key: Key) {
        let local = self.local_address(key);
        let Some(up) = self.upstream(key) else { return };
        up.connecting = false;
        up.local = local;
        let id = up.exchange;
        match id.and_then(|id| self.exchanges.get_mut(id)) {
            Some(exchange) => {
                exchange.response.upstream_local = local;
                self.sockets.set_deadline(key, crate::clock::Time::NEVER);
            }
            // The one it was made for has gone.
            None => self.pool_upstream(key),
        }
        if let Some(Conn::Upstream(up)) = self.conns.get(key)
            && let Some(id) = up.exchange
        {
            self.attempt_connected(id);
        }
        let side = id.and_then(|id| self.exchanges.get(id)).map(|exchange| exchange.host_side);
        if side == Some(HostSide::Raw(key)) {
            self.answer_connect(key);
        }
        // What was kept while connecting may have gone all at once: no other event says that the client may go on.
        if self.sockets.backlog(key) == 0 {
            self.drained(key);
        }
    }
}
