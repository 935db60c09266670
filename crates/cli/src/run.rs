//! `filamesh run`: any command as a workload of the mesh. This process is its sidecar.
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use capture::{AppExit, Family, Holder, HolderSpec, Mode, Namespace, SpawnError};
use clap::{Args, ValueEnum};
use control::state_lock::StateLock;
use proxy::{Application, Binding, IpVersion, ProxyOptions, Source};
use serde_json::{Map, Value, json};

use crate::exit::{Code, Failure, Outcome};
use crate::mesh;
use crate::node::Identity;
use crate::output::{self, Format, event, say};
use crate::sidecar::{Settings, Sidecar};
use crate::state_dir;

/// How the application's traffic gets into the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CaptureMode {
    /// A user and network namespace; proxy variables where the machine forbids that, and says so
    #[default]
    Auto,
    /// A user and network namespace, or an error
    Netns,
    /// Proxy environment variables only
    Env,
}

impl CaptureMode {
    pub fn name(self) -> &'static str {
        match self {
            CaptureMode::Auto => "auto",
            CaptureMode::Netns => "netns",
            CaptureMode::Env => "env",
        }
    }
}

/// Run any command as a workload of the mesh, unchanged and without root
#[derive(Debug, Args)]
#[command(
    after_help = "The command's exit code is ours. Everything it sends is captured; names of services resolve.

Examples:
  filamesh run --service web --port 8000 -- python3 -m http.server 8000
  filamesh run --service reviews --version v2 --port 9080 -- ./reviews
  filamesh run --service db --port tcp:5432 -- postgres -D data
  filamesh run --service shell -- curl -s http://web:8000/"
)]
pub struct Run {
    /// The service it belongs to; also its label `app`
    #[arg(long)]
    service: String,
    /// Its label `version`
    #[arg(long)]
    version: Option<String>,
    /// A port it serves: [PROTOCOL:]PORT[:APPLICATION_PORT], e.g. 8000, tcp:5432, http:80:8080
    #[arg(long = "port", value_name = "PORT", value_parser = parse_port)]
    ports: Vec<Port>,
    /// The workload's name; default SERVICE-VERSION
    #[arg(long)]
    name: Option<String>,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Further labels, KEY=VALUE
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    #[arg(long, default_value = "")]
    service_account: String,
    /// The control plane; default: the mesh's
    #[arg(long, value_name = "HOST:PORT")]
    xds: Option<String>,
    #[command(flatten)]
    target: crate::target::Target,
    /// Where the last good configuration and the access log are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    capture: CaptureMode,
    /// Worker threads of the sidecar
    #[arg(long, default_value_t = default_workers())]
    concurrency: usize,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[arg(long, hide = true)]
    lifeline: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Istio's two, or what the machine has.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(2))
}

/// A port of the service and where the application listens for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    protocol: String,
    service: u16,
    target: u16,
}

fn parse_port(text: &str) -> Result<Port, String> {
    let wrong = || format!("{text}: [PROTOCOL:]PORT[:APPLICATION_PORT], e.g. 8000, tcp:5432, http:80:8080");
    let number = |part: &str| part.parse::<u16>().ok().filter(|p| *p > 0);
    let mut parts: Vec<&str> = text.split(':').collect();
    let mut protocol = String::new();
    if let Some(first) = parts.first()
        && number(first).is_none()
    {
        // Istio's names of protocols, as in the name of a Service's port.
        const PROTOCOLS: [&str; 9] =
            ["http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "mongo", "redis"];
        protocol = first.to_ascii_lowercase();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            return Err(format!("{text}: unknown protocol {first}; there are {}", PROTOCOLS.join(", ")));
        }
        parts.remove(0);
    }
    let numbers: Option<Vec<u16>> = parts.into_iter().map(number).collect();
    match numbers.ok_or_else(wrong)?.as_slice() {
        [port] => Ok(Port { protocol, service: *port, target: *port }),
        [service, target] => Ok(Port { protocol, service: *service, target: *target }),
        _ => Err(wrong()),
    }
}

pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text}: KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What ends a run.
enum End {
    Application(AppExit),
    Signal,
    Quit,
}

