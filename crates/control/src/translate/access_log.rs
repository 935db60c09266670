//! Access logs as MeshConfig asks for them.

use std::collections::BTreeMap;

use api::mesh_config::AccessLogEncoding;
use telemetry::access_log::{Context as Known, Format, JsonTemplate};
use xds::accesslog::{AccessLog, AccessLogFilter, ResponseFlagFilter, access_log, access_log_filter};
use xds::core::{DataSource, SubstitutionFormatString, data_source, substitution_format_string};
use xds::file_access_log::{FileAccessLog, file_access_log};

use super::context::Context;
use super::values::text;
use crate::proxy::Profile;
use crate::world::{Note, Reason};

/// Istio's default line (`istio-behaviour` §1.6), field by field: users parse it.
const TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// The same as JSON: Istio's keys.
const JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

/// The logs of HTTP and TCP traffic.
pub fn logs(context: &Context<'_>) -> Vec<AccessLog> {
    let path = context.mesh().access_log_file.as_str();
    if path.is_empty() {
        return Vec::new();
    }
    vec![log(context, path)]
}

/// The log of connections that met no filter chain.
pub fn listener_logs(context: &Context<'_>) -> Vec<AccessLog> {
    let path = context.mesh().access_log_file.as_str();
    if path.is_empty() || context.mesh().disable_envoy_listener_log {
        return Vec::new();
    }
    let filter = access_log_filter::FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
        flags: vec!["NR".into()],
    });
    vec![AccessLog { filter: Some(AccessLogFilter { filter_specifier: Some(filter) }), ..log(context, path) }]
}

fn log(context: &Context<'_>, path: &str) -> AccessLog {
    let file = FileAccessLog {
        path: path.to_owned(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format(context))),
    };
    AccessLog {
        name: "envoy.access_loggers.file".into(),
        filter: None,
        config_type: Some(access_log::ConfigType::TypedConfig(xds::pack(&file))),
    }
}

fn format(context: &Context<'_>) -> SubstitutionFormatString {
    let mesh = context.mesh();
    let written = mesh.access_log_format.as_str();
    let format = format_of(context, written);
    let format = match (context.options.profile == Profile::Mesh).then(|| refusal(&format)).flatten() {
        // Our own proxy would refuse every listener for it.
        Some(reason) => {
            context.note(Note::on_mesh("accessLogFormat", Reason::LogFormat(reason)));
            format_of(context, "")
        }
        None => format,
    };
    SubstitutionFormatString { format: Some(format), ..Default::default() }
}

/// Why our own proxy would not take it.
fn refusal(format: &substitution_format_string::Format) -> Option<String> {
    use substitution_format_string::Format as Written;
    let compiled = match format {
        Written::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(line)),
            ..
        }) => Format::text(line, &Known::EMPTY),
        Written::JsonFormat(fields) => Format::json(&template_of(&fields.fields), &Known::EMPTY),
        Written::TextFormat(_) | Written::TextFormatSource(_) => return None,
    };
    compiled.err().map(|error| error.to_string())
}

fn template_of(fields: &BTreeMap<String, xds::Value>) -> JsonTemplate {
    JsonTemplate::Object(fields.iter().map(|(key, value)| (key.clone(), template(value))).collect())
}

fn template(value: &xds::Value) -> JsonTemplate {
    use xds::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => JsonTemplate::Null,
        Some(Kind::BoolValue(flag)) => JsonTemplate::Bool(*flag),
        Some(Kind::NumberValue(number)) => JsonTemplate::Number(*number),
        Some(Kind::StringValue(text)) => JsonTemplate::Format(text.clone()),
        Some(Kind::ListValue(list)) => JsonTemplate::List(list.values.iter().map(template).collect()),
        Some(Kind::StructValue(inner)) => template_of(&inner.fields),
    }
}

fn format_of(context: &Context<'_>, written: &str) -> substitution_format_string::Format {
    match context.mesh().access_log_encoding {
        AccessLogEncoding::Json => {
            let fields = json_fields(context, written).unwrap_or_else(|| {
                JSON.iter().map(|(key, value)| ((*key).to_owned(), text(*value))).collect()
            });
            substitution_format_string::Format::JsonFormat(xds::Struct { fields })
        }
        AccessLogEncoding::Text => {
            let mut line = if written.is_empty() { TEXT.to_owned() } else { written.to_owned() };
            // As in Istio: a line ends, whether or not the format says so.
            if !line.ends_with('\n') {
                line.push('\n');
            }
            substitution_format_string::Format::TextFormatSource(DataSource {
                specifier: Some(data_source::Specifier::InlineString(line)),
                watched_directory: None,
            })
        }
    }
}

fn json_fields(context: &Context<'_>, written: &str) -> Option<BTreeMap<String, xds::Value>> {
    if written.is_empty() {
        return None;
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(written) {
        Ok(map) => Some(map.iter().map(|(key, value)| (key.clone(), json_value(value))).collect()),
        Err(error) => {
            context.note(Note::on_mesh(
                "accessLogFormat",
                Reason::LogFormat(format!("is not a JSON object ({error})")),
            ));
            None
        }
    }
}

fn json_value(value: &serde_json::Value) -> xds::Value {
    use serde_json::Value as Json;
    use xds::value::Kind;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => {
            Kind::ListValue(xds::ListValue { values: items.iter().map(json_value).collect() })
        }
        Json::Object(map) => Kind::StructValue(xds::Struct {
            fields: map.iter().map(|(key, value)| (key.clone(), json_value(value))).collect(),
        }),
    };
    xds::Value { kind: Some(kind) }
}
