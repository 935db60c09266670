//! Where the application's traffic ends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use capture::{Mode, original_dst};

use crate::harness::{ADDRESS, App, LIMIT, Test, accept, until};

pub const TESTS: &[Test] = &[
    ("redirected_with_the_original_destination_v4", v4),
    ("redirected_with_the_original_destination_v6", v6),
    ("redirected_from_an_explicit_localhost", from_localhost),
    ("one_source_port_for_two_destinations", same_port),
    ("redirected_from_a_dual_stack_socket", mapped),
    ("other_workloads_are_captured_although_loopback", other_workload),
    ("the_applications_own_loopback_is_its_own", own_loopback),
    ("nothing_else_leaves", nothing_else_leaves),
    ("listeners_share_the_port", listeners_share),
    ("low_ports_are_free", low_ports),
    ("tracked_connections_are_forgotten_soon", settings),
    ("host_resolvers_sockets_are_hidden", hidden_sockets),
    ("the_application_inherits_nothing_of_ours", inheritance),
];

/// Accepts the application's connection, answers it, and gives where it wanted to go.
fn serve_captured(app: &App, listener: &TcpListener) -> SocketAddr {
    app.holder.start().unwrap();
    let mut stream = accept(listener);
    let wanted = original_dst(&stream, stream.local_addr().unwrap()).unwrap();
    let mut line = [0; 6];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"hello\n");
    write!(stream, "captured").unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    wanted
}

fn v4() {
    let app = App::prepare(&["connect", "93.184.215.14:8080"]);
    let wanted = serve_captured(&app, &app.holder.outbound[0]);
    assert_eq!(wanted, "93.184.215.14:8080".parse().unwrap());
    // The application sees the peer it asked for, and itself under the workload's address.
    assert_eq!(app.findings(), format!("captured from 93.184.215.14:8080 as {ADDRESS}"));
}

/// As Java connects: an IPv6 socket, an IPv4 destination.
fn mapped() {
    let app = App::prepare(&["connect", "[::ffff:93.184.215.14]:8080"]);
    let wanted = serve_captured(&app, &app.holder.outbound[0]);
    assert_eq!(wanted, "93.184.215.14:8080".parse().unwrap());
    app.findings();
}

/// A source of 127.0.0.1 makes the answers look like traffic between the application and us.
fn from_localhost() {
    let app = App::prepare(&["connect-from", "127.0.0.1:0", "93.184.215.14:8080"]);
    let wanted = serve_captured(&app, &app.holder.outbound[0]);
    assert_eq!(wanted, "93.184.215.14:8080".parse().unwrap());
    assert_eq!(app.findings(), "captured from 93.184.215.14:8080 as 127.0.0.1");
}

/// Two connections that differ only in their destination look the same once redirected; the kernel
/// must tell them apart (it changes the source port the sidecar sees of the later one).
fn same_port() {
    let app = App::prepare(&["same-port", "93.184.215.14:80", "93.184.215.15:80"]);
    app.holder.start().unwrap();
    let streams = [accept(&app.holder.outbound[0]), accept(&app.holder.outbound[0])];
    for (mut stream, expected) in streams.into_iter().zip(["93.184.215.14:80", "93.184.215.15:80"]) {
        let wanted = original_dst(&stream, stream.local_addr().unwrap()).unwrap();
        assert_eq!(wanted, expected.parse().unwrap());
        stream.read_exact(&mut [0; 6]).unwrap();
        write!(stream, "{expected}").unwrap();
    }
    let found = app.findings();
    assert!(found.contains("93.184.215.14:80 from 93.184.215.14:80"), "{found}");
    assert!(found.contains("93.184.215.15:80 from 93.184.215.15:80"), "{found}");
}

fn v6() {
    let app = App::prepare(&["connect", "[2001:db8::7]:443"]);
    let Some(listener) = app.holder.outbound_v6.first() else {
        println!("SKIPPED: redirected_with_the_original_destination_v6 (this machine has no IPv6)");
        return;
    };
    let wanted = serve_captured(&app, listener);
    assert_eq!(wanted, "[2001:db8::7]:443".parse().unwrap());
    assert_eq!(app.findings(), "captured from [2001:db8::7]:443 as ::1");
}

