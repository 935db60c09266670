//! A client's connection that is not HTTP, and the one made for it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use telemetry::Flags;
use telemetry::istio::TcpSeries;

use crate::client::origin::Origin;
use crate::clock::Time;
use crate::net::sockets::Key;
use crate::request::chain::TcpChain;
use crate::upstream::cluster::ClusterState;
use crate::upstream::counted::ConnectionSlot;
use crate::upstream::host::HostRef;

/// A client's connection and the one made for it.
pub struct TcpSession {
    pub origin: Origin,
    pub tcp: Rc<TcpChain>,
    pub up: Option<Key>,
    pub(crate) cluster: Option<Rc<ClusterState>>,
    pub(crate) cluster_name: Arc<str>,
    pub(crate) host: Option<HostRef>,
    pub(crate) tried: Vec<HostRef>,
    pub(crate) attempts: u32,
    pub(crate) connecting: bool,
    pub(crate) deadline: Time,
    pub(crate) connect_deadline: Time,
    pub(crate) client_ended: bool,
    pub(crate) host_ended: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) reported: (u64, u64),
    pub(crate) next_report: Time,
    /// What its connection to the host counts for.
    pub(crate) slot: Option<ConnectionSlot>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) flags: Flags,
    pub(crate) failure: Option<String>,
    pub(crate) details: &'static str,
    pub(crate) series: Option<TcpSeries>,
    /// What came before there was a host to send it to (again).
    pub(crate) early: Vec<u8>,
}
