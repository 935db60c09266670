//! The protocol without I/O: what to ask for, and how a response is answered.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::discovery::{DiscoveryRequest, DiscoveryResponse};
use crate::{core, rpc};

/// gRPC's code of a NACK, as Envoy sends it.
const INVALID_ARGUMENT: i32 = 3;

/// One stream after the other.
#[derive(Debug)]
pub struct Session {
    node: core::Node,
    types: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    type_url: String,
    /// The last that was accepted on this stream; empty: none.
    version: String,
    /// Refused responses on end.
    refusals: Backoff,
}

/// An answer, and how long to hold it back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub request: DiscoveryRequest,
    /// Servers of Envoy's go-control-plane send what was refused again at once. The first NACK goes at once, too; each
    /// further one on end waits, up to two seconds.
    pub after: Duration,
}

impl Session {
    pub fn new(node: core::Node, type_urls: Vec<String>) -> Self {
        let types = type_urls.into_iter().zip(1..).map(|(type_url, seed)| Asked {
            type_url,
            version: String::new(),
            refusals: Backoff::new(seed),
        });
        Self { node, types: types.collect() }
    }

    /// The first requests of a new stream.
    pub fn open(&mut self) -> Vec<DiscoveryRequest> {
        let ask = |asked: &mut Asked| {
            asked.version.clear();
            DiscoveryRequest { type_url: asked.type_url.clone(), ..Default::default() }
        };
        let mut requests: Vec<DiscoveryRequest> = self.types.iter_mut().map(ask).collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Whether a response is of a type that was asked for.
    pub fn asked_for(&self, response: &DiscoveryResponse) -> bool {
        self.types.iter().any(|asked| asked.type_url == response.type_url)
    }

    /// The ACK or NACK of a response with this type, version and nonce.
    pub fn answer(
        &mut self,
        type_url: String,
        version: String,
        nonce: String,
        taken: Result<(), String>,
    ) -> Answer {
        let mut request = DiscoveryRequest { response_nonce: nonce, ..Default::default() };
        let mut after = Duration::ZERO;
        let asked = self.types.iter_mut().find(|asked| asked.type_url == type_url);
        match (asked, taken) {
            (Some(asked), Ok(())) => {
                asked.refusals.reset();
                asked.version.clone_from(&version);
                request.version_info = version;
            }
            (Some(asked), Err(reason)) => {
                after = asked.refusals.after(Duration::ZERO);
                request.version_info.clone_from(&asked.version);
                request.error_detail = Some(refusal(reason));
            }
            (None, _) => request.error_detail = Some(refusal("this type was not asked for".to_owned())),
        }
        request.type_url = type_url;
        Answer { request, after }
    }
}

fn refusal(message: String) -> rpc::Status {
    rpc::Status { code: INVALID_ARGUMENT, message, ..Default::default() }
}
