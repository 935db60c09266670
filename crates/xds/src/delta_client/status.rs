//! What the admin port and `proxy-status` tell about the stream.

use std::time::SystemTime;

use serde::Serialize;

/// A snapshot of the client's state.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// Where it connects to.
    pub address: String,
    pub connected: bool,
    /// When the present stream was opened, or the last one lost.
    #[serde(serialize_with = "millis")]
    pub since: Option<SystemTime>,
    /// Attempts since the last good stream.
    pub attempts: u32,
    pub last_error: Option<String>,
    /// What the control plane calls itself.
    pub control_plane: Option<String>,
    /// Whether the configuration in use was read from disk and not yet confirmed by a control plane.
    pub from_cache: bool,
    pub types: Vec<TypeStatus>,
}

/// What is held of one type.
#[derive(Debug, Clone, Serialize)]
pub struct TypeStatus {
    pub type_url: &'static str,
    pub resources: usize,
    /// Changes whenever any resource of the type changes: a hash over all names and versions.
    pub version: String,
    #[serde(serialize_with = "millis")]
    pub last_update: Option<SystemTime>,
    /// What the last NACK of this type said; cleared by the next ACK of what it was about.
    pub last_refusal: Option<String>,
}

/// Milliseconds since 1970, as a number.
fn millis<S: serde::Serializer>(time: &Option<SystemTime>, out: S) -> Result<S::Ok, S::Error> {
    let millis = time.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|d| d.as_millis());
    match millis.and_then(|m| u64::try_from(m).ok()) {
        Some(millis) => out.serialize_some(&millis),
        None => out.serialize_none(),
    }
}
