//! Extension providers: named places for logs, traces, metrics and external authorization.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::partial;

partial! {
    /// One of the kinds is set; the others are absent.
    pub struct ExtensionProvider {
        name: String,
        envoy_ext_authz_http: Option<ExtAuthzHttp>,
        envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
        zipkin: Option<ZipkinProvider>,
        lightstep: Option<TracingService>,
        datadog: Option<TracingService>,
        skywalking: Option<TracingService>,
        opencensus: Option<TracingService>,
        opentelemetry: Option<OpenTelemetryProvider>,
        envoy_http_als: Option<AccessLogService>,
        envoy_tcp_als: Option<AccessLogService>,
        envoy_otel_als: Option<AccessLogService>,
        envoy_file_access_log: Option<FileAccessLog>,
        /// Has no settings.
        prometheus: Option<serde_json::Value>,
        stackdriver: Option<Stackdriver>,
    }
}

partial! {
    /// `service` is `host` or `namespace/host`, here and below.
    pub struct ExtAuthzHttp {
        service: String,
        port: u32,
        timeout: Option<Duration>,
        path_prefix: String,
        fail_open: bool,
        clear_route_cache: bool,
        status_on_error: String,
        include_headers_in_check: Vec<String>,
        include_request_headers_in_check: Vec<String>,
        include_additional_headers_in_check: BTreeMap<String, String>,
        include_request_body_in_check: Option<RequestBody>,
        headers_to_upstream_on_allow: Vec<String>,
        headers_to_downstream_on_allow: Vec<String>,
        headers_to_downstream_on_deny: Vec<String>,
    }
}

partial! {
    pub struct ExtAuthzGrpc {
        service: String,
        port: u32,
        timeout: Option<Duration>,
        fail_open: bool,
        clear_route_cache: bool,
        status_on_error: String,
        include_request_body_in_check: Option<RequestBody>,
    }
}

partial! {
    pub struct RequestBody {
        max_request_bytes: u32,
        allow_partial_message: bool,
        pack_as_bytes: bool,
    }
}

partial! {
    pub struct ZipkinProvider {
        service: String,
        port: u32,
        max_tag_length: u32,
        enable_64bit_trace_id: bool,
        path: String,
        trace_context_option: String,
        timeout: Option<Duration>,
        headers: Vec<HttpHeader>,
    }
}

partial! {
    pub struct TracingService {
        service: String,
        port: u32,
        access_token: String,
        max_tag_length: u32,
        context: Vec<String>,
    }
}

partial! {
    pub struct OpenTelemetryProvider {
        service: String,
        port: u32,
        max_tag_length: u32,
        http: Option<OpenTelemetryHttp>,
        grpc: Option<OpenTelemetryGrpc>,
        resource_detectors: Option<serde_json::Value>,
        service_attribute_enrichment: String,
        dynatrace_sampler: Option<serde_json::Value>,
    }
}

partial! {
    pub struct OpenTelemetryHttp {
        path: String,
        timeout: Option<Duration>,
        headers: Vec<HttpHeader>,
    }
}

partial! {
    pub struct OpenTelemetryGrpc {
        timeout: Option<Duration>,
        initial_metadata: Vec<HttpHeader>,
    }
}

partial! {
    pub struct HttpHeader {
        name: String,
        value: String,
        env_name: String,
    }
}

partial! {
    pub struct AccessLogService {
        service: String,
        port: u32,
        log_name: String,
        filter_state_objects_to_log: Vec<String>,
        additional_request_headers_to_log: Vec<String>,
        additional_response_headers_to_log: Vec<String>,
        additional_response_trailers_to_log: Vec<String>,
        log_format: Option<LogFormat>,
    }
}

partial! {
    pub struct FileAccessLog {
        path: String,
        log_format: Option<LogFormat>,
        omit_empty_values: bool,
    }
}

partial! {
    /// A line (`text`), or the fields of a JSON object (`labels`).
    pub struct LogFormat {
        text: Option<String>,
        labels: Option<serde_json::Value>,
    }
}

partial! {
    pub struct Stackdriver {
        debug: bool,
        logging: Option<serde_json::Value>,
        max_number_of_attributes: Option<i64>,
        max_number_of_annotations: Option<i64>,
        max_number_of_message_events: Option<i64>,
        max_tag_length: u32,
    }
}
