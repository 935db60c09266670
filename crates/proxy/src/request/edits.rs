//! What configuration does to a request's head on its way to the host, once for all attempts.

use model::RequestView;
use model::headers::{HeaderPlans, HowSet};
use model::listener::Direction;
use model::rewrite::HostRewrite;
use model::route::{Action, Forward};
use wire::HeaderId;

use crate::client::origin::Origin;
use crate::exchange::Exchange;
use crate::net::sockets::Key;
use crate::request::routed::{Routed, table};
use crate::request::view::TemplateValues;
use crate::worker::Worker;

/// A rewritten path longer than this is refused: what a request's path grows to by captures put in several times is as long
/// as the client wants, and the configuration did not mean that.
const LONGEST_PATH: usize = 256 * 1024;

/// The rewritten path is longer than any may be.
pub(crate) struct TooLong;

impl Worker {
    /// What the configuration does to the request's head, once for all attempts.
    pub(crate) fn edit_request(&mut self, key: Key, exchange: &mut Exchange) -> Result<(), TooLong> {
        let unix_nanos = self.clock.unix_nanos(exchange.times.started);
        let Some(down) = self.client(key) else { return Ok(()) };
        let Some(routed) = &exchange.target.route else { return Ok(()) };
        // Held apart from the exchange, which is changed.
        let (http, snapshot, place, split) =
            (routed.http.clone(), routed.snapshot().clone(), routed.place(), routed.split());
        let Some(table) = table(&http, &snapshot) else { return Ok(()) };
        let plans = table.request_headers_at(place, split);
        if !plans.is_empty() {
            apply_request_plans(exchange, &down.origin, plans, unix_nanos);
        }
        let Some((_, route)) = table.resolve(place) else { return Ok(()) };
        let Action::Forward(forward) = &route.action else { return Ok(()) };
        let suppress = http.settings.router.suppress_envoy_headers;
        if let Some(operation) = &route.operation
            && http.settings.tracing.is_some()
            && down.origin.listener.direction == Direction::Outbound
        {
            let head = exchange.head_storage.request(&exchange.head);
            exchange.edits.set_known(&head, HeaderId::XEnvoyDecoratorOperation, operation.as_bytes());
        }
        rewrite_host(exchange, forward, split, suppress);
        if exchange.head_view().is_connect() {
            // No path to rewrite; the target is the host.
            return Ok(());
        }
        let new_path = forward.path.apply(&route.rule, exchange.path());
        if new_path.as_ref().is_some_and(|path| path.len() > LONGEST_PATH) {
            return Err(TooLong);
        }
        if let Some(new_path) = new_path.map(|path| path.into_owned()) {
            let old = exchange.path().to_vec();
            let head = exchange.head_storage.request(&exchange.head);
            if !suppress {
                exchange.edits.set_known(&head, HeaderId::XEnvoyOriginalPath, &old);
            }
            exchange.path.set(&new_path, &mut exchange.edits);
        }
        Ok(())
    }
}

fn apply_request_plans(exchange: &mut Exchange, origin: &Origin, plans: HeaderPlans<'_>, unix_nanos: u64) {
    let mut value = vec![];
    for plan in plans.iter() {
        for name in &plan.remove {
            let head = exchange.head_storage.request(&exchange.head);
            exchange.edits.remove(&head, name.as_bytes());
        }
        for set in &plan.set {
            value.clear();
            let cluster = exchange.target.route.as_ref().map_or("", Routed::cluster_name);
            let values = TemplateValues { exchange, origin, cluster, response: None, unix_nanos };
            set.value.append(&values, &mut value);
            if value.is_empty() && !set.keep_empty {
                continue;
            }
            let head = exchange.head_storage.request(&exchange.head);
            match &*set.name {
                ":authority" => exchange.edits.host(&value),
                ":path" => {
                    exchange.path.set(&value, &mut exchange.edits);
                }
                name => apply_set(&mut exchange.edits, &head, name.as_bytes(), &value, set.how),
            }
        }
    }
}

/// One header set as configuration asks for it.
pub(crate) fn apply_set(
    edits: &mut wire::h1::Edits,
    head: &wire::h1::Head<'_>,
    name: &[u8],
    value: &[u8],
    how: HowSet,
) {
    match how {
        HowSet::Append => edits.append(name, value),
        HowSet::Overwrite => edits.set(head, name, value),
        HowSet::AddIfAbsent if edits.value(head, name).is_none() => edits.append(name, value),
        HowSet::OverwriteIfPresent if edits.value(head, name).is_some() => edits.set(head, name, value),
        HowSet::AddIfAbsent | HowSet::OverwriteIfPresent => {}
    }
}

fn rewrite_host(exchange: &mut Exchange, forward: &Forward, split: Option<u16>, suppress: bool) {
    let split_host = forward.split(split).and_then(|split| split.host.clone());
    let new: Option<Vec<u8>> = match (&split_host, &forward.host) {
        (Some(host), _) | (None, HostRewrite::Literal(host)) => Some(host.as_bytes().to_vec()),
        (None, HostRewrite::Header(name)) => exchange.header(name).map(|value| value.into_owned()),
        // Known when the host is picked.
        (None, HostRewrite::Auto) => {
            exchange.target.auto_host = true;
            None
        }
        (None, HostRewrite::Keep) => None,
    };
    let Some(new) = new.filter(|new| wire::authority::Authority::parse(new).is_some()) else { return };
    set_host(exchange, &new, forward.append_x_forwarded_host, suppress);
}

/// Another Host, the old one kept beside it where configuration wants it.
pub(crate) fn set_host(exchange: &mut Exchange, new: &[u8], forwarded_host: bool, suppress: bool) {
    let old = exchange.host().to_vec();
    let head = exchange.head_storage.request(&exchange.head);
    if old == new {
        return;
    }
    if forwarded_host {
        exchange.edits.append_to_list(&head, HeaderId::XForwardedHost, &old);
    }
    if !suppress {
        exchange.edits.set_known(&head, HeaderId::XEnvoyOriginalHost, &old);
    }
    exchange.edits.host(new);
}