pub fn run(args: &Run) -> Outcome {
    let began = Instant::now();
    let stop = crate::signals::Stop::take();
    output::say_without_waiting();
    let mesh_file = match &args.xds {
        Some(_) => None,
        None => Some(args.target.find()?),
    };
    let xds =
        args.xds.clone().or_else(|| mesh_file.as_ref().map(|m| m.control.xds.clone())).unwrap_or_default();
    let control = xds.parse().map_err(|e: xds::delta_client::AddressError| Failure::usage(e.to_string()))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => free_name(args, mesh_file.as_ref()),
    };
    let claimed = capture::loopback::claim(&format!("{}/{name}", args.namespace))
        .map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
    let (state_dir, _lock) = own_state_dir(args, mesh_file.as_ref(), &name)?;

    // An explicit proxy port exists only where nothing is captured.
    let (holder, explicit) = start_holder(args, claimed.ip)?;
    // From here on: the holder, and with it the application, keeps the mask it was given.
    state_dir::files_are_private();
    let holder = Arc::new(holder);
    if args.lifeline {
        // The holder and all it started end with this process.
        crate::lifeline::watch(|| std::process::exit(1));
    }
    for note in &holder.notes {
        say(note);
    }
    // Captured connections and queries wait in their sockets until the proxy is ready; an explicit proxy's port does
    // not exist before, so there the application comes second.
    let mut pid = if explicit.is_none() { Some(start_application(&holder)) } else { None };
    let (ends, ended) = channel();
    watch_application(&holder, ends.clone());
    watch_signals(stop, ends.clone());
    if pid.is_some() {
        wait_for_port(args, &holder);
    }

    let identity = identity(args, &name, claimed.ip, pid, explicit);
    let admin_address = SocketAddr::from((claimed.ip, capture::loopback::ADMIN_PORT));
    let log = state_dir.join("access.log");
    let mut sidecar = Sidecar::start(Settings {
        identity,
        control,
        options: options(args, &holder, claimed.ip, &log)?,
        admin: claimed.admin,
        dns: capture::DnsSockets {
            udp: holder.dns.udp.iter().filter_map(|s| s.try_clone().ok()).collect(),
            tcp: holder.dns.tcp.iter().filter_map(|s| s.try_clone().ok()).collect(),
        },
        state_dir: Some(state_dir.clone()),
    })?;
    let mut waiting = false;
    let end = loop {
        if sidecar.wait_ready(Duration::from_millis(if waiting { 100 } else { 3000 })) {
            break None;
        }
        if !waiting {
            say(format_args!("waiting for the control plane at {xds}: no configuration yet"));
            waiting = true;
        }
        if let Ok(end) = ended.try_recv() {
            break Some(end);
        }
    };
    if end.is_none() {
        crate::memory::settle();
        let pid = *pid.get_or_insert_with(|| start_application(&holder));
        tell_ready(args, &name, claimed.ip, pid, admin_address, &state_dir, began)?;
    }
    let end = end.or_else(|| ended.recv_timeout(crate::memory::AGAIN_AFTER).ok()).or_else(|| {
        crate::memory::settle();
        ended.recv().ok()
    });
    let end = end.unwrap_or(End::Quit);
    let status = match end {
        End::Application(exit) => exit.status(),
        End::Signal | End::Quit => {
            // First nobody calls us any more, then the application ends, then what it still sends.
            sidecar.leave();
            let _ = holder.stop(Duration::from_secs(1));
            holder.wait_within(Duration::from_secs(3)).map_or(1, AppExit::status)
        }
    };
    sidecar.stop();
    drop(holder);
    output::finish_saying();
    std::process::exit(status)
}

