//! WebSockets (and other upgrades) on their way from HTTP/1 to HTTP/2 and back, towards peers that are not ours.
//!
//! What the two handshakes lack towards one another `wire::websocket` knows. Here: when it is asked, and that a request
//! for an upgrade waits until its host has said whether it takes one by HTTP/2 (RFC 8441 §3), which it does in its first
//! frame.

use model::retry::Outcome;
use wire::HeaderId;
use wire::h1::{Edits, RequestHead, ResponseHead, Version};
use wire::{Reject, websocket};

use crate::exchange::{Exchange, ExchangeId};
use crate::net::sockets::Key;
use crate::response::reply::Reset;
use crate::worker::Worker;
use crate::worker::connection::UpstreamH2;

impl Exchange {
    /// An HTTP/1 host wants a key, which an HTTP/2 client did not have to send.
    #[inline]
    pub fn give_websocket_key(&mut self, random: impl FnOnce() -> u128) {
        let head: RequestHead<'_> = self.head_storage.request(&self.head);
        if head.upgrade().is_some() && head.version() == Version::Http2 {
            // At the second attempt it has the key of the first.
            let key = websocket::add_key(&head, &mut self.edits, random());
            self.websocket_key = key.or(self.websocket_key.take());
        }
    }

    /// A host that was given a key proves that it has understood.
    #[inline]
    pub fn check_websocket(&self, head: &ResponseHead<'_>, edits: &mut Edits) -> Result<(), Reject> {
        match &self.websocket_key {
            Some(key) => websocket::take_accept(head, edits, key),
            None => Ok(()),
        }
    }

    /// The proof is for whoever sent the key: taken off if that was us, made if an HTTP/2 host left it out.
    #[inline]
    pub fn edit_websocket(&self, head: &ResponseHead<'_>, edits: &mut Edits) {
        if head.status() != 101 {
            return;
        }
        // Checked before.
        let _ = self.check_websocket(head, edits);
        let asked = self.head_view();
        if head.version() == Version::Http2
            && asked.version() != Version::Http2
            && let Some(key) = asked.known(HeaderId::SecWebSocketKey)
        {
            websocket::add_accept(head, edits, key);
        }
    }
}

impl UpstreamH2 {
    /// Those whose requests are on the connection, or wait for it.
    pub fn exchanges(&self) -> Vec<ExchangeId> {
        let streams = self.codec.streams().filter_map(|(_, token)| ExchangeId::of_token(token));
        streams.chain(self.upgrades.iter().copied()).collect()
    }
}

impl Worker {
    /// Whether a request asks for an upgrade of which its host has not yet said whether it takes it (RFC 8441 §3: it must
    /// not be sent before); if so, it waits for that.
    pub(crate) fn upgrade_waits(&mut self, key: Key, exchange: &Exchange) -> bool {
        let asks = exchange.head_view().upgrade().is_some();
        match self.h2_host(key) {
            Some(up) if asks && !up.codec.is_established() && up.codec.can_open().is_ok() => {
                up.upgrades.push(exchange.id);
                true
            }
            _ => false,
        }
    }

    /// The host has said what it takes.
    pub(crate) fn upgrades_decided(&mut self, key: Key) {
        let Some(up) = self.h2_host(key) else { return };
        for id in std::mem::take(&mut up.upgrades) {
            let Some(mut exchange) = self.exchanges.take(id) else { continue };
            let opened = exchange.host_side.key() != Some(key) || self.open_stream(key, &mut exchange, &[]);
            self.exchanges.put_back(id, exchange);
            if !opened {
                self.attempt_failed(key, id, Reset::refused_stream(), Outcome::RefusedStream);
            }
        }
    }

    /// A request that waits for that (or would) is given up.
    pub(crate) fn forget_upgrade(&mut self, key: Key, id: ExchangeId) {
        if let Some(up) = self.h2_host(key) {
            up.upgrades.retain(|waiting| *waiting != id);
        }
    }
}
