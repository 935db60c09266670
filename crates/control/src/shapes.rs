//! The JSON of `/filamesh/v1/*`, as this crate writes it and the command line reads it.
//!
//! | request | answer |
//! |---|---|
//! | `GET workloads` | `[`[`WorkloadStatus`]`]` |
//! | `DELETE workloads/NAMESPACE/NAME` | 204, or 404 with [`Failure`] |
//! | `GET proxies` | `[`[`ProxyStatus`]`]` |
//! | `GET objects?kind=K&namespace=N&name=X&manifest=true` (each optional) | `[`[`ObjectStatus`]`]` |
//! | `GET problems` | `[`[`api::Problem`]`]` |
//! | `GET resolve?object=KIND/NAMESPACE/NAME&path=spec.http[1]` | [`Place`], or 404 with [`Failure`] |
//! | `GET wait?generation=N&timeout_ms=T` | [`Live`]; 504 with [`Live`] when the time is over |
//! | `GET wait?object=KIND/NAMESPACE/NAME&hash=HEX&timeout_ms=T` | the same, once that content is known |
//! | `GET wait?object=KIND/NAMESPACE/NAME&absent=true&timeout_ms=T` | the same, once the object is gone |
//!
//! What changes the mesh is asked through the Unix socket only: see [`super::change`].
//!
//! Times are milliseconds since 1970. A generation is the number of the configuration's state: it grows by one
//! with every change of objects or registrations.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// A registered workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    #[serde(flatten)]
    pub workload: Workload,
    /// Whether its sidecar's stream is open. If not, it stays for a grace.
    pub connected: bool,
    pub registered_at: u64,
}

/// A connected proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// The node id, `sidecar~10.0.0.1~web-0.default~default.svc.cluster.local`.
    pub proxy: String,
    pub name: String,
    pub namespace: String,
    /// `sidecar`, `router`, ...
    pub kind: String,
    /// `mesh`, `istio`, `vanilla` or `grpc`.
    pub profile: String,
    /// What the proxy calls itself.
    pub version: String,
    pub connected_at: u64,
    /// The newest generation that is live on it.
    pub generation: u64,
    pub types: Vec<TypeSync>,
    /// What it refuses, until it accepts a newer version.
    pub refused: Vec<Refused>,
}

/// How far one type is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeSync {
    /// `CDS`, `EDS`, `LDS`, `RDS`, `NDS`.
    #[serde(rename = "type")]
    pub kind: String,
    pub state: SyncState,
    /// Resources it holds.
    pub resources: usize,
    pub last_ack: Option<u64>,
}

/// Istio's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncState {
    #[serde(rename = "SYNCED")]
    Synced,
    /// Sent and not yet answered, or refused in part.
    #[serde(rename = "STALE")]
    Stale,
    /// The proxy has not asked for it.
    #[serde(rename = "NOT SENT")]
    NotSent,
}

/// A resource a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    #[serde(rename = "type")]
    pub kind: String,
    pub resource: String,
    pub version: String,
    pub reason: String,
}

/// An object of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// The generation in which its present content came.
    pub generation: u64,
    /// Of its content, 16 hexadecimal digits, as `api` computes it.
    pub hash: String,
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub state: ObjectState,
    /// Why it is not live as it is written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// All that is so, the gravest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub verdicts: Vec<VerdictStatus>,
    /// The revision in which it was applied; absent for one that was read from a file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<u64>,
    /// YAML or JSON that `apply` reads back as the object, as its author wrote it where that is possible. Only with a
    /// `name` or `manifest=true` in the query.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest: Option<String>,
}

/// One thing about an object that is not live as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictStatus {
    pub state: ObjectState,
    /// With the place and the path.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectState {
    Live,
    /// What the file says now is refused; the last good version is live.
    Stale,
    /// A kind that is known and not acted on.
    Ignored,
    /// What is written is refused, and there never was a good version: nothing of it is live.
    Refused,
    /// It, or something of it, gives way to another object.
    Conflicted,
    /// Something that it names is not there.
    Waiting,
    /// Something of it is not done yet, the rest is live.
    Partial,
}

impl ObjectState {
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Stale,
        Self::Conflicted,
        Self::Waiting,
        Self::Ignored,
        Self::Partial,
        Self::Live,
    ];

    /// The gravest first.
    pub(crate) fn gravity(self) -> usize {
        Self::ALL.iter().position(|state| *state == self).unwrap_or(Self::ALL.len())
    }

    /// For people, and as label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Ignored => "not acted on",
            Self::Refused => "refused",
            Self::Conflicted => "conflicted",
            Self::Waiting => "waiting",
            Self::Partial => "partly acted on",
        }
    }
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

/// How far a generation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    pub generation: u64,
    /// Connected proxies on which it is live.
    pub live: usize,
    /// Connected proxies.
    pub of: usize,
    /// Those it is not live on yet.
    pub pending: Vec<String>,
    /// What those on which it is live refused.
    pub refused: Vec<Refused>,
    /// Findings about the object that was asked for.
    pub problems: Vec<String>,
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
