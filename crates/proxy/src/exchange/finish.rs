//! Step 9: the exchange is over: count it, log it, and see what becomes of its connections.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::view::is_inline;
use telemetry::Flags;
use telemetry::access_log::{Address, AddressField, HeaderName, LogSource, NumberField, TextField};
use telemetry::istio::{Reporter, Request, SeriesKey};
use wire::HeaderId;

use crate::client::origin::Origin;
use crate::clock::{Clock, Time};
use crate::exchange::sides::{ClientSide, HostSide};
use crate::exchange::{Counted, Ending, Exchange, ExchangeId, Progress};
use crate::net::layer::Identity;
use crate::net::sockets::Key;
use crate::request::chain::HttpChain;
use crate::request::destination;
use crate::telemetry_sink::SeriesId;
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    /// Ends an exchange whose answer (if any) is complete as far as it will ever be.
    pub(crate) fn finish(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        let key = exchange.client_side.key();
        exchange.counted = Counted::default();
        if let Some(call) = exchange.call.take() {
            return self.call_ended(id, exchange, *call);
        }
        self.report(key, &exchange);
        let request_done = exchange.request.progress.is_whole();
        let broken = exchange.ending == Ending::Broken;
        let left = exchange.response.flags.contains(Flags::DOWNSTREAM_CONNECTION_TERMINATION);
        if let ClientSide::H2(key, stream) = exchange.client_side {
            self.finish_stream(key, stream, &exchange);
            self.exchanges.retire(id, exchange);
            return;
        }
        self.exchanges.retire(id, exchange);
        let draining = self.draining;
        let Some(down) = self.downstream(key) else { return };
        down.exchange = None;
        if broken && left {
            self.close_downstream(key);
        } else if broken {
            // Answers to what was asked before may still be on their way: only this one is cut off.
            self.end_downstream(key);
        } else if down.client.last || !request_done || draining {
            let http = down.client.http.clone();
            http.closed(&self.telemetry);
            self.linger_for(key, http.settings.timeouts.delayed_close);
        } else {
            self.next_request(key);
        }
    }

    /// Counts and logs an exchange of this client's connection.
    pub(crate) fn report(&mut self, key: Key, exchange: &Exchange) {
        if let Some(client) = self.conns.get(key).and_then(Conn::client) {
            let http = client.http.clone();
            self.count(&http, key, exchange);
            self.log(&http, key, exchange);
        }
    }

    /// Ends an exchange that can not be completed any more: what the client has is cut off visibly.
    pub(crate) fn abort_exchange(&mut self, id: ExchangeId, mut exchange: Box<Exchange>) {
        self.abandon_attempt(id, &mut exchange);
        exchange.ending = Ending::Broken;
        self.finish(id, exchange);
    }

    /// The client went away.
    pub(crate) fn client_left(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.response.flags.insert(Flags::DOWNSTREAM_CONNECTION_TERMINATION);
        exchange.response.details = "downstream_remote_disconnect".into();
        if let Some(client) = self.client(exchange.client_side.key()) {
            let stats = client.http.stats.clone();
            self.telemetry.shard.inc(stats.downstream_cx_destroy_remote_active_rq);
        }
        self.abort_exchange(id, exchange);
    }

    /// The client has ended its direction of a tunnel.
    pub(crate) fn client_half_closed(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.tunnel.end_client();
        match exchange.host_side {
            _ if exchange.tunnel.host_ended() => self.finish_tunnel(id),
            HostSide::None => self.finish_tunnel(id),
            side => self.end_to_host(side),
        }
    }

    /// The host has ended its direction of a tunnel.
    pub(crate) fn host_half_closed(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        exchange.tunnel.end_host();
        let over = exchange.tunnel.client_ended();
        match exchange.client_side {
            ClientSide::H2(..) => self.pass_payload(&mut exchange, b"", true),
            ClientSide::H1(key) if !over => self.sockets.shutdown_write(key),
            ClientSide::H1(_) | ClientSide::Nobody => {}
        }
        self.exchanges.put_back(id, exchange);
        if over {
            self.finish_tunnel(id);
        }
    }

    /// Both directions of a tunnel are over.
    pub(crate) fn finish_tunnel(&mut self, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.take(id) else { return };
        if let Some(up) = exchange.host_side.own() {
            exchange.response.sent = self.upstream(up).map_or(exchange.response.sent, |up| up.body.payload());
        }
        // A tunnel that was cut in the middle is not to be taken for one that has ended.
        if exchange.client_side.is_h2() && !exchange.tunnel.host_ended() {
            exchange.ending = Ending::Broken;
        }
        if exchange.tunnel.client_ended() && exchange.tunnel.host_ended() {
            exchange.counted.host = None;
            self.end_host(id, &mut exchange);
        }
        exchange.request.progress = Progress::Whole;
        self.abandon_attempt(id, &mut exchange);
        if let Some(down) = self.downstream(exchange.client_side.key()) {
            down.client.last = true;
        }
        self.finish(id, exchange);
    }

    fn count(&mut self, http: &Rc<HttpChain>, key: Key, exchange: &Exchange) {
        let shard = &self.telemetry.shard;
        let stats = &http.stats;
        shard.shift(stats.downstream_rq_active, -1);
        http.stats.response(shard, exchange.response.status);
        let duration = self.now.since(exchange.times.started);
        shard.observe(&stats.downstream_rq_time, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        shard.add(
            stats.downstream_cx_rx_bytes_total,
            exchange.request.received_head + exchange.request.received,
        );
        shard.add(stats.downstream_cx_tx_bytes_total, exchange.response.sent_head + exchange.response.sent);
        if let Some(reporter) = http.istio {
            self.count_istio(http, reporter, key, exchange, duration);
        }
    }

    fn count_istio(
        &mut self,
        http: &Rc<HttpChain>,
        reporter: Reporter,
        key: Key,
        exchange: &Exchange,
        duration: Duration,
    ) {
        let client = self.conns.get(key).and_then(Conn::client);
        let peer = client.and_then(|client| client.peer.clone());
        let secure = client.and_then(|client| client.origin.secure.clone());
        let identity = secure.as_ref().and_then(|agreed| agreed.peer.as_ref());
        let grpc = exchange.is_grpc();
        let destination = destination::series(exchange.target.route.as_ref(), exchange.target.host.as_ref());
        let fallback = if http.host_fallback && !destination.has_service && exchange.has_head() {
            let host = model::view::host_only(exchange.head_view().authority());
            host.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
            }) | 1
        } else {
            0
        };
        let id = SeriesId {
            chain: http.number,
            peer: peer.as_ref().map_or(0, |peer| peer.number),
            principal: identity.map_or(0, Identity::number),
            destination: destination.number,
            fallback,
            grpc,
        };
        let request = Request {
            code: exchange.response.status,
            flags: exchange.response.flags,
            grpc_status: exchange.grpc_status_told(),
            duration,
            received_bytes: exchange.request.received_head + exchange.request.received,
            sent_bytes: exchange.response.sent_head + exchange.response.sent,
        };
        let key = || {
            let service = destination::service(exchange.target.route.as_ref());
            let own = http.own.clone();
            let unknown = Arc::<telemetry::istio::Peer>::default();
            let (source, destination) = match reporter {
                Reporter::Source => (
                    own,
                    exchange.target.host.as_ref().and_then(|host| host.labels.clone()).unwrap_or(unknown),
                ),
                _ => (
                    destination::proven(peer.as_ref().map_or(unknown, |peer| peer.labels.clone()), identity),
                    own,
                ),
            };
            let (mut host, name) = service.unwrap_or_default();
            if host.is_empty() && fallback != 0 {
                let sent = model::view::host_only(exchange.head_view().authority());
                host = String::from_utf8_lossy(sent).to_ascii_lowercase();
            }
            let name = if name.is_empty() { host.clone() } else { name };
            SeriesKey {
                reporter,
                source,
                destination,
                service_host: host,
                service_name: name,
                mutual_tls: identity.is_some(),
            }
        };
        let (shard, series) = self.telemetry.series(id, key);
        series.record(shard, &request);
    }

    fn log(&mut self, http: &Rc<HttpChain>, key: Key, exchange: &Exchange) {
        if http.logs.is_empty() {
            return;
        }
        let Some(down) = self.conns.get(key).and_then(Conn::client) else { return };
        let line = ExchangeLog {
            exchange,
            origin: &down.origin,
            clock: &self.clock,
            now: self.now,
            cluster: exchange.target.route.as_ref().map_or("", |routed| routed.cluster_name()),
            service_millis: Digits::of(exchange.response.service_millis),
            joined: OnceCell::new(),
        };
        for log in &http.logs {
            if log.filter.as_ref().is_none_or(|filter| line.admitted(filter)) {
                self.telemetry.line(log, &line, self.now);
            }
        }
    }

    /// A connection that no chain took, in the listener's own log.
    pub(crate) fn log_connection(&mut self, origin: &Origin, details: &'static str, flags: Flags) {
        let line = ConnectionLog { origin, clock: &self.clock, now: self.now, details, flags };
        for log in &origin.listener.access_logs {
            // Rare, so compiled on the spot; the sink is shared.
            let log = self.telemetry.log(log);
            self.telemetry.line(&log, &line, self.now);
        }
    }
}

