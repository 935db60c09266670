//! Telemetry (`telemetry.istio.io`): which metrics, logs and traces are made.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::{message, names};
use crate::networking::{PolicySelector, TargetReference};

message! {
    pub struct Telemetry {
        selector: Option<PolicySelector>,
        target_ref: Option<TargetReference>,
        target_refs: Vec<TargetReference>,
        tracing: Vec<Tracing>,
        metrics: Vec<Metrics>,
        access_logging: Vec<AccessLogging>,
    }
}

message! {
    pub struct ProviderReference {
        name @required: String,
    }
}

message! {
    pub struct ModeMatch {
        mode: WorkloadMode,
    }
}

names! {
    pub enum WorkloadMode {
        ClientAndServer = "CLIENT_AND_SERVER",
        Client = "CLIENT",
        Server = "SERVER",
    }
}

message! {
    pub struct Tracing {
        matches: Option<ModeMatch> = "match",
        providers: Vec<ProviderReference>,
        /// 0 to 100.
        random_sampling_percentage: Option<f64>,
        disable_span_reporting: Option<bool>,
        disable_context_propagation: Option<bool>,
        enable_istio_tags: Option<bool>,
        use_request_id_for_trace_sampling: Option<bool>,
        custom_tags: BTreeMap<String, CustomTag>,
    }
}

message! {
    /// One of them.
    pub struct CustomTag {
        literal: Option<TagValue>,
        environment: Option<TagSource>,
        header: Option<TagSource>,
        formatter: Option<TagValue>,
    }
}

message! {
    pub struct TagValue {
        value @required: String,
    }
}

message! {
    pub struct TagSource {
        name @required: String,
        default_value: String,
    }
}

message! {
    pub struct Metrics {
        providers: Vec<ProviderReference>,
        overrides: Vec<MetricOverride>,
        reporting_interval: Option<Duration>,
    }
}

message! {
    pub struct MetricOverride {
        matches: Option<MetricMatch> = "match",
        disabled: Option<bool>,
        tag_overrides: BTreeMap<String, TagOverride>,
    }
}

message! {
    pub struct MetricMatch {
        metric: Option<StandardMetric>,
        custom_metric: Option<String>,
        mode: WorkloadMode,
    }
}

names! {
    pub enum StandardMetric {
        AllMetrics = "ALL_METRICS",
        RequestCount = "REQUEST_COUNT",
        RequestDuration = "REQUEST_DURATION",
        RequestSize = "REQUEST_SIZE",
        ResponseSize = "RESPONSE_SIZE",
        TcpOpenedConnections = "TCP_OPENED_CONNECTIONS",
        TcpClosedConnections = "TCP_CLOSED_CONNECTIONS",
        TcpSentBytes = "TCP_SENT_BYTES",
        TcpReceivedBytes = "TCP_RECEIVED_BYTES",
        GrpcRequestMessages = "GRPC_REQUEST_MESSAGES",
        GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES",
    }
}

message! {
    pub struct TagOverride {
        operation: TagOperation,
        /// A CEL expression.
        value: String,
    }
}

names! {
    pub enum TagOperation {
        Upsert = "UPSERT",
        Remove = "REMOVE",
    }
}

message! {
    pub struct AccessLogging {
        matches: Option<ModeMatch> = "match",
        providers: Vec<ProviderReference>,
        disabled: Option<bool>,
        filter: Option<AccessLogFilter>,
    }
}

message! {
    pub struct AccessLogFilter {
        /// A CEL expression.
        expression: String,
    }
}
