//! Cross-origin policies: a preflight is answered here, an allowed origin's response says so.

use model::cors::{Cors, CorsDecision};
use telemetry::Flags;

use crate::exchange::Exchange;
use crate::filters::state::CorsAnswer;
use crate::filters::step::{Edit, FilterReply, Step};
use crate::request::chain::HttpChain;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn cors_in(
        &mut self,
        http: &HttpChain,
        policy: Option<&Cors>,
        exchange: &mut Exchange,
    ) -> Step {
        // Envoy: a route that redirects or answers by itself has no policy.
        let forwards = exchange.target.route.as_ref().is_some_and(|routed| routed.forwards());
        let Some(policy) = policy.filter(|_| forwards) else { return Step::Next };
        let shard = &self.telemetry.shard;
        let (answer, here) = match policy.decide(&*exchange, self.random.next_u64()) {
            CorsDecision::Pass => return Step::Next,
            CorsDecision::Foreign => {
                shard.inc(http.stats.cors_origin_invalid);
                return Step::Next;
            }
            CorsDecision::Preflight { allowed, fields } => {
                shard.inc(match allowed {
                    true => http.stats.cors_origin_valid,
                    false => http.stats.cors_origin_invalid,
                });
                (CorsAnswer::new(fields), true)
            }
            CorsDecision::Actual { fields } => {
                shard.inc(http.stats.cors_origin_valid);
                (CorsAnswer::new(fields), false)
            }
        };
        exchange.filter_state().cors = Some(answer);
        match here {
            false => Step::Next,
            true => Step::Reply(FilterReply {
                status: 200,
                body: b"",
                headers: vec![],
                flags: Flags::NONE,
                details: "cors_response",
            }),
        }
    }
}

pub(crate) fn out(exchange: &Exchange, edit: &mut dyn FnMut(Edit<'_>)) {
    let Some(answer) = exchange.filter_state.as_ref().and_then(|state| state.cors.as_ref()) else { return };
    for (name, value) in &answer.fields {
        edit(Edit::Set(name, value));
    }
}
