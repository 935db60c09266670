//! Access logs as data, their formats compiled by `telemetry`: one that does not compile is refused where it stands.
use std::sync::Arc;

use serde::Serialize;
use telemetry::access_log::{Context, Format, JsonTemplate};
use xds::core::substitution_format_string::Format as XdsFormat;

use crate::proto;
use crate::refusal::{At, Compiled, Refusal};

#[derive(Debug, Clone, Serialize)]
pub struct AccessLog {
    pub sink: AccessLogSink,
    pub format: AccessLogFormat,
    /// The format, ready to be rendered; `omit_empty_values` is in it.
    #[serde(skip)]
    pub compiled: Arc<Format>,
    /// Leave out what is empty instead of writing `-` (text) or `null` (JSON).
    pub omit_empty_values: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<AccessLogFilter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogSink {
    Stdout,
    Stderr,
    /// `/dev/stdout` and `/dev/stderr` become [`AccessLogSink::Stdout`] and `Stderr`.
    File(Arc<str>),
}

impl AccessLogSink {
    pub fn path(&self) -> &str {
        match self {
            AccessLogSink::Stdout => "/dev/stdout",
            AccessLogSink::Stderr => "/dev/stderr",
            AccessLogSink::File(path) => path,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// Envoy's default text format.
    Default,
    Text(Arc<str>),
    Json(serde_json::Value),
}

/// Which exchanges are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFilter {
    Status {
        op: Comparison,
        value: u32,
    },
    /// Milliseconds.
    Duration {
        op: Comparison,
        value: u32,
    },
    NotHealthCheck,
    /// Any of these response flags; empty = any flag at all.
    ResponseFlag(Vec<String>),
    And(Vec<AccessLogFilter>),
    Or(Vec<AccessLogFilter>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    Equal,
    AtLeast,
    AtMost,
    NotEqual,
}

impl Comparison {
    fn holds(self, left: u64, right: u32) -> bool {
        let right = u64::from(right);
        match self {
            Comparison::Equal => left == right,
            Comparison::AtLeast => left >= right,
            Comparison::AtMost => left <= right,
            Comparison::NotEqual => left != right,
        }
    }
}

impl AccessLogFilter {
    /// `flags`: the short response flags of the exchange (`UF`, `NR`).
    pub fn admits(&self, status: u16, millis: u64, flags: &[&str], health_check: bool) -> bool {
        match self {
            AccessLogFilter::Status { op, value } => op.holds(u64::from(status), *value),
            AccessLogFilter::Duration { op, value } => op.holds(millis, *value),
            AccessLogFilter::NotHealthCheck => !health_check,
            AccessLogFilter::ResponseFlag(wanted) if wanted.is_empty() => !flags.is_empty(),
            AccessLogFilter::ResponseFlag(wanted) => wanted.iter().any(|w| flags.contains(&w.as_str())),
            AccessLogFilter::And(all) => all.iter().all(|f| f.admits(status, millis, flags, health_check)),
            AccessLogFilter::Or(any) => any.iter().any(|f| f.admits(status, millis, flags, health_check)),
        }
    }
}

impl AccessLog {
    pub(crate) fn compile(message: &xds::accesslog::AccessLog) -> Compiled<AccessLog> {
        use xds::accesslog::access_log::ConfigType;
        use xds::file_access_log::file_access_log::AccessLogFormat as FileFormat;
        use xds::stream_access_log::stderr_access_log::AccessLogFormat as StderrFormat;
        use xds::stream_access_log::stdout_access_log::AccessLogFormat as StdoutFormat;
        let filter = message.filter.as_ref().map(filter).transpose().at("filter")?;
        let Some(ConfigType::TypedConfig(any)) = &message.config_type else {
            return refuse!("access log {:?} has no typed_config", message.name);
        };
        let (sink, (format, omit_empty_values), field) =
            if let Ok(file) = xds::unpack::<xds::file_access_log::FileAccessLog>(any) {
                let format = match file.access_log_format.as_ref() {
                    None => (AccessLogFormat::Default, false),
                    Some(FileFormat::Format(text)) => (AccessLogFormat::Text(text.as_str().into()), false),
                    Some(FileFormat::JsonFormat(json) | FileFormat::TypedJsonFormat(json)) => {
                        (AccessLogFormat::Json(proto::json_object(json)), false)
                    }
                    Some(FileFormat::LogFormat(format)) => substitution(format).at(LOG_FORMAT)?,
                };
                let sink = match file.path.as_str() {
                    "" => return refuse!("path is required"),
                    "/dev/stdout" => AccessLogSink::Stdout,
                    "/dev/stderr" => AccessLogSink::Stderr,
                    path => AccessLogSink::File(path.into()),
                };
                let field = match file.access_log_format {
                    Some(FileFormat::Format(_)) => "format",
                    Some(FileFormat::JsonFormat(_)) => "json_format",
                    Some(FileFormat::TypedJsonFormat(_)) => "typed_json_format",
                    Some(FileFormat::LogFormat(_)) | None => LOG_FORMAT,
                };
                (sink, format, field)
            } else if let Ok(stdout) = xds::unpack::<xds::stream_access_log::StdoutAccessLog>(any) {
                let StdoutFormat::LogFormat(format) = match stdout.access_log_format {
                    Some(format) => format,
                    None => StdoutFormat::LogFormat(Default::default()),
                };
                (AccessLogSink::Stdout, substitution(&format).at(LOG_FORMAT)?, LOG_FORMAT)
            } else if let Ok(stderr) = xds::unpack::<xds::stream_access_log::StderrAccessLog>(any) {
                let StderrFormat::LogFormat(format) = match stderr.access_log_format {
                    Some(format) => format,
                    None => StderrFormat::LogFormat(Default::default()),
                };
                (AccessLogSink::Stderr, substitution(&format).at(LOG_FORMAT)?, LOG_FORMAT)
            } else {
                return refuse!("access log {} is not supported", any.type_url);
            };
        let compiled = format.compile().at(field).at("typed_config")?.omit_empty_values(omit_empty_values);
        Ok(AccessLog { sink, format, compiled: Arc::new(compiled), omit_empty_values, filter })
    }
}

const LOG_FORMAT: &str = "log_format";

impl AccessLogFormat {
    fn compile(&self) -> Compiled<Format> {
        let environment = |name: &str| std::env::var(name).ok();
        let context = Context { hostname: None, environment: &environment };
        let compiled = match self {
            AccessLogFormat::Default => Format::text(ENVOY_DEFAULT, &context),
            AccessLogFormat::Text(text) => Format::text(text, &context),
            AccessLogFormat::Json(value) => Format::json(&template(value), &context),
        };
        compiled.map_err(|error| Refusal::new(error.to_string()))
    }
}

/// Envoy's own default format.
const ENVOY_DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"
);

fn template(value: &serde_json::Value) -> JsonTemplate {
    match value {
        serde_json::Value::Null => JsonTemplate::Null,
        serde_json::Value::Bool(flag) => JsonTemplate::Bool(*flag),
        serde_json::Value::Number(number) => JsonTemplate::Number(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => JsonTemplate::Format(text.clone()),
        serde_json::Value::Array(items) => JsonTemplate::List(items.iter().map(template).collect()),
        serde_json::Value::Object(members) => {
            JsonTemplate::Object(members.iter().map(|(key, value)| (key.clone(), template(value))).collect())
        }
    }
}

fn substitution(message: &xds::core::SubstitutionFormatString) -> Compiled<(AccessLogFormat, bool)> {
    use xds::core::data_source::Specifier;
    let format = match message.format.as_ref() {
        None => AccessLogFormat::Default,
        Some(XdsFormat::TextFormat(text)) => AccessLogFormat::Text(text.as_str().into()),
        Some(XdsFormat::JsonFormat(json)) => AccessLogFormat::Json(proto::json_object(json)),
        Some(XdsFormat::TextFormatSource(source)) => match source.specifier.as_ref() {
            Some(Specifier::InlineString(text)) => AccessLogFormat::Text(text.as_str().into()),
            _ => return refuse!("text_format_source: only inline_string is supported"),
        },
    };
    Ok((format, message.omit_empty_values))
}

fn filter(message: &xds::accesslog::AccessLogFilter) -> Compiled<AccessLogFilter> {
    use xds::accesslog::access_log_filter::FilterSpecifier as F;
    Ok(match message.filter_specifier.as_ref() {
        None => return refuse!("an empty filter"),
        Some(F::StatusCodeFilter(f)) => {
            let (op, value) = comparison(f.comparison.as_ref());
            AccessLogFilter::Status { op, value }
        }
        Some(F::DurationFilter(f)) => {
            let (op, value) = comparison(f.comparison.as_ref());
            AccessLogFilter::Duration { op, value }
        }
        Some(F::NotHealthCheckFilter(_)) => AccessLogFilter::NotHealthCheck,
        Some(F::ResponseFlagFilter(f)) => {
            for (i, flag) in f.flags.iter().enumerate() {
                if flag.contains(',') || telemetry::Flags::from_short_names(flag).is_none() {
                    return refuse!("{flag:?} is no response flag")
                        .at_index("flags", i)
                        .at("response_flag_filter");
                }
            }
            AccessLogFilter::ResponseFlag(f.flags.clone())
        }
        Some(F::AndFilter(f)) => AccessLogFilter::And(filters(&f.filters)?),
        Some(F::OrFilter(f)) => AccessLogFilter::Or(filters(&f.filters)?),
    })
}

fn filters(messages: &[xds::accesslog::AccessLogFilter]) -> Compiled<Vec<AccessLogFilter>> {
    crate::refusal::each("filters", messages, filter)
}

fn comparison(message: Option<&xds::accesslog::ComparisonFilter>) -> (Comparison, u32) {
    use xds::accesslog::comparison_filter::Op;
    let Some(message) = message else { return (Comparison::Equal, 0) };
    let op = match message.op() {
        Op::Eq => Comparison::Equal,
        Op::Ge => Comparison::AtLeast,
        Op::Le => Comparison::AtMost,
        Op::Ne => Comparison::NotEqual,
    };
    (op, message.value.as_ref().map_or(0, |v| v.default_value))
}
