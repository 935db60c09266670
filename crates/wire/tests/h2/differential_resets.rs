//! Against the crate `h2`: streams given up at any moment, by either side, leave the others and the connection whole.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use wire::{
    h1::Scheme,
    h2::{By, Config, Connection, ErrorCode, Event, RequestParts, Scratch, Stream},
    id::Random,
};

const EXCHANGES: usize = 200;

/// What becomes of an exchange, by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Whole,
    /// The client gives it up after so many bytes of its body.
    ByClient(usize),
    /// The server does, before or after its response's head.
    ByServer(bool),
}

fn fate(number: usize) -> Fate {
    let mut random = Random::from_seed(number as u64);
    match random.below(4) {
        0 => Fate::ByClient(random.below(30_000) as usize),
        1 => Fate::ByServer(random.below(2) == 0),
        _ => Fate::Whole,
    }
}

fn body(number: usize) -> Vec<u8> {
    vec![number as u8; 40_000]
}

/// What is read from a pipe, in pieces of any size, and what is to be written.
async fn turn(
    connection: &mut Connection,
    pipe: &mut DuplexStream,
    random: &mut Random,
    scratch: &mut Scratch,
    mut on: impl FnMut(&mut Connection, Event<'_>),
) -> bool {
    while !connection.output().is_empty() {
        let length = connection.output().len().min(1 + random.below(9_000) as usize);
        pipe.write_all(&connection.output()[..length]).await.unwrap();
        connection.sent(length);
    }
    let mut buffer = vec![0; 1 + random.below(30_000) as usize];
    let length = pipe.read(&mut buffer).await.unwrap();
    let mut input = &buffer[..length];
    while let Some(event) = connection.next(&mut input, scratch, Duration::ZERO).unwrap() {
        on(connection, event);
    }
    length > 0
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Resets that come early are counted against the peer; here they are the point.
fn config() -> Arc<Config> {
    let mut config = Config::default();
    config.abuse.premature_resets = 10_000;
    Arc::new(config)
}

const PIPE: usize = 1 << 22;

#[test]
fn our_server_and_their_client() {
    runtime().block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(PIPE);
        let server = tokio::spawn(async move {
            let mut connection = Connection::server(config(), Duration::ZERO);
            let (mut scratch, mut random) = (Scratch::new(), Random::from_seed(1));
            let mut given_up = HashSet::new();
            let serve = |connection: &mut Connection, event: Event<'_>| match event {
                Event::Request { stream, head, .. } => {
                    let number: usize = std::str::from_utf8(head.path()).unwrap()[1..].parse().unwrap();
                    connection.set_token(stream, number as u64);
                    if let Fate::ByServer(early) = fate(number) {
                        if !early {
                            connection.respond_parts(stream, 200, b"x: y\r\n", false).unwrap();
                        }
                        connection.reset(stream, ErrorCode::INTERNAL_ERROR);
                    }
                }
                Event::Data { stream, token, bytes, end } => {
                    connection.consume(stream, bytes.len());
                    if end {
                        connection.respond_parts(stream, 200, b"", false).unwrap();
                        connection.data(stream, &body(token as usize), true).unwrap();
                    }
                }
                Event::Reset { token, code, by, .. } => {
                    assert_eq!((code, by), (ErrorCode::CANCEL, By::Peer));
                    assert!(matches!(fate(token as usize), Fate::ByClient(_)), "{token}");
                    given_up.insert(token);
                }
                Event::Refused { reject, .. } => panic!("{reject}"),
                _ => {}
            };
            let mut serve = serve;
            while turn(&mut connection, &mut ours, &mut random, &mut scratch, &mut serve).await {}
            assert_eq!(connection.open_streams(), 0);
            given_up.len()
        });
        let (mut client, connection) = h2::client::handshake(theirs).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut asked = vec![];
        for number in 0..EXCHANGES {
            client = client.ready().await.unwrap();
            let request = Request::post(format!("http://svc:80/{number}")).body(()).unwrap();
            let (response, mut send) = client.send_request(request, false).unwrap();
            asked.push(tokio::spawn(async move {
                match fate(number) {
                    Fate::ByClient(after) => {
                        send.send_data(Bytes::from(vec![0; after]), false).unwrap();
                        tokio::task::yield_now().await;
                        send.send_reset(Reason::CANCEL);
                        assert!(response.await.is_err());
                    }
                    fate => {
                        send.send_data(Bytes::from(body(number)), true).unwrap();
                        let got = async {
                            let mut from = response.await?.into_body();
                            let mut whole = vec![];
                            while let Some(part) = from.data().await {
                                let part = part?;
                                from.flow_control().release_capacity(part.len())?;
                                whole.extend_from_slice(&part);
                            }
                            Ok::<_, h2::Error>(whole)
                        };
                        match (fate, got.await) {
                            (Fate::Whole, Ok(whole)) => assert!(whole == body(number)),
                            (Fate::ByServer(_), Err(error)) => {
                                assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
                            }
                            (fate, got) => panic!("{number}: {fate:?}, {:?}", got.map(|whole| whole.len())),
                        }
                    }
                }
            }));
        }
        for exchange in asked {
            exchange.await.unwrap();
        }
        drop(client);
        connection.await.unwrap().unwrap();
        assert!(server.await.unwrap() > 0);
    });
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
                    let number: usize = request.uri().path()[1..].parse().unwrap();
                    if let Fate::ByServer(early) = fate(number) {
                        if early {
                            return respond.send_reset(Reason::INTERNAL_ERROR);
                        }
                        let mut send = respond.send_response(Response::new(()), false).unwrap();
                        return send.send_reset(Reason::INTERNAL_ERROR);
                    }
                    let mut from = request.into_body();
                    let mut whole = vec![];
                    loop {
                        match from.data().await {
                            Some(Ok(part)) => {
                                let _ = from.flow_control().release_capacity(part.len());
                                whole.extend_from_slice(&part);
                            }
                            Some(Err(error)) => {
                                assert_eq!(error.reason(), Some(Reason::CANCEL));
                                assert!(matches!(fate(number), Fate::ByClient(_)));
                                return;
                            }
                            None => break,
                        }
                    }
                    assert!(whole == body(number));
                    let mut send = respond.send_response(Response::new(()), false).unwrap();
                    send.send_data(Bytes::from(whole), true).unwrap();
                });
            }
        });
        let mut connection = Connection::client(config(), Duration::ZERO);
        let (mut scratch, mut random) = (Scratch::new(), Random::from_seed(2));
        let mut open: HashMap<Stream, (usize, Vec<u8>)> = HashMap::new();
        let (mut asked, mut done, mut resets) = (0, 0, 0);
        loop {
            while asked < EXCHANGES && open.len() < 20 && connection.can_open().is_ok() {
                let path = format!("/{asked}");
                let parts = RequestParts {
                    method: b"POST",
                    scheme: Scheme::Http,
                    authority: b"svc:80",
                    path: path.as_bytes(),
                    lines: b"",
                };
                let stream = connection.open_parts(&parts, false, asked as u64).unwrap();
                if let Fate::ByClient(after) = fate(asked) {
                    connection.data(stream, &vec![0; after], false).unwrap();
                    connection.reset(stream, ErrorCode::CANCEL);
                    done += 1;
                } else {
                    connection.data(stream, &body(asked), true).unwrap();
                    open.insert(stream, (asked, vec![]));
                }
                asked += 1;
            }
            if done == EXCHANGES {
                // Nothing more is to come.
                ours.write_all(connection.output()).await.unwrap();
                break;
            }
            turn(&mut connection, &mut ours, &mut random, &mut scratch, |connection, event| match event {
                Event::Data { stream, bytes, end, .. } => {
                    connection.consume(stream, bytes.len());
                    open.get_mut(&stream).unwrap().1.extend_from_slice(bytes);
                    if end {
                        let (number, whole) = open.remove(&stream).unwrap();
                        assert!(whole == body(number) && fate(number) == Fate::Whole);
                        done += 1;
                    }
                }
                Event::Reset { stream, code, by, .. } => {
                    assert_eq!((code, by), (ErrorCode::INTERNAL_ERROR, By::Peer));
                    let (number, _) = open.remove(&stream).unwrap();
                    assert!(matches!(fate(number), Fate::ByServer(_)));
                    (done, resets) = (done + 1, resets + 1);
                }
                _ => {}
            })
            .await;
        }
        assert!(resets > 0 && connection.open_streams() == 0);
        drop(ours);
        server.await.unwrap();
    });
}
