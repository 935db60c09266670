//! Istio's metadata exchange: who the other side of a connection is, for the labels of metrics.
//!
//! An outbound sidecar sends `x-envoy-peer-metadata` (a base64 `google.protobuf.Struct`) and `x-envoy-peer-metadata-id`
//! with the first request of a connection; the inbound one remembers them for that connection and does not pass them on.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use telemetry::istio::Peer as Labels;
use xds::{Message as _, Struct, Value, value::Kind};

/// The proxy's own place in the mesh: its node id and metadata (Istio's keys: `NAME`, `NAMESPACE`, `WORKLOAD_NAME`,
/// `LABELS`, `CLUSTER_ID`, ...).
#[derive(Clone, Debug, Default)]
pub struct NodeIdentity {
    pub id: String,
    pub cluster: String,
    pub metadata: Option<xds::Struct>,
}

/// A peer as its metadata describe it. Its number stands for it where metrics are looked up.
#[derive(Debug)]
pub struct Peer {
    pub number: u64,
    pub labels: Arc<Labels>,
}

/// What we say about ourselves, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub id: Box<str>,
    pub metadata: Box<str>,
}

/// The peers one worker has seen lately, by the header they sent: two generations, so that pods of rollouts past make
/// room for those of the next. When the younger is full it becomes the older one, and what nobody sent since is dropped.
#[derive(Default)]
pub struct Peers {
    young: Generation,
    old: Generation,
    /// Never used twice: metrics are cached by it.
    last_number: u64,
}

#[derive(Default)]
struct Generation {
    by_header: HashMap<Box<[u8]>, Rc<Peer>>,
    /// Of all headers.
    bytes: usize,
}

/// What a generation may hold: a client that sends ever new metadata shall not fill our memory. Istio's metadata are
/// about 600 bytes.
const MAX_PEERS: usize = 4096;
const MAX_BYTES: usize = 1024 * 1024;
const MAX_HEADER: usize = 8 * 1024;

impl Peers {
    /// The peer that sent this header; `None` when it says nothing that can be read.
    pub fn learn(&mut self, header: &[u8]) -> Option<Rc<Peer>> {
        if let Some(peer) = self.young.by_header.get(header) {
            return Some(peer.clone());
        }
        let peer = match self.old.by_header.get(header) {
            // It keeps its number.
            Some(peer) => peer.clone(),
            None if header.len() > MAX_HEADER => return None,
            None => {
                let labels = Arc::new(decode(header)?);
                self.last_number += 1;
                Rc::new(Peer { number: self.last_number, labels })
            }
        };
        if self.young.by_header.len() >= MAX_PEERS || self.young.bytes + header.len() > MAX_BYTES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += header.len();
        self.young.by_header.insert(header.into(), peer.clone());
        Some(peer)
    }
}

/// The metadata of a header value.
fn decode(header: &[u8]) -> Option<Labels> {
    let bytes = STANDARD.decode(header).or_else(|_| STANDARD_NO_PAD.decode(header)).ok()?;
    Some(labels(&Struct::decode(bytes.as_slice()).ok()?))
}

/// The labels of metrics out of a proxy's metadata.
pub fn labels(metadata: &Struct) -> Labels {
    let text = |key: &str| string(metadata.fields.get(key)).unwrap_or_default();
    let label = |key: &str| {
        let Some(Kind::StructValue(labels)) =
            metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref())
        else {
            return None;
        };
        string(labels.fields.get(key))
    };
    let workload = text("WORKLOAD_NAME");
    let app = label("app").or_else(|| label("app.kubernetes.io/name")).unwrap_or_default();
    let version = label("version").or_else(|| label("app.kubernetes.io/version")).unwrap_or_default();
    Labels {
        namespace: text("NAMESPACE"),
        principal: String::new(),
        // Istio's order: the canonical label, then the application's name, then the workload's.
        canonical_service: label("service.istio.io/canonical-name")
            .or_else(|| Some(app.clone()).filter(|app| !app.is_empty()))
            .unwrap_or_else(|| workload.clone()),
        canonical_revision: label("service.istio.io/canonical-revision")
            .or_else(|| Some(version.clone()).filter(|version| !version.is_empty()))
            .unwrap_or_default(),
        workload,
        app,
        version,
        cluster: text("CLUSTER_ID"),
    }
}