/// A number as text, in place.
struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(number: Option<u64>) -> Digits {
        let mut digits = Digits { text: [b'0'; 20], start: 20 };
        let Some(mut rest) = number else { return digits };
        for digit in digits.text.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            digits.start -= 1;
            if rest == 0 {
                break;
            }
        }
        digits
    }

    fn text(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }
}

/// A finished exchange, as a line of a log sees it.
struct ExchangeLog<'a> {
    exchange: &'a Exchange,
    origin: &'a Origin,
    clock: &'a Clock,
    now: Time,
    cluster: &'a str,
    service_millis: Digits,
    /// The values of headers that came more than once and that Envoy keeps as one, made when the first is asked for.
    joined: OnceCell<Vec<(String, Vec<u8>)>>,
}

impl ExchangeLog<'_> {
    /// All values of an inline header as one; `None`: it came once.
    #[cold]
    fn joined(&self, name: &str) -> Option<&[u8]> {
        let all = self.joined.get_or_init(|| self.exchange.inline_values());
        all.iter().find(|(met, _)| met == name).map(|(_, value)| value.as_slice())
    }

    fn admitted(&self, filter: &model::access_log::AccessLogFilter) -> bool {
        let flags = self.exchange.response.flags.to_string();
        let names: Vec<&str> = flags.split(',').filter(|flag| *flag != "-").collect();
        let millis = self.number(NumberField::Duration).unwrap_or(0);
        filter.admits(self.exchange.response.status, millis, &names, false)
    }
}

