//! A small HTTP/2 server (prior knowledge, plaintext) around the codec, a thread for each connection: what h2spec is
//! pointed at. `cargo run --example h2_serve -- 127.0.0.1:8080`; the first line printed is the address.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use wire::h2::{Config, Connection, ErrorCode, Event, Scratch, Stream};

const BODY: &[u8] = b"A mesh on a laptop in one command.\n";

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address)?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let config = Arc::new(Config::default());
    loop {
        let (socket, _) = listener.accept()?;
        let config = config.clone();
        std::thread::spawn(move || serve(socket, config));
    }
}

fn serve(mut socket: TcpStream, config: Arc<Config>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let begin = Instant::now();
    let mut connection = Connection::server(config, begin.elapsed());
    let mut scratch = Scratch::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        while !connection.output().is_empty() {
            socket.write_all(connection.output())?;
            connection.sent(connection.output().len());
            answer(&mut connection, &mut scratch, &[], begin.elapsed()).ok();
        }
        let length = match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error),
        };
        let input = buffer.get(..length).unwrap_or_default();
        let done = answer(&mut connection, &mut scratch, input, begin.elapsed()).is_err()
            || connection.poll_timeouts(begin.elapsed()).is_err();
        if done {
            socket.write_all(connection.output())?;
            // What the peer still sends is read away, lest a reset overtake the GOAWAY.
            socket.shutdown(std::net::Shutdown::Write)?;
            while socket.read(&mut buffer).is_ok_and(|length| length > 0) {}
            return Ok(());
        }
    }
}

fn answer(
    connection: &mut Connection,
    scratch: &mut Scratch,
    mut input: &[u8],
    now: Duration,
) -> Result<(), wire::h2::ConnectionError> {
    while let Some(event) = connection.next(&mut input, scratch, now)? {
        match event {
            Event::Request { stream, head, end } => {
                connection.set_token(stream, u64::from(head.method() == b"HEAD"));
                if end {
                    respond(connection, stream, head.method() == b"HEAD");
                }
            }
            Event::Data { stream, token, bytes, end } => {
                connection.consume(stream, bytes.len());
                if end {
                    respond(connection, stream, token == 1);
                }
            }
            Event::Trailers { stream, token, .. } => respond(connection, stream, token == 1),
            _ => {}
        }
    }
    Ok(())
}

fn respond(connection: &mut Connection, stream: Stream, head: bool) {
    let lines = b"content-type: text/plain\r\nserver: filamesh\r\n";
    let sent = connection.respond_parts(stream, 200, lines, head);
    let sent = if head { sent } else { sent.and_then(|()| connection.data(stream, BODY, true).map(|_| ())) };
    if sent.is_err() {
        connection.reset(stream, ErrorCode::INTERNAL_ERROR);
    }
}
