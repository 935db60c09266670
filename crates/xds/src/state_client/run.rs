//! One stream at a time.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::session::Session;
use super::{Consumer, Options};
use crate::backoff::Backoff;
use crate::channel::{MAX_MESSAGE_BYTES, open_channel, seed, status_text};
use crate::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::discovery::{DiscoveryRequest, DiscoveryResponse};

/// Connects and stays connected until it is dropped. The consumer is called from this task.
pub async fn run(options: Options, mut consumer: impl Consumer) {
    let Options { address, node, type_urls } = options;
    let mut session = Session::new(node, type_urls);
    let mut backoff = Backoff::new(seed());
    loop {
        let (reason, held) = match open_channel(&address).await {
            Ok(channel) => {
                let client = AggregatedDiscoveryServiceClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES);
                let opened = Instant::now();
                (stream(client, &mut session, &mut consumer).await, opened.elapsed())
            }
            // An attempt that took long is still a failed one.
            Err(reason) => (reason, Duration::ZERO),
        };
        consumer.lost(&reason);
        tokio::time::sleep(backoff.after(held)).await;
    }
}

/// One stream to its end. Returns why it ended.
async fn stream(
    mut client: AggregatedDiscoveryServiceClient<tonic::transport::Channel>,
    session: &mut Session,
    consumer: &mut impl Consumer,
) -> String {
    let (requests, outgoing) = mpsc::unbounded_channel();
    // Before waiting: some servers answer only when they have been asked something.
    for request in session.open() {
        let _ = requests.send(request);
    }
    let call = client.stream_aggregated_resources(UnboundedReceiverStream::new(outgoing));
    let mut responses = match call.await {
        Ok(response) => response.into_inner(),
        Err(status) => return status_text(&status),
    };
    loop {
        match responses.message().await {
            Ok(Some(response)) => {
                if !answer(response, session, consumer, &requests) {
                    return "the stream was closed".into();
                }
            }
            Ok(None) => return "the server closed the stream".into(),
            Err(status) => return status_text(&status),
        }
    }
}

/// `false`: the stream takes no answers any more.
fn answer(
    mut response: DiscoveryResponse,
    session: &mut Session,
    consumer: &mut impl Consumer,
    requests: &mpsc::UnboundedSender<DiscoveryRequest>,
) -> bool {
    let type_url = response.type_url.clone();
    let (version, nonce) = (response.version_info.clone(), std::mem::take(&mut response.nonce));
    let taken = if session.asked_for(&response) { consumer.response(response) } else { Ok(()) };
    let answer = session.answer(type_url, version, nonce, taken);
    if answer.after.is_zero() {
        return requests.send(answer.request).is_ok();
    }
    // Held back beside the stream: other types are answered meanwhile. A stream that has ended takes no more.
    let requests = requests.downgrade();
    tokio::spawn(async move {
        tokio::time::sleep(answer.after).await;
        if let Some(requests) = requests.upgrade() {
            let _ = requests.send(answer.request);
        }
    });
    true
}
