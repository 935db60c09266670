//! The application's part: it does what it is told and writes what it found to `$FINDINGS`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, fs};

const LIMIT: Duration = Duration::from_secs(5);

pub fn main(arguments: &[&str]) {
    let findings = match arguments {
        ["connect", address] => connect(address),
        ["connect-from", local, address] => connect_from(local, address),
        ["same-port", first, second] => same_port(first, second),
        ["serve", address] => return serve(address),
        ["udp", address] => udp(address),
        ["query", transport, server] => query(transport, server),
        ["resolve", name] => resolve(name),
        ["unix", path] => result(UnixStream::connect(path)),
        ["bind", address] => result(TcpListener::bind(address)),
        ["status"] => status(),
        ["read", path] => fs::read_to_string(path).unwrap(),
        ["pair", server] => pair(server),
        other => panic!("unknown part {other:?}"),
    };
    write(&findings);
}

fn write(findings: &str) {
    let path = env::var("FINDINGS").unwrap();
    let unfinished = format!("{path}.unfinished");
    fs::write(&unfinished, findings).unwrap();
    fs::rename(unfinished, path).unwrap();
}

fn result<T>(outcome: std::io::Result<T>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn connect(address: &str) -> String {
    match TcpStream::connect_timeout(&address.parse().unwrap(), LIMIT) {
        Ok(stream) => converse(stream),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn connect_from(local: &str, address: &str) -> String {
    converse(connected_from(local, address))
}

fn connected_from(local: &str, address: &str) -> TcpStream {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };

    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::from_str(local).unwrap()).unwrap();
    connect(fd.as_raw_fd(), &SockaddrIn::from_str(address).unwrap()).unwrap();
    fd.into()
}

/// Two connections to different places from one source port, as the kernel itself gives out ports.
fn same_port(first: &str, second: &str) -> String {
    let one = connected_from("0.0.0.0:40000", first);
    let two = connected_from("0.0.0.0:40000", second);
    assert_eq!(one.local_addr().unwrap(), two.local_addr().unwrap());
    format!("{}, {}", converse(one), converse(two))
}

/// Sends a line and gives the answer.
fn converse(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"hello\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    format!("{answer} from {} as {}", stream.peer_addr().unwrap(), stream.local_addr().unwrap().ip())
}

/// Says that it listens, then answers every connection with who it sees.
fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    write("listening");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap().ip();
        let _ = write!(stream, "you are {peer}");
    }
}

/// What becomes of a datagram, and how soon.
fn udp(address: &str) -> String {
    let local = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let started = Instant::now();
    let outcome =
        socket.connect(address).and_then(|()| socket.send(b"x")).and_then(|_| socket.recv(&mut [0; 9]));
    let soon = started.elapsed() < Duration::from_secs(1);
    format!(
        "{} {}",
        if outcome.is_ok() { "answered" } else { "refused" },
        if soon { "at once" } else { "late" }
    )
}

/// A query for reviews.default.svc.cluster.local.
fn question(id: u8, kind: u8) -> Vec<u8> {
    let mut query = vec![0x12, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["reviews", "default", "svc", "cluster", "local"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    query
}

/// As musl asks: A and AAAA at once from one unconnected socket, and an answer counts only when it
/// comes from the address that was asked. Gives how many answers came with how many addresses.
fn pair(server: &str) -> String {
    let server: std::net::SocketAddr = server.parse().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    for (id, kind) in [(1, 1), (2, 28)] {
        socket.send_to(&question(id, kind), server).unwrap();
    }
    let mut out = Vec::new();
    for _ in 0..2 {
        let mut reply = [0; 512];
        let (_, from) = socket.recv_from(&mut reply).unwrap();
        assert_eq!(from, server);
        out.push(format!("id {} rcode {} answers {}", reply[1], reply[3] & 15, reply[7]));
    }
    out.sort();
    out.join(", ")
}

/// Asks `server` for the address of reviews.default.svc.cluster.local; gives the answer's address.
fn query(transport: &str, server: &str) -> String {
    let query = question(0x34, 1);
    let mut reply = vec![0; 512];
    let length = if transport == "udp" {
        let local = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(local).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        // Connected: an answer from another address than the one asked would not arrive.
        socket.connect(server).and_then(|()| socket.send(&query)).unwrap();
        socket.recv(&mut reply).unwrap()
    } else {
        let mut stream = TcpStream::connect_timeout(&server.parse().unwrap(), LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&query).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let length = usize::from(u16::from_be_bytes(length));
        stream.read_exact(&mut reply[..length]).unwrap();
        length
    };
    let address: Vec<String> = reply[length - 4..length].iter().map(ToString::to_string).collect();
    address.join(".")
}

/// As the C library resolves it.
fn resolve(name: &str) -> String {
    match (name, 80).to_socket_addrs() {
        Ok(found) => found.map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" "),
        Err(error) => format!("error: {error}"),
    }
}

/// What the process inherited: capabilities, signals, descriptors.
fn status() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut out: Vec<String> = status
        .lines()
        .filter(|line| {
            ["CapEff", "CapBnd", "CapAmb", "SigBlk", "SigIgn"].iter().any(|name| line.starts_with(name))
        })
        .map(|line| line.replace('\t', " "))
        .collect();
    let mut fds: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            let own = target.starts_with("/proc/");
            (!own).then(|| format!("{} {target}", entry.file_name().to_string_lossy()))
        })
        .collect();
    fds.sort();
    out.push(format!("fds: {}", fds.join(", ")));
    out.push(format!("proxy: {:?}", env::var("http_proxy").ok()));
    out.join("\n")
}
