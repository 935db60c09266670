//! A connection to an ADS server: how it is opened, and why it was lost in words.

use std::time::{Duration, SystemTime};

use tonic::transport::{Channel, Endpoint};

use crate::delta_client::Address;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A control plane that hangs is given up after these two.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What one message may hold. Our control plane sends far smaller ones; istiod sends all clusters in one.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 << 20;

pub(crate) async fn open_channel(address: &Address) -> Result<Channel, String> {
    let uri = match address {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|e| e.to_string())?;
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(|error| root_cause(&error))
}

pub(crate) fn status_text(status: &tonic::Status) -> String {
    use std::error::Error;
    match status.source() {
        Some(source) => root_cause(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

/// The innermost error: `Connection refused (os error 111)`, not `transport error`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Of a backoff's jitter.
pub(crate) fn seed() -> u64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |d| d.subsec_nanos());
    u64::from(nanos) << 32 | u64::from(std::process::id())
}
