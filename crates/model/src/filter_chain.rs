//! Which filter chain takes a connection: Envoy's algorithm over nested tables.
//!
//! Destination port, longest destination prefix, server name (exact, then longest wildcard), transport
//! protocol, application protocol, direct source prefix, source type, source prefix, source port, in this
//! order (Envoy: `FilterChainManagerImpl::findFilterChain`). At each step the best fitting branch is taken,
//! or the one without that criterion when none fits, and never left again. A chain with several values for
//! a criterion stands under each of them.
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xds::listener::FilterChainMatch;
use xds::listener::filter_chain_match::ConnectionSourceType;

use crate::config::Names;
use crate::network::{NetworkAction, NetworkFilters};
use crate::proto;
use crate::provenance::Provenance;
use crate::refusal::{At, Compiled};
use crate::transport::{self, DownstreamTransport};
use crate::view::{ConnectionView, TransportProtocol};

/// What becomes of the connections of one match.
#[derive(Debug, Serialize)]
pub struct FilterChain {
    /// Often empty.
    pub name: Arc<str>,
    /// The TLS it terminates, if any.
    pub transport: DownstreamTransport,
    /// Time for the TLS handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport_connect_timeout: Option<Duration>,
    pub action: NetworkAction,
    /// Network filters before the terminal one.
    pub filters: NetworkFilters,
    pub provenance: Provenance,
}

/// Which chain takes the connection, and why.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ChainDecision<'l> {
    /// `ambiguous`: another chain has equal rules (only met in `simulate`; a live listener like this is
    /// refused).
    Chain {
        chain: &'l Arc<FilterChain>,
        index: u32,
        ambiguous: bool,
    },
    Default {
        chain: &'l Arc<FilterChain>,
    },
    /// No chain and no default: the connection is closed, flag NR (`filter_chain_not_found`).
    None,
}

impl<'l> ChainDecision<'l> {
    pub fn chain(&self) -> Option<&'l Arc<FilterChain>> {
        match *self {
            ChainDecision::Chain { chain, .. } | ChainDecision::Default { chain } => Some(chain),
            ChainDecision::None => None,
        }
    }
}

impl FilterChain {
    pub(crate) fn compile(message: &xds::listener::FilterChain, names: &mut Names) -> Compiled<FilterChain> {
        let (action, filters) = NetworkAction::compile(&message.filters, names)?;
        let timeout = message.transport_socket_connect_timeout.as_ref();
        Ok(FilterChain {
            name: message.name.as_str().into(),
            transport: transport::downstream(message.transport_socket.as_ref()).at("transport_socket")?,
            transport_connect_timeout: proto::nonzero_duration(timeout)
                .at("transport_socket_connect_timeout")?,
            action,
            filters,
            provenance: Provenance::of(message.metadata.as_ref()),
        })
    }
}

/// The matches of a listener's chains.
#[derive(Debug, Default)]
pub(crate) struct FilterChainTable {
    ports: Any<u16, Prefixes<ServerNames>>,
    /// The first two chains found with equal rules.
    pub(crate) duplicate: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    pub(crate) chain: u32,
    pub(crate) ambiguous: bool,
}

type ServerNames = NameTable<Transports>;
type Transports = Any<TransportProtocol, Protocols>;
type Protocols = Any<Box<str>, Prefixes<SourceTypes>>;

#[derive(Debug, Default)]
struct SourceTypes {
    any: Option<SourcePrefixes>,
    local: Option<SourcePrefixes>,
    external: Option<SourcePrefixes>,
}

type SourcePrefixes = Prefixes<SourcePorts>;
type SourcePorts = Any<u16, LeafSlot>;

#[derive(Debug, Default)]
struct LeafSlot(Option<Leaf>);

impl FilterChainTable {
    pub(crate) fn compile(chains: &[xds::listener::FilterChain]) -> Compiled<FilterChainTable> {
        let mut table = FilterChainTable::default();
        for (index, chain) in chains.iter().enumerate() {
            let Ok(number) = u32::try_from(index) else { return refuse!("too many filter chains") };
            let default = FilterChainMatch::default();
            let rule = chain.filter_chain_match.as_ref().unwrap_or(&default);
            let criteria = Criteria::parse(rule).at("filter_chain_match").at_index("filter_chains", index)?;
            table.insert(&criteria, number);
        }
        Ok(table)
    }

