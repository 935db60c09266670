//! The filters of a chain, walked in their configured order: in, before the route's verdict is acted on; out, backwards,
//! over every response and every reply of our own. Only this file walks.
//!
//! A filter looks at the request and takes a [`Step`]. One that waits is asked again when its wait is over, by `wake`, with
//! what it left in its [`FilterState`]; the body that comes meanwhile is kept for replay. What a filter knows of a request
//! lies in one box that most requests never have; a body that is transformed has a box of its own
//! ([`crate::filters::grpc_web_codec::GrpcWeb`]). The filters there are: `cors`, `fault`, `grpc_web` (with its bodies and
//! codec), `peer_metadata`.

mod cors;
mod fault;
mod grpc_web;
pub mod grpc_web_bodies;
pub mod grpc_web_codec;
mod peer_metadata;
pub mod state;
pub mod step;

use std::borrow::Cow;

use model::filter::HttpFilter;

use crate::exchange::{Deadline, Exchange, ExchangeId, Phase};
use crate::filters::state::FilterState;
use crate::filters::step::{Edit, FilterReply, Step};
use crate::request::routed::table;
use crate::response::reply::Reply;
use crate::worker::Worker;

impl Exchange {
    fn filter_state(&mut self) -> &mut FilterState {
        self.filter_state.get_or_insert_default()
    }
}

impl Worker {
    /// From the filter at `exchange.filter_at` on. `body`: what has come of the request's body and is not kept yet.
    pub(crate) fn filters_in(&mut self, id: ExchangeId, mut exchange: Box<Exchange>, body: &[u8]) {
        let Some(routed) = &exchange.target.route else { return self.act(id, exchange, body) };
        let http = routed.http.clone();
        if http.filters.is_empty() {
            return self.act(id, exchange, body);
        }
        // Held apart from the exchange, which filters change.
        let (snapshot, place) = (routed.snapshot().clone(), routed.place());
        let table = table(&http, &snapshot);
        let route = table.and_then(|table| table.resolve(place)).map(|(_, route)| route);
        let mut body = Cow::Borrowed(body);
        while let Some(filter) = http.filters.get(usize::from(exchange.filter_at)) {
            let step = match filter.on(route) {
                None => Step::Next,
                Some(told) => match &filter.kind {
                    HttpFilter::Fault(fault) => self.fault_in(fault, told, &mut exchange),
                    HttpFilter::Cors => {
                        let policy = route.and_then(|route| route.filters.cors(told));
                        self.cors_in(&http, policy, &mut exchange)
                    }
                    HttpFilter::GrpcWeb => self.grpc_web_in(&http, &mut exchange, &mut body),
                    HttpFilter::PeerMetadata(config) => self.peer_metadata_in(*config, &mut exchange),
                    HttpFilter::GrpcStats | HttpFilter::Alpn { .. } | HttpFilter::Stats(_) => Step::Next,
                },
            };
            match step {
                Step::Next => exchange.filter_at += 1,
                Step::Reply(reply) => return self.filter_reply(id, exchange, &reply),
                Step::WaitUntil(time) => {
                    exchange.phase = Phase::Filters;
                    exchange.times.wake = Deadline(time);
                    self.keep_for_replay(&mut exchange, &body, &[]);
                    self.pace_client(&mut exchange, 0);
                    self.arm(&mut exchange);
                    self.exchanges.put_back(id, exchange);
                    return;
                }
            }
        }
        self.act(id, exchange, &body);
    }

    fn filter_reply(&mut self, id: ExchangeId, exchange: Box<Exchange>, reply: &FilterReply) {
        let headers: Vec<(&str, &[u8])> =
            reply.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let base = Reply::new(reply.status, reply.body, reply.flags, reply.details);
        self.reply(id, exchange, &Reply { headers: &headers, ..base });
    }
}

/// What the filters change in a response's head, a reply's of our own included: backwards through the chain.
pub(crate) fn filters_out(
    exchange: &Exchange,
    introduction: Option<&crate::peer::Introduction>,
    edit: &mut dyn FnMut(Edit<'_>),
) {
    let Some(routed) = &exchange.target.route else { return };
    for filter in routed.http.filters.iter().rev() {
        match &filter.kind {
            HttpFilter::Cors => cors::out(exchange, edit),
            HttpFilter::PeerMetadata(config) => {
                peer_metadata::out(*config, exchange, introduction, edit);
            }
            HttpFilter::Fault(_)
            | HttpFilter::GrpcWeb
            | HttpFilter::GrpcStats
            | HttpFilter::Alpn { .. }
            | HttpFilter::Stats(_) => {}
        }
    }
}
