//! `filamesh run` as an ordinary user: unmodified programs in three languages, reached by name.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::{Running, have, program, until};

/// Nobody: an ordinary user without rights.
const NOBODY: u32 = 65534;

const NODE_SERVER: &str = "require('http').createServer((q, s) => s.end('node says ' + q.url)).listen(8080)";
const PYTHON_ECHO: &str = "
import socket, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 9000)); s.listen()
def serve(c):
    while d := c.recv(65536): c.sendall(d)
    c.close()
while True:
    c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
";

/// A program and a place that any user may execute and write.
struct Stage {
    directory: tempfile::TempDir,
    program: std::path::PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let copy = directory.path().join("filamesh");
        std::fs::copy(program(), &copy).unwrap();
        std::fs::create_dir(directory.path().join("config")).unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        for name in ["config", "state"] {
            let path = directory.path().join(name);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        Stage { directory, program: copy }
    }
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

fn as_nobody(command: &mut Command, stage: &Stage) {
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env("HOME", stage.path("home-that-is-not-there")).env_remove("XDG_STATE_HOME");
    command.env("TMPDIR", stage.path("state")).current_dir(stage.directory.path());
}

fn mesh_up(stage: &Stage, extra: &[&str]) -> Running {
    let (config, state) = (stage.path("config"), stage.path("state/mesh"));
    let mut arguments = vec!["up", "--config", &config, "--state-dir", &state];
    arguments.extend(extra);
    start(stage, &arguments)
}

fn start(stage: &Stage, arguments: &[&str]) -> Running {
    Running::start_with(arguments, |command| {
        *command = {
            let mut own = Command::new(&stage.program);
            own.args(command.get_args()).stdout(std::process::Stdio::piped());
            own.stderr(std::process::Stdio::piped());
            own.env("FILAMESH_MESH", stage.path("state/mesh"));
            own
        };
        as_nobody(command, stage);
    })
}

/// One command in a meshed shell of its own.
fn in_mesh(stage: &Stage, command: &[&str]) -> Output {
    let mut run = Command::new(&stage.program);
    run.args(["run", "--service", "shell", "--"]).args(command);
    run.env("FILAMESH_MESH", stage.path("state/mesh"));
    as_nobody(&mut run, stage);
    run.output().unwrap()
}

fn says(output: &Output) -> String {
    format!(
        "{} stdout: {} stderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn unmodified_programs_are_meshed_by_an_ordinary_user() {
    if !have("python3", "meshing Python") || !have("curl", "calling with curl") {
        return;
    }
    let stage = Stage::new();
    std::fs::create_dir(stage.directory.path().join("site")).unwrap();
    std::fs::write(stage.directory.path().join("site/hello.txt"), "hello from python\n").unwrap();
    let _mesh = mesh_up(&stage, &[]);
    let site = stage.path("site");
    let _web = start(
        &stage,
        &[
            "run",
            "--service",
            "web",
            "--version",
            "v1",
            "--port",
            "8000",
            "--",
            "python3",
            "-m",
            "http.server",
            "8000",
            "--directory",
            &site,
        ],
    );
    let _echo = start(
        &stage,
        &["run", "--service", "echo", "--port", "tcp:9000", "--", "python3", "-c", PYTHON_ECHO],
    );
    let fetched = |url: &str| in_mesh(&stage, &["curl", "-sS", "--max-time", "5", "-i", url]);
    // By name, through two sidecars: the shell's and the server's.
    let mut last = String::new();
    until("curl reaches web by name", Duration::from_secs(10), || {
        let output = fetched("http://web:8000/hello.txt");
        last = says(&output);
        output.status.success() && last.contains("hello from python")
    });
    assert!(last.contains("x-envoy-upstream-service-time"), "through our proxies: {last}");
    for name in ["web.default", "web.default.svc", "web.default.svc.cluster.local"] {
        let output = fetched(&format!("http://{name}:8000/hello.txt"));
        assert!(says(&output).contains("hello from python"), "{name}: {}", says(&output));
    }

    // Raw TCP: what goes in comes out, also when one side is closed first.
    let script = "import socket;s=socket.create_connection(('echo',9000),5);s.sendall(b'ping'*1000);s.shutdown(1)\nd=b''\nwhile True:\n  p=s.recv(65536)\n  if not p: break\n  d+=p\nprint(d==b'ping'*1000)";
    let output = in_mesh(&stage, &["python3", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "True", "{}", says(&output));

    if have("node", "meshing Node") {
        let _node =
            start(&stage, &["run", "--service", "node", "--port", "8080", "--", "node", "-e", NODE_SERVER]);
        let mut last = String::new();
        until("curl reaches node by name", Duration::from_secs(10), || {
            let output = fetched("http://node:8080/x");
            last = says(&output);
            last.contains("node says /x")
        });
    }

    // A name that does not exist in the mesh's domain fails at once, not after a resolver's patience.
    let began = std::time::Instant::now();
    let output = fetched("http://nobody-here.default.svc.cluster.local:8000/");
    assert!(!output.status.success() && began.elapsed() < Duration::from_secs(4), "{}", says(&output));
    // The exit code is the command's.
    assert_eq!(in_mesh(&stage, &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(in_mesh(&stage, &["no-such-command-here"]).status.code(), Some(127));
}

/// The machine's own address that is not loopback: what is outside the mesh for a meshed program.
fn own_address() -> Option<String> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    addresses
        .filter_map(|a| a.address?.as_sockaddr_in().map(|s| s.ip()))
        .find(|ip| !ip.is_loopback())
        .map(|ip| ip.to_string())
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_destination_outside_follows_the_outbound_policy() {
    if !have("curl", "the outbound policy") {
        return;
    }
    // An address of this machine stands for the outside: traffic to it leaves the namespace by the sidecar.
    let Some(address) = own_address() else {
        eprintln!("SKIPPED: the outbound policy (this machine has no address but loopback)");
        return;
    };
    let listener = TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0u8; 4096];
            if stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\noutside\n");
            }
        }
    });
    let url = format!("http://{address}:{port}/");
    for (policy, expected) in [("ALLOW_ANY", "outside"), ("REGISTRY_ONLY", "")] {
        let stage = Stage::new();
        let mesh_config = stage.path("mesh.yaml");
        std::fs::write(&mesh_config, format!("outboundTrafficPolicy:\n  mode: {policy}\n")).unwrap();
        let _mesh = mesh_up(&stage, &["--mesh-config", &mesh_config]);
        let output = in_mesh(&stage, &["curl", "-sS", "--max-time", "5", &url]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{policy}: {}", says(&output));
        assert_eq!(output.status.success(), policy == "ALLOW_ANY", "{policy}: {}", says(&output));
    }
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn where_namespaces_are_forbidden_the_fallback_is_named() {
    if !have("curl", "the environment fallback") {
        return;
    }
    let stage = Stage::new();
    let _mesh = mesh_up(&stage, &[]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(Path::new(&stage.path("state")).join("page.txt"), "by variable\n").unwrap();
    if !have("python3", "the environment fallback") {
        return;
    }
    let (number, directory) = (port.to_string(), stage.path("state"));
    let _web = start(
        &stage,
        &[
            "run",
            "--capture",
            "env",
            "--service",
            "web",
            "--port",
            &number,
            "--",
            "python3",
            "-m",
            "http.server",
            &number,
            "--bind",
            "127.0.0.1",
            "--directory",
            &directory,
        ],
    );
    let mut last = String::new();
    until("curl follows http_proxy", Duration::from_secs(10), || {
        let mut run = Command::new(&stage.program);
        let url = format!("http://web:{port}/page.txt");
        run.args([
            "run",
            "--capture",
            "env",
            "--service",
            "shell",
            "--",
            "curl",
            "-sS",
            "--max-time",
            "5",
            &url,
        ]);
        run.env("FILAMESH_MESH", stage.path("state/mesh"));
        as_nobody(&mut run, &stage);
        let output = run.output().unwrap();
        last = says(&output);
        last.contains("by variable")
    });
    assert!(last.contains("capture env"), "the fallback is named on stderr: {last}");
}
