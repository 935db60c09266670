//! `filamesh control`: the control plane as a process of its own.
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::Args;
use control::{ControlOptions, Listen};
use serde_json::json;

use crate::exit::{Code, Failure, Outcome};
use crate::lines::Lines;
use crate::mesh_process::remove_tree;
use crate::output::{self, Format, event, say};
use crate::{mesh, state_dir};

/// Run a control plane: delta ADS for proxies, HTTP for people
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh control --config ./mesh --xds 127.0.0.1:15010 --http 127.0.0.1:15014")]
pub struct Control {
    /// Istio and Kubernetes YAML or JSON, watched; of two objects of one identity that of the first DIR counts
    #[arg(long, required = true, value_name = "DIR")]
    config: Vec<PathBuf>,
    /// Serve though a directory that had objects before the restart has none now
    #[arg(long)]
    accept_empty: bool,
    /// Where applied objects and registered workloads are kept; default: one directory of this user for each set of
    /// configuration directories
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where delta ADS listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15010")]
    xds: SocketAddr,
    /// Where the API, metrics and debug pages listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15014")]
    http: SocketAddr,
    /// Istio's MeshConfig
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// End when standard input does: the parent is gone
    #[arg(long, hide = true)]
    lifeline: bool,
    /// What to remove when the parent is gone without having done it
    #[arg(long, hide = true)]
    remove_when_orphaned: Vec<PathBuf>,
}

pub fn run(args: Control) -> Outcome {
    let began = Instant::now();
    for dir in &args.config {
        match dir.metadata() {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(Failure::input(format!("--config {}: not a directory", dir.display())));
            }
            Ok(_) => {}
            Err(error) => say(format_args!("--config {}: {error}; waiting for it", dir.display())),
        }
    }
    state_dir::files_are_private();
    let state_dir = match &args.state_dir {
        Some(dir) => state_dir::given(dir)?,
        None => state_dir::of_control(&args.config)?,
    };
    let stop = crate::signals::Stop::take();
    output::say_without_waiting();
    if args.lifeline {
        tell_parent();
        let remove = args.remove_when_orphaned.clone();
        crate::lifeline::watch(move || {
            clear(&remove);
            std::process::exit(0);
        });
    }
    let running = control::serve(ControlOptions {
        config_dirs: args.config.clone(),
        accept_empty: args.accept_empty,
        mesh_config: args.mesh_config.clone(),
        state_dir: state_dir.clone(),
        xds: Listen::Address(args.xds),
        http: Listen::Address(args.http),
        log: if args.lifeline { |line| say_to_parent(line) } else { |line| say(line) },
    })
    .map_err(|e| {
        let why = e.to_string();
        if let Some(events) = EVENTS.get() {
            // The last words, which `main` says, go to a log that may be on the full disk they are about.
            events.push(as_event(&why));
            events.settle(Duration::from_millis(500));
        }
        Failure::new(Code::Failure, why)
    })?;
    let startup = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (xds, http) = (running.xds(), format!("http://{}", running.http()));
    // A control plane that `up` or `demo` started is found through them.
    let found = if args.lifeline { None } else { announce(&args, &state_dir, startup, &running) };
    if args.output == Format::Json {
        event(&json!({
            "event": "ready", "startup_ms": startup, "state_dir": state_dir, "config_dir": args.config.first(),
            "control": {"pid": std::process::id(), "xds": xds.to_string(), "http": http,
                        "socket": running.socket()},
        }))?;
    } else {
        say(format_args!("control plane ready after {startup} ms: xDS {xds}, {http}"));
    }
    std::thread::spawn(crate::memory::stay_small);
    stop.wait();
    for file in found.iter().flatten() {
        // One that is gone already is as good.
        let _ = std::fs::remove_file(file);
    }
    running.stop();
    Ok(())
}

/// Lets other commands find this control plane as they find a mesh. Returns the files to remove at the end. One that
/// cannot write them (a full disk) serves all the same.
fn announce(
    args: &Control,
    state_dir: &Path,
    startup_ms: u64,
    running: &control::Running,
) -> Option<[PathBuf; 2]> {
    let first = args.config.first().cloned().unwrap_or_default();
    let file = mesh::MeshFile {
        event: "ready".to_owned(),
        startup_ms,
        state_dir: state_dir.to_owned(),
        config_dir: std::path::absolute(&first).unwrap_or(first),
        control: mesh::Control {
            pid: std::process::id(),
            xds: running.xds().to_string(),
            http: format!("http://{}", running.http()),
            socket: Some(running.socket().to_owned()),
        },
        gateway: None,
        page: None,
        workloads: Vec::new(),
    };
    match file.write().and_then(|()| mesh::announce(state_dir)) {
        Ok(marker) => Some([marker, state_dir.join("mesh.json")]),
        Err(failure) => {
            say(format_args!("{failure}; other commands will not find this control plane"));
            None
        }
    }
}

/// Events for the parent that are more than it waits for: handed to a thread, as the parent may be stopped.
static EVENTS: OnceLock<Lines> = OnceLock::new();

fn tell_parent() {
    if let Ok(lines) = Lines::start(|line| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush())
    }) {
        let _ = EVENTS.set(lines);
    }
}

/// A line of the log. The parent is told first: the log may be on a disk that is full or does not answer.
fn say_to_parent(line: &str) {
    if let Some(events) = EVENTS.get() {
        events.push(as_event(line));
    }
    say(line);
}

fn as_event(line: &str) -> String {
    format!("{}\n", json!({"event": "log", "line": line}))
}

/// The supervisor was killed: its other children are ending and may still write a last file.
fn clear(paths: &[PathBuf]) {
    if paths.is_empty() {
        // The state stays, and is given back at once: whoever starts the mesh again needs it.
        return;
    }
    let deadline = Instant::now() + Duration::from_millis(1500);
    loop {
        for path in paths {
            remove_tree(path);
        }
        std::thread::sleep(Duration::from_millis(50));
        let gone = paths.iter().all(|p| !p.exists());
        if Instant::now() > deadline || (gone && Instant::now() > deadline - Duration::from_millis(900)) {
            return;
        }
    }
}
