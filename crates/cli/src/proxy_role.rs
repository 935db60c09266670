//! `filamesh proxy`: the data plane as a process: from a static Envoy bootstrap, or a gateway under a control plane.
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use proxy::{ProxyOptions, Source};
use serde_json::{Map, json};

use crate::exit::{Code, Failure, Outcome};
use crate::node::Identity;
use crate::output::{self, Format, event, say};
use crate::sidecar::{Settings, Sidecar};

/// Run the data plane: from an Envoy v3 bootstrap, or as a gateway of a mesh
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh proxy -c envoy.yaml
  filamesh proxy --gateway istio-ingressgateway --namespace istio-system --xds 127.0.0.1:15010")]
pub struct Proxy {
    /// An Envoy v3 bootstrap, YAML or JSON; a field that cannot be honoured is refused by name
    #[arg(short, long, value_name = "FILE", required_unless_present = "gateway", conflicts_with = "gateway")]
    config: Option<PathBuf>,
    /// Run as the gateway of this name (its label istio is the name without `istio-`)
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    #[arg(short, long, default_value = "istio-system")]
    namespace: String,
    /// Further labels of the gateway, KEY=VALUE
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = crate::run::parse_label)]
    labels: Vec<(String, String)>,
    /// The control plane; default: the mesh's
    #[arg(long, value_name = "HOST:PORT")]
    xds: Option<String>,
    #[command(flatten)]
    target: crate::target::Target,
    /// Where the last good configuration and the access log are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Worker threads
    #[arg(long, default_value_t = crate::run::default_workers())]
    concurrency: usize,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[arg(long, hide = true)]
    lifeline: bool,
}

pub fn run(args: &Proxy) -> Outcome {
    match (&args.config, &args.gateway) {
        (Some(path), _) => from_bootstrap(args, path),
        (None, Some(name)) => gateway(args, name),
        (None, None) => Err(Failure::usage("-c FILE or --gateway NAME")),
    }
}

fn from_bootstrap(args: &Proxy, path: &std::path::Path) -> Outcome {
    let began = Instant::now();
    let name = path.display();
    let bootstrap = crate::bootstrap::read(path)?;
    output::say_without_waiting();
    let options = ProxyOptions {
        workers: args.concurrency.clamp(1, 64),
        give_back: Some(crate::memory::give_back),
        to_hand: Some(crate::memory::to_hand),
        log: output::log,
        ..ProxyOptions::default()
    };
    if args.lifeline {
        crate::lifeline::watch(|| std::process::exit(1));
    }
    let running = proxy::start_static(&bootstrap, options).map_err(|e| match e {
        proxy::StaticError::Refused(_) => Failure::input(format!("{name}: {e}")),
        other => Failure::new(Code::Failure, other.to_string()),
    })?;
    crate::memory::settle();
    let startup = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let listeners: Vec<String> = running
        .runtime
        .handle()
        .listening()
        .iter()
        .flat_map(|(_, addresses)| addresses.iter().map(ToString::to_string))
        .collect();
    if args.output == Format::Json {
        event(&json!({
            "event": "ready", "startup_ms": startup, "pid": std::process::id(), "listeners": listeners,
            "admin": running.admin.map(|a| a.to_string()),
        }))?;
    } else {
        say(format_args!("serving on {} after {startup} ms", listeners.join(", ")));
        if let Some(admin) = running.admin {
            say(format_args!("admin http://{admin}"));
        }
    }
    running.run().map_err(|e| Failure::new(Code::Failure, e.to_string()))
}

fn gateway(args: &Proxy, name: &str) -> Outcome {
    let began = Instant::now();
    let stop = crate::signals::Stop::take();
    output::say_without_waiting();
    let xds = match &args.xds {
        Some(xds) => xds.clone(),
        None => args.target.find()?.control.xds,
    };
    let control = xds.parse().map_err(|e: xds::delta_client::AddressError| Failure::usage(e.to_string()))?;
    let claimed = capture::loopback::claim(&format!("{}/{name}", args.namespace))
        .map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
    crate::state_dir::files_are_private();
    let place = format!("{}.{name}", args.namespace);
    let (state_dir, _lock) = match &args.state_dir {
        Some(dir) => crate::state_dir::of_proxy(dir, true)?,
        None => crate::state_dir::of_proxy(&crate::state_dir::root().join("proxies").join(place), false)?,
    };
    let ip = IpAddr::V4(claimed.ip);
    let admin = format!("{ip}:{}", capture::loopback::ADMIN_PORT);
    let mut labels: std::collections::BTreeMap<String, String> = args.labels.iter().cloned().collect();
    labels.entry("app".to_owned()).or_insert_with(|| name.to_owned());
    labels
        .entry("istio".to_owned())
        .or_insert_with(|| name.strip_prefix("istio-").unwrap_or(name).to_owned());
    let mut metadata = Map::new();
    metadata.insert(
        xds::node::WORKLOAD.to_owned(),
        json!({"proxyPid": std::process::id(), "admin": admin, "ports": []}),
    );
    let identity = Identity {
        kind: "router",
        name: name.to_owned(),
        namespace: args.namespace.clone(),
        ip,
        labels,
        service_account: format!("{name}-service-account"),
        metadata,
    };
    if args.lifeline {
        crate::lifeline::watch(|| std::process::exit(1));
    }
    let sidecar = Sidecar::start(Settings {
        identity,
        control,
        options: ProxyOptions {
            workers: args.concurrency.clamp(1, 64),
            listen_on: Some(ip),
            log_stdout: Some(state_dir.join("access.log").display().to_string()),
            source: Some(Source { address: ip, network: (IpAddr::V4([127, 77, 0, 0].into()), 16) }),
            give_back: Some(crate::memory::give_back),
            to_hand: Some(crate::memory::to_hand),
            log: output::log,
            ..ProxyOptions::default()
        },
        admin: claimed.admin,
        dns: capture::DnsSockets::default(),
        state_dir: Some(state_dir.clone()),
    })?;
    if !sidecar.wait_ready(Duration::from_secs(3)) {
        say(format_args!("waiting for the control plane at {xds}: no configuration yet"));
        while !sidecar.wait_ready(Duration::from_millis(100)) {
            if sidecar.left().try_recv().is_ok() {
                return Ok(());
            }
        }
    }
    crate::memory::settle();
    let startup = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut listeners: Vec<std::net::SocketAddr> =
        sidecar.handle().listening().iter().flat_map(|(_, addresses)| addresses.clone()).collect();
    listeners.sort();
    let gateway = listeners.first().map(|address| format!("http://{address}"));
    if args.output == Format::Json {
        event(&json!({
            "event": "ready", "startup_ms": startup, "state_dir": state_dir, "pid": std::process::id(),
            "gateway": gateway, "address": ip.to_string(), "admin": admin,
            "listeners": listeners.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        let shown: Vec<String> = listeners.iter().map(ToString::to_string).collect();
        say(format_args!(
            "gateway {name} after {startup} ms on {}; admin http://{admin}",
            if shown.is_empty() { format!("{ip} (no Gateway configured yet)") } else { shown.join(", ") }
        ));
    }
    std::thread::spawn(|| {
        std::thread::sleep(crate::memory::AGAIN_AFTER);
        crate::memory::settle();
    });
    stop.wait();
    sidecar.stop();
    Ok(())
}