/// `SERVICE-VERSION`, with a number when another living workload has the name.
fn free_name(args: &Run, mesh: Option<&mesh::MeshFile>) -> String {
    let base = match &args.version {
        Some(version) => format!("{}-{version}", args.service),
        None => args.service.clone(),
    };
    let taken: Vec<String> = mesh
        .and_then(|m| crate::target::workloads(m).ok())
        .unwrap_or_default()
        .into_iter()
        .filter(|w| w.connected && w.workload.namespace == args.namespace)
        .map(|w| w.workload.name)
        .collect();
    let numbered = (2u32..).map(|n| format!("{base}-{n}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(base)
}

/// The given directory, the mesh's if we may write there, else one of this user's own; taken for this process.
fn own_state_dir(
    args: &Run,
    mesh: Option<&mesh::MeshFile>,
    name: &str,
) -> Result<(PathBuf, StateLock), Failure> {
    if let Some(dir) = &args.state_dir {
        return state_dir::of_proxy(dir, true);
    }
    let place = format!("{}.{name}", args.namespace);
    if let Some(mesh) = mesh {
        let dir = mesh.state_dir.join("proxies").join(&place);
        if control::disk::make_private_dir(&dir).is_ok() {
            return state_dir::of_proxy(&dir, false);
        }
    }
    state_dir::of_proxy(&state_dir::root().join("proxies").join(place), false)
}

/// The holder process, and the explicit proxy's port where there is no capture.
fn start_holder(args: &Run, ip: Ipv4Addr) -> Result<(Holder, Option<u16>), Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::io("cannot find our own program", &e))?;
    let spec =
        |mode, env| HolderSpec { exe: exe.clone(), command: args.command.clone(), env, cwd: None, mode };
    if args.capture != CaptureMode::Env {
        let listeners = u8::try_from(args.concurrency.clamp(1, 64)).unwrap_or(1);
        let mode = Mode::Namespace(Namespace { listeners, ..Namespace::new(ip) });
        match Holder::spawn(spec(mode, Vec::new())) {
            Ok(holder) => return Ok((holder, None)),
            Err(SpawnError::NotPossible(why)) if args.capture == CaptureMode::Auto => {
                say(format_args!("transparent capture is impossible here: {why}"));
            }
            Err(error) => return Err(Failure::new(Code::Failure, error.to_string())),
        }
    }
    let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map_err(|e| Failure::io("no free port for the explicit proxy", &e))?
        .port();
    say(format_args!(
        "capture env: the command is asked by http_proxy to use 127.0.0.1:{port}; only clients that follow it are meshed"
    ));
    let env = capture::environment::variables(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), false, &[]);
    let holder = Holder::spawn(spec(Mode::Environment, env))
        .map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
    Ok((holder, Some(port)))
}

/// Starts the command; one that cannot be started ends this process with the status a shell would show.
fn start_application(holder: &Holder) -> u32 {
    holder.start().unwrap_or_else(|error| {
        say(format_args!("filamesh: {error}"));
        output::finish_saying();
        std::process::exit(error.status())
    })
}

fn watch_application(holder: &Arc<Holder>, ends: Sender<End>) {
    holder.when_ended(move |exit| {
        let _ = ends.send(End::Application(exit));
    });
}

fn watch_signals(stop: crate::signals::Stop, ends: Sender<End>) {
    std::thread::spawn(move || {
        stop.wait();
        let _ = ends.send(End::Signal);
    });
}