fn millis(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_millis()).ok()
}

impl LogSource for ExchangeLog<'_> {
    fn start_time(&self) -> Duration {
        Duration::from_nanos(self.clock.unix_nanos(self.exchange.times.started))
    }

    fn flags(&self) -> Flags {
        self.exchange.response.flags
    }

    fn method(&self) -> Option<&[u8]> {
        self.exchange.has_head().then(|| self.exchange.head_view().method())
    }

    fn path(&self) -> Option<&[u8]> {
        let exchange = self.exchange;
        if !exchange.has_head() {
            return None;
        }
        Some(exchange.edits.replaced_target().unwrap_or(exchange.head_view().path()))
    }

    fn authority(&self) -> Option<&[u8]> {
        let exchange = self.exchange;
        if !exchange.has_head() {
            return None;
        }
        Some(exchange.edits.replaced_host().unwrap_or(exchange.head_view().authority()))
    }

    fn scheme(&self) -> Option<&[u8]> {
        Some(model::RequestView::scheme(self.exchange))
    }

    fn request_header(&self, name: &HeaderName) -> Option<&[u8]> {
        let exchange = self.exchange;
        if !exchange.has_head() {
            return None;
        }
        let head = exchange.head_view();
        let number = name.number(|name| HeaderId::of(name.as_bytes()) as u16);
        let (first, again) = match HeaderId::ALL.get(usize::from(number)) {
            Some(id) => (exchange.edits.value_known(&head, *id), head.repeats(*id)),
            None => (exchange.edits.value(&head, name.text().as_bytes()), true),
        };
        match again && is_inline(name.text()) {
            true => self.joined(name.text()).or(first),
            false => first,
        }
    }

    fn response_header(&self, name: &HeaderName) -> Option<&[u8]> {
        let exchange = self.exchange;
        let name = name.text();
        if name == "x-envoy-upstream-service-time" {
            return Some(self.service_millis.text()).filter(|text| !text.is_empty());
        }
        if exchange.response_head.is_empty() {
            return None;
        }
        exchange.response_storage.response(&exchange.response_head).header(name.as_bytes())
    }

    fn text(&self, field: TextField) -> Option<&[u8]> {
        let exchange = self.exchange;
        match field {
            TextField::Protocol => {
                Some(exchange.has_head().then(|| exchange.head_view().version().name().as_bytes())?)
            }
            TextField::UpstreamProtocol => {
                exchange.response.upstream_version.map(|version| version.name().as_bytes())
            }
            TextField::ResponseCodeDetails => Some(exchange.response.details.as_bytes()),
            TextField::ConnectionTerminationDetails => exchange.response.termination.map(str::as_bytes),
            TextField::UpstreamTransportFailureReason => {
                exchange.response.failure.as_deref().map(str::as_bytes)
            }
            TextField::UpstreamCluster | TextField::UpstreamClusterRaw => Some(self.cluster.as_bytes()),
            TextField::RequestedServerName => Some(self.origin.server_name.as_bytes()),
            TextField::RouteName => Some(exchange.route_name().as_bytes()),
            TextField::StreamId => exchange.request.id.as_ref().map(|id| id.as_slice()),
            _ => None,
        }
        .filter(|text| !text.is_empty())
    }

    fn number(&self, field: NumberField) -> Option<u64> {
        let exchange = self.exchange;
        let set = |time: Time| (time != Time::default()).then_some(time);
        match field {
            NumberField::ResponseCode => Some(exchange.response.status.into()),
            NumberField::BytesReceived => Some(exchange.request.received),
            NumberField::BytesSent => Some(exchange.response.sent),
            NumberField::Duration => millis(self.now.since(exchange.times.started)),
            NumberField::RequestDuration | NumberField::RequestTxDuration => {
                millis(set(exchange.times.request_ended)?.since(exchange.times.started))
            }
            NumberField::ResponseDuration => {
                millis(set(exchange.times.first_byte)?.since(exchange.times.started))
            }
            NumberField::ResponseTxDuration => millis(self.now.since(set(exchange.times.first_byte)?)),
            NumberField::RequestHeadersBytes | NumberField::DownstreamHeaderBytesReceived => {
                Some(exchange.request.received_head)
            }
            NumberField::ResponseHeadersBytes | NumberField::DownstreamHeaderBytesSent => {
                Some(exchange.response.sent_head)
            }
            NumberField::DownstreamWireBytesReceived => {
                Some(exchange.request.received_head + exchange.request.received)
            }
            NumberField::DownstreamWireBytesSent => {
                Some(exchange.response.sent_head + exchange.response.sent)
            }
            NumberField::UpstreamRequestAttemptCount => Some(exchange.target.attempts.into()),
            NumberField::GrpcStatus => exchange.grpc_status_told().map(u64::from),
            _ => None,
        }
    }

    fn address(&self, field: AddressField) -> Option<Address<'_>> {
        let exchange = self.exchange;
        let address: Option<SocketAddr> = match field {
            AddressField::UpstreamHost | AddressField::UpstreamRemote => exchange.response.upstream_remote,
            AddressField::UpstreamLocal => exchange.response.upstream_local,
            AddressField::DownstreamLocal | AddressField::DownstreamDirectLocal => Some(self.origin.local),
            AddressField::DownstreamRemote | AddressField::DownstreamDirectRemote => Some(self.origin.remote),
        };
        address.map(Address::Socket)
    }
}

