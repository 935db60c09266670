//! Against an independent implementation, the crate `h2`, in both roles: many messages with bodies and trailers, in
//! pieces of any size, must arrive as they were sent.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use wire::{
    h1::Scheme,
    h2::{Config, Connection, Event, RequestParts, Scratch, Stream, Trailers},
    id::Random,
};

const EXCHANGES: usize = 150;

/// What one exchange carries, by its number.
struct Plan {
    lines: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: bool,
}

fn plan(number: usize, seed: u64) -> Plan {
    let mut random = Random::from_seed(seed << 32 | number as u64);
    let mut fields = vec![("x-number".to_owned(), number.to_string())];
    for at in 0..random.below(12) {
        let value = match random.below(4) {
            0 => String::new(),
            1 => "v".repeat(random.below(300) as usize),
            2 => format!("again {}", random.below(3)),
            _ => String::from_utf8_lossy(&random.uuid()).into_owned(),
        };
        let name = match random.below(3) {
            0 => "user-agent".to_owned(),
            1 => "accept-language".to_owned(),
            _ => format!("x-field-{}", at % 5),
        };
        if !fields.iter().any(|(given, _)| *given == name) {
            fields.push((name, value));
        }
    }
    let lines = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = match random.below(4) {
        0 => 0,
        1 => random.below(100),
        2 => random.below(20_000),
        _ => random.below(200_000),
    };
    Plan {
        lines,
        fields,
        body: (0..length).map(|at| (at % 251) as u8).collect(),
        trailers: random.below(2) == 0,
    }
}

fn check_fields(plan: &Plan, fields: &HeaderMap) {
    for (name, value) in &plan.fields {
        assert_eq!(fields.get(name).map(|value| value.as_bytes()), Some(value.as_bytes()), "{name}");
    }
}

/// Moves one of our connections over a pipe until `done`, reading pieces of random size.
async fn drive(
    connection: &mut Connection,
    pipe: &mut DuplexStream,
    mut on: impl FnMut(&mut Connection, Said) -> bool,
) {
    let mut scratch = Scratch::new();
    let mut buffer = vec![0; 30_000];
    let mut random = Random::from_seed(3);
    loop {
        while !connection.output().is_empty() {
            let length = connection.output().len().min(1 + random.below(9_000) as usize);
            pipe.write_all(&connection.output()[..length]).await.unwrap();
            connection.sent(length);
        }
        let most = 1 + random.below(30_000) as usize;
        // A pipe of the size of a socket's buffer: what cannot be written now waits until there was something to read.
        let length = pipe.read(&mut buffer[..most]).await.unwrap();
        if length == 0 {
            return;
        }
        let mut input = &buffer[..length];
        let mut done = false;
        while let Some(event) = connection.next(&mut input, &mut scratch, Duration::ZERO).unwrap() {
            let said = match event {
                Event::Request { stream, head, end } => {
                    assert_eq!(head.method(), b"POST");
                    let number = head.header(b"x-number").unwrap();
                    let number: usize = std::str::from_utf8(number).unwrap().parse().unwrap();
                    let plan = plan(number, 1);
                    for (name, value) in &plan.fields {
                        assert_eq!(head.header(name.as_bytes()), Some(value.as_bytes()));
                    }
                    connection.set_token(stream, number as u64);
                    Said::Head(stream, number, end)
                }
                Event::Response { stream, token, head, end } => {
                    for (name, value) in &plan(token as usize, 2).fields {
                        assert_eq!(head.header(name.as_bytes()), Some(value.as_bytes()));
                    }
                    Said::Head(stream, token as usize, end)
                }
                Event::Data { stream, token, bytes, end } => {
                    connection.consume(stream, bytes.len());
                    Said::Body(stream, token as usize, bytes.to_vec(), end)
                }
                Event::Trailers { stream, token, trailers } => {
                    assert_eq!(trailers.header(b"x-sum"), Some(&b"7"[..]));
                    Said::End(stream, token as usize)
                }
                Event::Reset { .. } | Event::Refused { .. } => panic!("{event:?}"),
                _ => continue,
            };
            done |= on(connection, said);
        }
        if done && connection.output().is_empty() {
            return;
        }
    }
}

