//! One history: steps drawn from a seed until nothing is left to do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use xds::delta_server::{Capabilities, Connection, Kind, frame};
use xds::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds::{Message, core};

use crate::client::{Client, Proxy};
use crate::config::Config;
use crate::must::Must;
use crate::random::Random;

pub struct History {
    random: Random,
    config: Config,
    able: Capabilities,
    now: Instant,
    connection: Connection,
    client: Client,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    must: Must,
    trace: Vec<String>,
    aloud: bool,
    counts: (usize, usize, usize),
}

impl History {
    pub fn new(seed: u64, aloud: bool) -> Self {
        let mut random = Random::new(seed);
        let config = Config::new(&mut random);
        let now = Instant::now();
        let (able, client) = match random.one_in(2) {
            true => (Capabilities::ENVOY, Client::Envoy(Box::default())),
            false => {
                let session = xds::delta_client::session::Session::new(core::Node::default());
                (Capabilities::MESH, Client::Ours { session: Box::new(session), proxy: Proxy::default() })
            }
        };
        let connection = Connection::new(able, config.set(None), now);
        let must = Must::new(able);
        let (to_client, to_server) = (VecDeque::new(), VecDeque::new());
        let (trace, counts) = (Vec::new(), (0, 0, 0));
        let mut history = Self {
            random,
            config,
            able,
            now,
            connection,
            client,
            to_client,
            to_server,
            must,
            trace,
            aloud,
            counts,
        };
        history.open();
        history
    }

    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    pub fn counts(&self) -> (usize, usize, usize) {
        self.counts
    }

    pub fn run(&mut self) {
        for _ in 0..self.random.below(120) {
            match self.random.below(14) {
                0 | 1 => self.change(),
                2..=5 => {
                    self.server_sends();
                }
                6..=8 => {
                    self.client_takes();
                }
                9..=11 => {
                    self.server_takes();
                }
                12 if self.random.one_in(4) => self.reconnect(),
                _ => self.pass(Duration::from_millis(300)),
            }
            self.look();
        }
        self.settle();
        self.must.converged(&self.connection, &self.config, self.client.held());
    }

    fn tell(&mut self, line: String) {
        if self.aloud {
            println!("{line}");
        }
        self.trace.push(line);
    }

    fn change(&mut self) {
        self.config.change_some(&mut self.random);
        let set = self.config.set(Some(self.connection.current()));
        self.must.changed();
        self.tell(format!("change: generation {}", set.generation));
        self.connection.update(set);
    }

    fn open(&mut self) {
        let requests = self.client.open(self.now);
        self.say(requests);
    }

    fn say(&mut self, requests: Vec<DeltaDiscoveryRequest>) {
        for request in requests {
            self.tell(format!("client: {}", show(&request)));
            self.to_server.push_back(request);
        }
    }

    fn reconnect(&mut self) {
        self.tell("the connection is lost".into());
        self.counts.2 += 1;
        self.to_client.clear();
        self.to_server.clear();
        let set = self.config.set(Some(self.connection.current()));
        self.connection = Connection::new(self.able, set, self.now);
        self.must.reconnected(self.client.warming());
        self.open();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.time_passes();
        if self.random.one_in(4) {
            let requests = self.client.give_up_warming();
            self.say(requests);
        }
    }

    fn server_sends(&mut self) -> bool {
        let Some(response) = self.connection.next(self.now) else { return false };
        let bytes = frame::encode(&response, "simulation").whole();
        let decoded = DeltaDiscoveryResponse::decode(bytes.slice(5..)).unwrap();
        let names: Vec<String> =
            response.resources.iter().map(|e| format!("+{}={:04x}", e.name, e.version >> 48)).collect();
        let kind = Kind::of(&response.type_url).unwrap().short();
        self.tell(format!("server: {kind} {} {names:?} -{:?}", decoded.nonce, decoded.removed_resources));
        self.must.sent(&response, &self.connection);
        self.counts.0 += 1;
        self.to_client.push_back(decoded);
        true
    }

    fn client_takes(&mut self) -> bool {
        let Some(response) = self.to_client.pop_front() else { return false };
        self.must.delivered(&response, self.client.held());
        let requests = self.client.response(response, &mut self.random, self.now);
        self.say(requests);
        true
    }

    /// What is said about one type may overtake an answer of another: a client works on each by itself.
    fn server_takes(&mut self) -> bool {
        let Some(mut request) = self.to_server.pop_front() else { return false };
        let overtakes = self.to_server.iter().position(|r| r.type_url != request.type_url);
        if self.random.one_in(5)
            && !request.response_nonce.is_empty()
            && let Some(at) = overtakes
            && let Some(first) = self.to_server.remove(at)
        {
            // The order within its type stays.
            self.to_server.push_front(std::mem::replace(&mut request, first));
        }
        self.tell(format!("server hears: {}", show(&request)));
        self.must.asked(&request);
        let heard = self.connection.request(&request, self.now).unwrap();
        assert!(!heard.expired, "an answer to what was sent");
        self.counts.1 += heard.refused.len();
        for refused in &heard.refused {
            self.tell(format!("refused: {} {}", refused.name, refused.version));
        }
        self.must.heard(&request, &heard);
        true
    }

    fn look(&mut self) {
        let quiet = self.to_client.is_empty() && self.to_server.is_empty();
        self.must.hold(&self.connection, self.client.held(), quiet);
    }

    /// Everything is delivered, and time passes, until nothing happens any more.
    fn settle(&mut self) {
        let mut idle = 0;
        let mut messages = 0;
        while idle < 4 {
            let moved = [self.server_sends(), self.client_takes(), self.server_takes()];
            self.look();
            if moved.contains(&true) {
                (idle, messages) = (0, messages + 1);
                assert!(messages < 3000, "it never ends");
                continue;
            }
            idle += 1;
            self.must.warm(&self.connection, &self.client.warming());
            // Longer than any wait of the server.
            self.now += Duration::from_secs(31);
            let requests = self.client.give_up_warming();
            self.say(requests);
        }
    }
}

fn show(request: &DeltaDiscoveryRequest) -> String {
    let kind = Kind::of(&request.type_url).unwrap().short();
    let answer = match &request.error_detail {
        Some(error) => format!("NACK {} {:.60}", request.response_nonce, error.message),
        None if request.response_nonce.is_empty() => "asks".to_owned(),
        None => format!("ACK {}", request.response_nonce),
    };
    format!(
        "{kind} {answer} +{:?} -{:?} {:?}",
        request.resource_names_subscribe,
        request.resource_names_unsubscribe,
        request.initial_resource_versions.keys()
    )
}
