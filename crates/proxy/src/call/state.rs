//! Calls as they wait, run and end; and what a request keeps for its copies.

use std::sync::Arc;
use std::time::Duration;

use model::ClusterRef;

use crate::request::routed::Routed;
use crate::upstream::host::HostRef;

/// What is kept of an answer's body.
const MOST_BODY: usize = 64 * 1024;

/// A call not begun yet.
pub struct CallRequest {
    pub to: CallTo,
    /// An HTTP/1 head, and the whole body as that head frames it.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// How long it may take, answer and all.
    pub timeout: Duration,
    pub end: CallEnd,
}

/// Where a call goes.
pub enum CallTo {
    /// To a host of a cluster, picked and admitted as for any request.
    Cluster(Routed),
    /// To this host, whatever breakers say.
    Host(HostRef),
}

/// Who is told that a call has ended.
pub enum CallEnd {
    /// Nobody: a copy of a request, whose answer is thrown away.
    Nothing,
    /// The health check of a host.
    Check(CheckId),
}

/// The number of a checked host; never given to another.
pub type CheckId = u64;

/// What an exchange without a client has in place of one.
pub struct Call {
    pub(super) end: CallEnd,
    /// The answer's body, where it is asked for.
    pub(super) body: Vec<u8>,
}

impl Call {
    /// More of the answer's body.
    pub fn keep(&mut self, bytes: &[u8]) {
        if matches!(self.end, CallEnd::Check(_)) && self.body.len() + bytes.len() <= MOST_BODY {
            self.body.extend_from_slice(bytes);
        }
    }
}

/// What a call brought.
pub struct Answer {
    /// `None`: no whole answer came.
    pub status: Option<u16>,
    pub grpc_status: Option<u8>,
    pub body: Vec<u8>,
}

/// The calls of a worker.
#[derive(Default)]
pub struct Calls {
    pub(super) waiting: std::collections::VecDeque<CallRequest>,
    /// Begun and not ended.
    pub(super) active: usize,
}

impl Calls {
    pub fn active(&self) -> usize {
        self.active
    }

    /// Begun or about to be.
    pub fn all(&self) -> usize {
        self.active + self.waiting.len()
    }
}

/// What a request keeps for its copies while it comes.
pub struct Mirroring {
    pub(super) copies: Vec<Destination>,
    /// As framed if the client speaks HTTP/1, else without framing.
    pub(super) body: Vec<u8>,
    /// The trailer section of an HTTP/2 request.
    pub(super) trailers: Vec<u8>,
    pub(super) limit: usize,
}

impl Mirroring {
    /// Bytes kept.
    pub fn held(&self) -> usize {
        self.body.capacity() + self.trailers.capacity()
    }
}

pub(super) struct Destination {
    pub(super) cluster: ClusterRef,
    pub(super) host: CopyHost,
}

/// The host a copy is for.
pub(super) enum CopyHost {
    Same,
    /// With `-shadow` behind its name.
    Shadow,
    Literal(Arc<str>),
}
