//! A compiled listener: where it is bound, what it sniffs, which chain takes a connection.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use xds::listener::listener_filter_chain_match_predicate::Rule;

use crate::access_log::AccessLog;
use crate::config::Names;
use crate::filter_chain::{ChainDecision, FilterChain, FilterChainTable};
use crate::proto::{self, Place};
use crate::refusal::{At, Compiled, each};
use crate::view::ConnectionView;

#[derive(Debug, Serialize)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub additional_addresses: Vec<SocketAddr>,
    /// False for listeners that only take connections handed over by one with `use_original_dst`.
    pub bind_to_port: bool,
    /// Hands a connection to the listener of its original destination, if there is one.
    pub use_original_dst: bool,
    pub direction: Direction,
    pub chains: Vec<Arc<FilterChain>>,
    pub default_chain: Option<Arc<FilterChain>>,
    #[serde(skip)]
    pub(crate) table: FilterChainTable,
    #[serde(skip)]
    filters: Vec<ListenerFilter>,
    /// Reads the original destination (the `original_dst` listener filter).
    pub original_dst_filter: bool,
    /// How long sniffing may take; `None` = for ever. Envoy's default is 15 s.
    pub sniff_timeout: Option<Duration>,
    /// After the timeout: go on with what is known (true), or close (false).
    pub continue_on_sniff_timeout: bool,
    pub buffer_limit: Option<u32>,
    pub backlog: Option<u32>,
    pub reuse_port: bool,
    pub ignore_global_connection_limit: bool,
    pub transparent: bool,
    pub freebind: bool,
    /// Logs of connections that no chain took.
    pub access_logs: Vec<AccessLog>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Unspecified,
    Inbound,
    Outbound,
}

/// Which sniffers look at the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Inspectors {
    pub tls: bool,
    pub http: bool,
}

impl Inspectors {
    /// Whether the first bytes have to be seen before a chain can be picked.
    pub fn any(self) -> bool {
        self.tls || self.http
    }
}

#[derive(Debug)]
struct ListenerFilter {
    kind: ListenerFilterKind,
    disabled: PortSet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenerFilterKind {
    TlsInspector,
    HttpInspector,
    OriginalDst,
}

impl Listener {
    /// The sniffers that run for a connection to this (original) destination port.
    pub fn inspectors(&self, destination_port: u16) -> Inspectors {
        let runs =
            |kind| self.filters.iter().any(|f| f.kind == kind && !f.disabled.contains(destination_port));
        Inspectors {
            tls: runs(ListenerFilterKind::TlsInspector),
            http: runs(ListenerFilterKind::HttpInspector),
        }
    }

