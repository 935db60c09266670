//! TLS contexts, with certificates named the way Istio names them.

use api::networking::{ClientTlsMode, ClientTlsSettings, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use xds::core::{DataSource, TransportSocket, data_source, transport_socket};
use xds::matcher::{StringMatcher, string_matcher};
use xds::tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use xds::tls::tls_parameters::TlsProtocol as EnvoyProtocol;
use xds::tls::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext, subject_alt_name_matcher,
};

use super::chain::TLS_SOCKET;
use super::context::Context;
use super::values::{ads, seconds};

/// The workload's own certificate and the mesh's roots.
const WORKLOAD: &str = "default";
const ROOTS: &str = "ROOTCA";

/// What a client of the mesh may be offered on a listener that speaks HTTP.
const HTTP_ALPN: &[&str] = &["h2", "http/1.1"];
/// And on one that speaks anything; `istio-peer-exchange` tells the peer's labels.
const TCP_ALPN: &[&str] = &["istio-peer-exchange", "h2", "http/1.1"];

/// Mutual TLS with the mesh's certificates, for inbound chains.
pub fn mesh_server(context: &Context<'_>, http: bool) -> DownstreamTlsContext {
    DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: names(if http { HTTP_ALPN } else { TCP_ALPN }),
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: EnvoyProtocol::TlSv12 as i32,
                ..Default::default()
            }),
            ..workload_identity(&trust_domain_matchers(context))
        }),
        require_client_certificate: Some(true),
        ..Default::default()
    }
}

fn trust_domain_matchers(context: &Context<'_>) -> Vec<StringMatcher> {
    let mesh = context.mesh();
    std::iter::once(&mesh.trust_domain)
        .chain(&mesh.trust_domain_aliases)
        .filter(|domain| !domain.is_empty())
        .map(|domain| StringMatcher {
            match_pattern: Some(string_matcher::MatchPattern::Prefix(format!("spiffe://{domain}/"))),
            ignore_case: false,
        })
        .collect()
}

fn workload_identity(peers: &[StringMatcher]) -> CommonTlsContext {
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret(WORKLOAD)],
        validation_context_type: Some(combined(peers, ROOTS)),
        ..Default::default()
    }
}

fn combined(peers: &[StringMatcher], roots: &str) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: peers
                .iter()
                .map(|matcher| SubjectAltNameMatcher {
                    san_type: subject_alt_name_matcher::SanType::Uri as i32,
                    matcher: Some(matcher.clone()),
                })
                .collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret(roots)),
    })
}

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) }
}

/// What a Gateway's server (or a Sidecar's ingress) terminates with.
pub fn server(context: &Context<'_>, tls: &ServerTlsSettings, http: bool) -> DownstreamTlsContext {
    let mutual = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
    let validates = mutual || tls.mode == ServerTlsMode::OptionalMutual;
    let alpn: &[&str] = if tls.mode == ServerTlsMode::IstioMutual && !http { TCP_ALPN } else { HTTP_ALPN };
    let mut common = if tls.mode == ServerTlsMode::IstioMutual {
        let mut peers: Vec<StringMatcher> = tls.subject_alt_names.iter().map(|name| exact(name)).collect();
        if peers.is_empty() {
            peers = trust_domain_matchers(context);
        }
        workload_identity(&peers)
    } else {
        let (certificates, authority) = certificates(tls);
        let mut common = CommonTlsContext {
            tls_certificate_sds_secret_configs: certificates.iter().map(|name| secret(name)).collect(),
            ..Default::default()
        };
        if let Some(authority) = authority.filter(|_| validates) {
            let peers: Vec<StringMatcher> = tls.subject_alt_names.iter().map(|name| exact(name)).collect();
            common.validation_context_type = Some(combined(&peers, &authority));
        }
        common
    };
    common.alpn_protocols = names(alpn);
    let parameters = parameters(tls);
    if parameters != TlsParameters::default() {
        common.tls_params = Some(parameters);
    }
    DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(mutual),
        ..Default::default()
    }
}

