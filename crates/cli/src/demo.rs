//! `filamesh demo`: Bookinfo as a mesh on this machine, with load, in one process tree.
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;

use crate::exit::{Code, Failure, Outcome};
use crate::mesh::MeshFile;
use crate::mesh_process::{ControlSettings, MeshProcess};
use crate::output::{Format, say};
use crate::{http_client, load};

/// Run Bookinfo as a mesh on this machine: control plane, gateway, six workloads, load. Ctrl-C leaves nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh demo                                  the mesh, 20 requests a second
  filamesh demo --no-load --config ./my-istio-yaml  your YAML on top, watched
  filamesh demo -o json | head -1                where everything is, for scripts")]
pub struct Demo {
    /// Send no load of our own
    #[arg(long)]
    no_load: bool,
    /// Requests a second sent to the page
    #[arg(long, value_name = "RPS", default_value_t = 20.0, value_parser = load::parse_rate)]
    load: f64,
    /// Istio YAML applied on top of Bookinfo's and watched
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Keep the state here and leave it there at the end
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How the applications' traffic is captured
    #[arg(long, value_enum, default_value_t)]
    capture: crate::run::CaptureMode,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Services and versions, in the order they are started.
const WORKLOADS: [(&str, &str); 6] = [
    ("ratings", "v1"),
    ("details", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("productpage", "v1"),
];

/// Bookinfo's objects: written into the mesh's configuration directory at the start.
const OBJECTS: [(&str, &str); 3] = [
    ("bookinfo.yaml", include_str!("../../../samples/bookinfo/platform/bookinfo.yaml")),
    ("bookinfo-gateway.yaml", include_str!("../../../samples/bookinfo/networking/bookinfo-gateway.yaml")),
    (
        "destination-rule-all.yaml",
        include_str!("../../../samples/bookinfo/networking/destination-rule-all.yaml"),
    ),
];

/// As in Istio's demo profile: every proxy writes its access log.
const MESH_CONFIG: &str = "accessLogFile: /dev/stdout\n";

pub fn run(args: &Demo) -> Outcome {
    let started = Instant::now();
    if let Some(dir) = &args.config
        && !dir.is_dir()
    {
        return Err(Failure::input(format!("--config {}: not a directory", dir.display())));
    }
    let (state_dir, _lock) = crate::state_dir::of_mesh(args.state_dir.as_deref(), "demo")?;
    let config_dir = state_dir.join("config");
    let json = args.output == Format::Json;
    let mut tree = MeshProcess::new(state_dir.clone(), args.state_dir.is_none(), json);
    write_objects(&config_dir)?;
    let mesh_config = state_dir.join("mesh-config.yaml");
    crate::mesh::write_whole(&mesh_config, MESH_CONFIG.as_bytes())?;

    // Yours first: the earlier directory wins.
    let config: Vec<PathBuf> = args.config.iter().chain([&config_dir]).cloned().collect();
    let loopback = || "127.0.0.1:0".to_owned();
    let settings =
        ControlSettings { config, xds: loopback(), http: loopback(), mesh_config: Some(mesh_config) };
    let control = tree.start_control(&settings)?;
    let gateway = tree.count();
    start_gateway(&mut tree, &control.xds)?;
    for (service, version) in WORKLOADS {
        start_workload(&mut tree, &control.xds, service, version, args)?;
    }
    let all: Vec<usize> = (0..tree.count()).collect();
    tree.wait_ready(&all)?;
    let address = tree.ready_event(gateway).and_then(|said| said["gateway"].as_str()).unwrap_or_default();
    let gateway = address.to_owned();
    let page = format!("{gateway}/productpage");
    wait_for_page(&page)?;

    let file = MeshFile {
        event: "ready".to_owned(),
        startup_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        state_dir,
        config_dir,
        control,
        gateway: Some(gateway),
        page: Some(page.clone()),
        workloads: tree.workloads(),
    };
    tree.announce(&file)?;
    let counts = if args.no_load {
        None
    } else {
        let uri = page.parse().map_err(|e| Failure::new(Code::Failure, format!("{page}: {e}")))?;
        Some(load::start(uri, args.load))
    };
    tell(&file, args);
    tree.keep()?;
    if let Some(counts) = &counts {
        counts.finish();
    }
    tree.end();
    if let Some(counts) = counts {
        let (sent, failed) = (counts.sent.load(Ordering::Relaxed), counts.failed.load(Ordering::Relaxed));
        say(format_args!("stopped: {sent} requests sent, {failed} failed; nothing is left behind"));
    }
    Ok(())
}

fn write_objects(config_dir: &Path) -> Outcome {
    control::disk::make_private_dir(config_dir).map_err(|e| Failure::io(config_dir.display(), &e))?;
    for (name, text) in OBJECTS {
        crate::mesh::write_whole(&config_dir.join(name), text.as_bytes())?;
    }
    Ok(())
}

pub fn start_gateway(tree: &mut MeshProcess, xds: &str) -> Outcome {
    let state = tree.state_dir.join("proxies/istio-ingressgateway");
    let arguments = [
        "proxy",
        "--gateway",
        "istio-ingressgateway",
        "--namespace",
        "istio-system",
        "--xds",
        xds,
        "--state-dir",
        &state.display().to_string(),
        "--lifeline",
        "-o",
        "json",
    ];
    tree.start("istio-ingressgateway", arguments.map(str::to_owned).to_vec())
}

fn start_workload(tree: &mut MeshProcess, xds: &str, service: &str, version: &str, args: &Demo) -> Outcome {
    let program = std::env::current_exe().map_err(|e| Failure::io("cannot find our own program", &e))?;
    let name = format!("{service}-{version}");
    let state = tree.state_dir.join("proxies").join(&name);
    let mut arguments: Vec<String> = [
        "run",
        "--service",
        service,
        "--version",
        version,
        "--port",
        "9080",
        "--xds",
        xds,
        "--state-dir",
        &state.display().to_string(),
        "--capture",
        args.capture.name(),
        "--lifeline",
        "-o",
        "json",
        "--",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend([program.display().to_string(), "sample".into(), "bookinfo".into(), service.into()]);
    tree.start_in(&name, arguments, vec![("SERVICE_VERSION".to_owned(), version.to_owned())])
}

/// The mesh is ready when a request has been through all of it.
fn wait_for_page(page: &str) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match http_client::request(http::Method::GET, page) {
            Ok((200, _)) => return Ok(()),
            Ok((status, _)) if Instant::now() > deadline => {
                return Err(Failure::new(Code::Failure, format!("{page} answers {status}")));
            }
            Err(failure) if Instant::now() > deadline => return Err(failure),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn tell(file: &MeshFile, args: &Demo) {
    let page = file.page.as_deref().unwrap_or_default();
    say(format_args!(
        "filamesh demo: Bookinfo is up after {} ms\n\n  page           {page}\n  control plane  {}  (xDS {})",
        file.startup_ms, file.control.http, file.control.xds
    ));
    let names: Vec<&str> = file.workloads.iter().map(|w| w.name.as_str()).collect();
    say(format_args!("  workloads      {}", names.join(", ")));
    if args.no_load {
        say("  load           none (--no-load)");
    } else {
        say(format_args!("  load           {} requests/s on the page", args.load));
    }
    say(format_args!("  configuration  {}  (watched: change a file, it is live)", file.config_dir.display()));
    if let Some(dir) = &args.config {
        say(format_args!("                 {}  (yours, on top)", dir.display()));
    }
    say(format_args!("  logs           {}", file.state_dir.join("logs").display()));
    let next = [
        ("filamesh stat -w", "what is happening now"),
        ("filamesh apply -f samples/bookinfo/networking/virtual-service-all-v1.yaml", "all to v1: no stars"),
        (
            "filamesh apply -f samples/bookinfo/networking/virtual-service-reviews-95-5.yaml",
            "a canary: 5 % to v2",
        ),
        (
            "filamesh explain call --from productpage-v1 http://reviews:9080/reviews/0",
            "who decides, and where",
        ),
        (
            "filamesh run --service web --port 8000 -- python3 -m http.server 8000",
            "your own program in the mesh",
        ),
    ];
    say("\nTry next, in another terminal (filamesh is this program):");
    for (command, what) in next {
        say(format_args!("  {command:<82}{what}"));
    }
    say("\nCtrl-C stops everything and leaves nothing behind.");
}
