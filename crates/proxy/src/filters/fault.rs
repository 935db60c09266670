//! Injected faults: a delay, then an abort. They act on every route, also on one that redirects or answers by itself.

use std::sync::atomic::Ordering::Relaxed;

use model::fault::{Abort, Fault};
use model::filter::{FaultFilter, Settings};
use telemetry::Flags;

use crate::exchange::Exchange;
use crate::filters::state::Injected;
use crate::filters::step::{FilterReply, Step};
use crate::worker::Worker;

impl Worker {
    pub(crate) fn fault_in(
        &mut self,
        filter: &FaultFilter,
        told: Option<&Settings>,
        exchange: &mut Exchange,
    ) -> Step {
        let own = match told {
            Some(Settings::Fault(fault)) => fault,
            _ => match &filter.own {
                Some(fault) => fault,
                None => return Step::Next,
            },
        };
        let known = exchange.filter_state.as_ref().is_some_and(|state| state.fault.is_some());
        if !known && !self.inject(filter, own, exchange) {
            return Step::Next;
        }
        let now = self.now;
        let Some(injected) = exchange.filter_state().fault.as_mut() else { return Step::Next };
        match injected.until {
            Some(until) if until > now => return Step::WaitUntil(until),
            _ => injected.until = None,
        }
        match injected.abort.take() {
            None => Step::Next,
            Some(abort) => self.abort(exchange, abort),
        }
    }

    /// Decides on the request. False: nothing is injected.
    fn inject(&mut self, filter: &FaultFilter, fault: &Fault, exchange: &mut Exchange) -> bool {
        let Some(routed) = &exchange.target.route else { return false };
        let stats = &routed.http.stats;
        if fault.max_active.is_some_and(|most| filter.active.load(Relaxed) >= most) {
            self.telemetry.shard.inc(stats.fault_faults_overflow);
            return false;
        }
        let dice = [self.random.next_u64(), self.random.next_u64()];
        let cluster = routed.forwards().then(|| routed.cluster_name());
        let decided = fault.decide(&*exchange, cluster, dice);
        if decided.is_none() {
            return false;
        }
        if decided.delay.is_some() {
            self.telemetry.shard.inc(stats.fault_delays_injected);
            exchange.response.flags.insert(Flags::DELAY_INJECTED);
        }
        let until = decided.delay.map(|delay| self.now.after(delay));
        let shown = (self.telemetry.shard.clone(), stats.fault_active_faults);
        exchange.filter_state().fault = Some(Injected::new(&filter.active, shown, until, decided.abort));
        true
    }

    fn abort(&mut self, exchange: &mut Exchange, abort: Abort) -> Step {
        if let Some(routed) = &exchange.target.route {
            self.telemetry.shard.inc(routed.http.stats.fault_aborts_injected);
        }
        let reply = FilterReply {
            status: 200,
            body: b"",
            headers: vec![],
            flags: Flags::FAULT_INJECTED,
            details: "fault_filter_abort",
        };
        Step::Reply(match abort {
            Abort::Status(status) => FilterReply { status, body: b"fault filter abort", ..reply },
            Abort::Grpc(status) => {
                exchange.response.grpc_status = u8::try_from(status).ok();
                let headers = vec![
                    ("content-type", b"application/grpc".to_vec()),
                    ("grpc-status", status.to_string().into_bytes()),
                    ("grpc-message", b"fault filter abort".to_vec()),
                ];
                FilterReply { headers, ..reply }
            }
        })
    }
}