fn other_workload() {
    let app = App::prepare(&["connect", "127.77.3.4:9080"]);
    let wanted = serve_captured(&app, &app.holder.outbound[0]);
    assert_eq!(wanted, "127.77.3.4:9080".parse().unwrap());
    app.findings();
}

fn own_loopback() {
    // Nobody listens on these in the namespace, so "refused" shows that it was not captured. The
    // host's own 127.0.0.1 is another one: a port open there is closed here.
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = host.local_addr().unwrap();
    for address in [host.to_string(), format!("{ADDRESS}:9"), "[::1]:9".to_owned()] {
        let app = App::start(&["connect", &address]);
        assert_eq!(app.findings(), "ConnectionRefused", "{address}");
    }
}

fn nothing_else_leaves() {
    for address in ["8.8.8.8:443", "[2001:db8::1]:443", "127.77.3.4:9080"] {
        let app = App::start(&["udp", address]);
        if address.starts_with('[') && app.holder.outbound_v6.is_empty() {
            continue;
        }
        assert_eq!(app.findings(), "refused at once", "{address}");
    }
}

fn listeners_share() {
    let app = App::prepare_with(&["connect", "10.9.8.7:80"], |spec| {
        if let Mode::Namespace(namespace) = &mut spec.mode {
            namespace.listeners = 8;
        }
    });
    assert_eq!(app.holder.outbound.len(), 8);
    app.holder.start().unwrap();
    for listener in &app.holder.outbound {
        listener.set_nonblocking(true).unwrap();
    }
    let mut accepted = None;
    until(LIMIT, "one of the listeners gets it", || {
        accepted = app.holder.outbound.iter().find_map(|listener| listener.accept().ok());
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    write!(stream, "shared").unwrap();
    drop(stream);
    assert!(app.findings().starts_with("shared"));
}

/// The namespace's settings, with an ordinary user's rights as well.
fn settings() {
    let app = App::start(&["read", "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait"]);
    assert_eq!(app.findings().trim(), "3");
}

fn low_ports() {
    let app = App::start(&["bind", "0.0.0.0:80"]);
    assert_eq!(app.findings(), "ok");
}

fn hidden_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolver");
    let _resolver = UnixListener::bind(&path).unwrap();
    let ask = |hide: bool| {
        let app = App::prepare_with(&["unix", path.to_str().unwrap()], |spec| {
            if let (Mode::Namespace(namespace), true) = (&mut spec.mode, hide) {
                namespace.hidden_sockets.push(path.clone());
            }
        });
        assert_eq!(app.holder.notes, Vec::<String>::new());
        app.holder.start().unwrap();
        app.findings()
    };
    assert_eq!(ask(false), "ok");
    assert_eq!(ask(true), "ConnectionRefused");
}

fn inheritance() {
    let app = App::start(&["status"]);
    let found = app.findings();
    let line = |name: &str| found.lines().find(|line| line.starts_with(name)).unwrap();
    for set in ["CapEff", "CapBnd", "CapAmb"] {
        let bits = u64::from_str_radix(line(set).split(' ').nth(1).unwrap(), 16).unwrap();
        assert_eq!(bits & (1 << 12), 0, "CAP_NET_ADMIN in {found}");
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(bits, 0, "{found}");
        }
    }
    assert_eq!(line("SigBlk"), "SigBlk: 0000000000000000");
    let fds: Vec<&str> = line("fds: ")[5..].split(", ").collect();
    let extra: Vec<_> =
        fds.iter().filter(|fd| !["0 ", "1 ", "2 "].iter().any(|std| fd.starts_with(std))).collect();
    // The runner that started us may have leaked some into us; they are ours too, then.
    let ours =
        |fd: &&&&str| std::path::Path::new("/proc/self/fd").join(fd.split(' ').next().unwrap()).exists();
    assert_eq!(extra.iter().filter(|fd| !ours(fd)).count(), 0, "{found}");
    assert!(!fds.iter().any(|fd| fd.contains("socket:")), "{found}");
}
