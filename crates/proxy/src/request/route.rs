//! Step 5: where a request goes, decided by the model, done here.

use std::rc::Rc;

use model::RequestView;
use model::route::{Action, RouteDecision, Verdict};
use model::upgrade::Upgrade;
use telemetry::Flags;

use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::request::chain::HttpChain;
use crate::request::edits::TooLong;
use crate::request::routed::{Kept, Routed, routed, table};
use crate::response::reply::Reply;
use crate::worker::Worker;

impl Worker {
    /// Decides where the request goes, lets the filters have it, and does as the route says. `body`: what has come of it and
    /// is not kept yet.
    pub(crate) fn route(
        &mut self,
        key: Key,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        http: &Rc<HttpChain>,
        body: &[u8],
    ) {
        self.telemetry.shard.inc(http.stats.rq_total);
        if exchange.path.is_redirect() {
            self.telemetry.shard.inc(http.stats.downstream_rq_redirected_with_normalized_path);
            let location = exchange.path.take();
            self.redirect(id, exchange, 307, &location, "path_normalized_redirect");
            return;
        }
        match self.decide_route(http, &mut exchange) {
            Some(Upgrade::Refused) => self.refuse_upgrade(key, id, exchange, http),
            found => {
                exchange.tunnel.set_ends_here(found == Some(Upgrade::Terminate));
                self.limit_stream(&mut exchange, http);
                self.filters_in(id, exchange, body);
            }
        }
    }

    /// The route of the request as it stands, and what becomes of it if it asks for another protocol. A filter that changes
    /// what routes match on may ask for it again.
    fn decide_route(&mut self, http: &Rc<HttpChain>, exchange: &mut Exchange) -> Option<Upgrade> {
        let snapshot = self.snapshot.clone();
        let Some(table) = table(http, &snapshot) else {
            exchange.target.route = Some(Routed::nowhere(http, &snapshot));
            return None;
        };
        let decision = table.decide(&*exchange, self.random.next_u64());
        exchange.target.route = Some(routed(http, &snapshot, &decision, exchange));
        upgrade(http, exchange, &decision)
    }

    /// The filters have let the request pass: what its route says is done.
    pub(crate) fn act(&mut self, id: ExchangeId, exchange: Box<Exchange>, body: &[u8]) {
        let Some(routed) = &exchange.target.route else { return self.not_routed(id, exchange) };
        let (http, snapshot, verdict) = (routed.http.clone(), routed.snapshot.clone(), routed.verdict);
        let found = table(&http, &snapshot).and_then(|table| table.resolve(routed.place));
        let shard = &self.telemetry.shard;
        let route = match (verdict, found) {
            (Kept::TlsRedirect, _) => {
                shard.inc(http.stats.rq_redirect);
                let location = [b"https://", exchange.host(), exchange.path()].concat();
                return self.redirect(id, exchange, 301, &location, "direct_response");
            }
            (Kept::Route, Some((_, route))) => route,
            (Kept::NoRoute | Kept::Route, _) => {
                shard.inc(http.stats.no_route);
                return self.not_routed(id, exchange);
            }
        };
        match &route.action {
            Action::Redirect(redirect) => {
                shard.inc(http.stats.rq_redirect);
                let mut location = vec![];
                redirect.location(&route.rule, &*exchange, &mut location);
                self.redirect(id, exchange, redirect.status, &location, "direct_response");
            }
            Action::Respond(response) => {
                shard.inc(http.stats.rq_direct_response);
                let reply = Reply::new(response.status, &response.body, Flags::NONE, "direct_response");
                self.reply(id, exchange, &reply);
            }
            Action::Forward(forward) => {
                let known = routed.cluster().is_some_and(|cluster| snapshot.cluster(cluster.id).is_some());
                if !known {
                    shard.inc(http.stats.no_cluster);
                    let status = forward.cluster_not_found;
                    let reply = Reply::new(status, b"", Flags::NO_CLUSTER_FOUND, "cluster_not_found");
                    return self.reply(id, exchange, &reply);
                }
                self.prepare(id, exchange, body);
            }
        }
    }

    fn not_routed(&mut self, id: ExchangeId, exchange: Box<Exchange>) {
        let reply = Reply::new(404, b"", Flags::NO_ROUTE_FOUND, "route_not_found");
        self.reply(id, exchange, &reply);
    }

    /// Makes the request what its host is to get. Time counts from here: what filters took is not the route's.
    fn prepare(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, body: &[u8]) {
        let key = exchange.client_side.key();
        if let Err(TooLong) = self.edit_request(key, &mut exchange) {
            let reply = Reply::new(414, b"", Flags::NONE, "path_rewrite_too_long");
            return self.reply(id, exchange, &reply);
        }
        self.limit_time(&mut exchange);
        self.send_on(id, exchange, body);
    }

    /// To its host, as soon as it is known to be whole where that must be known.
    pub(crate) fn send_on(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, body: &[u8]) {
        if !exchange.must_end_first() {
            self.begin_mirrors(&mut exchange, body);
            return self.attempt(id, exchange, body);
        }
        exchange.phase = Phase::Unended;
        exchange.times.wake = Deadline::NEVER;
        self.arm(&mut exchange);
        self.exchanges.put_back(id, exchange);
    }

    fn refuse_upgrade(&mut self, key: Key, id: ExchangeId, exchange: Box<Exchange>, http: &HttpChain) {
        self.telemetry.shard.inc(http.stats.downstream_rq_ws_on_non_ws_route);
        if !exchange.client_side.is_h2()
            && let Some(client) = self.client(key)
        {
            // What follows may be bytes of the other protocol, made to look like a request.
            client.last = true;
        }
        self.reply(id, exchange, &Reply::new(403, b"", Flags::NONE, "upgrade_failed"));
    }

    fn redirect(
        &mut self,
        id: ExchangeId,
        exchange: Box<Exchange>,
        status: u16,
        location: &[u8],
        details: &'static str,
    ) {
        // Made of what the client sent: no byte of it may end the line.
        let location: Vec<u8> = location.iter().copied().filter(|byte| !byte.is_ascii_control()).collect();
        let headers: [(&str, &[u8]); 1] = [("location", &location)];
        self.reply(
            id,
            exchange,
            &Reply { headers: &headers, ..Reply::new(status, b"", Flags::NONE, details) },
        );
    }
}

/// What becomes of a request that asks for another protocol. Envoy: where no route is found that is said, 404.
fn upgrade(http: &HttpChain, exchange: &Exchange, decision: &RouteDecision<'_>) -> Option<Upgrade> {
    let head = exchange.head_view();
    let protocol = match head.upgrade() {
        Some(protocol) => protocol,
        None if head.is_connect() => b"CONNECT",
        None => return None,
    };
    let forward = match decision.verdict {
        Verdict::NoVirtualHost | Verdict::NoRoute => return None,
        Verdict::Forward { forward, .. } | Verdict::ForwardByHeader { forward, .. } => Some(forward),
        Verdict::Redirect(_) | Verdict::Respond(_) | Verdict::TlsRedirect => None,
    };
    Some(http.settings.upgrade(forward, protocol))
}