/// A short wait for the application to listen: whoever is told of it may call at once.
fn wait_for_port(args: &Run, holder: &Holder) {
    const PATIENCE: Duration = Duration::from_millis(400);
    let Some(port) = args.ports.first() else { return };
    let until = Instant::now() + PATIENCE;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.target));
    while Instant::now() < until {
        let Ok(socket) = holder.sockets().take_within(Family::V4, PATIENCE) else { return };
        let socket = socket2::Socket::from(socket);
        if socket.connect_timeout(&address.into(), PATIENCE).is_ok() {
            drop(TcpStream::from(socket));
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn identity(args: &Run, name: &str, ip: Ipv4Addr, pid: Option<u32>, explicit: Option<u16>) -> Identity {
    let mut labels: std::collections::BTreeMap<String, String> = args.labels.iter().cloned().collect();
    labels.entry("app".to_owned()).or_insert_with(|| args.service.clone());
    if let Some(version) = &args.version {
        labels.entry("version".to_owned()).or_insert_with(|| version.clone());
    }
    let ports: Vec<Value> = args
        .ports
        .iter()
        .map(|p| json!({"port": p.service, "targetPort": p.target, "name": p.protocol}))
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut metadata = Map::new();
    metadata.insert(
        xds::node::WORKLOAD.to_owned(),
        json!({
            "service": args.service, "version": args.version, "ports": ports, "pid": pid,
            "proxyPid": std::process::id(), "startTime": u64::try_from(now.as_millis()).unwrap_or_default(),
            "admin": format!("{ip}:{}", capture::loopback::ADMIN_PORT),
        }),
    );
    if let Some(port) = explicit {
        metadata.insert("HTTP_PROXY_PORT".to_owned(), port.to_string().into());
    }
    Identity {
        kind: "sidecar",
        name: name.to_owned(),
        namespace: args.namespace.clone(),
        ip: IpAddr::V4(ip),
        labels,
        service_account: args.service_account.clone(),
        metadata,
    }
}

fn options(
    args: &Run,
    holder: &Holder,
    ip: Ipv4Addr,
    log: &std::path::Path,
) -> Result<ProxyOptions, Failure> {
    let mut outbound = Vec::new();
    for listener in holder.outbound.iter().chain(&holder.outbound_v6) {
        let socket = listener.try_clone().map_err(|e| Failure::io("outbound listener", &e))?;
        outbound.push(Binding::Socket(Arc::new(socket.into())));
    }
    let inbound: Vec<Binding> =
        args.ports.iter().map(|p| Binding::Address(SocketAddr::from((ip, p.target)))).collect();
    let mut bindings = std::collections::HashMap::from([("virtualInbound".to_owned(), inbound)]);
    if !outbound.is_empty() {
        bindings.insert("virtualOutbound".to_owned(), outbound);
    }
    let sockets = holder.sockets();
    let take = move |version| {
        let family = if version == IpVersion::V4 { Family::V4 } else { Family::V6 };
        sockets.take(family).ok_or_else(|| std::io::ErrorKind::WouldBlock.into())
    };
    Ok(ProxyOptions {
        workers: args.concurrency.clamp(1, 64),
        bindings,
        listen_on: Some(IpAddr::V4(ip)),
        log_stdout: Some(log.display().to_string()),
        application: Some(Application {
            addresses: vec![IpAddr::V4(ip)],
            target: IpAddr::V4(Ipv4Addr::LOCALHOST),
            sockets: Some(Arc::new(take)),
        }),
        source: Some(Source {
            address: IpAddr::V4(ip),
            network: (IpAddr::V4(Ipv4Addr::new(127, 77, 0, 0)), 16),
        }),
        drain: Duration::from_millis(200),
        give_back: Some(crate::memory::give_back),
        to_hand: Some(crate::memory::to_hand),
        log: output::log,
        ..ProxyOptions::default()
    })
}

fn tell_ready(
    args: &Run,
    name: &str,
    ip: Ipv4Addr,
    pid: u32,
    admin: SocketAddr,
    state_dir: &std::path::Path,
    began: Instant,
) -> Outcome {
    let startup = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if args.output == Format::Json {
        return event(&json!({
            "event": "ready", "startup_ms": startup, "state_dir": state_dir,
            "workloads": [{
                "name": name, "namespace": args.namespace, "service": args.service, "version": args.version,
                "address": ip.to_string(), "pid": pid, "proxy_pid": std::process::id(), "admin": admin.to_string(),
            }],
        }));
    }
    if !args.ports.is_empty() {
        let ports: Vec<String> = args.ports.iter().map(|p| p.service.to_string()).collect();
        say(format_args!(
            "{name}.{} is in the mesh after {startup} ms: http://{}:{}/ for meshed callers; admin http://{admin}, access log {}",
            args.namespace,
            args.service,
            ports.join(","),
            state_dir.join("access.log").display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_with_protocol_and_target() {
        let port = |protocol: &str, service, target| Port { protocol: protocol.to_owned(), service, target };
        assert_eq!(parse_port("8000"), Ok(port("", 8000, 8000)));
        assert_eq!(parse_port("tcp:5432"), Ok(port("tcp", 5432, 5432)));
        assert_eq!(parse_port("http:80:8080"), Ok(port("http", 80, 8080)));
        assert_eq!(parse_port("80:8080"), Ok(port("", 80, 8080)));
        for wrong in ["", "0", "http", "udp:53", "1:2:3", "http:99999"] {
            assert!(parse_port(wrong).is_err(), "{wrong}");
        }
    }
}
