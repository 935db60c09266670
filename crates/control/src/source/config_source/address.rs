//! Which server or directory an entry of `configSources` means.

use std::path::PathBuf;

use api::mesh_config::ConfigSource;
use api::networking::ClientTlsMode;
use xds::delta_client::Address;

/// Where the objects of a config source come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Server(Address),
    Directory(PathBuf),
}

/// The place, or why the entry is not followed. Istio's documentation of `ConfigSource.address`: `xds://` a gRPC server,
/// `k8s://` a Kubernetes API server, `fs:///` a directory; an address without a scheme is of an MCP server.
pub(super) fn of(source: &ConfigSource) -> Result<Place, String> {
    // istiod connects in plaintext whatever this says; somebody who asked for TLS is not to get less.
    if let Some(mode) =
        source.tls_settings.as_ref().map(|tls| tls.mode).filter(|m| *m != ClientTlsMode::Disable)
    {
        let mode = mode.as_str();
        return Err(format!(
            "is not followed: tlsSettings of mode {mode} are not supported yet, only plaintext is"
        ));
    }
    let host_port = match source.address.split_once("://") {
        None => &source.address,
        Some(("xds", rest)) => rest,
        Some(("fs", path)) if path.starts_with('/') => return Ok(Place::Directory(path.into())),
        Some(("fs", _)) => return Err("is not followed: write fs:///PATH".to_owned()),
        Some(("k8s", _)) => return Err("is not followed: there is no source for Kubernetes yet".to_owned()),
        Some((scheme, _)) => return Err(format!("is not followed: unknown scheme {scheme:?}")),
    };
    match host_port.trim_end_matches('/').parse() {
        Ok(address @ Address::Tcp(_)) => Ok(Place::Server(address)),
        _ => Err("is not followed: write xds://HOST:PORT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use api::mesh_config::ConfigSourceTls;

    use super::*;

    #[test]
    fn plaintext_servers_and_directories_are_followed_and_everything_else_is_refused_by_name() {
        for (address, mode, expected) in [
            ("xds://other.mesh:15010", None, Ok("other.mesh:15010")),
            ("xds://[::1]:15010/", None, Ok("[::1]:15010")),
            ("10.0.0.7:15010", Some(ClientTlsMode::Disable), Ok("10.0.0.7:15010")),
            ("xds://other:15012", Some(ClientTlsMode::IstioMutual), Err("mode ISTIO_MUTUAL")),
            ("fs:///etc/mesh", None, Ok("/etc/mesh")),
            ("fs://etc/mesh", None, Err("fs:///PATH")),
            ("k8s://", None, Err("Kubernetes")),
            ("mcp://a:1", None, Err("unknown scheme \"mcp\"")),
            ("xds://other", None, Err("xds://HOST:PORT")),
            ("", None, Err("xds://HOST:PORT")),
        ] {
            let tls_settings = mode.map(|mode| ConfigSourceTls { mode });
            match (of(&ConfigSource { address: address.into(), tls_settings }), expected) {
                (Ok(Place::Server(found)), Ok(expected)) => assert_eq!(found.to_string(), expected),
                (Ok(Place::Directory(found)), Ok(expected)) => assert_eq!(found.to_str(), Some(expected)),
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (found, _) => panic!("{address}: {found:?}"),
            }
        }
    }
}