/// A connection without an exchange, as a line of a log sees it.
struct ConnectionLog<'a> {
    origin: &'a Origin,
    clock: &'a Clock,
    now: Time,
    details: &'static str,
    flags: Flags,
}

impl LogSource for ConnectionLog<'_> {
    fn start_time(&self) -> Duration {
        Duration::from_nanos(self.clock.unix_nanos(self.origin.started))
    }

    fn flags(&self) -> Flags {
        self.flags
    }

    fn text(&self, field: TextField) -> Option<&[u8]> {
        match field {
            TextField::ResponseCodeDetails => Some(self.details.as_bytes()),
            TextField::RequestedServerName => Some(self.origin.server_name.as_bytes()),
            _ => None,
        }
        .filter(|text| !text.is_empty())
    }

    fn number(&self, field: NumberField) -> Option<u64> {
        (field == NumberField::Duration).then(|| millis(self.now.since(self.origin.started))).flatten()
    }

    fn address(&self, field: AddressField) -> Option<Address<'_>> {
        match field {
            AddressField::DownstreamLocal | AddressField::DownstreamDirectLocal => {
                Some(Address::Socket(self.origin.local))
            }
            AddressField::DownstreamRemote | AddressField::DownstreamDirectRemote => {
                Some(Address::Socket(self.origin.remote))
            }
            _ => None,
        }
    }
}
