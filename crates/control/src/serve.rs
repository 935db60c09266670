//! A running control plane: its threads and listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::Spec;
use nix::sys::socket::Backlog;
use tokio::runtime::Runtime;
use xds::limits::ACCEPT_QUEUE;

use crate::mesh_file::MeshFile;
use crate::options::{ControlOptions, Listen, ServeError};
use crate::push::Shared;
use crate::push::engine::{Engine, Inputs};
use crate::push::published::Published;
use crate::registrations::Registrations;
use crate::source::applied::source::AppliedSource;
use crate::source::applied::store::Store;
use crate::source::config_source::{self, ConfigSources, Tell};
use crate::source::{Files, Records, Update, Watch};
use crate::state_lock::StateLock;
use crate::store::ObjectStore;
use crate::translate::Options;
use crate::world::Settings;
use crate::{ads, local_socket, status};

/// Streams that end with the control plane get this long to notice.
const FAREWELL: Duration = Duration::from_millis(200);

/// A control plane that serves. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    xds: SocketAddr,
    http: SocketAddr,
    socket: PathBuf,
    shared: Arc<Shared>,
    watch: Option<Watch>,
    engine: Option<JoinHandle<()>>,
    /// Ends after the engine.
    config_sources: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
    /// Last: given back when everything that writes there has ended.
    _lock: StateLock,
}

/// Reads the configuration, makes the first state and serves it. Returns when both ports accept.
pub fn serve(options: ControlOptions) -> Result<Running, ServeError> {
    let ControlOptions { config_dirs, accept_empty, mesh_config, state_dir, xds, http, log } = options;
    // What fails most often comes first, and before anything is started.
    let xds = listen(xds, "xDS")?;
    let http = listen(http, "HTTP")?;
    let (xds_address, http_address) = (address(&xds, "xDS")?, address(&http, "HTTP")?);
    for directory in &config_dirs {
        match std::fs::read_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ServeError::ConfigDir { path: directory.clone(), error });
            }
            _ => {}
        }
    }
    let mesh_file = mesh_config
        .map(|path| MeshFile::open(path.clone()).map_err(|reason| ServeError::MeshConfig { path, reason }));
    let mesh_file = mesh_file.transpose()?;
    let lock = StateLock::take(&state_dir)?;
    let applied = Store::open(&state_dir)?;
    let registrations = Registrations::open(&state_dir, Instant::now(), log)
        .map_err(|error| ServeError::StateDir { path: state_dir.clone(), error })?;

    let (events, received) = channel();
    let shared = Arc::new(Shared::new(Published::default(), events, log));
    let records = Records::open(&state_dir, log).map_err(ServeError::Threads)?;
    let mut files = Files::new(config_dirs).remembering(records, accept_empty);
    if let Some(mesh_file) = mesh_file {
        files = files.with_mesh_file(mesh_file);
    }
    let (mut begun, mut first) = Watch::begin(files, log);
    let applied = Arc::new(AppliedSource::new(applied, shared.store.clone(), {
        let shared = shared.clone();
        move |updates| shared.update(updates)
    }));
    first.push(applied.all(Instant::now()));
    let mut config_sources = ConfigSources::new(state_dir.clone(), log);
    let mut watched = |directories| begun.set_config_sources(directories);
    first.extend(config_sources.set(config_sources_in(&first), &mut watched, Instant::now()));
    let directories = begun.directories();
    let (list, lists) = channel();
    // Kubernetes Services get automatic addresses: there is no API server here that would have given them any.
    let settings = Settings { assign_addresses: true, ..Settings::default() };
    let inputs = Inputs { registrations, first, config_sources: list, settings, options: Options::default() };
    let engine = Engine::new(shared.clone(), inputs);
    let reader = shared.clone();
    let watch = begun
        .spawn(move |updates| {
            reader.update(updates);
        })
        .map_err(ServeError::Threads)?;
    let engine = std::thread::Builder::new()
        .name("push".into())
        .spawn(move || engine.run(&received))
        .map_err(ServeError::Threads)?;
    let listener = shared.clone();
    let tell: Tell = Arc::new(move |updates| {
        listener.update(updates);
    });
    let config_sources = std::thread::Builder::new()
        .name("config-sources".into())
        .spawn(move || config_sources.follow(&lists, &directories, &tell))
        .map_err(ServeError::Threads)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(ServeError::Threads)?;
    let socket = state_dir.join(local_socket::NAME);
    {
        let _inside = runtime.enter();
        let (xds, http) = (adopt(xds, "xDS", xds_address)?, adopt(http, "HTTP", http_address)?);
        runtime.spawn(ads::serve(xds, shared.clone()));
        runtime.spawn(status::server::serve(http, shared.clone(), applied.clone()));
        runtime.spawn(status::local::serve(listen_locally(&socket)?, shared.clone(), applied));
    }
    Ok(Running {
        xds: xds_address,
        http: http_address,
        socket,
        shared,
        watch: Some(watch),
        engine: Some(engine),
        config_sources: Some(config_sources),
        runtime: Some(runtime),
        _lock: lock,
    })
}

