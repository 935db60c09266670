//! One stream to the control plane.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::Address;
use crate::channel::{MAX_MESSAGE_BYTES, open_channel, status_text};
use crate::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

pub(super) struct Stream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Responses,
}

/// A server need not send its headers before it has something to say (grpcio and grpc-go do not): a client that comes
/// back with what it should have hears nothing at all.
enum Responses {
    Coming(Pin<Box<dyn Future<Output = Result<Streaming<DeltaDiscoveryResponse>, Status>> + Send>>),
    Open(Box<Streaming<DeltaDiscoveryResponse>>),
}

/// What comes over a stream.
pub(super) enum Event {
    /// The control plane takes the stream.
    Taken,
    Response(Box<DeltaDiscoveryResponse>),
    /// It was lost, for this reason.
    Lost(String),
}

impl Stream {
    /// Connects. The stream begins with the first [`Stream::next`].
    pub(super) async fn open(address: &Address) -> Result<Self, String> {
        let channel = open_channel(address).await?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (requests, outgoing) = mpsc::unbounded_channel();
        let call = async move {
            let response = client.delta_aggregated_resources(UnboundedReceiverStream::new(outgoing)).await;
            response.map(tonic::Response::into_inner)
        };
        Ok(Self { requests, responses: Responses::Coming(Box::pin(call)) })
    }

    /// Sends requests, unless the stream is lost, which [`Stream::next`] tells.
    pub(super) fn send(&self, requests: Vec<DeltaDiscoveryRequest>) {
        for request in requests {
            let _ = self.requests.send(request);
        }
    }

    /// Waits for what comes next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        let responses = match &mut self.responses {
            Responses::Open(responses) => responses,
            Responses::Coming(call) => {
                return match call.await {
                    Ok(responses) => {
                        self.responses = Responses::Open(Box::new(responses));
                        Event::Taken
                    }
                    Err(status) => Event::Lost(status_text(&status)),
                };
            }
        };
        match responses.message().await {
            Ok(Some(response)) => Event::Response(Box::new(response)),
            Ok(None) => Event::Lost("the control plane closed the stream".to_owned()),
            Err(status) => Event::Lost(status_text(&status)),
        }
    }

    /// Says the last thing, and waits until the control plane, having read it, ends its half.
    pub(super) async fn end(self, last: DeltaDiscoveryRequest) {
        let Self { requests, mut responses } = self;
        let _ = requests.send(last);
        drop(requests);
        if let Responses::Coming(call) = responses {
            let Ok(opened) = call.await else { return };
            responses = Responses::Open(Box::new(opened));
        }
        if let Responses::Open(mut responses) = responses {
            while let Ok(Some(_)) = responses.message().await {}
        }
    }
}
