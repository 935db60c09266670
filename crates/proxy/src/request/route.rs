//! Step 5: where a request goes, decided by the model, done here.

use std::rc::Rc;

use model::headers::HeaderPlans;
use model::http_connection::RouteSource;
use model::route::{Action, Forward, Priority, RouteDecision, Verdict};
use model::upgrade::Upgrade;
use model::{ClusterRef, RequestView, RoutePlace, RouteTable, VirtualHost};
use telemetry::Flags;

use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::net::sockets::Key;
use crate::request::chain::HttpChain;
use crate::request::edits::TooLong;
use crate::response::local_reply::Reply;
use crate::snapshot::Current;
use crate::worker::Worker;

/// Body bytes kept for another attempt, as many as Envoy keeps (its default connection buffer), within the worker's
/// budget of memory.
const REPLAY_LIMIT: usize = 1024 * 1024;
/// The same without a retry policy: for a request that met a connection its host had closed.
const UNASKED_REPLAY_LIMIT: usize = 16 * 1024;

/// A decision kept without a borrow: the parts it was made of, and its place in them.
pub struct Routed {
    pub http: Rc<HttpChain>,
    snapshot: Rc<Current>,
    place: RoutePlace,
    verdict: Kept,
    split: Option<u16>,
    /// Of a route that names its cluster by a header, and of a call, which has no route.
    named: Option<ClusterRef>,
    pub replay_limit: usize,
}

/// A verdict as it can be kept: what it leads to is found by the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// What the route at the place says.
    Route,
    TlsRedirect,
    NoRoute,
}

impl Routed {
    /// Where a call goes that `origin` gives rise to: to this cluster, without retries or any other policy of a route.
    pub fn call(origin: &Routed, cluster: ClusterRef) -> Routed {
        Routed {
            named: Some(cluster),
            replay_limit: usize::MAX,
            ..Routed::nowhere(&origin.http, &origin.snapshot)
        }
    }

    /// `None`: it is not forwarded at all.
    pub fn priority(&self) -> Option<Priority> {
        let own = self.forward().map(|forward| forward.priority);
        own.or_else(|| self.named.is_some().then_some(Priority::Default))
    }

    /// The cluster whose name is in a header of the request.
    pub fn cluster_named_by(&self, exchange: &Exchange, header: &str) -> Option<ClusterRef> {
        named_cluster(&self.snapshot, exchange, header)
    }

    fn table(&self) -> Option<&RouteTable> {
        table(&self.http, &self.snapshot)
    }

    fn found(&self) -> Option<(&VirtualHost, &model::Route)> {
        self.table()?.resolve(self.place)
    }

    pub fn place(&self) -> RoutePlace {
        self.place
    }

    pub fn split(&self) -> Option<u16> {
        self.split
    }

    /// Whether the route sends requests on.
    pub fn forwards(&self) -> bool {
        self.forward().is_some()
    }

    pub fn route(&self) -> Option<&model::Route> {
        self.found().map(|(_, route)| route)
    }

    pub fn virtual_host(&self) -> Option<&VirtualHost> {
        self.found().map(|(host, _)| host)
    }

    pub fn forward(&self) -> Option<&Forward> {
        match &self.route()?.action {
            model::route::Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    pub fn cluster(&self) -> Option<&ClusterRef> {
        if self.named.is_some() {
            return self.named.as_ref();
        }
        match &self.forward()?.target {
            model::route::Target::Cluster(cluster) => Some(cluster),
            model::route::Target::Weighted(_) => Some(&self.forward()?.split(self.split)?.cluster),
            model::route::Target::Header(_) => None,
        }
    }

    pub fn cluster_name(&self) -> &str {
        self.cluster().map_or("", |cluster| &cluster.name)
    }

    pub fn snapshot(&self) -> &Rc<Current> {
        &self.snapshot
    }

    pub fn response_headers(&self) -> Option<HeaderPlans<'_>> {
        Some(self.table()?.response_headers_at(self.place, self.split))
    }
}

/// The routes of a chain; `None` while they have not arrived.
pub(crate) fn table<'a>(http: &'a HttpChain, snapshot: &'a model::Snapshot) -> Option<&'a RouteTable> {
    match &http.settings.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Rds { id, .. } => snapshot.route_table(*id).map(|table| &**table),
    }
}

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

impl Routed {
    /// While the routes have not arrived.
    fn nowhere(http: &Rc<HttpChain>, snapshot: &Rc<Current>) -> Routed {
        Routed {
            http: http.clone(),
            snapshot: snapshot.clone(),
            place: RoutePlace { virtual_host: u32::MAX, route: u32::MAX },
            verdict: Kept::NoRoute,
            split: None,
            named: None,
            replay_limit: 0,
        }
    }
}

fn routed(
    http: &Rc<HttpChain>,
    snapshot: &Rc<Current>,
    decision: &RouteDecision<'_>,
    exchange: &Exchange,
) -> Routed {
    let verdict = match decision.verdict {
        Verdict::NoVirtualHost | Verdict::NoRoute => Kept::NoRoute,
        Verdict::TlsRedirect => Kept::TlsRedirect,
        _ => Kept::Route,
    };
    let (split, named, retries) = match decision.verdict {
        Verdict::Forward { split, forward, .. } => (split, None, forward.retry.is_some()),
        Verdict::ForwardByHeader { header, forward } => {
            (None, named_cluster(snapshot, exchange, header), forward.retry.is_some())
        }
        _ => (None, None, false),
    };
    let limit = decision.route.and_then(|route| route.body_buffer_limit);
    let limit = limit.map_or(REPLAY_LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Routed {
        http: http.clone(),
        snapshot: snapshot.clone(),
        place: decision.place,
        verdict,
        split,
        named,
        replay_limit: if retries { limit } else { limit.min(UNASKED_REPLAY_LIMIT) },
    }
}

fn named_cluster(snapshot: &Current, exchange: &Exchange, header: &str) -> Option<ClusterRef> {
    let name = exchange.header(header)?;
    let name = std::str::from_utf8(&name).ok()?;
    snapshot.cluster_id(name).map(|id| ClusterRef { id, name: name.into() })
}
