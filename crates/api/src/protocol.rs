//! Which protocol a port speaks, as far as configuration tells.

/// `Unknown` means that the first bytes decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    #[default]
    Unknown,
    Tcp,
    Udp,
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Hbone,
    DoubleHbone,
    Mongo,
    Redis,
    Mysql,
}

impl Protocol {
    /// The protocol named, in any case; `Unknown` for anything else.
    pub fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "hbone" => Self::Hbone,
            "doublehbone" => Self::DoubleHbone,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            _ => Self::Unknown,
        }
    }

    /// Istio's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UnsupportedProtocol",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Hbone => "HBONE",
            Self::DoubleHbone => "DoubleHBONE",
            Self::Mongo => "Mongo",
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
        }
    }

    /// HTTP that a proxy can read.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Opaque bytes to a proxy.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Https | Self::Tls | Self::Mongo | Self::Redis | Self::Mysql)
    }

    /// TLS from the first byte.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    pub fn is_unknown(self) -> bool {
        self == Self::Unknown
    }
}

/// The protocol of a Kubernetes port: `appProtocol`, else the prefix of the port's name, else a few port numbers whose
/// servers speak first, else unknown (Istio's `ConvertProtocol`).
pub fn kubernetes_port(
    port: u16,
    name: &str,
    transport_is_udp: bool,
    app_protocol: Option<&str>,
) -> Protocol {
    if transport_is_udp {
        return Protocol::Udp;
    }
    let by_name = match app_protocol {
        Some("kubernetes.io/h2c") => return Protocol::Http2,
        Some("kubernetes.io/ws") => return Protocol::Http,
        Some("kubernetes.io/wss") => return Protocol::Https,
        Some(app_protocol) => app_protocol,
        None => name,
    };
    let named = by_prefix(by_name);
    if named.is_unknown() && is_server_first(port) {
        return Protocol::Tcp;
    }
    named
}

/// The protocol of an Istio port (ServiceEntry, Gateway, Sidecar): as written; unknown if it says nothing known.
pub fn istio_port(protocol: &str, name: &str) -> Protocol {
    if protocol.is_empty() {
        return by_prefix(name);
    }
    Protocol::parse(protocol)
}

/// The text before the first `-`, except that `grpc-web` has one itself.
fn by_prefix(name: &str) -> Protocol {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("grpc-web") {
        return Protocol::GrpcWeb;
    }
    let prefix = lower.split('-').next().unwrap_or_default();
    // HBONE is a protocol of Istio's own, never of a service's port name.
    match Protocol::parse(prefix) {
        Protocol::Hbone | Protocol::DoubleHbone => Protocol::Unknown,
        protocol => protocol,
    }
}

/// SMTP, DNS, MySQL, MongoDB: waiting for the client's first bytes would wait for ever.
fn is_server_first(port: u16) -> bool {
    matches!(port, 25 | 53 | 3306 | 27017)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Istio's `ConvertProtocol` (pkg/config/kube/conversion.go).
    #[test]
    fn ports_of_kubernetes_services() {
        for (port, name, udp, app_protocol, expected) in [
            (80, "http", false, None, Protocol::Http),
            (80, "http-web", false, None, Protocol::Http),
            (80, "HTTP-web", false, None, Protocol::Http),
            (80, "httpweb", false, None, Protocol::Unknown),
            (80, "http2-x", false, None, Protocol::Http2),
            (80, "grpc", false, None, Protocol::Grpc),
            (80, "grpc-web", false, None, Protocol::GrpcWeb),
            (80, "grpc-web-x", false, None, Protocol::GrpcWeb),
            (80, "grpc-x", false, None, Protocol::Grpc),
            (80, "tls-x", false, None, Protocol::Tls),
            (80, "https", false, None, Protocol::Https),
            (80, "mongo", false, None, Protocol::Mongo),
            (80, "redis-a", false, None, Protocol::Redis),
            (80, "mysql", false, None, Protocol::Mysql),
            (80, "tcp", false, None, Protocol::Tcp),
            (80, "", false, None, Protocol::Unknown),
            (80, "http", true, None, Protocol::Udp),
            (80, "tcp", false, Some("http"), Protocol::Http),
            (80, "http", false, Some("kubernetes.io/h2c"), Protocol::Http2),
            (80, "http", false, Some("kubernetes.io/ws"), Protocol::Http),
            (80, "http", false, Some("kubernetes.io/wss"), Protocol::Https),
            (80, "http", false, Some("my.company/x"), Protocol::Unknown),
            (25, "", false, None, Protocol::Tcp),
            (53, "dns", false, None, Protocol::Tcp),
            (3306, "", false, None, Protocol::Tcp),
            (3306, "http", false, None, Protocol::Http),
            (27017, "x", false, None, Protocol::Tcp),
            (80, "hbone", false, None, Protocol::Unknown),
        ] {
            assert_eq!(
                kubernetes_port(port, name, udp, app_protocol),
                expected,
                "{port} {name} {app_protocol:?}"
            );
        }
    }

    #[test]
    fn ports_of_istio_objects() {
        assert_eq!(istio_port("GRPC-Web", "x"), Protocol::GrpcWeb);
        assert_eq!(istio_port("http", "tcp"), Protocol::Http);
        assert_eq!(istio_port("", "http-a"), Protocol::Http);
        assert_eq!(istio_port("kafka", "http"), Protocol::Unknown);
    }
}