fn string(value: Option<&Value>) -> Option<String> {
    match value?.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// The keys Istio's proxies exchange; the rest of the metadata is nobody's business.
const EXCHANGED: &[&str] =
    &["NAME", "NAMESPACE", "WORKLOAD_NAME", "OWNER", "LABELS", "CLUSTER_ID", "MESH_ID"];

impl Introduction {
    pub fn of(node: &NodeIdentity) -> Option<Introduction> {
        let metadata = node.metadata.as_ref()?;
        let fields = metadata
            .fields
            .iter()
            .filter(|(key, _)| EXCHANGED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let bytes = Struct { fields }.encode_to_vec();
        Some(Introduction { id: node.id.as_str().into(), metadata: STANDARD.encode(bytes).into() })
    }
}

/// For fuzzing: whatever a client sends as its metadata.
pub(crate) fn fuzz(header: &[u8]) {
    let mut peers = Peers::default();
    let first = peers.learn(header).map(|peer| peer.number);
    let second = peers.learn(header).map(|peer| peer.number);
    assert_eq!(first, second);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Struct {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let labels = Struct {
            fields: [("app".into(), text("reviews")), ("version".into(), text("v2"))].into_iter().collect(),
        };
        Struct {
            fields: [
                ("NAMESPACE".into(), text("default")),
                ("WORKLOAD_NAME".into(), text("reviews-v2")),
                ("CLUSTER_ID".into(), text("Kubernetes")),
                ("INSTANCE_IPS".into(), text("10.0.0.1")),
                ("LABELS".into(), Value { kind: Some(Kind::StructValue(labels)) }),
            ]
            .into_iter()
            .collect(),
        }
    }

    #[test]
    fn an_introduction_becomes_the_labels_of_metrics() {
        let node =
            NodeIdentity { id: "sidecar~1".into(), cluster: String::new(), metadata: Some(metadata()) };
        let said = Introduction::of(&node).unwrap();
        let mut peers = Peers::default();
        let peer = peers.learn(said.metadata.as_bytes()).unwrap();
        assert_eq!(peer.labels.workload, "reviews-v2");
        assert_eq!(peer.labels.canonical_service, "reviews");
        assert_eq!(peer.labels.canonical_revision, "v2");
        assert_eq!(peer.labels.cluster, "Kubernetes");
        assert_eq!(peers.learn(said.metadata.as_bytes()).unwrap().number, peer.number);
    }

    fn header_of(name: &str) -> Vec<u8> {
        let mut metadata = metadata();
        metadata.fields.insert("NAME".into(), Value { kind: Some(Kind::StringValue(name.into())) });
        STANDARD.encode(metadata.encode_to_vec()).into()
    }

    /// A busy service's clients through years of rollouts: every pod has a new name.
    #[test]
    fn pods_of_every_rollout_are_known_and_memory_stays_bounded() {
        let mut peers = Peers::default();
        let steady = header_of("gateway");
        let number = peers.learn(&steady).unwrap().number;
        let mut last = number;
        for pod in 0..3 * MAX_PEERS {
            let peer = peers.learn(&header_of(&format!("reviews-v2-{pod}"))).expect("known");
            assert_eq!(peer.labels.workload, "reviews-v2");
            assert!(peer.number > last, "a number is of one peer only");
            last = peer.number;
            assert_eq!(peers.learn(&steady).unwrap().number, number, "who stays keeps the number");
        }
        for generation in [&peers.young, &peers.old] {
            let held: usize = generation.by_header.keys().map(|header| header.len()).sum();
            assert_eq!(held, generation.bytes);
            assert!(held <= MAX_BYTES && generation.by_header.len() <= MAX_PEERS);
        }
        assert!(last > 2 * MAX_PEERS as u64);
    }

    #[test]
    fn nonsense_is_no_peer() {
        let mut peers = Peers::default();
        assert!(peers.learn(b"!!!").is_none());
        assert!(peers.learn(b"/////w==").is_none());
        assert!(peers.learn(&vec![b'A'; MAX_HEADER + 4]).is_none());
    }
}
