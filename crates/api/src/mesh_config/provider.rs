//! Extension providers: named places for logs, traces, metrics and external authorization.

use crate::decode::partial;

partial! {
    /// One of the kinds is set; the others are absent.
    pub struct ExtensionProvider {
        name: String,
        envoy_ext_authz_http: Option<ServiceAddress>,
        envoy_ext_authz_grpc: Option<ServiceAddress>,
        zipkin: Option<ServiceAddress>,
        lightstep: Option<ServiceAddress>,
        datadog: Option<ServiceAddress>,
        skywalking: Option<ServiceAddress>,
        opencensus: Option<ServiceAddress>,
        opentelemetry: Option<ServiceAddress>,
        envoy_http_als: Option<ServiceAddress>,
        envoy_tcp_als: Option<ServiceAddress>,
        envoy_otel_als: Option<ServiceAddress>,
        envoy_file_access_log: Option<FileAccessLog>,
        prometheus: Option<Empty>,
        stackdriver: Option<Empty>,
    }
}

partial! {
    /// `service` is `host` or `namespace/host`.
    pub struct ServiceAddress {
        service: String,
        port: u32,
    }
}

partial! {
    pub struct FileAccessLog {
        path: String,
    }
}

partial! {
    /// A provider that needs no settings.
    pub struct Empty {
        debug: bool,
    }
}