    fn insert(&mut self, criteria: &Criteria<'_>, chain: u32) {
        let ports = self.ports.branch(criteria.port);
        for prefix in &criteria.prefixes {
            let names = ports.branch(*prefix);
            for name in &criteria.names {
                let transports = names.branch(*name);
                let protocols = transports.branch(criteria.transport);
                for protocol in &criteria.protocols {
                    let direct = protocols.branch(protocol.map(Box::from));
                    for direct_source in &criteria.direct_sources {
                        let types = direct.branch(*direct_source);
                        let sources = types.branch(criteria.source_type);
                        for source in &criteria.sources {
                            let ports = sources.branch(*source);
                            for port in &criteria.source_ports {
                                let slot = &mut ports.branch(*port).0;
                                match slot {
                                    // One chain may name a value twice.
                                    Some(leaf) if leaf.chain == chain => {}
                                    Some(leaf) => {
                                        leaf.ambiguous = true;
                                        self.duplicate.get_or_insert((leaf.chain, chain));
                                    }
                                    None => *slot = Some(Leaf { chain, ambiguous: false }),
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn find(&self, connection: &ConnectionView<'_>) -> Option<Leaf> {
        let destination = canonical(connection.destination.ip());
        let source = canonical(connection.source.ip());
        let names = self.ports.find(&connection.destination.port())?.find(destination)?;
        let protocols = names.find(connection.server_name)?.find(&connection.transport)?;
        let offered = connection.application_protocols.iter().find_map(|p| protocols.exact(*p));
        let direct = offered.or(protocols.any.as_deref())?;
        let types = direct.find(canonical(connection.direct_source.ip()))?;
        let sources = types.find(|| source == destination || source.is_loopback())?.find(source)?;
        sources.find(&connection.source.port())?.0
    }
}

/// One match, as meant: every list holds at least one entry, `None` = no such criterion.
struct Criteria<'m> {
    port: Option<u16>,
    prefixes: Vec<Option<Network>>,
    names: Vec<Option<&'m str>>,
    transport: Option<TransportProtocol>,
    protocols: Vec<Option<&'m str>>,
    direct_sources: Vec<Option<Network>>,
    source_type: ConnectionSourceType,
    sources: Vec<Option<Network>>,
    source_ports: Vec<Option<u16>>,
}

impl<'m> Criteria<'m> {
    fn parse(rule: &'m FilterChainMatch) -> Compiled<Criteria<'m>> {
        if !rule.address_suffix.is_empty() || rule.suffix_len.is_some() {
            return refuse!("address_suffix and suffix_len are not supported");
        }
        let port = match rule.destination_port {
            None => None,
            Some(port) => Some(port_number(port).at("destination_port")?),
        };
        let transport = match rule.transport_protocol.as_str() {
            "" => None,
            "raw_buffer" => Some(TransportProtocol::RawBuffer),
            "tls" => Some(TransportProtocol::Tls),
            other => return refuse!("{other:?} is not supported").at("transport_protocol"),
        };
        for (i, name) in rule.server_names.iter().enumerate() {
            let wildcard = name.strip_prefix("*.").unwrap_or(name);
            if (wildcard.contains('*') && name != "*") || name.is_empty() {
                return refuse!("partial wildcards are not supported: {name:?}").at_index("server_names", i);
            }
        }
        Ok(Criteria {
            port,
            prefixes: networks(&rule.prefix_ranges).at("prefix_ranges")?,
            names: or_none(
                rule.server_names.iter().map(|n| Some(n.as_str()).filter(|n| *n != "*")).collect(),
            ),
            transport,
            protocols: or_none(rule.application_protocols.iter().map(|p| Some(p.as_str())).collect()),
            direct_sources: networks(&rule.direct_source_prefix_ranges).at("direct_source_prefix_ranges")?,
            source_type: rule.source_type(),
            sources: networks(&rule.source_prefix_ranges).at("source_prefix_ranges")?,
            source_ports: or_none(
                rule.source_ports
                    .iter()
                    .map(|p| port_number(*p).map(Some))
                    .collect::<Compiled<_>>()
                    .at("source_ports")?,
            ),
        })
    }
}

fn or_none<T>(mut values: Vec<Option<T>>) -> Vec<Option<T>> {
    if values.is_empty() {
        values.push(None);
    }
    values
}

fn port_number(port: u32) -> Compiled<u16> {
    match u16::try_from(port) {
        Ok(port) => Ok(port),
        Err(_) => refuse!("{port} is no port"),
    }
}

fn networks(ranges: &[xds::core::CidrRange]) -> Compiled<Vec<Option<Network>>> {
    let parse = |(i, range): (usize, &xds::core::CidrRange)| {
        Network::parse(range).map(Some).map_err(|e| e.within(&format!("[{i}]")))
    };
    Ok(or_none(ranges.iter().enumerate().map(parse).collect::<Compiled<_>>()?))
}

/// A criterion with exact values: the value's branch, else the branch without the criterion.
#[derive(Debug)]
struct Any<K, T> {
    exact: HashMap<K, T>,
    any: Option<Box<T>>,
}

impl<K, T> Default for Any<K, T> {
    fn default() -> Self {
        Any { exact: HashMap::new(), any: None }
    }
}

impl<K: Eq + Hash, T: Default> Any<K, T> {
    fn branch(&mut self, key: Option<K>) -> &mut T {
        match key {
            Some(key) => self.exact.entry(key).or_default(),
            None => self.any.get_or_insert_default(),
        }
    }

    fn exact<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        K: std::borrow::Borrow<Q>,
    {
        if self.exact.is_empty() { None } else { self.exact.get(key) }
    }

    fn find<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.exact(key).or(self.any.as_deref())
    }
}

impl SourceTypes {
    fn branch(&mut self, kind: ConnectionSourceType) -> &mut SourcePrefixes {
        match kind {
            ConnectionSourceType::Any => self.any.get_or_insert_default(),
            ConnectionSourceType::SameIpOrLoopback => self.local.get_or_insert_default(),
            ConnectionSourceType::External => self.external.get_or_insert_default(),
        }
    }

    fn find(&self, is_local: impl FnOnce() -> bool) -> Option<&SourcePrefixes> {
        if self.local.is_some() || self.external.is_some() {
            let fitting = if is_local() { &self.local } else { &self.external };
            if fitting.is_some() {
                return fitting.as_ref();
            }
        }
        self.any.as_ref()
    }
}

/// Server names: exact, then the longest wildcard (`*.example.com` kept as `.example.com`), then none.
#[derive(Debug)]
struct NameTable<T> {
    exact: HashMap<Box<str>, T>,
    wildcards: HashMap<Box<str>, T>,
    any: Option<Box<T>>,
}

impl<T> Default for NameTable<T> {
    fn default() -> Self {
        NameTable { exact: HashMap::new(), wildcards: HashMap::new(), any: None }
    }
}

impl<T: Default> NameTable<T> {
    fn branch(&mut self, name: Option<&str>) -> &mut T {
        match name {
            None => self.any.get_or_insert_default(),
            Some(name) => match name.strip_prefix('*') {
                Some(suffix) => self.wildcards.entry(suffix.to_ascii_lowercase().into()).or_default(),
                None => self.exact.entry(name.to_ascii_lowercase().into()).or_default(),
            },
        }
    }

    fn find(&self, name: &str) -> Option<&T> {
        if self.exact.is_empty() && self.wildcards.is_empty() {
            return self.any.as_deref();
        }
        // SNI is at most 255 bytes on the wire; a longer one is nobody's name.
        let mut buffer = [0; 256];
        let Some(name) = lower(name, &mut buffer) else { return self.any.as_deref() };
        if let Some(branch) = self.exact.get(name) {
            return Some(branch);
        }
        // Envoy: from the second byte on, every `.` that is not the last byte starts a wildcard.
        let dots = name.match_indices('.').map(|(i, _)| i).filter(|i| *i >= 1 && i + 1 < name.len());
        let wildcard = dots.into_iter().find_map(|i| self.wildcards.get(name.get(i..)?));
        wildcard.or(self.any.as_deref())
    }
}

/// The text in lower case, copied only if it has to be; `None` if longer than the buffer.
fn lower<'t>(text: &'t str, buffer: &'t mut [u8; 256]) -> Option<&'t str> {
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(text);
    }
    let copy = buffer.get_mut(..text.len())?;
    copy.copy_from_slice(text.as_bytes());
    copy.make_ascii_lowercase();
    std::str::from_utf8(copy).ok()
}

/// A network: the address with the host's bits cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    bits: u128,
    length: u8,
    v6: bool,
}

impl Network {
    pub(crate) fn parse(range: &xds::core::CidrRange) -> Compiled<Network> {
        let Ok(ip) = range.address_prefix.parse::<IpAddr>() else {
            return refuse!("{:?} is no IP address", range.address_prefix);
        };
        // Envoy: an absent prefix_len is 0.
        let length = range.prefix_len.unwrap_or(0);
        let most = if ip.is_ipv6() { 128 } else { 32 };
        match u8::try_from(length) {
            Ok(length) if length <= most => Ok(Network::of(ip, length)),
            _ => refuse!("prefix length {length} of {ip}"),
        }
    }

    fn of(ip: IpAddr, length: u8) -> Network {
        let (bits, v6) = bits(ip);
        let kept = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Network { bits: bits & kept, length, v6 }
    }

    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        Network::of(canonical(ip), self.length) == self
    }
}

/// The address's bits from the top, so that a mask is the same for both families.
fn bits(ip: IpAddr) -> (u128, bool) {
    match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, false),
        IpAddr::V6(v6) => (u128::from(v6), true),
    }
}

/// An IPv4 address mapped into IPv6 is the IPv4 address.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A criterion of networks: the branch of the longest that holds the address, else the one without.
#[derive(Debug)]
struct Prefixes<T> {
    by_network: HashMap<Network, T>,
    /// Lengths present, longest first, by family.
    lengths: [Vec<u8>; 2],
    any: Option<Box<T>>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Prefixes { by_network: HashMap::new(), lengths: [Vec::new(), Vec::new()], any: None }
    }
}

impl<T: Default> Prefixes<T> {
    fn branch(&mut self, network: Option<Network>) -> &mut T {
        let Some(network) = network else { return self.any.get_or_insert_default() };
        let [v4, v6] = &mut self.lengths;
        let lengths = if network.v6 { v6 } else { v4 };
        if !lengths.contains(&network.length) {
            lengths.push(network.length);
            lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        self.by_network.entry(network).or_default()
    }

    fn find(&self, ip: IpAddr) -> Option<&T> {
        let [v4, v6] = &self.lengths;
        let lengths = if ip.is_ipv6() { v6 } else { v4 };
        let fitting = lengths.iter().find_map(|length| self.by_network.get(&Network::of(ip, *length)));
        fitting.or(self.any.as_deref())
    }
}