impl Running {
    /// Where gRPC is served.
    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The Unix socket by which objects are applied and deleted.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends streams and listeners; registrations are on disk when this returns.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.watch.take());
        self.shared.stop();
        for thread in [self.engine.take(), self.config_sources.take()].into_iter().flatten() {
            // A panic in it was printed when it happened.
            let _ = thread.join();
        }
        if let Some(runtime) = self.runtime.take() {
            if tokio::runtime::Handle::try_current().is_ok() {
                runtime.shutdown_background();
            } else {
                runtime.shutdown_timeout(FAREWELL);
            }
        }
    }
}

/// The config sources that the mesh configuration of a start lists, which is found by the rules of precedence. What they
/// said before the restart is then part of the first configuration.
fn config_sources_in(first: &[Update]) -> Vec<api::mesh_config::ConfigSource> {
    let mut store = ObjectStore::default();
    for update in first {
        let mut mesh = Update::part(update.source, update.since);
        let meshes =
            update.upserts.iter().filter(|upsert| matches!(upsert.loaded.object.spec, Spec::MeshConfig(_)));
        mesh.upserts = meshes.cloned().collect();
        store.apply(mesh, 1);
    }
    config_source::listed(store.mesh_config())
}

fn listen(listen: Listen, role: &'static str) -> Result<TcpListener, ServeError> {
    let socket = match listen {
        Listen::Socket(socket) => Ok(socket),
        // The standard library sets SO_REUSEADDR, so that a control plane comes back on its port at once.
        Listen::Address(address) => TcpListener::bind(address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortInUse { role, address },
            io::ErrorKind::PermissionDenied => ServeError::PortDenied { role, address },
            _ => ServeError::Listen { role, address, error },
        }),
    }?;
    // The standard library lets 128 wait.
    let queue = Backlog::new(ACCEPT_QUEUE).and_then(|queue| nix::sys::socket::listen(&socket, queue));
    match queue {
        Ok(()) => Ok(socket),
        Err(error) => Err(ServeError::Listen { role, address: address(&socket, role)?, error: error.into() }),
    }
}

fn address(listener: &TcpListener, role: &'static str) -> Result<SocketAddr, ServeError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.local_addr().map_err(|error| ServeError::Listen { role, address: unknown, error })
}

fn listen_locally(socket: &Path) -> Result<tokio::net::UnixListener, ServeError> {
    let listener = local_socket::listen(socket).and_then(tokio::net::UnixListener::from_std);
    listener.map_err(|error| ServeError::Socket { path: socket.to_owned(), error })
}

fn adopt(
    listener: TcpListener,
    role: &'static str,
    address: SocketAddr,
) -> Result<tokio::net::TcpListener, ServeError> {
    let adopted = listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
    adopted.map_err(|error| ServeError::Listen { role, address, error })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// More proxies than the standard library's queue holds connect before one of them is taken.
    #[test]
    fn a_crowd_that_comes_at_once_waits_and_is_not_reset() {
        let crowd = 400;
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        assert!(allowed.trim().parse::<usize>().unwrap() >= crowd, "net.core.somaxconn is {allowed}");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = listen(Listen::Address(any), "xDS").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap();
        let proxies: Vec<TcpStream> = (0..crowd).map(connect).collect();
        for _ in &proxies {
            listener.accept().unwrap();
        }
    }
}
