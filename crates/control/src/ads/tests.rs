//! Limits of connections and streams, over real sockets with a client of HTTP/2; what they protect against is named.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use xds::discovery::DeltaDiscoveryRequest;
use xds::{Message, core, limits, type_url};

use super::*;
use crate::lock::lock;
use crate::push::published::Published;

const DEADLINE: Duration = Duration::from_secs(10);

type Sent = mpsc::UnboundedReceiver<Bytes>;
type Body = StreamBody<Frames>;

struct Frames(Sent);

impl tokio_stream::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A server whose streams never get a set of resources: nothing pushes.
async fn start(limits: Limits) -> SocketAddr {
    start_with(limits, |_| {}).await
}

async fn start_with(limits: Limits, log: fn(&str)) -> SocketAddr {
    let (events, _) = std::sync::mpsc::channel();
    let shared = Arc::new(Shared::new(Published::default(), events, log));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_within(listener, shared, limits));
    address
}

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

struct Call {
    requests: mpsc::UnboundedSender<Bytes>,
    body: Incoming,
}

impl Call {
    async fn open(sender: &mut SendRequest<Body>, path: &str) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let request =
            Request::post(format!("http://control{path}")).body(StreamBody::new(Frames(received))).unwrap();
        let response = tokio::time::timeout(DEADLINE, sender.send_request(request)).await.unwrap().unwrap();
        Self { requests, body: response.into_body() }
    }

    fn say(&self, request: &DeltaDiscoveryRequest) {
        let body = request.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend(body);
        // The stream may have ended.
        let _ = self.requests.send(frame.into());
    }

    /// Code and message at the end of the stream.
    async fn ends(mut self) -> (String, String) {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("it ends");
            match frame.expect("trailers").map(Frame::into_trailers) {
                Ok(Ok(trailers)) => {
                    let text = |name: &str| trailers[name].to_str().unwrap().to_owned();
                    return (text("grpc-status"), text("grpc-message"));
                }
                Ok(Err(_)) => {}
                Err(error) => return ("reset".into(), error.to_string()),
            }
        }
    }
}

fn node(id: &str) -> core::Node {
    core::Node { id: id.into(), ..Default::default() }
}

fn asks(node: core::Node, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node),
        type_url: type_url::CLUSTER.into(),
        resource_names_subscribe: names,
        ..Default::default()
    }
}

const GOOD: &str = "sidecar~10.0.0.1~a.b~b.svc.cluster.local";

fn soon() -> Limits {
    Limits { first_word: Duration::from_millis(100), ..Limits::default() }
}

