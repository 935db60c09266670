//! HTTP/1 settings of a connection manager or a cluster, as data with Envoy's defaults filled in.
use std::sync::Arc;

use serde::Serialize;

use crate::network::unpacked;
use crate::refusal::{At, Compiled};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http1 {
    pub accept_http_10: bool,
    pub default_host_for_http_10: Option<Arc<str>>,
    pub header_case: HeaderCase,
    pub allow_absolute_url: bool,
    /// Any token is a method; off, Envoy's default, only those Envoy knows.
    pub allow_custom_methods: bool,
    /// Pass trailers on (HTTP/1 only; HTTP/2's always are).
    pub enable_trailers: bool,
    /// A connection may go on after a request that was answered by 400. Off, Envoy's default, it is closed.
    pub stream_error_on_invalid_message: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderCase {
    Lower,
    Proper,
    Preserve,
}

impl Http1 {
    /// `stream_error`: what the connection manager says where the options do not.
    pub(crate) fn compile(
        message: Option<&xds::core::Http1ProtocolOptions>,
        stream_error: bool,
    ) -> Compiled<Http1> {
        let default = xds::core::Http1ProtocolOptions::default();
        let message = message.unwrap_or(&default);
        if message.allow_chunked_length {
            return refuse!("a request with both Content-Length and chunked is always refused")
                .at("allow_chunked_length");
        }
        Ok(Http1 {
            accept_http_10: message.accept_http_10,
            default_host_for_http_10: Some(message.default_host_for_http_10.as_str())
                .filter(|h| !h.is_empty())
                .map(Arc::from),
            header_case: header_case(message).at("header_key_format")?,
            allow_absolute_url: message.allow_absolute_url.unwrap_or(true),
            allow_custom_methods: message.allow_custom_methods,
            enable_trailers: message.enable_trailers,
            stream_error_on_invalid_message: message
                .override_stream_error_on_invalid_http_message
                .unwrap_or(stream_error),
        })
    }
}

fn header_case(message: &xds::core::Http1ProtocolOptions) -> Compiled<HeaderCase> {
    use xds::core::http1_protocol_options::header_key_format::HeaderFormat;
    use xds::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
    use xds::header_formatters::preserve_case::v3::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders;
    match message.header_key_format.as_ref().and_then(|f| f.header_format.as_ref()) {
        None => Ok(HeaderCase::Lower),
        Some(HeaderFormat::ProperCaseWords(_)) => Ok(HeaderCase::Proper),
        Some(HeaderFormat::StatefulFormatter(formatter)) => {
            let Some(any) = &formatter.typed_config else {
                return refuse!("typed_config is required").at("stateful_formatter");
            };
            let Some(preserve) = unpacked::<PreserveCaseFormatterConfig>(any)? else {
                return refuse!("{:?} is not supported", any.type_url).at("stateful_formatter");
            };
            match preserve.formatter_type_on_envoy_headers() {
                FormatterTypeOnEnvoyHeaders::Default => Ok(HeaderCase::Preserve),
                FormatterTypeOnEnvoyHeaders::ProperCase => {
                    refuse!("what we add ourselves is written in lower case")
                        .at("formatter_type_on_envoy_headers")
                        .at("stateful_formatter.typed_config")
                }
            }
        }
    }
}
