//! The settings that count for one service, port and subset.

use api::networking::{
    ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, ProxyProtocol,
    RetryBudget, SimpleLoadBalancer, Subset, TrafficPolicy,
};

use crate::translate::context::Context;
use crate::world::DestinationRule;

/// Block by block, the narrowest that is written; a port's settings replace all blocks above them
/// (`istio-behaviour` rule 31).
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy<'a> {
    pub pool: Option<&'a ConnectionPoolSettings>,
    pub outlier: Option<&'a OutlierDetection>,
    pub balancer: Option<&'a LoadBalancerSettings>,
    pub tls: Option<&'a ClientTlsSettings>,
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    pub retry_budget: Option<&'a RetryBudget>,
}

impl<'a> Policy<'a> {
    pub fn new(
        context: &'a Context<'_>,
        rule: Option<&'a DestinationRule>,
        subset: Option<&'a Subset>,
        port: u32,
    ) -> Self {
        let mut policy = Self::default();
        match rule {
            None => {
                let default = context.mesh().default_traffic_policy.as_ref();
                policy.pool = default.and_then(|default| default.connection_pool.as_ref());
                policy.outlier = default.and_then(|default| default.outlier_detection.as_ref());
            }
            Some(rule) => rule.traffic_policy.iter().for_each(|written| policy.layer(written, port)),
        }
        if let Some(written) = subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            policy.layer(written, port);
        }
        policy
    }

    fn layer(&mut self, written: &'a TrafficPolicy, port: u32) {
        self.pool = written.connection_pool.as_ref().or(self.pool);
        self.outlier = written.outlier_detection.as_ref().or(self.outlier);
        self.balancer = written.load_balancer.as_ref().or(self.balancer);
        self.tls = written.tls.as_ref().or(self.tls);
        self.proxy_protocol = written.proxy_protocol.as_ref().or(self.proxy_protocol);
        self.retry_budget = written.retry_budget.as_ref().or(self.retry_budget);
        let settings = written
            .port_level_settings
            .iter()
            .find(|settings| settings.port.as_ref().is_some_and(|own| own.number == port));
        if let Some(settings) = settings {
            self.pool = settings.connection_pool.as_ref();
            self.outlier = settings.outlier_detection.as_ref();
            self.balancer = settings.load_balancer.as_ref();
            self.tls = settings.tls.as_ref();
        }
    }

    /// Whether the client's own choice of address is kept.
    pub fn is_passthrough(&self) -> bool {
        self.balancer.is_some_and(|balancer| balancer.simple == Some(SimpleLoadBalancer::Passthrough))
    }
}
