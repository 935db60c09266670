//! Who is configured: our proxy, the program itself, or an Envoy beside it.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::common::envoy::{Envoy, ask};
use crate::common::{Host, eventually};
use crate::program::client::{Load, get};
use crate::program::program;
use crate::server::Server;

pub struct Subject {
    admin: SocketAddr,
    process: Process,
}

enum Process {
    Ours(Ours),
    Envoy(#[expect(dead_code, reason = "held until the end")] Envoy),
}

/// Ended when dropped.
struct Ours {
    child: Child,
    log: PathBuf,
}

impl Drop for Ours {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("our proxy said:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whom to start.
#[derive(Clone)]
pub enum Who {
    /// What it keeps, it keeps here.
    Ours(PathBuf),
    Envoy(PathBuf),
}

/// Goes through these steps with our proxy, and with an Envoy, if there is one, at the same time.
pub fn each(steps: fn(&Who, Server)) {
    let Some(server) = Server::start() else { return };
    let envoy = std::env::var_os("ENVOY").map(PathBuf::from);
    std::thread::scope(|scope| {
        if let Some(envoy) = envoy {
            scope.spawn(move || steps(&Who::Envoy(envoy), Server::start().unwrap()));
        }
        let state = tempfile::tempdir().unwrap();
        steps(&Who::Ours(state.path().to_owned()), server);
    });
}

impl Subject {
    /// Starts it; it asks this control plane.
    pub fn start(who: &Who, server: &mut Server) -> Subject {
        match who {
            Who::Envoy(program) => {
                let envoy = Envoy::start(program, &bootstrap(server.port), 1, &[]);
                Subject { admin: envoy.admin, process: Process::Envoy(envoy) }
            }
            Who::Ours(state) => {
                let ours = Ours::start(state, server.port);
                let mark = server.mark();
                let node = server.hears("its node", mark, |said| {
                    Some(said.get("request")?["node"]["id"].as_str()?.to_owned())
                });
                Subject { admin: admin_of(&node), process: Process::Ours(ours) }
            }
        }
    }

    /// Starts ours again from what it kept, with nobody to ask; `node` is who it was.
    pub fn start_alone(who: &Who, port: u16, admin: SocketAddr) -> Subject {
        let Who::Ours(state) = who else { panic!("Envoy keeps nothing") };
        Subject { admin, process: Process::Ours(Ours::start(state, port)) }
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the two differ, and why.
    pub fn either<T>(&self, ours: T, envoy: T, _why: &str) -> T {
        match self.process {
            Process::Ours(_) => ours,
            Process::Envoy(_) => envoy,
        }
    }

    pub fn is_ours(&self) -> bool {
        matches!(self.process, Process::Ours(_))
    }

    /// Where a listener takes connections. Envoy names those too that still wait for something.
    pub fn listening(&self, name: &str) -> Option<SocketAddr> {
        let text = ask(self.admin, "/listeners")?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}::")))?;
        let address = line.trim().parse().ok()?;
        TcpStream::connect(address).is_ok().then_some(address)
    }

    /// Waits for it.
    pub fn listens(&self, name: &str) -> SocketAddr {
        eventually(&format!("{name} listens"), || self.listening(name).is_some());
        self.listening(name).unwrap()
    }

    pub fn url(&self, listener: &str) -> String {
        format!("http://{}/", self.listens(listener))
    }

    /// Whether it has a cluster, in its newest version or an older one.
    pub fn has_cluster(&self, name: &str) -> bool {
        ask(self.admin, "/clusters").unwrap().lines().any(|line| line.starts_with(&format!("{name}::")))
    }

    /// What has been logged so far; of ours alone.
    pub fn log(&self) -> String {
        match &self.process {
            Process::Ours(ours) => std::fs::read_to_string(&ours.log).unwrap(),
            Process::Envoy(_) => String::new(),
        }
    }

    /// Ends ours in order, with a goodbye.
    pub fn leaves(&mut self) {
        let Process::Ours(ours) = &mut self.process else { return };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(ours.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(ours.child.wait().unwrap().success());
    }
}

/// Waits until a request is answered by this host; what a worker takes over it takes over between two turns.
pub fn answered_by(url: &str, host: &str) {
    let mut last = (0, String::new());
    eventually(&format!("{host} answers"), || {
        last = get(url, &[]);
        last == (200, host.to_owned())
    });
}

/// Waits until requests are answered with this status.
pub fn answered_with(url: &str, status: u16) {
    eventually(&format!("{status} is the answer"), || get(url, &[]).0 == status);
}

/// Ends the load, once enough of it was sent: none of it may have failed.
pub fn no_call_failed(load: Load) {
    eventually("there is a load", || load.sent() > 100);
    let (sent, failures) = load.end();
    assert!(failures.is_empty(), "of {sent}: {failures:?}");
}

/// Two hosts, `v1` and `v2`.
pub fn hosts() -> (Host, Host) {
    (Host::saying("v1"), Host::saying("v2"))
}

impl Ours {
    fn start(state: &std::path::Path, port: u16) -> Ours {
        let log = state.join("log");
        // Its address follows from its name, and tests run at the same time.
        let name = format!("gateway-{port}");
        let child = Command::new(program())
            .args(["proxy", "--gateway", &name, "--namespace", "ads", "--concurrency", "1", "-o", "json"])
            .args(["--xds", &format!("127.0.0.1:{port}"), "--state-dir"])
            .arg(state.join("kept"))
            .env("XDG_STATE_HOME", state)
            .env_remove("FILAMESH_MESH")
            .stdout(Stdio::null())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Ours { child, log }
    }
}

/// `router~ADDRESS~...`: the admin is at its own address.
fn admin_of(node: &str) -> SocketAddr {
    let ip = node.split('~').nth(1).unwrap();
    format!("{ip}:15000").parse().unwrap()
}

fn bootstrap(port: u16) -> Value {
    let host = json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let source = json!({ "ads": {}, "resource_api_version": "V3" });
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "node": { "id": "envoy", "cluster": "ads" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds" } }],
            },
            "cds_config": source, "lds_config": source,
        },
        "static_resources": { "clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": { OPTIONS: {
                "@type": format!("type.googleapis.com/{OPTIONS}"),
                "explicit_http_config": { "http2_protocol_options": {} },
            } },
            "load_assignment": { "cluster_name": "xds", "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": host } },
            ] }] },
        }] },
    })
}
