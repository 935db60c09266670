//! `x-forwarded-client-cert`: what is told about the client's certificate, and believed of what came.

use model::http_connection::{ClientCertificateDetails, ForwardClientCertificate as Forward, Forwarded};
use wire::HeaderId;
use wire::h1::{Edits, Head};

use crate::net::layer::{Agreed, Identity};

/// Keeps, takes away or writes the header, as Envoy does (`ConnectionManagerUtility::mutateXfccRequestHeader`).
pub fn tell(forwarded: &Forwarded, secure: Option<&Agreed>, head: &Head<'_>, edits: &mut Edits) {
    let vouched = secure.and_then(|agreed| Some((agreed, agreed.peer.as_ref()?)));
    let details = &forwarded.client_certificate_details;
    match (forwarded.client_certificate, vouched) {
        (Forward::AlwaysForwardOnly, _) | (Forward::ForwardOnly, Some(_)) => {}
        (Forward::AppendForward, Some((agreed, client))) => {
            let element = element(&agreed.own, client, details);
            edits.append_to_list(head, HeaderId::XForwardedClientCert, element.as_bytes());
        }
        (Forward::SanitizeSet, Some((agreed, client))) => {
            let element = element(&agreed.own, client, details);
            edits.set_known(head, HeaderId::XForwardedClientCert, element.as_bytes());
        }
        // Nobody vouches for what it says.
        (Forward::Sanitize, _) | (_, None) => edits.remove_known(head, HeaderId::XForwardedClientCert),
    }
}

/// One client, as one proxy tells of it. Names of details that are asked for stand there even where they are empty.
fn element(own: &str, client: &Identity, details: &ClientCertificateDetails) -> String {
    let mut parts = vec![];
    if !own.is_empty() {
        parts.push(format!("By={own}"));
    }
    if !client.digest.is_empty() {
        parts.push(format!("Hash={}", client.digest));
    }
    if details.cert && !client.certificate.is_empty() {
        parts.push(format!("Cert=\"{}\"", client.certificate));
    }
    if details.chain && !client.chain.is_empty() {
        parts.push(format!("Chain=\"{}\"", client.chain));
    }
    if details.subject {
        parts.push(format!("Subject=\"{}\"", client.subject));
    }
    if details.uri {
        match client.uris.as_slice() {
            [] => parts.push("URI=".to_owned()),
            uris => parts.extend(uris.iter().map(|uri| format!("URI={uri}"))),
        }
    }
    if details.dns {
        parts.extend(client.dns.iter().map(|name| format!("DNS={name}")));
    }
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy: `ConnectionManagerUtilityTest.MtlsAppendForward`, `MtlsSanitizeSet` and their like.
    #[test]
    fn a_client_is_told_of_in_the_order_and_words_of_envoy() {
        let client = Identity {
            uris: vec!["spiffe://a/ns/x/sa/y".into()],
            dns: vec!["one.test".into(), "two.test".into()],
            subject: "CN=y".into(),
            digest: "abc".into(),
            certificate: "PEM".into(),
            chain: "PEMPEM".into(),
        };
        let all = ClientCertificateDetails { subject: true, cert: true, chain: true, dns: true, uri: true };
        assert_eq!(
            element("spiffe://a/own", &client, &all),
            "By=spiffe://a/own;Hash=abc;Cert=\"PEM\";Chain=\"PEMPEM\";Subject=\"CN=y\";\
                URI=spiffe://a/ns/x/sa/y;DNS=one.test;DNS=two.test"
        );
        let some =
            ClientCertificateDetails { subject: true, uri: true, ..ClientCertificateDetails::default() };
        assert_eq!(element("", &Identity::default(), &some), "Subject=\"\";URI=");
    }
}
