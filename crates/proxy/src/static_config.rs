//! A proxy from a static Envoy bootstrap: no control plane, everything in one file.

use std::net::SocketAddr;

use model::Rejection;
use wire::path::Fragment;
use xds::bootstrap::Bootstrap;

use crate::admin::{Admin, AdminError, Raw};
use crate::net::listen::ListenError;
use crate::options::ProxyOptions;
use crate::runtime::{Runtime, StartError};

/// A static proxy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// What the file asks for and this proxy can not do, each by its path. Nothing was started.
    #[error("{}", list(.0))]
    Refused(Vec<Rejection>),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Listen(Vec<ListenError>),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("can not run the admin server: {0}")]
    Io(#[from] std::io::Error),
}

fn list(rejections: &[Rejection]) -> String {
    rejections.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A running static proxy.
pub struct StaticProxy {
    pub runtime: Runtime,
    /// Where the admin server listens, if the bootstrap asks for one.
    pub admin: Option<SocketAddr>,
    server: Option<Admin>,
}

/// Starts all the bootstrap describes. Everything in it is honoured, or nothing starts.
pub fn start_static(bootstrap: &Bootstrap, options: ProxyOptions) -> Result<StaticProxy, StaticError> {
    let model::bootstrap::Bootstrap { mut config, admin, reject_fragments } =
        model::bootstrap::from_bootstrap(bootstrap).map_err(StaticError::Refused)?;
    let fragment = if reject_fragments { Fragment::Reject } else { Fragment::Strip };
    let options = ProxyOptions { fragment, ..options };
    let node = options.node.clone();
    let runtime = Runtime::start(options)?;
    let applied = runtime.handle().apply(config.snapshot());
    if !applied.errors.is_empty() {
        return Err(StaticError::Listen(applied.errors));
    }
    let server = match admin {
        None => None,
        Some(address) => {
            let admin = Admin::new(runtime.handle(), node);
            admin.set_raw(Raw::of_bootstrap(bootstrap));
            admin.set_ready(true);
            admin.listen(address)?;
            Some(admin)
        }
    };
    let admin = server.as_ref().and_then(|server| server.address());
    Ok(StaticProxy { runtime, admin, server })
}

impl StaticProxy {
    /// Serves until SIGTERM or SIGINT (or `/quitquitquit`), then lets what is under way end.
    pub fn run(self) -> Result<(), StaticError> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let quit = async {
                match &self.server {
                    Some(server) => server.serve().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = quit => {}
            }
            Ok::<(), std::io::Error>(())
        })?;
        self.runtime.stop();
        Ok(())
    }
}

/// Starts and serves; see [`start_static`] and [`StaticProxy::run`].
pub fn run_static(bootstrap: &Bootstrap, options: ProxyOptions) -> Result<(), StaticError> {
    start_static(bootstrap, options)?.run()
}
