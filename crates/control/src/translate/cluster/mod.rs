//! Services as clusters, with what DestinationRules say about them (`control-plane` §1.5).
//!
//! | module | makes |
//! |---|---|
//! | `policy` | the settings that count for one service, port and subset |
//! | `pool`, `balancing`, `outlier` | those settings in Envoy's words |
//! | `features` | what a proxy of ours does not do, left out |
//! | `endpoints`, `locality` | the addresses, and in which order of locality they are used |
//! | `inbound` | the clusters of a sidecar's own application |

mod balancing;
pub mod endpoints;
mod features;
pub mod inbound;
mod locality;
mod outlier;
mod policy;
mod pool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::mesh_config::MeshH2UpgradePolicy;
use api::networking::{ClientTlsMode, H2UpgradePolicy};
use api::protocol::Protocol;
use xds::cluster::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
    TransportSocketMatch,
};
use xds::cluster::{Cluster, UpstreamConnectionOptions};
use xds::core::{Metadata, TransportSocket, transport_socket};
use xds::endpoint::ClusterLoadAssignment;
use xds::node::Feature;
use xds::upstream_http::HttpProtocolOptions;
use xds::upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
use xds::upstream_http::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};

use super::context::Context;
use super::values::{ads, config_path, list, struct_value, structure, text};
use super::{grpc, names, tls};
use crate::proxy::ProxyKind;
use crate::scope::Scope;
use crate::world::service::{Port, Resolution, Service};
use crate::world::{DestinationRule, NotDone, Note, Reason};
use policy::Policy;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Clusters of everything in scope, and the addresses of those that fetch them.
#[derive(Default)]
pub struct Clusters {
    pub clusters: Vec<Cluster>,
    pub endpoints: Vec<ClusterLoadAssignment>,
}

/// How clusters are named and secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Default,
    /// For AUTO_PASSTHROUGH gateways: the client's TLS goes through, so only workloads with mutual TLS count.
    SniPassthrough,
}

pub fn outbound(context: &Context<'_>, scope: &Scope, mode: Mode) -> Clusters {
    let mut all = Clusters::default();
    for service in &scope.services {
        of_service(context, scope, service, mode, &mut all);
    }
    all
}

/// The clusters of one service in scope.
pub fn of_service(
    context: &Context<'_>,
    scope: &Scope,
    service: &Arc<Service>,
    mode: Mode,
    all: &mut Clusters,
) {
    if service.resolution == Resolution::Alias || (mode == Mode::SniPassthrough && service.mesh_external) {
        return;
    }
    if service.resolution == Resolution::DynamicDns {
        if let Some(object) = &service.object {
            context.note(Note::about(object, "spec.resolution", Reason::NotDone(NotDone::DynamicDns)));
        }
        return;
    }
    let rule = context.destination_rule(scope, &service.host);
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        let maker = Maker { context, service, port, rule, mode };
        maker.add(None, all);
        for at in 0..rule.map_or(0, |rule| rule.subsets.len()) {
            maker.add(Some(at), all);
        }
    }
}

/// Where refused traffic goes.
pub fn black_hole(context: &Context<'_>) -> Cluster {
    Cluster {
        name: names::BLACK_HOLE.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        connect_timeout: pool::connect_timeout(context, None),
        ..Default::default()
    }
}

/// Where traffic for nobody goes: to where it was going.
pub fn passthrough(context: &Context<'_>) -> Cluster {
    original_destination(context, names::PASSTHROUGH)
}

fn original_destination(context: &Context<'_>, name: &str) -> Cluster {
    let mut cluster = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        lb_policy: LbPolicy::ClusterProvided as i32,
        connect_timeout: pool::connect_timeout(context, None),
        circuit_breakers: Some(pool::circuit_breakers(None, None)),
        ..Default::default()
    };
    set_options(&mut cluster, use_downstream());
    cluster
}

fn use_downstream() -> HttpProtocolOptions {
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(
            UseDownstreamHttpConfig {
                http_protocol_options: Some(Default::default()),
                http2_protocol_options: Some(Default::default()),
            },
        )),
        ..Default::default()
    }
}

fn set_options(cluster: &mut Cluster, options: HttpProtocolOptions) {
    if options == HttpProtocolOptions::default() {
        return;
    }
    let mut options = options;
    // Envoy wants the protocol said as soon as anything is.
    options.upstream_protocol_options.get_or_insert_with(|| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(Default::default())),
        })
    });
    let options = xds::pack(&options);
    cluster.typed_extension_protocol_options = BTreeMap::from([(HTTP_OPTIONS.to_owned(), options)]);
}

/// One service and port; makes its cluster and those of its subsets.
struct Maker<'a> {
    context: &'a Context<'a>,
    service: &'a Arc<Service>,
    port: &'a Port,
    rule: Option<&'a DestinationRule>,
    mode: Mode,
}

