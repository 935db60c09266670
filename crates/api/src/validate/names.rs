//! Host names, addresses, labels and sockets.

use std::net::IpAddr;

use crate::yaml::shorten;

type Checked = Result<(), String>;

/// A DNS label as Istio takes it: RFC 1123, capitals allowed.
pub(super) fn is_dns_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// An object's name: a DNS subdomain of RFC 1123, in small letters.
pub(super) fn object_name(name: &str) -> Checked {
    if name.len() <= 253 && name.split('.').all(is_small_label) {
        return Ok(());
    }
    Err(format!("{:?} is not an object's name (small letters, digits, '-' and '.')", shorten(name)))
}

/// A namespace's name: a DNS label in small letters.
pub(super) fn namespace(name: &str) -> Checked {
    if name.len() <= 63 && is_small_label(name) {
        return Ok(());
    }
    Err(format!("{:?} is not a namespace (small letters, digits and '-')", shorten(name)))
}

fn is_small_label(label: &str) -> bool {
    let small = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(small)
        && bytes.last().is_some_and(small)
        && bytes.iter().all(|byte| small(byte) || *byte == b'-')
}

/// A label that may be `*`, `*label` or `*-label`.
fn is_wildcard_label(text: &str) -> bool {
    match text.strip_prefix('*') {
        None => is_dns_label(text),
        Some("") => true,
        Some(rest) => is_dns_label(rest.strip_prefix('-').unwrap_or(rest)),
    }
}

/// A name without wildcards; a final dot is allowed.
pub(super) fn fqdn(domain: &str) -> Checked {
    not_empty_nor_long(domain)?;
    dns_labels(domain, domain)
}

/// A name whose first label may be a wildcard.
pub(super) fn wildcard_domain(domain: &str) -> Checked {
    not_empty_nor_long(domain)?;
    let (first, rest) = match domain.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (domain, None),
    };
    if !is_wildcard_label(first) {
        return Err(format!(
            "{:?} is not a host name: {:?} is not a DNS label (letters, digits and '-', or a leading '*')",
            shorten(domain),
            shorten(first)
        ));
    }
    rest.map_or(Ok(()), |rest| dns_labels(rest, domain))
}

/// As [`wildcard_domain`], and also the names that `AUTO_PASSTHROUGH` gateways go by: `outbound_.80_.v1_.host`.
pub(super) fn gateway_domain(domain: &str) -> Checked {
    let Some(rest) = domain.strip_prefix("outbound_.") else {
        return wildcard_domain(domain);
    };
    not_empty_nor_long(domain)?;
    let mut parts = rest.splitn(3, '.');
    let port_ok = parts
        .next()
        .and_then(|port| port.strip_suffix('_'))
        .is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let subset_ok = parts
        .next()
        .and_then(|subset| subset.strip_suffix('_'))
        .is_some_and(|subset| subset.is_empty() || is_dns_label(subset));
    match parts.next() {
        Some(host) if port_ok && subset_ok => fqdn(host),
        _ => Err(format!("{:?} must be of the form outbound_.PORT_.SUBSET_.HOST", shorten(domain))),
    }
}

fn not_empty_nor_long(domain: &str) -> Checked {
    if domain.is_empty() {
        return Err("a host name must not be empty".into());
    }
    if domain.len() > 255 {
        return Err(format!("{:?} is longer than 255 characters", shorten(domain)));
    }
    Ok(())
}

fn dns_labels(labels: &str, domain: &str) -> Checked {
    let last = labels.rsplit('.').next().unwrap_or_default();
    if last.parse::<i64>().is_ok() {
        return Err(format!(
            "{:?} is not a host name: its last part {last:?} must not be a number",
            shorten(domain)
        ));
    }
    let labels = labels.strip_suffix('.').unwrap_or(labels);
    match labels.split('.').find(|label| !is_dns_label(label)) {
        None => Ok(()),
        Some(label) => Err(format!(
            "{:?} is not a host name: {:?} is not a DNS label (letters, digits and '-')",
            shorten(domain),
            shorten(label)
        )),
    }
}

/// `*.foo.com` is a whole wildcard, `*foo.com` and `foo.*.com` are partial.
pub(super) fn is_partial_wildcard(host: &str) -> bool {
    host.contains('*') && host != "*" && !(host.starts_with("*.") && host.matches('*').count() == 1)
}

pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// An address or a network.
pub(super) fn ip_subnet(text: &str) -> Checked {
    let wrong = || Err(format!("{:?} is not an IP address or network (10.0.0.0/8)", shorten(text)));
    let Some((address, bits)) = text.split_once('/') else {
        return if is_ip(text) { Ok(()) } else { wrong() };
    };
    let width = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return wrong(),
    };
    let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    match bits.parse::<u8>() {
        Ok(bits) if digits && bits <= width => Ok(()),
        _ => wrong(),
    }
}

/// `namespace/name`, or `name`.
pub(super) fn gateway_name(text: &str) -> Checked {
    match text.split_once('/') {
        None => fqdn(text),
        Some((namespace, _)) if !is_dns_label(namespace) => {
            Err(format!("{:?}: {:?} is not a namespace", shorten(text), shorten(namespace)))
        }
        Some((_, name)) if !is_dns_label(name) => {
            Err(format!("{:?}: {:?} is not a gateway's name", shorten(text), shorten(name)))
        }
        Some(_) => Ok(()),
    }
}

/// What follows `unix://`: an absolute path of a file, or `@name`.
pub(super) fn unix_socket(path: &str) -> Checked {
    let is_abstract = path.strip_prefix('@').is_some_and(|name| !name.is_empty());
    if is_abstract || (path.starts_with('/') && !path.ends_with('/')) {
        return Ok(());
    }
    Err(format!("{:?} is not the absolute path of a file", shorten(path)))
}

/// `HOST:PORT`, a host being a name, an address, or `$(HOST_IP)` filled in at start.
pub(super) fn host_port(text: &str) -> Checked {
    let wrong = |why: &str| Err(format!("{:?} must be HOST:PORT: {why}", shorten(text)));
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong("the port is missing");
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return wrong("the port must be from 1 to 65535");
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let filled_in = host.starts_with("$(") && host.ends_with(')');
    if bare.is_some_and(is_ip) || is_ip(host) || filled_in {
        return Ok(());
    }
    fqdn(host)
}