enum Said {
    Head(Stream, usize, bool),
    Body(Stream, usize, Vec<u8>, bool),
    End(Stream, usize),
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

const PIPE: usize = 1 << 22;

#[test]
fn our_server_and_their_client() {
    runtime().block_on(async {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let server = tokio::spawn(serve(ours));
        let (mut client, connection) = h2::client::handshake(theirs).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut asked = vec![];
        for number in 0..EXCHANGES {
            let plan = plan(number, 1);
            client = client.ready().await.unwrap();
            let mut request = Request::post("http://svc:80/p");
            for (name, value) in &plan.fields {
                request = request.header(name, value);
            }
            let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from(plan.body), !plan.trailers).unwrap();
            if plan.trailers {
                body.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]))
                    .unwrap();
            }
            asked.push(tokio::spawn(async move {
                let response = response.await.unwrap();
                let expected = self::plan(number, 2);
                check_fields(&expected, response.headers());
                assert_eq!(take(response.into_body(), expected.trailers).await, expected.body, "{number}");
            }));
        }
        for exchange in asked {
            exchange.await.unwrap();
        }
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
    });
}

async fn take(mut body: h2::RecvStream, trailers: bool) -> Vec<u8> {
    let mut whole = vec![];
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        whole.extend_from_slice(&part);
    }
    let found = body.trailers().await.unwrap();
    assert_eq!(found.is_some_and(|found| found.get("x-sum").unwrap() == "7"), trailers);
    whole
}

async fn serve(mut pipe: DuplexStream) {
    let mut connection = Connection::server(Arc::new(Config::default()), Duration::ZERO);
    let mut bodies = std::collections::HashMap::<usize, Vec<u8>>::new();
    drive(&mut connection, &mut pipe, |connection, said| {
        let (stream, number, end) = match said {
            Said::Head(stream, number, end) => (stream, number, end),
            Said::Body(stream, number, bytes, end) => {
                bodies.entry(number).or_default().extend(bytes);
                (stream, number, end)
            }
            Said::End(stream, number) => (stream, number, true),
        };
        if end {
            assert_eq!(bodies.remove(&number).unwrap_or_default(), plan(number, 1).body);
            let answer = plan(number, 2);
            connection.respond_parts(stream, 200, answer.lines.as_bytes(), false).unwrap();
            connection.data(stream, &answer.body, !answer.trailers).unwrap();
            if answer.trailers {
                connection.trailers(stream, &Trailers::from_section(b"x-sum: 7\r\n\r\n")).unwrap();
            }
        }
        false
    })
    .await;
}

#[test]
fn our_client_and_their_server() {
    runtime().block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(PIPE);
        let server = tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(request) = connection.accept().await {
                let (request, mut respond) = request.unwrap();
                tokio::spawn(async move {
                    let number: usize = request.headers()["x-number"].to_str().unwrap().parse().unwrap();
                    let expected = plan(number, 1);
                    check_fields(&expected, request.headers());
                    assert_eq!(take(request.into_body(), expected.trailers).await, expected.body);
                    let answer = plan(number, 2);
                    let mut response = Response::builder();
                    for (name, value) in &answer.fields {
                        response = response.header(name, value);
                    }
                    let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
                    body.send_data(Bytes::from(answer.body), !answer.trailers).unwrap();
                    if answer.trailers {
                        let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
                        body.send_trailers(sum).unwrap();
                    }
                });
            }
        });
        let mut connection = Connection::client(Arc::new(Config::default()), Duration::ZERO);
        let mut asked = 0;
        let mut answered = 0;
        let mut bodies = std::collections::HashMap::<usize, Vec<u8>>::new();
        ask(&mut connection, &mut asked);
        drive(&mut connection, &mut ours, |connection, said| {
            let (number, end) = match said {
                Said::Head(_, number, end) => (number, end),
                Said::Body(_, number, bytes, end) => {
                    bodies.entry(number).or_default().extend(bytes);
                    (number, end)
                }
                Said::End(_, number) => (number, true),
            };
            if end {
                assert_eq!(bodies.remove(&number).unwrap_or_default(), plan(number, 2).body);
                answered += 1;
                ask(connection, &mut asked);
            }
            answered == EXCHANGES
        })
        .await;
        assert_eq!((answered, connection.open_streams()), (EXCHANGES, 0));
        drop(ours);
        server.await.unwrap();
    });
}

/// As many requests as the peer takes.
fn ask(connection: &mut Connection, asked: &mut usize) {
    while *asked < EXCHANGES && connection.can_open().is_ok() && connection.open_streams() < 20 {
        let plan = plan(*asked, 1);
        let parts = RequestParts {
            method: b"POST",
            scheme: Scheme::Http,
            authority: b"svc:80",
            path: b"/p",
            lines: plan.lines.as_bytes(),
        };
        let stream = connection.open_parts(&parts, false, *asked as u64).unwrap();
        connection.data(stream, &plan.body, !plan.trailers).unwrap();
        if plan.trailers {
            connection.trailers(stream, &Trailers::from_section(b"X-Sum: 7\r\n\r\n")).unwrap();
        }
        *asked += 1;
    }
}
