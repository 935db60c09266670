//! The application's names.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;

use capture::dns::{Counters, NameTable, ResolvConf, Upstream, serve};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::{App, Test, exe, spec};

pub const TESTS: &[Test] = &[
    ("any_nameserver_is_ours", any_nameserver),
    ("musl_resolves", musl),
    ("the_c_library_resolves", c_library),
    ("unknown_names_fail_at_once_without_nameservers", unknown),
    ("other_names_are_asked_of_the_host", forwarded),
    ("node_resolves", node),
    ("python_resolves", python),
    ("go_resolves", go),
];

const REVIEWS: Ipv4Addr = Ipv4Addr::new(240, 240, 0, 17);

fn table() -> NameTable {
    let names = ["reviews", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"];
    NameTable::new("cluster.local", names.map(|name| (name.to_owned(), vec![REVIEWS.into()])))
}

/// Serves the names to an application; dropping the runtime ends it.
fn with_names(app: &mut App, upstream: ResolvConf) -> (Runtime, watch::Sender<Option<Arc<NameTable>>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (sender, receiver) = watch::channel(Some(Arc::new(table())));
    let sockets = std::mem::take(&mut app.holder.dns);
    runtime.spawn(serve(sockets, receiver, Upstream::fixed(upstream), Arc::new(Counters::default())));
    (runtime, sender)
}

fn found_by(arguments: &[&str], upstream: ResolvConf) -> String {
    let mut app = App::prepare(arguments);
    let _serving = with_names(&mut app, upstream);
    app.holder.start().unwrap();
    app.findings()
}

fn any_nameserver() {
    let v6 = !App::prepare(&["status"]).holder.outbound_v6.is_empty();
    for server in
        ["10.1.2.3:53", "127.0.0.53:53", "127.0.0.1:53", "127.77.4.4:53", "[2001:db8::53]:53", "[::1]:53"]
    {
        if server.starts_with('[') && !v6 {
            println!("SKIPPED: any_nameserver_is_ours over {server} (this machine has no IPv6)");
            continue;
        }
        for transport in ["udp", "tcp"] {
            assert_eq!(
                found_by(&["query", transport, server], ResolvConf::default()),
                "240.240.0.17",
                "{transport} {server}"
            );
        }
    }
}

/// musl itself is seldom installed; this is what it does.
fn musl() {
    let found = found_by(&["pair", "10.1.2.3:53"], ResolvConf::default());
    assert_eq!(found, "id 1 rcode 0 answers 1, id 2 rcode 0 answers 0");
}

fn c_library() {
    for name in [
        "reviews",
        "reviews.default",
        "reviews.default.svc.cluster.local",
        "Reviews.Default.svc.cluster.local.",
    ] {
        assert_eq!(found_by(&["resolve", name], ResolvConf::default()), "240.240.0.17", "{name}");
    }
}

fn unknown() {
    for name in ["nobody.default.svc.cluster.local", "no-such-host.example"] {
        let started = std::time::Instant::now();
        let found = found_by(&["resolve", name], ResolvConf::default());
        assert!(found.starts_with("error"), "{name}: {found}");
        assert!(started.elapsed().as_secs() < 3, "{name} took {:?}", started.elapsed());
    }
}

/// A nameserver on the host's network, where the application cannot reach.
fn forwarded() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let upstream = ResolvConf { nameservers: vec![server.local_addr().unwrap()], search: Vec::new() };
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = server.recv_from(&mut buffer) {
            let host =
                NameTable::new("", [("host.example".to_owned(), vec![Ipv4Addr::new(192, 0, 2, 1).into()])]);
            let transport = capture::dns::Transport::Udp;
            if let capture::dns::Answer::Reply(reply) =
                capture::dns::answer(&buffer[..length], Some(&host), &[], 0, transport)
            {
                server.send_to(&reply, client).unwrap();
            }
        }
    });
    assert_eq!(found_by(&["resolve", "host.example"], upstream), "192.0.2.1");
}

/// A runtime's own resolver, in the namespace, if this machine has the runtime.
fn runtime(test: &str, program: &str, arguments: &[&str]) {
    let present = Command::new(program).arg("--version").output();
    if !present.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: {test} (no usable {program} here)");
        return;
    }
    resolves(program, arguments);
}

/// `program`, run as the application, prints the address of a name of the mesh.
fn resolves(program: &str, arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut spec = spec(&[
        "sh",
        "-c",
        r#"out=$1; shift; exec "$@" > "$out" 2>&1"#,
        "sh",
        out.to_str().unwrap(),
        program,
    ]);
    spec.command.extend(arguments.iter().map(Into::into));
    let mut app = App::prepare_with(&[], |app| {
        app.command = spec.command;
        app.exe = exe();
    });
    let _serving = with_names(&mut app, ResolvConf::default());
    app.holder.start().unwrap();
    app.holder.wait();
    let found = std::fs::read_to_string(out).unwrap();
    assert!(found.contains("240.240.0.17"), "{program}: {found}");
}

fn node() {
    runtime(
        "node_resolves",
        "node",
        &[
            "-e",
            "require('dns').lookup('reviews',(e,a)=>{if(e)throw e;require('dns').resolve4('reviews.default.svc.cluster.local',(e,b)=>{console.log(e,a,b)})})",
        ],
    );
}

fn python() {
    runtime(
        "python_resolves",
        "python3",
        &[
            "-c",
            "import socket; print(socket.getaddrinfo('reviews.default', 80, flags=socket.AI_ADDRCONFIG))",
        ],
    );
}

/// Go's own resolver, not the C library's.
fn go() {
    // Built once: compiling the network package takes seconds.
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-lookup");
    let binary = directory.join("lookup");
    if !binary.exists() && !built(&directory) {
        println!("SKIPPED: go_resolves (no usable go here)");
        return;
    }
    resolves(binary.to_str().unwrap(), &[]);
}

fn built(directory: &std::path::Path) -> bool {
    let source = "package main\nimport (\"fmt\"; \"net\")\nfunc main() { fmt.Println(net.LookupHost(\"reviews.default.svc.cluster.local\")) }\n";
    let main = directory.join("main.go");
    if std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&main, source)).is_err() {
        return false;
    }
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(directory.join("lookup"))
        .arg(&main)
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", directory.join("cache"))
        .output();
    output.is_ok_and(|output| output.status.success())
}
