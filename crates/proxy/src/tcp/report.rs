//! What is counted and logged of connections that are not HTTP.

use std::sync::Arc;
use std::time::Duration;

use telemetry::Flags;
use telemetry::access_log::{Address, AddressField, LogSource, NumberField, TextField};
use telemetry::istio::{Reporter, SeriesKey};

use crate::clock::{Clock, Time};
use crate::net::sockets::Key;
use crate::request::destination;
use crate::tcp::session::TcpSession;
use crate::worker::Worker;

impl Worker {
    /// Istio's TCP metrics: opened when the host is known.
    pub(crate) fn open_series(&mut self, key: Key) {
        let istio = self.telemetry.istio().clone();
        let Some(session) = self.session(key) else { return };
        let Some(reporter) = session.tcp.istio else { return };
        let own = session.tcp.own.clone();
        let unknown = Arc::<telemetry::istio::Peer>::default();
        let peer = session.host.as_ref().and_then(|host| host.labels.clone()).unwrap_or(unknown.clone());
        let (source, destination) = match reporter {
            Reporter::Source => (own, peer),
            _ => (destination::proven(unknown, session.origin.identity()), own),
        };
        let service = session.cluster.as_ref().and_then(|cluster| cluster.config.borrow().service.clone());
        let (service_host, service_name) = match service {
            Some(service) => (service.host.to_string(), service.name.to_string()),
            None => match &*session.cluster_name {
                name @ ("PassthroughCluster" | "BlackHoleCluster" | "InboundPassthroughCluster") => {
                    (String::new(), name.to_owned())
                }
                _ => Default::default(),
            },
        };
        let mutual_tls = session.origin.identity().is_some();
        let key_of_series =
            SeriesKey { reporter, source, destination, service_host, service_name, mutual_tls };
        let series = istio.tcp(&key_of_series, Flags::NONE);
        session.series = Some(series);
        series.opened(&self.telemetry.shard);
    }

    pub(crate) fn report_tcp(&mut self, key: Key) {
        let Some(session) = self.session(key) else { return };
        let (sent, received) = session.reported;
        let new = (session.sent - sent, session.received - received);
        session.reported = (session.sent, session.received);
        let series = session.series;
        if let Some(series) = series {
            series.transferred(&self.telemetry.shard, new.0, new.1);
        }
    }
}

/// A TCP session as a line of a log sees it.
pub(crate) struct TcpLog<'a> {
    pub session: &'a TcpSession,
    pub clock: &'a Clock,
    pub now: Time,
}

impl LogSource for TcpLog<'_> {
    fn start_time(&self) -> Duration {
        Duration::from_nanos(self.clock.unix_nanos(self.session.origin.started))
    }

    fn flags(&self) -> Flags {
        self.session.flags
    }

    fn text(&self, field: TextField) -> Option<&[u8]> {
        match field {
            TextField::UpstreamCluster | TextField::UpstreamClusterRaw => {
                Some(self.session.cluster_name.as_bytes())
            }
            TextField::RequestedServerName => Some(self.session.origin.server_name.as_bytes()),
            TextField::UpstreamTransportFailureReason => self.session.failure.as_deref().map(str::as_bytes),
            TextField::ResponseCodeDetails => Some(self.session.details.as_bytes()),
            _ => None,
        }
        .filter(|text| !text.is_empty())
    }

    fn number(&self, field: NumberField) -> Option<u64> {
        match field {
            NumberField::BytesReceived | NumberField::DownstreamWireBytesReceived => {
                Some(self.session.received)
            }
            NumberField::BytesSent | NumberField::DownstreamWireBytesSent => Some(self.session.sent),
            NumberField::Duration => {
                u64::try_from(self.now.since(self.session.origin.started).as_millis()).ok()
            }
            _ => None,
        }
    }

    fn address(&self, field: AddressField) -> Option<Address<'_>> {
        let session = self.session;
        let address = match field {
            AddressField::UpstreamHost | AddressField::UpstreamRemote => {
                session.host.as_ref().map(|host| host.address)
            }
            AddressField::UpstreamLocal => session.local,
            AddressField::DownstreamLocal | AddressField::DownstreamDirectLocal => Some(session.origin.local),
            AddressField::DownstreamRemote | AddressField::DownstreamDirectRemote => {
                Some(session.origin.remote)
            }
        };
        address.map(Address::Socket)
    }
}
