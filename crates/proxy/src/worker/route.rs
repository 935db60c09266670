//! Step 5: where a request goes, decided by the model, done here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::cors::CorsDecision;
use model::fault::Abort;
use model::headers::HeaderPlans;
use model::http_connection::RouteSource;
use model::route::{Forward, RouteDecision, Verdict};
use model::upgrade::Upgrade;
use model::{ClusterRef, RequestView, RoutePlace, RouteTable, VirtualHost};
use telemetry::Flags;

use super::chain::HttpChain;
use super::exchange::{Deadline, Exchange, ExchangeId, Phase};
use super::local_reply::Reply;
use super::{Current, Worker};
use crate::net::sockets::Key;

/// Body bytes kept for another attempt. Envoy keeps up to its connection buffer, 1 MiB; a quarter of that keeps a
/// proxy under a thousand slow uploads small, and whoever needs more says so in the route.
const REPLAY_LIMIT: usize = 256 * 1024;

/// A decision kept without a borrow: the parts it was made of, and its place in them.
pub struct Routed {
    pub http: Rc<HttpChain>,
    snapshot: Rc<Current>,
    place: RoutePlace,
    split: Option<u16>,
    /// Of a route that names its cluster by a header.
    named: Option<ClusterRef>,
    pub replay_limit: usize,
}

impl Routed {
    fn table(&self) -> Option<&RouteTable> {
        table(&self.http, &self.snapshot)
    }

    fn found(&self) -> Option<(&VirtualHost, &model::Route)> {
        self.table()?.resolve(self.place)
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
fn table<'a>(http: &'a HttpChain, snapshot: &'a model::Snapshot) -> Option<&'a RouteTable> {
    match &http.settings.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Rds { id, .. } => snapshot.route_table(*id).map(|table| &**table),
    }
}

/// What a cross-origin answer says beside the response itself.
pub struct CorsAnswer {
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl CorsAnswer {
    fn new(fields: Vec<model::cors::CorsField<'_>>) -> CorsAnswer {
        CorsAnswer { fields: fields.into_iter().map(|(name, value)| (name, value.into_owned())).collect() }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }

    pub fn each(&self, mut set: impl FnMut(&[u8], &[u8])) {
        for (name, value) in &self.fields {
            set(name.as_bytes(), value);
        }
    }
}

/// What the decision leads to, in values that outlive its borrow.
enum Next {
    Forward { abort: Option<Abort>, delay: Option<Duration> },
    Redirect { status: u16, location: Vec<u8> },
    Respond { status: u16, body: Arc<[u8]> },
    Preflight(CorsAnswer),
    NoRoute,
    NoCluster { status: u16 },
    UpgradeRefused,
}

impl Worker {
    /// Decides and does. `body`: what has come of it and is not kept yet.
    pub(super) fn route(
        &mut self,
        key: Key,
        id: ExchangeId,
        mut exchange: Box<Exchange>,
        http: &Rc<HttpChain>,
        body: &[u8],
    ) {
        let snapshot = self.snapshot.clone();
        let shard = &self.telemetry.shard;
        shard.inc(http.stats.rq_total);
        if exchange.redirect_to_path {
            shard.inc(http.stats.downstream_rq_redirected_with_normalized_path);
            let location = std::mem::take(&mut exchange.path);
            self.redirect(id, exchange, 307, &location, "path_normalized_redirect");
            return;
        }
        let decided =
            table(http, &snapshot).map(|table| (table, table.decide(&*exchange, self.random.next_u64())));
        let next = match &decided {
            Some((_, decision)) => {
                if let Verdict::Forward { forward, cluster, .. } = decision.verdict {
                    self.warn_of(forward, cluster);
                }
                exchange.route = Some(routed(http, &snapshot, decision, &exchange));
                match upgrade(http, &exchange, decision) {
                    Some(Upgrade::Refused) => Next::UpgradeRefused,
                    found => {
                        exchange.terminates = found == Some(Upgrade::Terminate);
                        self.filters(http, &mut exchange, decision)
                    }
                }
            }
            None => Next::NoRoute,
        };
        match next {
            Next::Forward { abort, delay } => {
                exchange.edit_web_request();
                if let Some((table, decision)) = &decided {
                    self.edit_request(key, &mut exchange, table, decision);
                }
                exchange.abort = abort;
                self.limit_time(&mut exchange, http);
                match delay {
                    Some(delay) => {
                        exchange.flags.insert(Flags::DELAY_INJECTED);
                        exchange.phase = Phase::Delayed;
                        exchange.wake = Deadline(self.now.after(delay));
                        self.keep_for_replay(&mut exchange, body, &[]);
                        self.hold_back(&mut exchange, 0);
                        self.arm(&mut exchange);
                        self.exchanges.put_back(id, exchange);
                    }
                    None => self.after_delay(id, exchange, body),
                }
            }
            Next::Redirect { status, location } => {
                self.telemetry.shard.inc(http.stats.rq_redirect);
                self.redirect(id, exchange, status, &location, "direct_response");
            }
            Next::Respond { status, body } => {
                self.telemetry.shard.inc(http.stats.rq_direct_response);
                self.reply(id, exchange, &Reply::new(status, &body, Flags::NONE, "direct_response"));
            }
            Next::Preflight(answer) => {
                exchange.cors = Some(Box::new(answer));
                self.reply(id, exchange, &Reply::new(200, b"", Flags::NONE, "cors_response"));
            }
            Next::NoRoute => {
                self.telemetry.shard.inc(http.stats.no_route);
                self.reply(id, exchange, &Reply::new(404, b"", Flags::NO_ROUTE_FOUND, "route_not_found"));
            }
            Next::UpgradeRefused => {
                self.telemetry.shard.inc(http.stats.downstream_rq_ws_on_non_ws_route);
                if exchange.stream.is_none()
                    && let Some(client) = self.client(key)
                {
                    // What follows may be bytes of the other protocol, made to look like a request.
                    client.last = true;
                }
                self.reply(id, exchange, &Reply::new(403, b"", Flags::NONE, "upgrade_failed"));
            }
            Next::NoCluster { status } => {
                self.telemetry.shard.inc(http.stats.no_cluster);
                self.reply(
                    id,
                    exchange,
                    &Reply::new(status, b"", Flags::NO_CLUSTER_FOUND, "cluster_not_found"),
                );
            }
        }
    }

