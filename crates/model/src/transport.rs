//! Transport sockets as data: what TLS a chain terminates or a cluster originates.
//!
//! Live TLS is not built yet: a proxy refuses the connections of a chain that terminates TLS, and of a
//! cluster that originates it, by a named error. `simulate` needs the facts all the same.
use std::sync::Arc;

use serde::Serialize;
use xds::tls::common_tls_context::ValidationContextType;

use crate::refusal::{At, Compiled};
use crate::string_match::StringMatch;

/// What a chain does to the bytes below its filters.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DownstreamTransport {
    RawBuffer,
    Tls(Arc<DownstreamTls>),
}

impl DownstreamTransport {
    /// The TLS this chain terminates, if it does.
    pub fn tls(&self) -> Option<&DownstreamTls> {
        match self {
            DownstreamTransport::RawBuffer => None,
            DownstreamTransport::Tls(tls) => Some(tls),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct DownstreamTls {
    pub common: CommonTls,
    pub require_client_certificate: bool,
}

/// What a cluster does to the bytes it sends.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamTransport {
    RawBuffer,
    Tls(Arc<UpstreamTls>),
}

/// Whether a connection made by the one would have been made the same way by the other.
impl PartialEq for UpstreamTransport {
    fn eq(&self, other: &UpstreamTransport) -> bool {
        match (self, other) {
            (UpstreamTransport::RawBuffer, UpstreamTransport::RawBuffer) => true,
            // Compared as they are printed, which leaves out nothing: matchers of names have no equality of their own.
            (UpstreamTransport::Tls(one), UpstreamTransport::Tls(two)) => {
                Arc::ptr_eq(one, two) || format!("{one:?}") == format!("{two:?}")
            }
            _ => false,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct UpstreamTls {
    pub common: CommonTls,
    pub sni: Arc<str>,
    pub auto_host_sni: bool,
    pub auto_sni_san_validation: bool,
}

#[derive(Debug, Serialize)]
pub struct CommonTls {
    /// In order of preference.
    pub alpn: Vec<Arc<str>>,
    /// SDS names of the certificates presented; file certificates as `file-cert:CERT~KEY`.
    pub certificates: Vec<Arc<str>>,
    /// SDS name of the trust bundle; a file as `file-root:PATH`.
    pub trusted_ca: Option<Arc<str>>,
    /// The peer's names accepted; empty = any the trust bundle vouches for.
    #[serde(skip)]
    pub subject_names: Vec<SubjectName>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    pub cipher_suites: Vec<String>,
}

/// A name a peer's certificate may have.
#[derive(Debug)]
pub struct SubjectName {
    /// `None` = of any kind (the older `match_subject_alt_names`).
    pub kind: Option<SubjectKind>,
    pub value: StringMatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    Email,
    Dns,
    /// SPIFFE ids.
    Uri,
    IpAddress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// Names of secrets fetched over SDS that this context needs.
impl CommonTls {
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<str>> {
        let of_sds = |name: &&Arc<str>| !name.starts_with("file-");
        self.certificates.iter().chain(&self.trusted_ca).filter(of_sds)
    }
}

pub(crate) fn downstream(socket: Option<&xds::core::TransportSocket>) -> Compiled<DownstreamTransport> {
    let Some(any) = typed_config(socket)? else { return Ok(DownstreamTransport::RawBuffer) };
    if any.type_url == <xds::raw_buffer::RawBuffer as xds::Name>::type_url() {
        return Ok(DownstreamTransport::RawBuffer);
    }
    let Ok(tls) = xds::unpack::<xds::tls::DownstreamTlsContext>(any) else {
        return refuse!("transport socket {} is not supported", any.type_url);
    };
    let common = common(tls.common_tls_context.as_ref()).at("common_tls_context")?;
    if common.certificates.is_empty() {
        return refuse!(
            "no certificate to present: neither tls_certificates nor tls_certificate_sds_secret_configs"
        )
        .at("common_tls_context");
    }
    let require = tls.require_client_certificate.unwrap_or(false);
    Ok(DownstreamTransport::Tls(Arc::new(DownstreamTls { common, require_client_certificate: require })))
}

pub(crate) fn upstream(socket: Option<&xds::core::TransportSocket>) -> Compiled<UpstreamTransport> {
    let Some(any) = typed_config(socket)? else { return Ok(UpstreamTransport::RawBuffer) };
    if any.type_url == <xds::raw_buffer::RawBuffer as xds::Name>::type_url() {
        return Ok(UpstreamTransport::RawBuffer);
    }
    let Ok(tls) = xds::unpack::<xds::tls::UpstreamTlsContext>(any) else {
        return refuse!("transport socket {} is not supported", any.type_url);
    };
    Ok(UpstreamTransport::Tls(Arc::new(UpstreamTls {
        common: common(tls.common_tls_context.as_ref()).at("common_tls_context")?,
        sni: tls.sni.as_str().into(),
        auto_host_sni: tls.auto_host_sni,
        auto_sni_san_validation: tls.auto_sni_san_validation,
    })))
}

fn typed_config(socket: Option<&xds::core::TransportSocket>) -> Compiled<Option<&xds::Any>> {
    use xds::core::transport_socket::ConfigType;
    match socket.map(|s| (s, s.config_type.as_ref())) {
        None => Ok(None),
        Some((_, Some(ConfigType::TypedConfig(any)))) => Ok(Some(any)),
        Some((s, None)) if s.name == "envoy.transport_sockets.raw_buffer" => Ok(None),
        Some((s, None)) => refuse!("transport socket {:?} has no typed_config", s.name),
    }
}

fn common(message: Option<&xds::tls::CommonTlsContext>) -> Compiled<CommonTls> {
    let default = xds::tls::CommonTlsContext::default();
    let message = message.unwrap_or(&default);
    let mut certificates: Vec<Arc<str>> =
        message.tls_certificate_sds_secret_configs.iter().map(|s| s.name.as_str().into()).collect();
    for (i, certificate) in message.tls_certificates.iter().enumerate() {
        certificates.push(file_certificate(certificate).at_index("tls_certificates", i)?);
    }
    let (validation, sds) = match message.validation_context_type.as_ref() {
        None => (None, None),
        Some(ValidationContextType::ValidationContext(v)) => (Some(v), None),
        Some(ValidationContextType::ValidationContextSdsSecretConfig(s)) => (None, Some(s)),
        Some(ValidationContextType::CombinedValidationContext(c)) => {
            (c.default_validation_context.as_ref(), c.validation_context_sds_secret_config.as_ref())
        }
    };
    let mut subject_names = Vec::new();
    let mut trusted_ca = sds.map(|s| Arc::from(s.name.as_str()));
    if let Some(validation) = validation {
        for (i, matcher) in validation.match_typed_subject_alt_names.iter().enumerate() {
            subject_names.push(subject(matcher).at_index("match_typed_subject_alt_names", i)?);
        }
        for (i, matcher) in validation.match_subject_alt_names.iter().enumerate() {
            let value = StringMatch::compile(matcher).at_index("match_subject_alt_names", i)?;
            subject_names.push(SubjectName { kind: None, value });
        }
        if let Some(ca) = &validation.trusted_ca {
            trusted_ca = Some(format!("file-root:{}", source_name(ca).at("trusted_ca")?).into());
        }
    }
    let (min_version, max_version, cipher_suites) = versions(message.tls_params.as_ref()).at("tls_params")?;
    let alpn = message.alpn_protocols.iter().map(|p| p.as_str().into()).collect();
    Ok(CommonTls { alpn, certificates, trusted_ca, subject_names, min_version, max_version, cipher_suites })
}

fn subject(message: &xds::tls::SubjectAltNameMatcher) -> Compiled<SubjectName> {
    use xds::tls::subject_alt_name_matcher::SanType;
    let kind = match message.san_type() {
        SanType::Email => SubjectKind::Email,
        SanType::Dns => SubjectKind::Dns,
        SanType::Uri => SubjectKind::Uri,
        SanType::IpAddress => SubjectKind::IpAddress,
        other => return refuse!("{} is not supported", other.as_str_name()).at("san_type"),
    };
    let Some(matcher) = &message.matcher else { return refuse!("is required").at("matcher") };
    Ok(SubjectName { kind: Some(kind), value: StringMatch::compile(matcher).at("matcher")? })
}

fn file_certificate(certificate: &xds::tls::TlsCertificate) -> Compiled<Arc<str>> {
    let (Some(chain), Some(key)) = (&certificate.certificate_chain, &certificate.private_key) else {
        return refuse!("certificate_chain and private_key are required");
    };
    let chain = source_name(chain).at("certificate_chain")?;
    let key = source_name(key).at("private_key")?;
    Ok(format!("file-cert:{chain}~{key}").into())
}

fn source_name(source: &xds::core::DataSource) -> Compiled<&str> {
    use xds::core::data_source::Specifier;
    match source.specifier.as_ref() {
        Some(Specifier::Filename(name)) => Ok(name),
        Some(Specifier::InlineBytes(_) | Specifier::InlineString(_)) => Ok("<inline>"),
        Some(Specifier::EnvironmentVariable(_)) => refuse!("environment_variable is not supported"),
        None => refuse!("a data source is required"),
    }
}

fn versions(parameters: Option<&xds::tls::TlsParameters>) -> Compiled<(TlsVersion, TlsVersion, Vec<String>)> {
    use xds::tls::tls_parameters::TlsProtocol;
    let Some(parameters) = parameters else {
        return Ok((TlsVersion::Tls12, TlsVersion::Tls13, Vec::new()));
    };
    let version = |value: i32, auto: TlsVersion| match TlsProtocol::try_from(value) {
        Ok(TlsProtocol::TlsAuto) => Ok(auto),
        Ok(TlsProtocol::TlSv12) => Ok(TlsVersion::Tls12),
        Ok(TlsProtocol::TlSv13) => Ok(TlsVersion::Tls13),
        // Never below 1.2, however old the configuration: a client that can do better still gets it.
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => Ok(TlsVersion::Tls12),
        Err(_) => refuse!("{value} is no TLS version"),
    };
    let min = version(parameters.tls_minimum_protocol_version, TlsVersion::Tls12)
        .at("tls_minimum_protocol_version")?;
    let max = version(parameters.tls_maximum_protocol_version, TlsVersion::Tls13)
        .at("tls_maximum_protocol_version")?;
    Ok((min, max, parameters.cipher_suites.clone()))
}
