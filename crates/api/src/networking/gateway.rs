//! Gateway: the ports a proxy at the edge opens.

use std::collections::BTreeMap;

use crate::decode::{message, names};

message! {
    pub struct Gateway {
        servers: Vec<Server>,
        /// Labels of the proxies, in every namespace.
        selector: BTreeMap<String, String>,
    }
}

message! {
    pub struct Server {
        port @required: Option<GatewayPort>,
        bind: String,
        /// `[namespace/]host`; the namespace may be `.` or `*`.
        hosts @required: Vec<String>,
        tls: Option<ServerTlsSettings>,
        default_endpoint: String,
        name: String,
    }
}

message! {
    pub struct GatewayPort {
        number @required: u32,
        protocol @required: String,
        name @required: String,
        /// Deprecated and without effect.
        target_port: u32,
    }
}

message! {
    pub struct ServerTlsSettings {
        https_redirect: bool,
        mode: ServerTlsMode,
        server_certificate: String,
        private_key: String,
        ca_certificates: String,
        ca_crl: String,
        tls_certificates: Vec<TlsCertificate>,
        credential_name: String,
        credential_names: Vec<String>,
        ca_cert_credential_name: String,
        subject_alt_names: Vec<String>,
        verify_certificate_spki: Vec<String>,
        verify_certificate_hash: Vec<String>,
        min_protocol_version: TlsProtocol,
        max_protocol_version: TlsProtocol,
        cipher_suites: Vec<String>,
        insecure_skip_verify: Option<bool>,
    }
}

message! {
    pub struct TlsCertificate {
        server_certificate: String,
        private_key: String,
        ca_certificates: String,
    }
}

names! {
    pub enum ServerTlsMode {
        Passthrough = "PASSTHROUGH",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        AutoPassthrough = "AUTO_PASSTHROUGH",
        IstioMutual = "ISTIO_MUTUAL",
        OptionalMutual = "OPTIONAL_MUTUAL",
    }
}

names! {
    pub enum TlsProtocol {
        TlsAuto = "TLS_AUTO",
        Tls1_0 = "TLSV1_0",
        Tls1_1 = "TLSV1_1",
        Tls1_2 = "TLSV1_2",
        Tls1_3 = "TLSV1_3",
    }
}
