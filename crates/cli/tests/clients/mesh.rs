//! The same clients between two workloads of a mesh: two sidecars, and the shared HTTP/2 hop between them.
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Running, client, have, program};
use crate::exact;
use crate::peer::{self, Matrix, run, script};

struct Mesh {
    up: Running,
    _config: tempfile::TempDir,
}

impl Mesh {
    fn start() -> Mesh {
        let config = tempfile::tempdir().unwrap();
        let up = Running::start(&["up", "--config", shown(config.path())]);
        Mesh { up, _config: config }
    }

    /// A workload that serves this port of a service.
    fn serve(&self, service: &str, port: &str, command: &[&str]) -> Running {
        let mut arguments = vec!["run", "--service", service, "--port", port, "--"];
        arguments.extend(command);
        Running::start_with(&arguments, |run| {
            run.env("FILAMESH_MESH", self.up.state_dir());
        })
    }

    /// A command as a workload that serves nothing.
    fn command(&self, command: &[&Path]) -> Command {
        let mut run = Command::new(program());
        run.args(["run", "--service", "shell", "--"]).args(command);
        run.env("FILAMESH_MESH", self.up.state_dir()).env("XDG_STATE_HOME", self.up.directory.path());
        run
    }

    /// Waits until curl is told this by what answers to a name in the mesh.
    fn reaches(&self, url: &str, answer: &str) {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let mut curl = self.command(&[Path::new("curl")]);
            curl.args(["-sS", "--max-time", "5", "-w", " %{http_code}", url]);
            let said = run(&mut curl, Duration::from_secs(15));
            if said.text().contains(answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{url}: {} {}", said.text(), said.errors);
        }
    }
}

fn path(name: &str, url: &str, http2: bool, origin: &str) -> Value {
    json!({ "name": name, "url": url, "http2": http2, "origin": origin })
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn node_and_python_between_sidecars() {
    if !have("node", "clients between sidecars") || !have("curl", "clients between sidecars") {
        return;
    }
    let mesh = Mesh::start();
    let origin = script("origin.js");
    let _one = mesh.serve("one", "http:80:8000", &["node", shown(&origin), "8000"]);
    let _two = mesh.serve("two", "http2:80:8000", &["node", shown(&origin), "8000"]);
    mesh.reaches("http://one/bytes?n=1", "200");
    mesh.reaches("http://two/bytes?n=1", "200");
    let plan = [
        path("h1 http", "http://one:80", false, "1.1"),
        path("h2 http", "http://one:80", true, "1.1"),
        path("h1 http2", "http://two:80", false, "2.0"),
        path("h2 http2", "http://two:80", true, "2.0"),
    ];
    let mut matrix = Matrix::default();
    matrix.run(&mut mesh.command(&[Path::new("node"), &script("client.js")]), &plan);
    if let Some(python) = peer::python(&["httpx", "h2"], "Python's clients between sidecars") {
        matrix.run(&mut mesh.command(&[&python, &script("http_clients.py")]), &plan);
    }
    matrix.judge("Node and Python between sidecars");
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn grpc_and_websockets_between_sidecars() {
    let what = "gRPC and WebSockets between sidecars";
    let Some(python) = peer::python(&["grpc", "websockets"], what) else { return };
    if !have("curl", what) {
        return;
    }
    let mesh = Mesh::start();
    let (kinds, chat) = (script("grpc_server.py"), script("websocket_server.py"));
    let _kinds = mesh.serve("kinds", "grpc:9000", &[shown(&python), shown(&kinds), "9000"]);
    let _chat = mesh.serve("chat", "http:8080", &[shown(&python), shown(&chat), "8080"]);
    // It resets what is not gRPC.
    mesh.reaches("http://kinds:9000/", "remote reset");
    mesh.reaches("http://chat:8080/", "426");
    let mut matrix = Matrix::default();
    let plan = [path("grpc", "http://kinds:9000", true, "2.0")];
    matrix.run(&mut mesh.command(&[&python, &script("grpc_client.py")]), &plan);
    let plan = [path("websocket", "http://chat:8080", false, "1.1")];
    matrix.run(&mut mesh.command(&[&python, &script("websocket_client.py")]), &plan);
    matrix.judge(what);
}

/// The hop between the sidecars is HTTP/2; the application sees the HTTP/1 that was sent.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn http1_is_kept_byte_for_byte_between_sidecars() {
    let what = "exactness of HTTP/1 between sidecars";
    let Some(python) = peer::python(&["socket"], what) else { return };
    if !have("curl", what) {
        return;
    }
    let mesh = Mesh::start();
    let server = script("mirror.py");
    let mirror = mesh.serve("mirror", "http:8080", &[shown(&python), shown(&server), "8080"]);
    mesh.reaches("http://mirror:8080/", "200");
    let request = exact::REQUEST.to_vec();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), String::from_utf8_lossy(&request).replace("Example.Test", "mirror:8080"))
        .unwrap();
    let request = std::fs::read(file.path()).unwrap();
    let script = "import socket,sys\ns=socket.create_connection(('mirror',8080),5)\n\
        s.sendall(open(sys.argv[1],'rb').read())\nd=b''\n\
        while d.count(b'\\r\\n\\r\\n')<2 or not d.endswith(b'body'): d+=s.recv(65536) or sys.exit(d)\n\
        sys.stdout.buffer.write(d)";
    let mut ask = mesh.command(&[&python, Path::new("-c"), Path::new(script), file.path()]);
    let said = run(&mut ask, Duration::from_secs(15));
    assert_eq!(said.code, Some(0), "{}", said.errors);
    let end = said.out.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    exact::judge(what, &request, &said.out[..end], &said.out[end..]);
    // What judged is that the hop was the shared one, and not HTTP/1 all the way.
    let (_, stats) = client::get(&format!("http://{}/stats", mirror.text("/workloads/0/admin")), &[]);
    let shared = stats.lines().filter(|line| line.contains("downstream_rq_http2_total"));
    let shared: u64 = shared.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert!(shared >= 2, "no HTTP/2 between the sidecars: {stats}");
}
