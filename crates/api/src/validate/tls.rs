//! TLS settings, of clients and of servers.

use std::collections::BTreeSet;

use super::rules::Rules;
use crate::networking::{ClientTlsMode, ClientTlsSettings, ServerTlsMode, ServerTlsSettings};

pub(super) fn check_client(rules: &mut Rules<'_, '_>, tls: &ClientTlsSettings) {
    let unverified = tls.insecure_skip_verify == Some(true);
    let simple = tls.mode == ClientTlsMode::Simple;
    let mutual = tls.mode == ClientTlsMode::Mutual;
    if unverified && (simple || mutual) {
        let verifies = !tls.ca_certificates.is_empty()
            || !tls.subject_alt_names.is_empty()
            || (simple && !tls.credential_name.is_empty());
        if verifies {
            rules.field_error(
                "insecureSkipVerify",
                "contradicts caCertificates, credentialName and subjectAltNames, which say how to verify",
            );
        }
    }
    if (simple || mutual) && !tls.credential_name.is_empty() {
        for (name, file) in [
            ("clientCertificate", &tls.client_certificate),
            ("privateKey", &tls.private_key),
            ("caCertificates", &tls.ca_certificates),
            ("caCrl", &tls.ca_crl),
        ] {
            if !file.is_empty() {
                rules.field_error(name, "cannot be set together with credentialName");
            }
        }
    } else if mutual {
        require("clientCertificate", &tls.client_certificate, "MUTUAL", rules);
        require("privateKey", &tls.private_key, "MUTUAL", rules);
    }
}

pub(super) fn check_server(rules: &mut Rules<'_, '_>, tls: &ServerTlsSettings) {
    check_ciphers(tls, rules);
    check_one_source(tls, rules);
    let mode = tls.mode.as_str();
    match tls.mode {
        ServerTlsMode::IstioMutual => {
            for (name, set) in certificates(tls) {
                if set {
                    rules.field_error(
                        name,
                        "cannot be set with ISTIO_MUTUAL, which uses the workload's own certificate",
                    );
                }
            }
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            for (name, set) in certificates(tls) {
                if set {
                    rules.field(name, |rules| {
                        rules.warning(format!("is ignored, as {mode} uses no certificates"))
                    });
                }
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            // What a credential holds is fetched later.
            if tls.credential_name.is_empty() && tls.credential_names.is_empty() {
                check_files(tls, rules);
            }
        }
    }
}

fn check_files(tls: &ServerTlsSettings, rules: &mut Rules<'_, '_>) {
    let mode = tls.mode.as_str();
    if tls.mode != ServerTlsMode::Simple {
        if tls.ca_cert_credential_name.is_empty() {
            require("caCertificates", &tls.ca_certificates, mode, rules);
        }
    } else if !tls.ca_crl.is_empty() {
        rules.field_error("caCrl", "is not supported with SIMPLE, which asks for no client certificates");
    }
    if tls.tls_certificates.is_empty() {
        require("serverCertificate", &tls.server_certificate, mode, rules);
        require("privateKey", &tls.private_key, mode, rules);
    }
    rules.items("tlsCertificates", &tls.tls_certificates, |rules, certificate| {
        require("serverCertificate", &certificate.server_certificate, mode, rules);
        require("privateKey", &certificate.private_key, mode, rules);
    });
}

fn certificates(tls: &ServerTlsSettings) -> [(&'static str, bool); 7] {
    [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("caCrl", !tls.ca_crl.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]
}

/// The certificate comes from one place, and there are at most two (one per kind of key).
fn check_one_source(tls: &ServerTlsSettings, rules: &mut Rules<'_, '_>) {
    let sources = [
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.server_certificate.is_empty() && !tls.private_key.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if sources.into_iter().filter(|set| *set).count() > 1 {
        rules.error(
            "only one of credentialName, credentialNames, serverCertificate with privateKey, and tlsCertificates may be set",
        );
    }
    for (name, count) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        if count > 2 || (count == 0 && rules.has(name)) {
            rules.field_error(name, format!("must have 1 or 2 entries, not {count}"));
        }
    }
}

fn check_ciphers(tls: &ServerTlsSettings, rules: &mut Rules<'_, '_>) {
    let mut seen = BTreeSet::new();
    rules.items("cipherSuites", &tls.cipher_suites, |rules, suite| {
        if !CIPHER_SUITES.contains(&suite.as_str()) {
            rules.warning(format!("{suite:?} is ignored: it is none of {}", CIPHER_SUITES.join(", ")));
        } else if !seen.insert(suite) {
            rules.warning(format!("{suite:?} is there twice"));
        }
    });
}

/// Envoy's, up to TLS 1.2 (those of 1.3 cannot be chosen).
const CIPHER_SUITES: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

fn require(name: &str, value: &str, mode: &str, rules: &mut Rules<'_, '_>) {
    if value.is_empty() {
        rules.field_error(name, format!("is required with {mode}"));
    }
}
