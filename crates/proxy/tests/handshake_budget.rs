//! A worker driven by hand over the kernel's sockets: what a turn does is counted, not timed.

mod common;
#[path = "common/layer.rs"]
mod layer;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{bootstrap, http, http_listener, typed};
use layer::{Late, LateLayers};
use mio::{Events, Poll, Token};
use proxy::ProxyOptions;
use proxy::machine::{Acceptor, Command, Event, Listen, Mailbox, Shared, WAKER, Worker};
use proxy::net::kernel::Kernel;
use serde_json::json;

const CLIENTS: usize = 40;
/// What a worker allows itself.
const STEPS_IN_A_TURN: usize = 16;

struct Driven {
    poll: Poll,
    worker: Worker,
    late: Arc<Late>,
    /// Steps of handshakes in each turn so far in which there were any.
    steps: Vec<usize>,
}

impl Driven {
    fn new(late: &Arc<Late>, socket: socket2::Socket) -> Driven {
        let poll = Poll::new().unwrap();
        let (queue, commands) = channel();
        let waker = Arc::new(mio::Waker::new(poll.registry(), Token(WAKER as usize)).unwrap());
        let mailbox = Mailbox { queue, waker };
        let options =
            ProxyOptions { layers: Some(Arc::new(LateLayers(late.clone()))), ..ProxyOptions::default() };
        let shared = Arc::new(Shared::new(&options, vec![mailbox.clone()], 10_000, 1));
        let mut listener = http_listener(http(
            json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 204 } }]),
        ));
        let url = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
        let context = json!({ "tls_certificate_sds_secret_configs": [{ "name": "default" }] });
        listener["filter_chains"][0]["transport_socket"] =
            json!({ "name": "tls", "typed_config": typed(url, json!({ "common_tls_context": context })) });
        let mut config = model::bootstrap::from_bootstrap(&bootstrap(&listener, &[])).unwrap().config;
        let network = Box::new(Kernel::new(poll.registry().try_clone().unwrap()));
        let worker = Worker::new(0, network, commands, shared, config.snapshot());
        let socket = Acceptor::Kernel(socket);
        mailbox.send(Command::Listen(Listen { socket, listener: "main".into(), redirected: false }));
        Driven { poll, worker, late: late.clone(), steps: vec![] }
    }

    /// Turns until this holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Late) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        let mut events = Events::with_capacity(256);
        while !holds(&self.late) {
            assert!(Instant::now() < end, "never: {what}");
            let sleep = self.worker.sleep().unwrap_or(Duration::MAX).min(Duration::from_millis(10));
            self.poll.poll(&mut events, Some(sleep)).unwrap();
            let before = self.late.steps.load(SeqCst);
            self.worker.turn(events.iter().map(Event::from));
            let steps = self.late.steps.load(SeqCst) - before;
            self.steps.extend((steps > 0).then_some(steps));
        }
    }
}

#[test]
fn a_turn_takes_few_steps_of_handshakes_and_nobody_waits_in_vain() {
    let late = Late::picking(&["http/1.1"]);
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listening.set_nonblocking(true).unwrap();
    let address = listening.local_addr().unwrap();
    let mut driven = Driven::new(&late, listening.into());
    // All are there, and have said their first words, before the worker looks.
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        client.write_all(&layer::record(b"offers http/1.1")).unwrap();
    }
    driven.until("all have been heard", |late| late.offers.lock().unwrap().len() == CLIENTS);
    for client in &mut clients {
        assert_eq!(layer::read_record(client), b"hello");
        client.write_all(&layer::record(b"me x")).unwrap();
    }
    driven.until("all have shaken hands", |late| late.finished.load(SeqCst) == CLIENTS);
    assert!(driven.steps.iter().all(|steps| *steps <= STEPS_IN_A_TURN), "{:?}", driven.steps);
    // Two for each, and not many in vain.
    let all: usize = driven.steps.iter().sum();
    assert!((2 * CLIENTS..=3 * CLIENTS).contains(&all), "{all}");
    assert!(driven.steps.contains(&STEPS_IN_A_TURN), "{:?}", driven.steps);
    // And the connections are good for requests.
    let client = &mut clients[CLIENTS - 1];
    assert_eq!(layer::read_record(client), b"picked http/1.1");
    client.write_all(&layer::record(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).unwrap();
    driven.until("the client is told of the end", |late| late.ends.load(SeqCst) == 1);
    assert!(layer::read_record(client).starts_with(b"HTTP/1.1 204 "));
    assert_eq!(layer::read_record(client), b"", "the end is announced");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = vec![];
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}