    /// Names once what a route asks for and does not get yet.
    fn warn_of(&self, forward: &Forward, cluster: &ClusterRef) {
        if !forward.mirrors.is_empty() {
            self.shared
                .warn_once("mirrored requests (request_mirror_policies) are not sent yet", &cluster.name);
        }
    }

    /// Fault and CORS, in Istio's order, and what the route says.
    fn filters(&mut self, http: &HttpChain, exchange: &mut Exchange, decision: &RouteDecision<'_>) -> Next {
        // Envoy: a route that redirects or answers by itself has no policy.
        let forwards = matches!(decision.verdict, Verdict::Forward { .. } | Verdict::ForwardByHeader { .. });
        let cors = decision.route.and_then(|route| route.filters.cors.as_ref());
        if let Some(cors) = cors.filter(|_| http.cors && forwards) {
            match cors.decide(&*exchange, self.random.next_u64()) {
                CorsDecision::Pass | CorsDecision::Foreign => {}
                CorsDecision::Preflight { fields, .. } => return Next::Preflight(CorsAnswer::new(fields)),
                CorsDecision::Actual { fields } => {
                    let answer = CorsAnswer::new(fields);
                    exchange.cors = Some(Box::new(answer));
                }
            }
        }
        match decision.verdict {
            Verdict::NoVirtualHost | Verdict::NoRoute => Next::NoRoute,
            Verdict::Redirect(redirect) => {
                let mut location = vec![];
                if let Some(route) = decision.route {
                    redirect.location(&route.rule, &*exchange, &mut location);
                }
                Next::Redirect { status: redirect.status, location }
            }
            Verdict::TlsRedirect => {
                let location = [b"https://", exchange.host(), exchange.path()].concat();
                Next::Redirect { status: 301, location }
            }
            Verdict::Respond(response) => {
                Next::Respond { status: response.status, body: response.body.clone() }
            }
            Verdict::Forward { .. } | Verdict::ForwardByHeader { .. } => {
                let Some(routed) = &exchange.route else { return Next::NoRoute };
                let not_found = routed.forward().map_or(503, |forward| forward.cluster_not_found);
                let Some(cluster) =
                    routed.cluster().filter(|cluster| routed.snapshot.cluster(cluster.id).is_some())
                else {
                    return Next::NoCluster { status: not_found };
                };
                let fault =
                    decision.route.and_then(|route| route.filters.fault.as_ref()).filter(|_| http.fault);
                let decided = match fault {
                    Some(fault) => {
                        let dice = [self.random.next_u64(), self.random.next_u64()];
                        fault.decide(&*exchange, &cluster.name, dice)
                    }
                    None => model::fault::FaultDecision::default(),
                };
                Next::Forward { abort: decided.abort, delay: decided.delay }
            }
        }
    }

    /// The delay (if any) is over: answer with a fault, or send.
    pub(super) fn after_delay(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, body: &[u8]) {
        if exchange.must_end_first() {
            exchange.phase = Phase::Delayed;
            exchange.wake = Deadline::NEVER;
            self.arm(&mut exchange);
            self.exchanges.put_back(id, exchange);
            return;
        }
        match exchange.abort.take() {
            None => self.attempt(id, exchange, body),
            Some(Abort::Status(status)) => {
                let reply =
                    Reply::new(status, b"fault filter abort", Flags::FAULT_INJECTED, "fault_filter_abort");
                self.reply(id, exchange, &reply);
            }
            Some(Abort::Grpc(status)) => {
                exchange.grpc_status = u8::try_from(status).ok();
                let text = status.to_string();
                let headers: [(&str, &[u8]); 3] = [
                    ("content-type", b"application/grpc"),
                    ("grpc-status", text.as_bytes()),
                    ("grpc-message", b"fault filter abort"),
                ];
                let reply = Reply {
                    headers: &headers,
                    ..Reply::new(200, b"", Flags::FAULT_INJECTED, "fault_filter_abort")
                };
                self.reply(id, exchange, &reply);
            }
        }
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

fn routed(
    http: &Rc<HttpChain>,
    snapshot: &Rc<Current>,
    decision: &RouteDecision<'_>,
    exchange: &Exchange,
) -> Routed {
    let (split, named, retries) = match decision.verdict {
        Verdict::Forward { split, forward, .. } => (split, None, forward.retry.is_some()),
        Verdict::ForwardByHeader { header, forward } => {
            let name = exchange.header(header);
            let name = name.as_deref().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
            let named = snapshot.cluster_id(name).map(|id| ClusterRef { id, name: name.into() });
            (None, named, forward.retry.is_some())
        }
        _ => (None, None, false),
    };
    let limit = decision.route.and_then(|route| route.body_buffer_limit);
    let limit = limit.map_or(REPLAY_LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Routed {
        http: http.clone(),
        snapshot: snapshot.clone(),
        place: decision.place,
        split,
        named,
        replay_limit: if retries { limit } else { limit.min(16 * 1024) },
    }
}