impl Maker<'_> {
    fn add(&self, subset: Option<usize>, all: &mut Clusters) {
        let written = subset.and_then(|at| self.rule?.subsets.get(at));
        let subset_name = written.map_or("", |subset| subset.name.as_str());
        let policy = Policy::new(self.context, self.rule, written, self.port.number);
        let name = self.name(subset_name);
        let labels = written.map(|subset| &subset.labels);
        let Some(discovery) = self.discovery(&policy) else { return };
        let assignment = || {
            endpoints::assignment(
                self.context,
                self.service,
                self.port.number,
                labels,
                &policy,
                self.mode,
                &name,
            )
        };
        let mut cluster = Cluster {
            name: name.clone(),
            alt_stat_name: format!("{name};"),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
            connect_timeout: pool::connect_timeout(self.context, policy.pool),
            circuit_breakers: Some(pool::circuit_breakers(policy.pool, policy.retry_budget)),
            outlier_detection: policy.outlier.map(outlier::detection),
            common_lb_config: Some(CommonLbConfig::default()),
            metadata: Some(self.metadata(subset, subset_name)),
            ..Default::default()
        };
        if let Some(keepalive) = pool::keepalive(self.context, policy.pool) {
            cluster.upstream_connection_options =
                Some(UpstreamConnectionOptions { tcp_keepalive: Some(keepalive) });
        }
        match discovery {
            DiscoveryType::Eds => {
                cluster.eds_cluster_config =
                    Some(EdsClusterConfig { eds_config: Some(ads()), service_name: name.clone() });
                let mut assignment = assignment();
                if self.context.is_grpc() {
                    grpc::limit_endpoints(&mut assignment);
                }
                all.endpoints.push(assignment);
            }
            DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
                let assignment = assignment();
                // Nothing to resolve: Envoy would refuse the cluster.
                if assignment.endpoints.is_empty() {
                    return;
                }
                cluster.load_assignment = Some(assignment);
                cluster.dns_lookup_family = if self.context.is_ipv6() {
                    DnsLookupFamily::V6Only as i32
                } else {
                    DnsLookupFamily::V4Only as i32
                };
                cluster.dns_refresh_rate = self.context.mesh().dns_refresh_rate.map(super::values::duration);
                cluster.respect_dns_ttl = true;
            }
            DiscoveryType::Static | DiscoveryType::OriginalDst => {}
        }
        balancing::apply(&mut cluster, &policy);
        if let Some(detection) = policy.outlier {
            outlier::panic_threshold(&mut cluster, detection);
        }
        set_options(&mut cluster, self.http_options(&policy));
        if self.mode == Mode::Default {
            self.secure(&mut cluster, &policy, subset_name);
        }
        features::leave_out_missing(self.context, self.rule, &mut cluster);
        self.note_policy(&policy);
        if !self.context.is_grpc() || self.limit_for_grpc(&policy, &mut cluster) {
            all.clusters.push(cluster);
        }
    }

    fn name(&self, subset: &str) -> String {
        match self.mode {
            Mode::Default => names::outbound(self.port.number, subset, &self.service.host),
            Mode::SniPassthrough => names::outbound_sni(self.port.number, subset, &self.service.host),
        }
    }

    fn limit_for_grpc(&self, policy: &Policy<'_>, cluster: &mut Cluster) -> bool {
        let simple = policy.balancer.and_then(|settings| settings.simple);
        grpc::limit_cluster(self.context, self.service, self.rule, simple, cluster)
    }

    fn discovery(&self, policy: &Policy<'_>) -> Option<DiscoveryType> {
        // A gateway's clients do not know the addresses behind it; a gRPC client dials names only.
        let calls_by_name = self.context.facts.kind() == ProxyKind::Gateway || self.context.is_grpc();
        Some(match self.service.resolution {
            Resolution::Passthrough if calls_by_name => DiscoveryType::Eds,
            Resolution::Passthrough => DiscoveryType::OriginalDst,
            _ if policy.is_passthrough() && !self.context.is_grpc() => DiscoveryType::OriginalDst,
            Resolution::Endpoints => DiscoveryType::Eds,
            Resolution::Dns => DiscoveryType::StrictDns,
            Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
            Resolution::Alias | Resolution::DynamicDns => return None,
        })
    }

    /// Which protocol is spoken to the service, and how long connections are kept.
    fn http_options(&self, policy: &Policy<'_>) -> HttpProtocolOptions {
        let http = policy.pool.and_then(|pool| pool.http.as_ref());
        let client_decides = http.is_some_and(|http| http.use_client_protocol);
        let upgrade = match http.map(|http| http.h2_upgrade_policy).unwrap_or_default() {
            H2UpgradePolicy::Upgrade => true,
            H2UpgradePolicy::DoNotUpgrade => false,
            // Only where the port is known to speak HTTP (`istio-behaviour` rule 42).
            H2UpgradePolicy::Default => {
                self.port.protocol.is_http()
                    && self.context.mesh().h2_upgrade_policy == MeshH2UpgradePolicy::Upgrade
            }
        };
        let is_sidecar = self.context.facts.kind() == ProxyKind::Sidecar;
        // Whoever asks for an upgrade knows that the port speaks HTTP, sniffed or not.
        let mut options = if client_decides || (self.port.protocol.is_unknown() && is_sidecar && !upgrade) {
            use_downstream()
        } else if self.port.protocol.is_http2() || upgrade {
            HttpProtocolOptions {
                upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
                    ExplicitHttpConfig {
                        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(pool::http2(policy.pool))),
                    },
                )),
                ..Default::default()
            }
        } else {
            HttpProtocolOptions::default()
        };
        options.common_http_protocol_options = pool::common_http(policy.pool);
        options
    }

    /// Mutual TLS to workloads that take it, or whatever the rule says (`istio-behaviour` rules 45, 46).
    fn secure(&self, cluster: &mut Cluster, policy: &Policy<'_>, subset: &str) {
        // Without certificate providers a gRPC client refuses a cluster with TLS.
        if !self.context.options.identity || self.context.is_grpc() {
            return;
        }
        let sni = names::outbound_sni(self.port.number, subset, &self.service.host);
        let identities = self.identities();
        let http2 = cluster.typed_extension_protocol_options.values().any(|_| self.port.protocol.is_http2());
        if let Some(settings) = policy.tls {
            cluster.transport_socket = tls::client(settings, &sni, &identities, http2);
            return;
        }
        let automatic = self.context.mesh().enable_auto_mtls != Some(false);
        let fixed = matches!(
            cluster.cluster_discovery_type,
            Some(ClusterDiscoveryType::Type(kind)) if kind != DiscoveryType::OriginalDst as i32
        );
        if automatic && fixed && !self.service.mesh_external {
            cluster.transport_socket_matches = vec![
                TransportSocketMatch {
                    name: "tlsMode-istio".into(),
                    r#match: Some(structure([("tlsMode", text("istio"))])),
                    transport_socket: Some(tls::mesh_client(&sni, &identities, http2)),
                },
                TransportSocketMatch {
                    name: "tlsMode-disabled".into(),
                    r#match: Some(Default::default()),
                    transport_socket: Some(raw_buffer()),
                },
            ];
        }
    }

    fn identities(&self) -> Vec<String> {
        let domain = &self.context.mesh().trust_domain;
        let of_endpoints = self
            .context
            .view
            .endpoints_of(self.service, self.port.number)
            .filter(|endpoint| !endpoint.service_account.is_empty())
            .map(|endpoint| {
                format!("spiffe://{domain}/ns/{}/sa/{}", endpoint.namespace, endpoint.service_account)
            });
        let all: BTreeSet<String> =
            of_endpoints.chain(self.service.subject_alt_names.iter().cloned()).collect();
        all.into_iter().collect()
    }

    /// `istio.services` and, for what a rule made of it, the rule.
    fn metadata(&self, subset: Option<usize>, subset_name: &str) -> Metadata {
        let service = struct_value([
            ("host", text(self.service.host.clone())),
            ("name", text(self.service.name.clone())),
            ("namespace", text(self.service.namespace.clone())),
        ]);
        let mut istio = structure([("services", list(vec![service]))]);
        let mut filter_metadata = BTreeMap::new();
        if let Some(rule) = self.rule {
            let (object, path) = match subset {
                Some(at) => (
                    rule.subset_objects.get(at).and_then(|object| rule.objects.get(*object)),
                    format!("spec.subsets[{}]", self.subset_index(at)),
                ),
                None => (rule.objects.get(rule.policy_object), "spec.trafficPolicy".to_owned()),
            };
            if let Some(object) = object {
                istio.fields.insert("config".into(), text(config_path(object)));
                filter_metadata.insert("filamesh".to_owned(), structure([("rule", text(path))]));
            }
        }
        if !subset_name.is_empty() {
            istio.fields.insert("subset".into(), text(subset_name));
        }
        filter_metadata.insert("istio".to_owned(), istio);
        Metadata { filter_metadata, ..Default::default() }
    }

    /// Where the subset stands in its own object.
    fn subset_index(&self, at: usize) -> usize {
        let Some(rule) = self.rule else { return at };
        let object = rule.subset_objects.get(at).and_then(|object| rule.objects.get(*object));
        let name = rule.subsets.get(at).map(|subset| subset.name.as_str());
        let written = object.and_then(|object| match &object.spec {
            api::Spec::DestinationRule(spec) => {
                spec.subsets.iter().position(|subset| Some(subset.name.as_str()) == name)
            }
            _ => None,
        });
        written.unwrap_or(at)
    }

    fn note_policy(&self, policy: &Policy<'_>) {
        let Some(object) = self.rule.and_then(|rule| rule.objects.get(rule.policy_object)) else { return };
        let note = |path: &str, what: NotDone| {
            self.context.note(Note::on(object, format!("spec.trafficPolicy.{path}"), Reason::NotDone(what)));
        };
        if policy.tls.is_some_and(|tls| tls.mode != ClientTlsMode::Disable)
            && !self.context.does(Feature::UpstreamTls)
        {
            note("tls", NotDone::UpstreamTls);
        }
        if policy.proxy_protocol.is_some() && !self.context.does(Feature::ProxyProtocol) {
            note("proxyProtocol", NotDone::UpstreamProxyProtocol);
        }
    }
}

fn raw_buffer() -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(xds::pack(
            &xds::raw_buffer::RawBuffer::default(),
        ))),
    }
}
