//! Mirrored requests, as a route asks for them.

use std::sync::Arc;

use crate::cluster::ClusterRef;
use crate::config::Names;
use crate::proto::{self, Fraction};
use crate::refusal::{At, Compiled};

/// Where copies of requests go (`RequestMirrorPolicy`).
#[derive(Debug)]
pub struct Mirror {
    pub target: MirrorTarget,
    pub fraction: Fraction,
    /// `-shadow` after the host's name (Envoy's default).
    pub shadow_suffix: bool,
    /// The copy's host, instead of the original's with or without a suffix.
    pub host: Option<Arc<str>>,
}

#[derive(Debug)]
pub enum MirrorTarget {
    Cluster(ClusterRef),
    /// The cluster's name is in this request header.
    Header(Arc<str>),
}

impl Mirror {
    pub(crate) fn compile(
        message: &xds::route::route_action::RequestMirrorPolicy,
        names: &mut Names,
    ) -> Compiled<Mirror> {
        let target = match (message.cluster.as_str(), message.cluster_header.as_str()) {
            ("", "") => return refuse!("cluster is required"),
            ("", header) => MirrorTarget::Header(header.to_ascii_lowercase().into()),
            (cluster, "") => MirrorTarget::Cluster(names.cluster(cluster)),
            (_, _) => return refuse!("not beside cluster").at("cluster_header"),
        };
        let host = Some(message.host_rewrite_literal.as_str()).filter(|host| !host.is_empty());
        if host.is_some_and(|host| host.bytes().any(|b| b.is_ascii_control())) {
            return refuse!("must not hold control characters").at("host_rewrite_literal");
        }
        let fraction = match &message.runtime_fraction {
            None => Fraction::ALWAYS,
            Some(f) => f.default_value.as_ref().map_or(Fraction::ALWAYS, proto::fraction),
        };
        Ok(Mirror {
            target,
            fraction,
            shadow_suffix: !message.disable_shadow_host_suffix_append,
            host: host.map(Arc::from),
        })
    }
}
