//! The client end of delta ADS, as our proxy uses it.
//!
//! One task keeps one stream to the control plane. What arrives goes to the [`Consumer`] in batches; what it
//! refuses is NACKed by name, everything else is live. The last good configuration is kept on disk, so that a
//! proxy starts without a control plane, and offered by version on every connect, so that nothing it holds
//! is sent again.
//!
//! | module | what |
//! |---|---|
//! | [`session`] | the protocol without I/O: responses in, requests out |
//! | `held` | what is held of one type |
//! | `types` | the types asked for |
//! | `run` | the task: one stream at a time |
//! | `stream` | one stream |
//! | `keeping` | writing to disk beside the task |
//! | [`cache`] | the last good configuration on disk |
//! | [`status`] | what the admin port tells |

pub mod cache;
mod held;
mod keeping;
mod run;
pub mod session;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Any, core};

pub use cache::{Cache, CacheError};
pub use run::{Client, GoodbyeError};
pub use status::{Status, TypeStatus};

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    pub address: Address,
    /// Sent with the first request of every stream: id, metadata, user agent.
    pub node: core::Node,
    /// The file of the last good configuration. `None`: nothing is kept.
    pub cache: Option<PathBuf>,
}

/// Where the control plane listens, plaintext HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; names are resolved on every attempt.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// Whoever turns resources into behaviour.
///
/// Both functions are called from the client's task, never at the same time; they may take milliseconds,
/// not seconds.
pub trait Consumer: Send + 'static {
    /// Applies one batch. What cannot be applied is returned with the reason and stays as it was before;
    /// everything else is live when this returns.
    fn apply(&mut self, update: &Update) -> Vec<Refusal>;

    /// The names it needs of a type that is asked for by name ([`crate::type_url::ENDPOINT`],
    /// [`crate::type_url::ROUTE`]). Asked again after every batch.
    fn wanted(&self, type_url: &str) -> Vec<String>;
}

/// Changes of one type.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// One of the constants in [`crate::type_url`].
    pub type_url: &'static str,
    /// Added or changed.
    pub resources: Vec<Resource>,
    /// Names of what is gone. A name never held may be among them: it does not exist.
    pub removed: Vec<String>,
}

/// One resource as it came over the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub name: String,
    pub version: String,
    pub body: Any,
}

/// A resource that could not be applied, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub name: String,
    /// For the operator: names the field, without the resource's name.
    pub reason: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(AddressError(text.to_owned()))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        match port.map(|(_, port)| port.parse::<u16>()) {
            Some(Ok(port)) if port != 0 => Ok(Self::Tcp(text.to_owned())),
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

/// Not an address of a control plane.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a control plane's address: write host:port or unix:/path")]
pub struct AddressError(String);

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => out.write_str(address),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}
