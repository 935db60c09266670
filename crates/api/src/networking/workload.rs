//! WorkloadEntry and WorkloadGroup: one workload outside Kubernetes, and a template for many.

use std::collections::BTreeMap;

use crate::decode::message;

message! {
    pub struct WorkloadEntry {
        /// An address, a DNS name or `unix:///PATH`.
        address: String,
        /// Port name to number.
        ports: BTreeMap<String, u32>,
        labels: BTreeMap<String, String>,
        network: String,
        /// `region/zone/subzone`.
        locality: String,
        weight: u32,
        service_account: String,
    }
}

message! {
    pub struct WorkloadGroup {
        metadata: Option<WorkloadGroupMetadata>,
        template @required: Option<WorkloadEntry>,
        probe: Option<ReadinessProbe>,
    }
}

message! {
    pub struct WorkloadGroupMetadata {
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    }
}

message! {
    pub struct ReadinessProbe {
        initial_delay_seconds: i32,
        /// 0 means 1.
        timeout_seconds: i32,
        /// 0 means 10.
        period_seconds: i32,
        /// 0 means 1.
        success_threshold: i32,
        /// 0 means 3.
        failure_threshold: i32,
        http_get: Option<HttpProbe>,
        tcp_socket: Option<TcpProbe>,
        exec: Option<ExecProbe>,
        grpc: Option<GrpcProbe>,
    }
}

message! {
    pub struct HttpProbe {
        path: String,
        port @required: u32,
        host: String,
        scheme: String,
        http_headers: Vec<ProbeHeader>,
    }
}

message! {
    pub struct ProbeHeader {
        name: String,
        value: String,
    }
}

message! {
    pub struct TcpProbe {
        host: String,
        port @required: u32,
    }
}

message! {
    pub struct ExecProbe {
        command @required: Vec<String>,
    }
}

message! {
    pub struct GrpcProbe {
        port: u32,
        service: String,
    }
}
