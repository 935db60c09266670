//! What one push of one endpoint costs the protocol: a stream that holds a thousand services, told of a new set, asked for
//! the response, given the acknowledgement. `cargo run --release -p filamesh-xds --example push_cost [STREAMS] [PUSHES]`

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Instant;

use xds::delta_server::{Capabilities, Connection, Entry, Kind, Layer, ResourceSet, TypeSet, frame};
use xds::discovery::DeltaDiscoveryRequest;

const SERVICES: usize = 1000;

fn name(service: usize) -> String {
    format!("outbound|8080||service-{service}.namespace-{}.svc.cluster.local", service % 20)
}

fn entry(kind: Kind, name: &str, bytes: usize, content: usize) -> Arc<Entry> {
    let mut body = vec![7; bytes];
    body.extend(content.to_le_bytes());
    Arc::new(Entry::new(kind, name, (kind == Kind::Cluster).then_some(name), &body))
}

fn ask(kind: Kind, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names,
        ..Default::default()
    }
}

fn answer(connection: &mut Connection, now: Instant) -> usize {
    let mut responses = 0;
    while let Some(response) = connection.next(now) {
        let bytes = frame::encode(&response, "example");
        std::hint::black_box(&bytes);
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.to_string(),
            response_nonce: format!("{:x}", response.nonce),
            ..Default::default()
        };
        let heard = connection.request(&ack, now);
        assert!(heard.is_ok_and(|heard| !heard.expired));
        responses += 1;
    }
    responses
}

fn main() {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse().ok());
    let (streams, pushes): (usize, usize) = (number(1).unwrap_or(1000), number(2).unwrap_or(50));
    let names: Vec<String> = (0..SERVICES).map(name).collect();
    let of = |kind, bytes| -> Vec<Arc<Entry>> { names.iter().map(|n| entry(kind, n, bytes, 0)).collect() };
    let (clusters, mut endpoints) = (of(Kind::Cluster, 400), of(Kind::Endpoint, 200));
    let fixed: [Arc<TypeSet>; Kind::COUNT] = std::array::from_fn(|kind| match kind {
        0 => Arc::new(TypeSet::new(clusters.clone())),
        2 => Arc::new(TypeSet::new(vec![entry(Kind::Listener, "0.0.0.0_8080", 2000, 0)])),
        3 => Arc::new(TypeSet::new(vec![entry(Kind::Route, "8080", 500_000, 0)])),
        _ => Arc::default(),
    });
    let set = |generation, endpoints: &[Arc<Entry>]| {
        let mut types = fixed.clone();
        types[1] = Arc::new(TypeSet::new(endpoints.to_vec()));
        let (shared, own) = (Arc::new(Layer::new(types)), Arc::default());
        Arc::new(ResourceSet { generation, since: Instant::now(), shared, own })
    };
    let now = Instant::now();
    let first = set(1, &endpoints);
    let mut connections: Vec<Connection> =
        (0..streams).map(|_| Connection::new(Capabilities::MESH, first.clone(), now)).collect();
    for connection in &mut connections {
        for kind in [Kind::Cluster, Kind::Listener] {
            connection.request(&ask(kind, Vec::new()), now).ok();
        }
        connection.request(&ask(Kind::Endpoint, names.clone()), now).ok();
        connection.request(&ask(Kind::Route, vec!["8080".into()]), now).ok();
        answer(connection, now);
    }
    let (mut responses, mut spent) = (0, std::time::Duration::ZERO);
    for push in 0..pushes {
        let service = push % SERVICES;
        endpoints[service] = entry(Kind::Endpoint, &names[service], 200, push + 1);
        let next = set(push as u64 + 2, &endpoints);
        let start = Instant::now();
        for connection in &mut connections {
            connection.update(next.clone());
            responses += answer(connection, now);
        }
        spent += start.elapsed();
    }
    let each = spent.as_nanos() / (streams * pushes) as u128;
    println!("{responses} responses, {each} ns for each push of one endpoint to one stream");
}
