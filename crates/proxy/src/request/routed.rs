//! A decision about a request, kept for as long as the request is under way.

use std::rc::Rc;

use model::headers::HeaderPlans;
use model::http_connection::RouteSource;
use model::route::{Forward, Priority, RouteDecision, Verdict};
use model::{ClusterRef, RequestView, RoutePlace, RouteTable, VirtualHost};

use crate::request::chain::HttpChain;
use crate::snapshot::Current;

/// Body bytes kept for another attempt, as many as Envoy keeps (its default connection buffer), within the worker's
/// budget of memory.
const REPLAY_LIMIT: usize = 1024 * 1024;
/// The same without a retry policy: for a request that met a connection its host had closed.
const UNASKED_REPLAY_LIMIT: usize = 16 * 1024;

/// A decision kept without a borrow: the parts it was made of, and its place in them.
pub struct Routed {
    pub http: Rc<HttpChain>,
    pub(super) snapshot: Rc<Current>,
    pub(super) place: RoutePlace,
    pub(super) verdict: Kept,
    split: Option<u16>,
    /// Of a route that names its cluster by a header, and of a call, which has no route.
    named: Option<ClusterRef>,
    pub replay_limit: usize,
}

/// A verdict as it can be kept: what it leads to is found by the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
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
    pub fn cluster_named_by(&self, request: &impl RequestView, header: &str) -> Option<ClusterRef> {
        named_cluster(&self.snapshot, request, header)
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

    /// While the routes have not arrived.
    pub(super) fn nowhere(http: &Rc<HttpChain>, snapshot: &Rc<Current>) -> Routed {
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

/// The decision about `request`, as it is kept.
pub(super) fn routed(
    http: &Rc<HttpChain>,
    snapshot: &Rc<Current>,
    decision: &RouteDecision<'_>,
    request: &impl RequestView,
) -> Routed {
    let verdict = match decision.verdict {
        Verdict::NoVirtualHost | Verdict::NoRoute => Kept::NoRoute,
        Verdict::TlsRedirect => Kept::TlsRedirect,
        _ => Kept::Route,
    };
    let (split, named, retries) = match decision.verdict {
        Verdict::Forward { split, forward, .. } => (split, None, forward.retry.is_some()),
        Verdict::ForwardByHeader { header, forward } => {
            (None, named_cluster(snapshot, request, header), forward.retry.is_some())
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

fn named_cluster(snapshot: &Current, request: &impl RequestView, header: &str) -> Option<ClusterRef> {
    let name = request.header(header)?;
    let name = std::str::from_utf8(&name).ok()?;
    snapshot.cluster_id(name).map(|id| ClusterRef { id, name: name.into() })
}

/// The routes of a chain; `None` while they have not arrived.
pub(crate) fn table<'a>(http: &'a HttpChain, snapshot: &'a model::Snapshot) -> Option<&'a RouteTable> {
    match &http.settings.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Rds { id, .. } => snapshot.route_table(*id).map(|table| &**table),
    }
}