    /// The chain that takes the connection, with why.
    pub fn filter_chain(&self, connection: &ConnectionView<'_>) -> ChainDecision<'_> {
        match self.table.find(connection) {
            Some(leaf) => match self.chains.get(leaf.chain as usize) {
                Some(chain) => ChainDecision::Chain { chain, index: leaf.chain, ambiguous: leaf.ambiguous },
                None => ChainDecision::None,
            },
            None => match &self.default_chain {
                Some(chain) => ChainDecision::Default { chain },
                None => ChainDecision::None,
            },
        }
    }

    /// Every chain, the default one last.
    pub fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(&self.default_chain)
    }

    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.address).chain(self.additional_addresses.iter().copied())
    }

    /// Two chains that match alike are an error, as in Envoy ([`Listener::refuse_ambiguous`]).
    pub(crate) fn compile(message: &xds::listener::Listener, names: &mut Names) -> Compiled<Listener> {
        let mut addresses = vec![ip(message.address.as_ref()).at("address")?];
        for (i, additional) in message.additional_addresses.iter().enumerate() {
            addresses.push(ip(additional.address.as_ref()).at_index("additional_addresses", i)?);
        }
        if message.api_listener.is_some() {
            return refuse!("api_listener is for gRPC clients, not for a proxy");
        }
        if !message.socket_options.is_empty() {
            return refuse!("socket_options is not supported").at("socket_options");
        }
        let chains = each("filter_chains", &message.filter_chains, |c| FilterChain::compile(c, names))?;
        let default_chain =
            message.default_filter_chain.as_ref().map(|c| FilterChain::compile(c, names)).transpose();
        let default_chain = default_chain.at("default_filter_chain")?.map(Arc::new);
        if chains.is_empty() && default_chain.is_none() && !message.use_original_dst.unwrap_or(false) {
            return refuse!("a listener needs a filter chain");
        }
        let table = FilterChainTable::compile(&message.filter_chains)?;
        let filters = each("listener_filters", &message.listener_filters, ListenerFilter::compile)?;
        let sniff_timeout = match proto::optional_duration(message.listener_filters_timeout.as_ref())
            .at("listener_filters_timeout")?
        {
            None => Some(Duration::from_secs(15)),
            Some(timeout) => Some(timeout).filter(|t| !t.is_zero()),
        };
        let address = addresses.remove(0);
        Ok(Listener {
            name: match message.name.as_str() {
                "" => address.to_string().into(),
                name => name.into(),
            },
            address,
            additional_addresses: addresses,
            bind_to_port: message.bind_to_port.unwrap_or(true),
            use_original_dst: message.use_original_dst.unwrap_or(false),
            direction: match message.traffic_direction() {
                xds::core::TrafficDirection::Unspecified => Direction::Unspecified,
                xds::core::TrafficDirection::Inbound => Direction::Inbound,
                xds::core::TrafficDirection::Outbound => Direction::Outbound,
            },
            original_dst_filter: filters.iter().any(|f| f.kind == ListenerFilterKind::OriginalDst),
            chains: chains.into_iter().map(Arc::new).collect(),
            default_chain,
            table,
            filters,
            sniff_timeout,
            continue_on_sniff_timeout: message.continue_on_listener_filters_timeout,
            buffer_limit: message.per_connection_buffer_limit_bytes,
            backlog: message.tcp_backlog_size,
            reuse_port: message.enable_reuse_port.unwrap_or(true),
            ignore_global_connection_limit: message.ignore_global_conn_limit,
            transparent: message.transparent.unwrap_or(false),
            freebind: message.freebind.unwrap_or(false),
            access_logs: each("access_log", &message.access_log, AccessLog::compile)?,
        })
    }

    /// Envoy refuses a listener with two chains of equal matches.
    pub(crate) fn refuse_ambiguous(&self) -> Compiled<()> {
        match self.table.duplicate {
            Some((first, second)) => {
                refuse!("filter_chains[{second}] has the same matching rules as filter_chains[{first}]")
            }
            None => Ok(()),
        }
    }
}

impl ListenerFilter {
    fn compile(message: &xds::listener::ListenerFilter) -> Compiled<ListenerFilter> {
        use xds::listener::listener_filter::ConfigType;
        let by_url = |url: &str| match url.rsplit('.').next().unwrap_or_default() {
            "TlsInspector" => Some(ListenerFilterKind::TlsInspector),
            "HttpInspector" => Some(ListenerFilterKind::HttpInspector),
            "OriginalDst" => Some(ListenerFilterKind::OriginalDst),
            _ => None,
        };
        let kind = match &message.config_type {
            Some(ConfigType::TypedConfig(any)) => match by_url(&any.type_url) {
                Some(kind) => kind,
                None => return refuse!("listener filter {} is not supported", any.type_url),
            },
            None => match message.name.as_str() {
                "envoy.filters.listener.tls_inspector" => ListenerFilterKind::TlsInspector,
                "envoy.filters.listener.http_inspector" => ListenerFilterKind::HttpInspector,
                "envoy.filters.listener.original_dst" => ListenerFilterKind::OriginalDst,
                name => return refuse!("listener filter {name:?} is not supported"),
            },
        };
        let disabled = match &message.filter_disabled {
            Some(predicate) => PortSet::compile(predicate).at("filter_disabled")?,
            None => PortSet::default(),
        };
        Ok(ListenerFilter { kind, disabled })
    }
}