/// The names of the certificates, and of the authority clients are checked against.
fn certificates(tls: &ServerTlsSettings) -> (Vec<String>, Option<String>) {
    let credential = |name: &str| {
        if name.contains("://") { name.to_owned() } else { format!("kubernetes://{name}") }
    };
    let authority =
        (!tls.ca_cert_credential_name.is_empty()).then(|| credential(&tls.ca_cert_credential_name));
    if !tls.credential_name.is_empty() {
        let name = credential(&tls.credential_name);
        let authority = authority.unwrap_or_else(|| format!("{name}-cacert"));
        return (vec![name], Some(authority));
    }
    if let Some(first) = tls.credential_names.first() {
        let names = tls.credential_names.iter().map(|name| credential(name)).collect();
        let authority = authority.unwrap_or_else(|| format!("{}-cacert", credential(first)));
        return (names, Some(authority));
    }
    let file = |certificate: &str, key: &str| format!("file-cert:{certificate}~{key}");
    if let Some(first) = tls.tls_certificates.first() {
        let names = tls.tls_certificates.iter().map(|pair| file(&pair.server_certificate, &pair.private_key));
        let roots =
            if tls.ca_certificates.is_empty() { &first.ca_certificates } else { &tls.ca_certificates };
        return (names.collect(), (!roots.is_empty()).then(|| format!("file-root:{roots}")));
    }
    let roots = (!tls.ca_certificates.is_empty()).then(|| format!("file-root:{}", tls.ca_certificates));
    if tls.server_certificate.is_empty() {
        return (vec![WORKLOAD.to_owned()], roots.or_else(|| Some(ROOTS.to_owned())));
    }
    (vec![file(&tls.server_certificate, &tls.private_key)], roots)
}

fn parameters(tls: &ServerTlsSettings) -> TlsParameters {
    let version = |protocol| match protocol {
        TlsProtocol::TlsAuto => EnvoyProtocol::TlsAuto,
        TlsProtocol::Tls1_0 => EnvoyProtocol::TlSv10,
        TlsProtocol::Tls1_1 => EnvoyProtocol::TlSv11,
        TlsProtocol::Tls1_2 => EnvoyProtocol::TlSv12,
        TlsProtocol::Tls1_3 => EnvoyProtocol::TlSv13,
    } as i32;
    TlsParameters {
        tls_minimum_protocol_version: version(tls.min_protocol_version),
        tls_maximum_protocol_version: version(tls.max_protocol_version),
        cipher_suites: tls.cipher_suites.clone(),
        ..Default::default()
    }
}

/// Mutual TLS with the mesh's certificates, to a service whose workloads have these identities.
pub fn mesh_client(sni: &str, identities: &[String], http2: bool) -> TransportSocket {
    let peers: Vec<StringMatcher> = identities.iter().map(|identity| exact(identity)).collect();
    let mut alpn = vec!["istio-peer-exchange".to_owned(), "istio".to_owned()];
    if http2 {
        alpn.push("h2".into());
    }
    upstream(UpstreamTlsContext {
        sni: sni.to_owned(),
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: alpn,
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: EnvoyProtocol::TlSv12 as i32,
                ..Default::default()
            }),
            ..workload_identity(&peers)
        }),
        ..Default::default()
    })
}

/// As a DestinationRule says; `None` for plaintext.
pub fn client(
    tls: &ClientTlsSettings,
    mesh_sni: &str,
    identities: &[String],
    http2: bool,
) -> Option<TransportSocket> {
    let identities = if tls.subject_alt_names.is_empty() { identities } else { &tls.subject_alt_names };
    match tls.mode {
        ClientTlsMode::Disable => None,
        ClientTlsMode::IstioMutual => {
            let sni = if tls.sni.is_empty() { mesh_sni } else { &tls.sni };
            Some(mesh_client(sni, identities, http2))
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => Some(external_client(tls, http2)),
    }
}

fn external_client(tls: &ClientTlsSettings, http2: bool) -> TransportSocket {
    let mut common = CommonTlsContext::default();
    if tls.mode == ClientTlsMode::Mutual {
        let name = if tls.credential_name.is_empty() {
            format!("file-cert:{}~{}", tls.client_certificate, tls.private_key)
        } else {
            format!("kubernetes://{}", tls.credential_name)
        };
        common.tls_certificate_sds_secret_configs = vec![secret(&name)];
    }
    let peers: Vec<StringMatcher> = tls.subject_alt_names.iter().map(|name| exact(name)).collect();
    common.validation_context_type = if tls.insecure_skip_verify == Some(true) {
        None
    } else if !tls.credential_name.is_empty() {
        Some(combined(&peers, &format!("kubernetes://{}-cacert", tls.credential_name)))
    } else if !tls.ca_certificates.is_empty() {
        Some(combined(&peers, &format!("file-root:{}", tls.ca_certificates)))
    } else {
        Some(ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource {
                specifier: Some(data_source::Specifier::Filename(
                    "/etc/ssl/certs/ca-certificates.crt".into(),
                )),
                watched_directory: None,
            }),
            ..Default::default()
        }))
    };
    if http2 {
        common.alpn_protocols = names(&["h2"]);
    }
    upstream(UpstreamTlsContext {
        sni: tls.sni.clone(),
        common_tls_context: Some(common),
        ..Default::default()
    })
}

fn upstream(context: UpstreamTlsContext) -> TransportSocket {
    TransportSocket {
        name: TLS_SOCKET.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(xds::pack(&context))),
    }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact(text.to_owned())),
        ignore_case: false,
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// How long a client may take for its handshake at a gateway.
pub fn handshake_timeout() -> xds::Duration {
    seconds(15)
}
