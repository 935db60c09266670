//! What one hop costs over HTTP/2: gRPC-like requests (100 bytes in; 128 bytes and trailers out), 32 streams at a time
//! over one connection on each side, all in memory. Prints nanoseconds per request of the hop alone (both heads, both
//! bodies and the trailers decoded and encoded), the median over many turns, and what a connection owns afterwards.
//! Run with `--release`; the arguments are the encoders' table size (4096) and the number of turns (20000). Counted in
//! instructions, which a busy machine does not change:
//! `valgrind --tool=callgrind --toggle-collect='*take_re*' target/release/examples/h2_cost 4096 500`.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use wire::{
    HeaderId,
    h1::{Edits, Scheme},
    h2::{Config, Connection, ConnectionError, Event, RequestParts, Scratch, SendError, Stream, Trailers},
};

const STREAMS: usize = 32;
const NOW: Duration = Duration::ZERO;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse::<usize>().ok());
    let turn_count = number(2).unwrap_or(20_000).max(1);
    let config = Arc::new(Config {
        max_concurrent_streams: 1024,
        encoder_table_size: number(1).and_then(|size| u32::try_from(size).ok()).unwrap_or(4096),
        ..Config::default()
    });
    let mut hop = Hop::new(&config);
    let mut turns = vec![];
    for _ in 0..turn_count {
        hop.spent = Duration::ZERO;
        hop.turn()?;
        turns.push(hop.spent.as_secs_f64() * 1e9 / STREAMS as f64);
    }
    turns.sort_by(f64::total_cmp);
    let memory = hop.down.memory() + hop.up.memory();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "one hop: median {:.0} ns per request, best {:.0} ns", turns[turn_count / 2], turns[0])?;
    writeln!(stdout, "both connections own {memory} bytes, and when idle {}", {
        hop.down.release_memory();
        hop.up.release_memory();
        hop.down.memory() + hop.up.memory()
    })?;
    Ok(())
}

struct Hop {
    client: Connection,
    down: Connection,
    up: Connection,
    origin: Connection,
    scratch: Scratch,
    edits: Edits,
    /// The stream on the other side, by slot of ours: what a proxy's exchange holds.
    pairs: Vec<Option<(Stream, Stream)>>,
    free: Vec<usize>,
    spent: Duration,
    requests: u64,
}

#[derive(Debug)]
struct Trouble(String);
impl std::fmt::Display for Trouble {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}
impl std::error::Error for Trouble {}
impl From<ConnectionError> for Trouble {
    fn from(error: ConnectionError) -> Trouble {
        Trouble(error.to_string())
    }
}
impl From<SendError> for Trouble {
    fn from(error: SendError) -> Trouble {
        Trouble(error.to_string())
    }
}
impl From<wire::h2::OpenError> for Trouble {
    fn from(error: wire::h2::OpenError) -> Trouble {
        Trouble(error.to_string())
    }
}

impl Hop {
    fn new(config: &Arc<Config>) -> Hop {
        Hop {
            client: Connection::client(config.clone(), NOW),
            down: Connection::server(config.clone(), NOW),
            up: Connection::client(config.clone(), NOW),
            origin: Connection::server(config.clone(), NOW),
            scratch: Scratch::new(),
            edits: Edits::new(),
            pairs: vec![],
            free: vec![],
            spent: Duration::ZERO,
            requests: 0,
        }
    }

