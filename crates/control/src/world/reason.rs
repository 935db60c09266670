//! Why something is not done as written. The text is made from the value, so that counts, conditions and pages can stand on it.

use std::fmt;

/// One reason, with what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing acts on the kind.
    KindNotActedOn(String),
    /// What it asks for is not done yet.
    NotDone(NotDone),
    /// Another object has the same place, and precedence.
    Conflict(Conflict),
    /// Something that it names is not there.
    Missing(Missing),
    /// The format of the access log cannot be used; why.
    LogFormat(String),
}

/// What one reason comes to, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Something of it is not acted on.
    NotActedOn,
    /// Something of it gives way to another object.
    Conflicted,
    /// Something of it waits for what is not there.
    Waiting,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotDone {
    ConsistentHash,
    WarmUp,
    Tunnel,
    UpstreamTls,
    UpstreamProxyProtocol,
    /// Of a ServiceEntry.
    DynamicDns,
    /// Of the mesh: for hosts that nobody knows.
    DynamicDnsOfMesh,
    StrictMutualTls,
    SidecarTls,
    ServerTls,
    /// A balancing policy that gRPC clients do not have.
    GrpcBalancing,
    /// Ejecting hosts for errors in a row, by gRPC clients.
    GrpcOutliers,
    /// A service with several names to resolve.
    GrpcNames,
    /// A condition on a claim of a token.
    Claim(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conflict {
    /// An older service has the same address, port and match.
    Service { port: u32 },
    /// Another server of the port has these hosts.
    Hosts { port: u32, hosts: Vec<String> },
    /// A server of another protocol came first on the port.
    Protocol { port: u32, own: String, first: String },
    /// Another server of the Gateway has the same port name.
    PortName { port: u32 },
    /// The port has servers with TLS, and this one has none.
    WithoutTls { port: u32 },
    /// Another rule has these SNI hosts at the gateway.
    SniHosts { port: u32, gateway: String },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missing {
    /// A VirtualService without hosts, as `namespace/name`.
    Delegate(String),
    /// The same, but it is not exported to the namespace.
    DelegateNotExported { delegate: String, to: String },
    /// A Gateway, as `namespace/name`.
    Gateway(String),
    /// A subset of a host that no DestinationRule defines.
    Subset { host: String, subset: String },
    /// A host that no service has.
    Host(String),
}

impl Reason {
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::KindNotActedOn(_) | Self::NotDone(_) | Self::LogFormat(_) => Outcome::NotActedOn,
            Self::Conflict(_) => Outcome::Conflicted,
            Self::Missing(_) => Outcome::Waiting,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KindNotActedOn(kind) => write!(out, "{kind} is not acted on yet"),
            Self::NotDone(what) => what.fmt(out),
            Self::Conflict(conflict) => conflict.fmt(out),
            Self::Missing(missing) => missing.fmt(out),
            Self::LogFormat(why) => write!(out, "{why}: the default format is used"),
        }
    }
}

impl fmt::Display for NotDone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ConsistentHash => "consistent hashing is not available yet: falls back to LEAST_REQUEST",
            Self::WarmUp => "warm-up is not available yet: new endpoints get their full share at once",
            Self::Tunnel => "tunnels are not available yet: connections go to the cluster itself",
            Self::UpstreamTls => "TLS to upstreams is not available yet: connections are plaintext",
            Self::UpstreamProxyProtocol => "the PROXY protocol to upstreams is not available yet",
            Self::DynamicDns => "DYNAMIC_DNS: hosts of requests are not resolved yet, so requests to it fail",
            Self::DynamicDnsOfMesh => {
                "ALLOW_ANY_DYNAMIC_DNS: hosts of requests are not resolved yet, so requests to unknown hosts fail"
            }
            Self::StrictMutualTls => "STRICT: mutual TLS is not available yet, so plaintext is accepted",
            Self::SidecarTls => "TLS is not available yet: plaintext is served",
            Self::ServerTls => "TLS is not available yet: this server is not opened",
            Self::GrpcBalancing => "gRPC clients without a proxy do not have this policy: theirs is ROUND_ROBIN",
            Self::GrpcOutliers => {
                "gRPC clients without a proxy do not count errors in a row: they leave out no endpoint"
            }
            Self::GrpcNames => {
                "gRPC clients without a proxy resolve one name for a service: they cannot call this one"
            }
            Self::Claim(name) => {
                return write!(out, "{name}: JWT claims are not supported yet, so this condition never holds");
            }
        })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { port } => write!(
                out,
                "port {port}: an older service has the same address, port and match; it gets the traffic"
            ),
            Self::Hosts { port, hosts } => {
                write!(out, "port {port}: another server has {} already", hosts.join(", "))
            }
            Self::Protocol { port, own, first } => {
                write!(out, "port {port}: {own} cannot share it with {first}, which came first")
            }
            Self::PortName { port } => {
                write!(out, "port {port}: another server of this Gateway has the same port name")
            }
            Self::WithoutTls { port } => {
                write!(out, "port {port}: without TLS it cannot share the port with TLS servers")
            }
            Self::SniHosts { port, gateway } => {
                write!(out, "port {port} of {gateway}: another rule has these SNI hosts")
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delegate(delegate) => {
                write!(
                    out,
                    "delegate not found: there is no VirtualService {delegate} without hosts; this rule has no routes"
                )
            }
            Self::DelegateNotExported { delegate, to } => {
                write!(
                    out,
                    "VirtualService {delegate} is not exported to namespace {to}: this rule has no routes"
                )
            }
            Self::Gateway(gateway) => write!(out, "Gateway {gateway} not found"),
            Self::Subset { host, subset } => {
                write!(
                    out,
                    "subset {subset} of {host} not found: no DestinationRule defines it; requests get 503"
                )
            }
            Self::Host(host) => write!(out, "host {host} not found: no service has it; requests get 503"),
        }
    }
}
