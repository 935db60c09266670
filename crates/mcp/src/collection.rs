//! The collections that are asked for: each kind in each version that servers name it by.
//!
//! Istio names a collection by the version that its own store uses, which has changed with its releases: `v1alpha3` of
//! networking and `v1beta1` of security in older ones, `v1` in newer (istio/istio `pkg/config/schema/gvk`). A server knows one of
//! them and answers the others with nothing, or not at all, so both are asked for and all versions of a kind are one set of
//! objects.
//!
//! Not asked for, as nothing here acts on them: EnvoyFilter, ProxyConfig, WasmPlugin, TrafficExtension, the Gateway API's
//! kinds and Kubernetes' own; and `MeshConfig`, which a control plane has of its own.

/// One kind in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collection {
    /// `networking.istio.io/v1/VirtualService`, as it is asked for.
    pub type_url: &'static str,
    /// `networking.istio.io/v1`
    pub api_version: &'static str,
    pub kind: &'static str,
    /// The full name of the kind's message, the same in every version.
    pub message: &'static str,
}

impl Collection {
    /// The collection of this type URL if it is one that is asked for.
    pub fn of(type_url: &str) -> Option<&'static Self> {
        COLLECTIONS.iter().find(|collection| collection.type_url == type_url)
    }

    /// `networking.istio.io`
    pub fn group(&self) -> &'static str {
        self.api_version.split('/').next().unwrap_or_default()
    }
}

macro_rules! collections {
    ($($group:literal $package:literal [$($version:literal)+] { $($kind:literal)+ })+) => {
        // Versions of a kind in the order of preference, within each group.
        collections!(@each [] $([$group $package [$($version)+] [$($kind)+]])+);
    };
    (@each [$($done:tt)*] [$group:literal $package:literal [$($version:literal)*] []] $($rest:tt)*) => {
        collections!(@each [$($done)*] $($rest)*);
    };
    (@each [$($done:tt)*] [$group:literal $package:literal [$($version:literal)*] [$kind:literal $($kinds:literal)*]]
     $($rest:tt)*) => {
        collections!(@each [$($done)* $(Collection {
            type_url: concat!($group, "/", $version, "/", $kind),
            api_version: concat!($group, "/", $version),
            kind: $kind,
            message: concat!($package, ".", $kind),
        },)*] [$group $package [$($version)*] [$($kinds)*]] $($rest)*);
    };
    (@each [$($done:tt)*]) => {
        /// All of them. Of the versions of a kind the first that has an object counts.
        pub const COLLECTIONS: &[Collection] = &[$($done)*];
    };
}

collections! {
    "networking.istio.io" "istio.networking.v1alpha3" ["v1" "v1alpha3"] {
        "ServiceEntry" "WorkloadEntry" "WorkloadGroup" "DestinationRule" "VirtualService" "Gateway" "Sidecar"
    }
    "security.istio.io" "istio.security.v1beta1" ["v1" "v1beta1"] {
        "PeerAuthentication" "RequestAuthentication" "AuthorizationPolicy"
    }
    "telemetry.istio.io" "istio.telemetry.v1alpha1" ["v1" "v1alpha1"] {
        "Telemetry"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_found_by_what_it_is_asked_for() {
        let found = Collection::of("networking.istio.io/v1alpha3/VirtualService").unwrap();
        assert_eq!(
            (found.api_version, found.kind, found.message, found.group()),
            (
                "networking.istio.io/v1alpha3",
                "VirtualService",
                "istio.networking.v1alpha3.VirtualService",
                "networking.istio.io"
            )
        );
        assert_eq!(Collection::of("networking.istio.io/v1alpha3/EnvoyFilter"), None);
        let kinds: std::collections::BTreeSet<_> = COLLECTIONS.iter().map(|c| (c.group(), c.kind)).collect();
        assert_eq!((COLLECTIONS.len(), kinds.len()), (22, 11));
    }
}
