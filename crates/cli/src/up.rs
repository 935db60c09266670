//! `filamesh up`: a control plane over a directory, and a gateway; workloads join with `filamesh run`.
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::exit::{Failure, Outcome};
use crate::mesh::MeshFile;
use crate::mesh_process::{ControlSettings, MeshProcess};
use crate::output::{Format, say};

/// Run a control plane over a directory of YAML, and a gateway. Workloads join with `filamesh run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh up --config ./mesh
  filamesh up --config ./mesh --xds 127.0.0.1:15010 --no-gateway
  filamesh run --service web --port 8000 -- python3 -m http.server 8000     (another terminal)")]
pub struct Up {
    /// Istio and Kubernetes YAML or JSON, watched; of two objects of one identity that of the first DIR counts
    #[arg(long, value_name = "DIR", required = true)]
    config: Vec<PathBuf>,
    /// Keep the state here and leave it there at the end
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where delta ADS listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    xds: String,
    /// Where the API, metrics and debug pages listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    http: String,
    /// Istio's MeshConfig
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// Start no gateway
    #[arg(long)]
    no_gateway: bool,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(args: &Up) -> Outcome {
    let started = Instant::now();
    for dir in &args.config {
        if !dir.is_dir() {
            return Err(Failure::input(format!("--config {}: not a directory", dir.display())));
        }
    }
    let Some(first) = args.config.first() else { return Err(Failure::usage("--config is needed")) };
    let config_dir = std::path::absolute(first).map_err(|e| Failure::io(first.display(), &e))?;
    let (state_dir, _lock) = crate::state_dir::of_mesh(args.state_dir.as_deref(), "up")?;
    let json = args.output == Format::Json;
    let mut tree = MeshProcess::new(state_dir.clone(), args.state_dir.is_none(), json);
    let settings = ControlSettings {
        config: args.config.clone(),
        xds: args.xds.clone(),
        http: args.http.clone(),
        mesh_config: args.mesh_config.clone(),
    };
    // What the control plane has to say (what is broken, not acted on, waits), from this start on.
    tree.repeat_control();
    let control = tree.start_control(&settings)?;
    let mut gateway = None;
    if !args.no_gateway {
        let index = tree.count();
        crate::demo::start_gateway(&mut tree, &control.xds)?;
        tree.wait_ready(&[index])?;
        gateway = tree.ready_event(index).and_then(|said| said["gateway"].as_str()).map(str::to_owned);
    }
    let file = MeshFile {
        event: "ready".to_owned(),
        startup_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        state_dir,
        config_dir,
        control,
        gateway,
        page: None,
        workloads: Vec::new(),
    };
    tree.announce(&file)?;
    say(format_args!(
        "filamesh up: ready after {} ms\n\n  control plane  {}  (xDS {})\n  configuration  {}  (watched)\n  state          {}",
        file.startup_ms,
        file.control.http,
        file.control.xds,
        file.config_dir.display(),
        file.state_dir.display()
    ));
    if let Some(gateway) = &file.gateway {
        say(format_args!("  gateway        {gateway}"));
    }
    say("\nTry next, in another terminal:\n  \
         filamesh run --service web --port 8000 -- python3 -m http.server 8000\n  \
         filamesh run --service shell -- curl -s http://web:8000/\n  \
         filamesh get virtualservices -A\n  filamesh proxy-status\n");
    tree.keep()
}
