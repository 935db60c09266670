//! Step 6, second half: the request of an attempt on its way, as its host speaks.

use model::retry::Outcome;
use wire::HeaderId;
use wire::h1::Version;

use crate::exchange::sides::{ClientSide, HostSide};
use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::request::edits::set_host;
use crate::response::reply::Reset;
use crate::upstream::counted::RequestAtHost;
use crate::upstream::host::{HostRef, bump};
use crate::worker::Worker;
use crate::worker::connection::{Conn, Reading};

impl Worker {
    /// Sends the request on a connection: its head as this attempt has it, and what has come of its body.
    pub(crate) fn send_request(
        &mut self,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        key: Key,
        body: &[u8],
    ) {
        let now = self.now;
        exchange.phase = Phase::Attempt;
        exchange.times.attempt_started = now;
        exchange.response.interim = 0;
        let (host, introduce) = match self.conns.get_mut(key) {
            Some(Conn::Upstream(up)) => {
                exchange.host_side =
                    if exchange.tunnel.ends_here() { HostSide::Raw(key) } else { HostSide::H1(key) };
                up.exchange = Some(id);
                up.reading = Reading::Head;
                up.requests += 1;
                up.answered = false;
                up.sent_before = self.sockets.written(key);
                exchange.response.upstream_local = up.local;
                exchange.response.upstream_version = Some(Version::Http11);
                (up.host.clone(), !std::mem::replace(&mut up.introduced, true))
            }
            Some(Conn::UpstreamH2(up)) => {
                exchange.host_side = HostSide::Unopened(key);
                up.requests += 1;
                up.timers.stream_began(now);
                if let Some(cluster) = &exchange.counted.cluster {
                    let most = cluster.config.borrow().max_requests_per_connection;
                    if most.is_some_and(|most| up.requests >= most) {
                        up.retiring = true;
                        self.telemetry.shard.inc(cluster.stats.upstream_cx_max_requests);
                    }
                }
                exchange.response.upstream_local = up.local;
                exchange.response.upstream_version = Some(Version::Http2);
                (up.host.clone(), !std::mem::replace(&mut up.introduced, true))
            }
            _ => {
                self.exchanges.put_back(id, exchange);
                return;
            }
        };
        bump(&host.total_requests, 1);
        self.telemetry.shard.inc(host.cluster.stats.upstream_rq_total);
        exchange.counted.host = Some(RequestAtHost::new(&host.pool));
        self.edit_for_attempt(&mut exchange, &host, introduce && host.mesh);
        if !self.send_head(&mut exchange, body) {
            self.keep_for_replay(&mut exchange, body, &[]);
            self.exchanges.put_back(id, exchange);
            self.attempt_failed(key, id, Reset::refused_stream(), Outcome::RefusedStream);
            return;
        }
        let longest = host.cluster.config.borrow().max_stream_duration;
        exchange.times.try_end = longest.map_or(Deadline::NEVER, |longest| Deadline(now.after(longest)));
        self.start_try_timeout(&mut exchange);
        self.arm(&mut exchange);
        self.pace_client(&mut exchange, 0);
        let (client, host) = (exchange.client_side, exchange.host_side);
        let waits = self.backlog_to_host(&exchange) > 0;
        self.exchanges.put_back(id, exchange);
        if let (ClientSide::H1(client), false) = (client, waits) {
            self.resume(client);
        }
        if let HostSide::Raw(key) = host
            && !self.sockets.is_connecting(key)
        {
            self.answer_connect(key);
        }
    }

    /// A CONNECT that ends here is granted once its host is connected to: as if the host had said so.
    pub(crate) fn answer_connect(&mut self, key: Key) {
        self.upstream_bytes(key, b"HTTP/1.1 200 OK\r\n\r\n");
    }

    /// What was sent may have to be sent once more.
    pub(crate) fn keep_again(&mut self, exchange: &mut Exchange, kept: Vec<u8>, body: &[u8]) {
        if exchange.request.replayable && kept.len() + body.len() <= self.replay_limit(exchange) {
            exchange.replay = kept;
            exchange.replay.extend_from_slice(body);
        } else {
            self.give_up_replay(exchange);
        }
    }

    /// What differs from attempt to attempt.
    fn edit_for_attempt(&mut self, exchange: &mut Exchange, host: &HostRef, introduce: bool) {
        let Some(routed) = &exchange.target.route else { return };
        let count = routed.virtual_host().is_some_and(|host| host.attempt_count_in_request);
        let tell = routed.http.peer_metadata.is_some_and(|config| config.to_upstream) && introduce;
        let suppress = routed.http.settings.router.suppress_envoy_headers;
        let forwarded_host = routed.forward().is_some_and(|forward| forward.append_x_forwarded_host);
        if exchange.target.auto_host && !host.hostname.is_empty() {
            set_host(exchange, host.hostname.as_bytes(), forwarded_host, suppress);
        }
        self.tell_time_left(exchange);
        let head = exchange.head_storage.request(&exchange.head);
        if count {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyAttemptCount);
            exchange.edits.append_number(HeaderId::XEnvoyAttemptCount, exchange.target.attempts.into());
        }
        if exchange.target.attempts > 1 {
            exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadata);
            exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadataId);
        }
        if let (true, Some(introduction)) = (tell, &self.shared.introduction) {
            exchange.edits.set_known(&head, HeaderId::XEnvoyPeerMetadata, introduction.metadata.as_bytes());
            exchange.edits.set_known(&head, HeaderId::XEnvoyPeerMetadataId, introduction.id.as_bytes());
        }
    }
}