/// A set of ports as sorted, disjoint, inclusive ranges.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    fn contains(&self, port: u16) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= port);
        after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|(_, last)| port <= *last)
    }

    /// Evaluates the predicate once between each two borders it names, so that a lookup is one search.
    fn compile(predicate: &xds::listener::ListenerFilterChainMatchPredicate) -> Compiled<PortSet> {
        let mut borders = vec![0, 65_536];
        check(predicate, &mut borders, 0)?;
        borders.retain(|b| (0..=65_536).contains(b));
        borders.sort_unstable();
        borders.dedup();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for pair in borders.windows(2) {
            let &[first, end] = pair else { continue };
            let (Ok(low), Ok(high)) = (u16::try_from(first), u16::try_from(end - 1)) else { continue };
            if !holds(predicate, first) {
                continue;
            }
            match ranges.last_mut() {
                Some((_, last)) if i64::from(*last) + 1 == i64::from(low) => *last = high,
                _ => ranges.push((low, high)),
            }
        }
        Ok(PortSet(ranges))
    }
}

fn check(
    predicate: &xds::listener::ListenerFilterChainMatchPredicate,
    borders: &mut Vec<i64>,
    depth: usize,
) -> Compiled<()> {
    if depth > 32 {
        return refuse!("nested deeper than 32");
    }
    match predicate.rule.as_ref() {
        None => refuse!("an empty rule"),
        Some(Rule::AnyMatch(_)) => Ok(()),
        Some(Rule::DestinationPortRange(range)) => {
            borders.extend([i64::from(range.start), i64::from(range.end)]);
            Ok(())
        }
        Some(Rule::NotMatch(rule)) => check(rule, borders, depth + 1),
        Some(Rule::OrMatch(set) | Rule::AndMatch(set)) => {
            set.rules.iter().try_for_each(|rule| check(rule, borders, depth + 1))
        }
    }
}

fn holds(predicate: &xds::listener::ListenerFilterChainMatchPredicate, port: i64) -> bool {
    match predicate.rule.as_ref() {
        None => false,
        Some(Rule::AnyMatch(any)) => *any,
        // Half open: [start, end).
        Some(Rule::DestinationPortRange(r)) => (i64::from(r.start)..i64::from(r.end)).contains(&port),
        Some(Rule::NotMatch(rule)) => !holds(rule, port),
        Some(Rule::OrMatch(set)) => set.rules.iter().any(|r| holds(r, port)),
        Some(Rule::AndMatch(set)) => set.rules.iter().all(|r| holds(r, port)),
    }
}

fn ip(address: Option<&xds::core::Address>) -> Compiled<SocketAddr> {
    match proto::place(address)? {
        Place::Ip(address) => Ok(address),
        Place::Name(name, _) => refuse!("a listener needs an IP address, not {name:?}"),
        Place::Pipe(path) => refuse!("a listener on the pipe {path:?} is not supported"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::listener::ListenerFilterChainMatchPredicate as Predicate;
    use xds::listener::listener_filter_chain_match_predicate::MatchSet;

    fn range(start: i32, end: i32) -> Predicate {
        Predicate { rule: Some(Rule::DestinationPortRange(xds::types::Int32Range { start, end })) }
    }

    fn not(rule: Predicate) -> Predicate {
        Predicate { rule: Some(Rule::NotMatch(Box::new(rule))) }
    }

    fn or(rules: Vec<Predicate>) -> Predicate {
        Predicate { rule: Some(Rule::OrMatch(MatchSet { rules })) }
    }

    /// Istio's shape for an inbound http_inspector: disabled on the ports known not to need it.
    #[test]
    fn a_disabled_predicate_becomes_port_ranges() {
        let cases = [
            (range(80, 81), vec![(80, 80)]),
            (or(vec![range(80, 81), range(81, 90), range(9000, 9001)]), vec![(80, 89), (9000, 9000)]),
            (not(range(80, 81)), vec![(0, 79), (81, 65_535)]),
            (not(or(vec![range(0, 65_536)])), vec![]),
            (Predicate { rule: Some(Rule::AnyMatch(true)) }, vec![(0, 65_535)]),
            (range(-5, 70_000), vec![(0, 65_535)]),
        ];
        for (predicate, ranges) in cases {
            let set = PortSet::compile(&predicate).unwrap();
            assert_eq!(set, PortSet(ranges));
            for port in [0u16, 79, 80, 81, 89, 90, 9000, 65_535] {
                assert_eq!(set.contains(port), holds(&predicate, i64::from(port)), "{predicate:?} {port}");
            }
        }
        assert!(PortSet::compile(&Predicate { rule: None }).is_err());
    }
}