/// A peer that connects and says nothing, or only half a preface, holds a descriptor for no longer than that.
#[tokio::test]
async fn a_connection_without_a_word_is_ended() {
    let address = start(soon()).await;
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nS"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        // Reset or closed: both end it.
        let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is ended");
    }
    // One that opened HTTP/2 and no stream.
    let sender = connect(address).await;
    let start = Instant::now();
    while !sender.is_closed() {
        assert!(start.elapsed() < DEADLINE, "it is ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_connection_whose_streams_have_ended_is_ended() {
    let limits = Limits { without_stream: Duration::from_millis(50), ..soon() };
    let mut sender = connect(start(limits).await).await;
    let call = Call::open(&mut sender, DELTA).await;
    call.say(&asks(node("nonsense"), Vec::new()));
    assert_eq!(call.ends().await.0, "3");
    let start = Instant::now();
    while !sender.is_closed() {
        assert!(start.elapsed() < DEADLINE, "it is ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Of each stream once, in its first request or in a later one; a sidecar may ask for what it likes.
#[tokio::test]
async fn a_grpc_server_that_asks_for_its_listener_is_named() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let lines = || lock(&LINES).clone();
    let address = start_with(Limits::default(), |line| lock(&LINES).push(line.to_owned())).await;
    let mut sender = connect(address).await;
    let metadata = serde_json::json!({"GENERATOR": "grpc"});
    let grpc = |id: &str| core::Node {
        metadata: metadata.as_object().map(crate::node::metadata_struct),
        ..node(id)
    };
    let own = |port: u16| format!("{}10.0.0.1:{port}", crate::translate::grpc::SERVER_LISTENER);
    let of = |node, names| DeltaDiscoveryRequest { type_url: type_url::LISTENER.into(), ..asks(node, names) };
    for (id, first, second) in [
        (GOOD, vec!["web:80".to_owned()], vec![own(1)]),
        ("sidecar~10.0.0.2~b.b~b.svc.cluster.local", vec![own(2)], vec![own(3)]),
    ] {
        let call = Call::open(&mut sender, DELTA).await;
        call.say(&of(grpc(id), first));
        call.say(&DeltaDiscoveryRequest { node: None, ..of(grpc(id), second) });
        // Ends the stream, so that all before has been read.
        call.say(&of(node("nonsense"), Vec::new()));
        assert_eq!(call.ends().await.0, "3");
    }
    let call = Call::open(&mut sender, DELTA).await;
    call.say(&of(node(GOOD), vec![own(4)]));
    call.say(&of(node("nonsense"), Vec::new()));
    assert_eq!(call.ends().await.0, "3");
    let said: Vec<String> = lines().into_iter().filter(|line| line.contains("gRPC servers")).collect();
    let [first, second] = said.as_slice() else { panic!("{said:?}") };
    assert!(first.starts_with(GOOD) && first.ends_with(&own(1)), "{first}");
    assert!(second.ends_with(&own(2)), "{second}");
}

/// A stream that never names its node.
#[tokio::test]
async fn a_stream_without_a_first_request_is_ended() {
    let mut sender = connect(start(soon()).await).await;
    for path in [DELTA, STATE_OF_THE_WORLD] {
        let call = Call::open(&mut sender, path).await;
        let (code, message) = call.ends().await;
        assert_eq!((code.as_str(), message.as_str()), ("4", "the stream's first request did not come"));
    }
}

/// One that has named its node stays, also while there is nothing to send it.
#[tokio::test]
async fn a_stream_that_is_served_is_not_ended() {
    let limits = Limits { without_stream: Duration::from_millis(20), ..soon() };
    let mut sender = connect(start(limits).await).await;
    let mut call = Call::open(&mut sender, DELTA).await;
    call.say(&asks(node(GOOD), Vec::new()));
    let ended = tokio::time::timeout(Duration::from_millis(500), call.body.frame()).await;
    assert!(ended.is_err(), "it was ended: {ended:?}");
}

#[tokio::test]
async fn what_a_peer_says_of_itself_is_limited() {
    let mut sender = connect(start(Limits::default()).await).await;
    let many = || (0..20_000).map(|i| format!("outbound|80||service-{i}")).collect::<Vec<_>>();
    let fat = core::Node { cluster: "x".repeat(limits::NODE_BYTES), ..node(GOOD) };
    let large = DeltaDiscoveryRequest { node: None, ..asks(node(GOOD), many()) };
    for (what, request, message) in [
        ("a fat node", asks(fat.clone(), Vec::new()), "limit is 65536; shorten its metadata"),
        ("a fat node with many names", asks(fat, many()), "limit is 65536; shorten its metadata"),
        ("names of nobody", large, "does not begin with the node"),
        ("no node", DeltaDiscoveryRequest { node: None, ..asks(node(GOOD), Vec::new()) }, "names no node"),
        ("a node that is refused", asks(node("x"), many()), "expected TYPE~ADDRESS"),
        (
            "an id with line breaks",
            asks(node("sidecar~10.0.0.1~a.b~c\n"), Vec::new()),
            "expected TYPE~ADDRESS",
        ),
    ] {
        let call = Call::open(&mut sender, DELTA).await;
        call.say(&request);
        let (code, said) = call.ends().await;
        assert_eq!(code, "3", "{what}: {said}");
        assert!(said.contains(message), "{what}: {said}");
    }
}

/// Parts of large requests wait in memory: of all streams together no more than a budget.
#[tokio::test]
async fn large_requests_in_part_are_limited_in_all() {
    let budget = 3 << 20;
    let mut sender = connect(start(Limits { request_bytes_in_all: budget, ..Limits::default() }).await).await;
    let large = |bytes: usize| {
        let mut frame = vec![0];
        frame.extend(u32::try_from(bytes).unwrap().to_be_bytes());
        Bytes::from(frame)
    };
    let mut waiting = Vec::new();
    for bytes in
        [limits::USUAL_REQUEST_BYTES + 1, limits::USUAL_REQUEST_BYTES + 1, limits::USUAL_REQUEST_BYTES + 1]
    {
        let call = Call::open(&mut sender, DELTA).await;
        call.say(&asks(node(GOOD), Vec::new()));
        call.requests.send(large(bytes)).unwrap();
        waiting.push(call);
    }
    // Which of them comes last is the scheduler's; one finds no room.
    let mut ended = Vec::new();
    for mut call in waiting {
        if let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_millis(500), call.body.frame()).await
        {
            ended.push(frame.into_trailers().unwrap()["grpc-status"].to_str().unwrap().to_owned());
        }
    }
    assert_eq!(ended, ["8"]);
}

#[tokio::test]
async fn connections_and_streams_are_limited() {
    let address = start(Limits { connections: 2, ..Limits::default() }).await;
    let mut first = connect(address).await;
    let mut second = connect(address).await;
    let mut calls = vec![Call::open(&mut first, DELTA).await, Call::open(&mut second, DELTA).await];
    let mut third = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, third.read_to_end(&mut rest)).await.expect("one too many");
    for _ in 1..limits::STREAMS_PER_CONNECTION {
        calls.push(Call::open(&mut first, DELTA).await);
    }
    let (_requests, received) = mpsc::unbounded_channel();
    let one_more =
        Request::post(format!("http://control{DELTA}")).body(StreamBody::new(Frames(received))).unwrap();
    let answered = tokio::time::timeout(Duration::from_millis(300), first.send_request(one_more)).await;
    assert!(answered.is_err(), "a stream too many waits until another ends");
    drop(calls);
}

/// Header fields beyond the limit end the stream, not the server.
#[tokio::test]
async fn header_fields_are_limited() {
    let address = start(Limits::default()).await;
    let mut sender = connect(address).await;
    // Its limit is known when the server's settings have come.
    drop(Call::open(&mut sender, DELTA).await);
    let (_requests, received) = mpsc::unbounded_channel();
    let request = Request::post(format!("http://control{DELTA}"))
        .header("x-large", "x".repeat(limits::HEADER_BYTES))
        .body(StreamBody::new(Frames(received)))
        .unwrap();
    let answered = tokio::time::timeout(DEADLINE, sender.send_request(request)).await.expect("an answer");
    assert!(
        answered.is_err()
            || answered.is_ok_and(|r| r.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    );
    let mut other = connect(address).await;
    drop(Call::open(&mut other, DELTA).await);
}
