//! Which kinds there are, and what becomes of each.

/// What is known of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Read in full.
    Supported,
    /// A kind of Kubernetes, Istio or the Gateway API that is not acted on.
    Unsupported,
    /// The kind exists, in other versions.
    WrongVersion(&'static [&'static str]),
    /// No such kind in this group, or no such group.
    Unknown,
}

/// The name of the ConfigMap that holds the mesh configuration, in the root namespace.
pub const MESH_CONFIG_MAP: &str = "istio";

struct Group {
    name: &'static str,
    kinds: &'static [Kind],
}

struct Kind {
    name: &'static str,
    /// Empty: any.
    versions: &'static [&'static str],
    supported: bool,
    cluster_scoped: bool,
}

/// Tells what is known of `kind` in `api_version` (`group/version`, or `v1` for the core group).
pub fn lookup(api_version: &str, kind: &str) -> Known {
    let (group, version) = split(api_version);
    let Some(found) = find(group, kind) else {
        return Known::Unknown;
    };
    if !found.versions.is_empty() && !found.versions.contains(&version) {
        return Known::WrongVersion(found.versions);
    }
    if found.supported { Known::Supported } else { Known::Unsupported }
}

/// The API versions in which `kind` exists, for messages.
pub(crate) fn groups_of(kind: &str) -> Vec<&'static str> {
    GROUPS
        .iter()
        .filter(|group| group.kinds.iter().any(|known| known.name == kind))
        .map(|group| group.name)
        .collect()
}

/// The kinds of a group, for messages.
pub(crate) fn kinds_in(api_version: &str) -> Vec<&'static str> {
    let group = split(api_version).0;
    let found = GROUPS.iter().find(|known| known.name == group);
    found.map_or_else(Vec::new, |group| group.kinds.iter().map(|kind| kind.name).collect())
}

/// Whether objects of a kind are in no namespace.
pub fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    find(split(api_version).0, kind).is_some_and(|kind| kind.cluster_scoped)
}

/// Short names, as `kubectl api-resources` lists them.
const SHORT: &[(&str, &str)] = &[
    ("VirtualService", "vs"),
    ("DestinationRule", "dr"),
    ("ServiceEntry", "se"),
    ("Gateway", "gw"),
    ("Gateway", "gtw"),
    ("GatewayClass", "gc"),
    ("WorkloadEntry", "we"),
    ("WorkloadGroup", "wg"),
    ("PeerAuthentication", "pa"),
    ("RequestAuthentication", "ra"),
    ("AuthorizationPolicy", "ap"),
    ("ReferenceGrant", "refgrant"),
    ("Service", "svc"),
    ("Namespace", "ns"),
    ("Pod", "po"),
    ("Node", "no"),
    ("Endpoints", "ep"),
    ("Deployment", "deploy"),
    ("StatefulSet", "sts"),
    ("DaemonSet", "ds"),
    ("ReplicaSet", "rs"),
    ("ServiceAccount", "sa"),
    ("ConfigMap", "cm"),
    ("Ingress", "ing"),
];

/// Whether `word` means this kind, as kubectl takes it: singular, plural or short, in any case, and with the group
/// behind a point where two groups have a kind of the name (`gateway.networking.istio.io`).
pub fn is_named(group: &str, kind: &str, word: &str) -> bool {
    let (word, of_group) = match word.split_once('.') {
        Some((word, rest)) => (word, Some(rest)),
        None => (word, None),
    };
    // Between the two there may be a version: `gateways.v1.networking.istio.io`.
    let same_group = |wanted: &str| {
        wanted.eq_ignore_ascii_case(group)
            || wanted.split_once('.').is_some_and(|(version, wanted)| {
                version.starts_with('v') && wanted.eq_ignore_ascii_case(group)
            })
    };
    if !of_group.is_none_or(same_group) {
        return false;
    }
    let (kind_word, word) = (kind.to_lowercase(), word.to_lowercase());
    let plural = match kind_word.strip_suffix('y') {
        Some(stem) if !kind_word.ends_with("ay") => format!("{stem}ies"),
        _ if kind_word.ends_with("endpoints") => kind_word.clone(),
        _ if kind_word.ends_with('s') => format!("{kind_word}es"),
        _ => format!("{kind_word}s"),
    };
    word == kind_word || word == plural || SHORT.iter().any(|(known, short)| *known == kind && *short == word)
}