    fn turn(&mut self) -> Result<(), Trouble> {
        let mut scratch = Scratch::new();
        for _ in 0..STREAMS {
            self.requests += 1;
            let lines = format!(
                "content-type: application/grpc\r\nte: trailers\r\nuser-agent: grpc-c++/1.60 bench\r\n\
                 x-request-id: {:032x}\r\ngrpc-timeout: 1S\r\n",
                self.requests
            );
            let parts = RequestParts {
                method: b"POST",
                scheme: Scheme::Http,
                authority: b"echo.default.svc.cluster.local:8080",
                path: b"/bench.Echo/Unary",
                lines: lines.as_bytes(),
            };
            let stream = self.client.open_parts(&parts, false, 0)?;
            self.client.data(stream, &[7; 100], true)?;
        }
        let started = Instant::now();
        self.take_requests()?;
        self.spent += started.elapsed();

        let mut input = self.up.output();
        while let Some(event) = self.origin.next(&mut input, &mut scratch, NOW)? {
            match event {
                Event::Data { stream, bytes, end, .. } => {
                    self.origin.consume(stream, bytes.len());
                    if end {
                        self.origin.respond_parts(
                            stream,
                            200,
                            b"content-type: application/grpc\r\nserver: bench\r\n",
                            false,
                        )?;
                        self.origin.data(stream, &[9; 128], false)?;
                        self.origin.trailers(stream, &Trailers::from_section(b"grpc-status: 0\r\n\r\n"))?;
                    }
                }
                Event::Reset { .. } | Event::Refused { .. } => return Err(Trouble(format!("{event:?}"))),
                _ => {}
            }
        }
        self.up.sent(self.up.output().len());

        let started = Instant::now();
        self.take_responses()?;
        self.spent += started.elapsed();

        let mut input = self.down.output();
        let mut ended = 0;
        while let Some(event) = self.client.next(&mut input, &mut scratch, NOW)? {
            match event {
                Event::Data { stream, bytes, .. } => self.client.consume(stream, bytes.len()),
                Event::Trailers { .. } => ended += 1,
                _ => {}
            }
        }
        self.down.sent(self.down.output().len());
        if ended != STREAMS {
            return Err(Trouble(format!("{ended} of {STREAMS} requests were answered")));
        }
        // What the proxy sent to its origin's windows, and the client to the proxy's, is read with the next turn.
        Ok(())
    }

    #[inline(never)]
    fn take_requests(&mut self) -> Result<(), Trouble> {
        let Hop { client, down, up, scratch, edits, pairs, free, .. } = self;
        let mut input = client.output();
        while let Some(event) = down.next(&mut input, scratch, NOW)? {
            match event {
                Event::Request { stream, head, end } => {
                    edits.clear();
                    edits.append_known(HeaderId::XForwardedProto, b"http");
                    edits.append_number(HeaderId::XEnvoyAttemptCount, 1);
                    let at = free.pop().unwrap_or(pairs.len());
                    let out = up.open(&head, edits, Scheme::Http, end, at as u64)?;
                    if at == pairs.len() {
                        pairs.push(None);
                    }
                    pairs[at] = Some((stream, out));
                    down.set_token(stream, at as u64);
                }
                Event::Data { stream, token, bytes, end } => {
                    if let Some((_, out)) = pairs[token as usize]
                        && up.data(out, bytes, end)? == 0
                    {
                        down.consume(stream, bytes.len());
                    }
                }
                Event::Reset { .. } | Event::Refused { .. } => return Err(Trouble(format!("{event:?}"))),
                _ => {}
            }
        }
        client.sent(client.output().len());
        Ok(())
    }

    #[inline(never)]
    fn take_responses(&mut self) -> Result<(), Trouble> {
        let Hop { origin, down, up, scratch, edits, pairs, free, .. } = self;
        let mut input = origin.output();
        while let Some(event) = up.next(&mut input, scratch, NOW)? {
            match event {
                Event::Response { token, head, end, .. } => {
                    if let Some((back, _)) = pairs[token as usize] {
                        edits.clear();
                        edits.set_known(&head, HeaderId::Server, b"istio-envoy");
                        edits.append_number(HeaderId::XEnvoyUpstreamServiceTime, 1);
                        down.respond(back, &head, edits, end)?;
                    }
                }
                Event::Data { stream, token, bytes, end } => {
                    if let Some((back, _)) = pairs[token as usize]
                        && down.data(back, bytes, end)? == 0
                    {
                        up.consume(stream, bytes.len());
                    }
                }
                Event::Trailers { token, trailers, .. } => {
                    if let Some((back, _)) = pairs[token as usize].take() {
                        down.trailers(back, &trailers)?;
                        free.push(token as usize);
                    }
                }
                Event::Reset { .. } => return Err(Trouble(format!("{event:?}"))),
                _ => {}
            }
        }
        origin.sent(origin.output().len());
        Ok(())
    }
}
