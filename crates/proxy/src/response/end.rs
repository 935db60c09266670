//! A response has ended: whole, cut short, or as none that can be believed.

use telemetry::Flags;

use crate::exchange::sides::HostSide;
use crate::exchange::{Ending, Exchange, ExchangeId};
use crate::net::sockets::Key;
use crate::response::reply::{Reply, Reset};
use crate::upstream::outlier::Fared;
use crate::worker::Worker;
use crate::worker::connection::Reading;

impl Worker {
    /// The response is complete.
    pub(crate) fn response_complete(&mut self, key: Key, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.ending = Ending::Whole;
        self.count_upstream(&exchange);
        exchange.counted.host = None;
        let request_done = exchange.request.progress.is_whole();
        let asked_for_tunnel = exchange.asks_for_tunnel();
        if let HostSide::H2(key, stream) = std::mem::take(&mut exchange.host_side) {
            self.forget_stream(key, stream, true);
        } else {
            // Kept or closed by `response_over`, once all that was read of it is used up.
            if let Some(up) = self.upstream(key) {
                up.exchange = None;
                up.reading = Reading::Head;
                // A host that did not switch protocols may not have read what followed the request that asked for it.
                up.keep_alive &= request_done && !asked_for_tunnel;
            }
        }
        // A request not yet whole when it is answered: the rest of it has nowhere to go.
        self.finish(id, exchange);
    }

    fn count_upstream(&mut self, exchange: &Exchange) {
        if let Some(cluster) = &exchange.counted.cluster {
            let shard = &self.telemetry.shard;
            shard.add(
                cluster.stats.upstream_cx_rx_bytes_total,
                exchange.response.sent_head + exchange.response.sent,
            );
            shard.add(
                cluster.stats.upstream_cx_tx_bytes_total,
                exchange.request.received_head + exchange.request.received,
            );
        }
    }

    /// A body that ends with its connection has ended.
    pub(crate) fn response_ended_by_close(&mut self, key: Key, id: ExchangeId) {
        if let Some(mut exchange) = self.exchanges.take(id) {
            self.pass_payload(&mut exchange, b"", true);
            self.exchanges.put_back(id, exchange);
        }
        self.response_complete(key, id);
        self.discard_upstream(key);
    }

    /// The connection (`reset`: or the stream alone) ended in the middle of the response: the client must not take what
    /// it has for whole.
    pub(crate) fn response_cut_short(&mut self, id: ExchangeId, reset: bool) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_rq_rx_reset);
        }
        self.observe(&exchange, Fared::Failed);
        if reset {
            exchange.response.flags.insert(Flags::UPSTREAM_REMOTE_RESET);
            exchange.response.details = "upstream_reset_after_response_started{remote_reset}".into();
        } else {
            exchange.response.flags.insert(Flags::UPSTREAM_CONNECTION_TERMINATION);
            exchange.response.details =
                "upstream_reset_after_response_started{connection_termination}".into();
        }
        self.abort_exchange(id, exchange);
    }

    /// The host does not speak HTTP as it must.
    pub(crate) fn response_refused(&mut self, key: Key, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(cluster) = &exchange.counted.cluster {
            self.telemetry.shard.inc(cluster.stats.upstream_cx_protocol_error);
        }
        self.observe(&exchange, Fared::Failed);
        if exchange.response_began() {
            exchange.response.flags.insert(Flags::UPSTREAM_PROTOCOL_ERROR);
            exchange.response.details = "upstream_reset_after_response_started{protocol_error}".into();
            self.abort_exchange(id, exchange);
        } else {
            self.abandon_attempt(id, &mut exchange);
            let mut text = vec![];
            let reply = Reply::reset(&Reset::protocol_error(), &mut text);
            self.reply(id, exchange, &reply);
        }
        if self.upstream(key).is_some() {
            self.discard_upstream(key);
        }
    }
}