/// The kind meant by `word`, as [`is_named`] takes it; of several, Istio's.
pub fn named(word: &str) -> Option<&'static str> {
    let all = GROUPS.iter().flat_map(|group| group.kinds.iter().map(|kind| (group.name, kind.name)));
    let mut meant = all.filter(|(group, kind)| is_named(group, kind, word));
    meant.next().map(|(_, kind)| kind)
}

/// Group and version.
pub(crate) fn split(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

fn find(group: &str, kind: &str) -> Option<&'static Kind> {
    GROUPS.iter().find(|known| known.name == group)?.kinds.iter().find(|known| known.name == kind)
}

const fn read(name: &'static str, versions: &'static [&'static str]) -> Kind {
    Kind { name, versions, supported: true, cluster_scoped: false }
}

const fn known(name: &'static str) -> Kind {
    Kind { name, versions: &[], supported: false, cluster_scoped: false }
}

const fn versioned(name: &'static str, versions: &'static [&'static str]) -> Kind {
    Kind { versions, ..known(name) }
}

const fn cluster(name: &'static str) -> Kind {
    Kind { cluster_scoped: true, ..known(name) }
}

const V1: &[&str] = &["v1"];
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const GROUPS: &[Group] = &[
    Group {
        name: "",
        kinds: &[
            read("Service", V1),
            Kind { cluster_scoped: true, ..read("Namespace", V1) },
            read("Pod", V1),
            read("ConfigMap", V1),
            known("Secret"),
            known("ServiceAccount"),
            known("Endpoints"),
            cluster("Node"),
            cluster("PersistentVolume"),
            known("PersistentVolumeClaim"),
            known("ReplicationController"),
            known("LimitRange"),
            known("ResourceQuota"),
            known("Event"),
            known("PodTemplate"),
        ],
    },
    Group {
        name: "apps",
        kinds: &[
            read("Deployment", V1),
            read("StatefulSet", V1),
            read("DaemonSet", V1),
            read("ReplicaSet", V1),
            known("ControllerRevision"),
        ],
    },
    Group { name: "discovery.k8s.io", kinds: &[read("EndpointSlice", &["v1", "v1beta1"])] },
    Group { name: "batch", kinds: &[known("Job"), known("CronJob")] },
    Group {
        name: "rbac.authorization.k8s.io",
        kinds: &[known("Role"), known("RoleBinding"), cluster("ClusterRole"), cluster("ClusterRoleBinding")],
    },
    Group {
        name: "networking.k8s.io",
        kinds: &[known("Ingress"), cluster("IngressClass"), known("NetworkPolicy")],
    },
    Group { name: "extensions", kinds: &[known("Ingress"), cluster("PodSecurityPolicy")] },
    Group { name: "policy", kinds: &[known("PodDisruptionBudget"), cluster("PodSecurityPolicy")] },
    Group { name: "autoscaling", kinds: &[known("HorizontalPodAutoscaler")] },
    Group {
        name: "admissionregistration.k8s.io",
        kinds: &[
            cluster("ValidatingWebhookConfiguration"),
            cluster("MutatingWebhookConfiguration"),
            cluster("ValidatingAdmissionPolicy"),
            cluster("ValidatingAdmissionPolicyBinding"),
        ],
    },
    Group { name: "apiextensions.k8s.io", kinds: &[cluster("CustomResourceDefinition")] },
    Group { name: "apiregistration.k8s.io", kinds: &[cluster("APIService")] },
    Group {
        name: "storage.k8s.io",
        kinds: &[cluster("StorageClass"), cluster("CSIDriver"), cluster("VolumeAttachment")],
    },
    Group { name: "scheduling.k8s.io", kinds: &[cluster("PriorityClass")] },
    Group { name: "coordination.k8s.io", kinds: &[known("Lease")] },
    Group {
        name: "certificates.k8s.io",
        kinds: &[cluster("CertificateSigningRequest"), cluster("ClusterTrustBundle")],
    },
    Group {
        name: "networking.istio.io",
        kinds: &[
            read("VirtualService", NETWORKING),
            read("DestinationRule", NETWORKING),
            read("ServiceEntry", NETWORKING),
            read("Gateway", NETWORKING),
            read("Sidecar", NETWORKING),
            read("WorkloadEntry", NETWORKING),
            read("WorkloadGroup", NETWORKING),
            versioned("EnvoyFilter", &["v1alpha3"]),
            versioned("ProxyConfig", &["v1beta1"]),
        ],
    },
    Group {
        name: "security.istio.io",
        kinds: &[
            read("PeerAuthentication", &["v1", "v1beta1"]),
            versioned("AuthorizationPolicy", &["v1", "v1beta1"]),
            versioned("RequestAuthentication", &["v1", "v1beta1"]),
        ],
    },
    Group { name: "telemetry.istio.io", kinds: &[versioned("Telemetry", &["v1", "v1alpha1"])] },
    Group {
        name: "extensions.istio.io",
        kinds: &[versioned("WasmPlugin", &["v1alpha1"]), versioned("TrafficExtension", &["v1alpha1"])],
    },
    Group { name: "install.istio.io", kinds: &[known("IstioOperator")] },
    Group {
        name: "gateway.networking.k8s.io",
        kinds: &[
            known("Gateway"),
            cluster("GatewayClass"),
            known("HTTPRoute"),
            known("GRPCRoute"),
            known("TCPRoute"),
            known("TLSRoute"),
            known("UDPRoute"),
            known("ReferenceGrant"),
            known("BackendTLSPolicy"),
            known("ListenerSet"),
        ],
    },
    Group {
        name: "gateway.networking.x-k8s.io",
        kinds: &[known("XListenerSet"), known("XBackendTrafficPolicy"), known("XMesh")],
    },
    Group { name: "inference.networking.k8s.io", kinds: &[known("InferencePool")] },
    Group { name: "multicluster.x-k8s.io", kinds: &[known("ServiceExport"), known("ServiceImport")] },
    // Companions that Istio's own samples and tasks bring along.
    Group {
        name: "spire.spiffe.io",
        kinds: &[cluster("ClusterSPIFFEID"), cluster("ClusterFederatedTrustDomain")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of `kubectl api-resources` on a cluster with Istio and the Gateway API.
    #[test]
    fn kinds_are_named_as_in_kubectl() {
        for (group, kind, word, same) in [
            ("networking.istio.io", "VirtualService", "virtualservice", true),
            ("networking.istio.io", "VirtualService", "VirtualServices", true),
            ("networking.istio.io", "VirtualService", "vs", true),
            ("networking.istio.io", "ServiceEntry", "serviceentries", true),
            ("networking.istio.io", "ServiceEntry", "se", true),
            ("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", true),
            ("networking.istio.io", "Gateway", "gateways", true),
            ("networking.istio.io", "Gateway", "gatewaies", false),
            ("networking.istio.io", "Gateway", "gateway.networking.istio.io", true),
            ("networking.istio.io", "Gateway", "gateways.v1.networking.istio.io", true),
            ("networking.istio.io", "Gateway", "gateway.gateway.networking.k8s.io", false),
            ("gateway.networking.k8s.io", "Gateway", "gw", true),
            ("gateway.networking.k8s.io", "GatewayClass", "gatewayclasses", true),
            ("", "Service", "svc", true),
            ("", "Service", "ServiceEntry", false),
            ("", "Endpoints", "endpoints", true),
            ("networking.k8s.io", "Ingress", "ingresses", true),
            ("apps", "Deployment", "deployments.apps", true),
        ] {
            assert_eq!(is_named(group, kind, word), same, "{kind}.{group} {word}");
        }
        assert_eq!(
            (named("vs"), named("svc"), named("nothing")),
            (Some("VirtualService"), Some("Service"), None)
        );
    }
}
