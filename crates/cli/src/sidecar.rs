//! A proxy fed by a control plane: the data plane's threads, the ADS client, the admin port, the mesh's DNS.
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capture::DnsSockets;
use capture::dns::NameTable;
use model::config::{Config, Resource};
use proxy::{Admin, NodeIdentity, ProxyHandle, ProxyOptions, Runtime};
use tokio::sync::{oneshot, watch};
use xds::delta_client::{Address, Client, Consumer, Options, Refusal, Update};
use xds::type_url;

use crate::exit::{Code, Failure};
use crate::node::Identity;
use crate::output::say;

/// The mesh's domain; names in it are never asked of anybody else.
const DOMAIN: &str = "cluster.local";
/// How long the control plane may take to hear that we leave.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a sidecar or gateway is started with.
pub struct Settings {
    pub identity: Identity,
    pub control: Address,
    /// Where the last good configuration is kept.
    pub state_dir: Option<PathBuf>,
    pub options: ProxyOptions,
    /// A listening socket for the admin endpoints.
    pub admin: std::net::TcpListener,
    /// Where the application's DNS queries arrive.
    pub dns: DnsSockets,
}

/// A running proxy. [`Sidecar::stop`] ends it in order; dropped, it ends at once.
pub struct Sidecar {
    runtime: Option<Runtime>,
    handle: ProxyHandle,
    ready: Receiver<()>,
    leave: Option<oneshot::Sender<()>>,
    left: Receiver<()>,
}

impl Sidecar {
    /// Starts everything; the configuration comes later (see [`Sidecar::wait_ready`]).
    pub fn start(settings: Settings) -> Result<Sidecar, Failure> {
        let node = NodeIdentity {
            id: settings.identity.id(),
            cluster: settings.identity.cluster(),
            metadata: Some(settings.identity.metadata()),
        };
        let options = ProxyOptions { node: node.clone(), ..settings.options };
        let runtime = Runtime::start(options).map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
        let handle = runtime.handle();
        let admin = Arc::new(Admin::new(handle.clone(), node));
        admin.add(settings.admin).map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
        let cache = match &settings.state_dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(|e| {
                    Failure::io(format!("cannot make the state directory {}", dir.display()), &e)
                })?;
                Some(dir.join("last-good.xds"))
            }
            None => None,
        };
        let (became_ready, ready) = channel();
        let (leave, asked_to_leave) = oneshot::channel();
        let (has_left, left) = channel();
        let (names, table) = watch::channel(None);
        let core = Arc::new(Mutex::new(Core {
            config: Config::new(),
            handle: handle.clone(),
            admin: Arc::clone(&admin),
            names,
            new_names: None,
            seen: Seen::default(),
            became_ready: Some(became_ready),
            namespace: settings.identity.namespace.clone(),
            complaints: HashMap::new(),
            restoring: true,
            held: false,
            renewed: false,
        }));
        let client = Options { address: settings.control, node: settings.identity.node(), cache };
        let names = (!settings.dns.udp.is_empty() || !settings.dns.tcp.is_empty())
            .then(|| serve_names(settings.dns, table))
            .transpose()
            .map_err(|e| Failure::io("cannot start a thread", &e))?;
        let work = async move {
            let client = Client::start(client, Applier(Arc::clone(&core)), |line| say(line));
            lock(&core).restoring = false;
            tokio::select! {
                () = admin.serve() => {}
                _ = asked_to_leave => {}
                () = release_in_time(&client, &core) => {}
            }
            // Not connected, or not in time: the control plane will notice all the same.
            let _ = client.goodbye(GOODBYE).await;
            drop(names);
            let _ = has_left.send(());
        };
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(work),
                Err(error) => say(format_args!("no thread for the control side: {error}")),
            })
            .map_err(|e| Failure::io("cannot start a thread", &e))?;
        Ok(Sidecar { runtime: Some(runtime), handle, ready, leave: Some(leave), left })
    }

    /// Waits for the first whole configuration, from the control plane or from disk.
    pub fn wait_ready(&self, limit: Duration) -> bool {
        self.ready.recv_timeout(limit).is_ok()
    }

    pub fn handle(&self) -> &ProxyHandle {
        &self.handle
    }

    /// Waits until somebody asks the proxy to quit through its admin port.
    pub fn left(&self) -> &Receiver<()> {
        &self.left
    }

    /// Tells the control plane that this workload goes, so that nobody calls it any more.
    pub fn leave(&mut self) {
        if let Some(leave) = self.leave.take()
            && leave.send(()).is_ok()
        {
            let _ = self.left.recv_timeout(GOODBYE * 2);
        }
    }

    /// Lets what is under way end, then stops.
    pub fn stop(mut self) {
        self.leave();
        if let Some(runtime) = self.runtime.take() {
            runtime.stop();
        }
    }
}

/// Answers the application's DNS queries until what is returned is dropped. On a thread of its own: a large configuration
/// takes seconds to be compiled, and waits for name servers, and the application's names must not.
fn serve_names(
    sockets: DnsSockets,
    table: watch::Receiver<Option<Arc<NameTable>>>,
) -> std::io::Result<oneshot::Sender<()>> {
    let (held, end) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async move {
        let upstream = capture::dns::Upstream::host();
        tokio::select! {
            ended = capture::dns::serve(sockets, table, upstream, Arc::default()) => {
                if let Err(error) = ended {
                    say(format_args!("mesh DNS ended: {error}"));
                }
            }
            _ = end => {}
        }
    };
    std::thread::Builder::new().name("mesh-dns".to_owned()).spawn(move || runtime.block_on(work))?;
    Ok(held)
}

/// The types that must have come once before a proxy is ready.
#[derive(Default)]
struct Seen {
    clusters: bool,
    listeners: bool,
}

/// How long what was kept on disk waits for something newer: from the start, and from the stream being open. What
/// is new since then would otherwise be taken for something outside the mesh in the first milliseconds.
const KEPT_AFTER: Duration = Duration::from_millis(700);
const KEPT_AFTER_CONNECT: Duration = Duration::from_millis(150);

/// Puts what was kept on disk into use when nothing newer comes; never returns.
async fn release_in_time(client: &Client, core: &Mutex<Core>) {
    const LOOK: Duration = Duration::from_millis(10);
    let end = tokio::time::Instant::now() + KEPT_AFTER;
    while tokio::time::Instant::now() < end && !client.status().connected {
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep_until(end.min(tokio::time::Instant::now() + KEPT_AFTER_CONNECT)).await;
    lock(core).release();
    std::future::pending().await
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns what comes over ADS into the configuration of the data plane.
struct Applier(Arc<Mutex<Core>>);

struct Core {
    config: Config,
    handle: ProxyHandle,
    admin: Arc<Admin>,
    names: watch::Sender<Option<Arc<NameTable>>>,
    /// Comes into use with the rest of its configuration.
    new_names: Option<Arc<NameTable>>,
    seen: Seen,
    became_ready: Option<Sender<()>>,
    /// The proxy's own, in which short names are meant.
    namespace: String,
    /// Listeners that could not be opened, and what was said of it: once, until it changes.
    complaints: HashMap<String, String>,
    /// What comes now comes from disk.
    restoring: bool,
    /// What came from disk waits.
    held: bool,
    /// Something newer has come.
    renewed: bool,
}

impl Consumer for Applier {
    fn apply(&mut self, update: &Update) -> Vec<Refusal> {
        lock(&self.0).apply(update)
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        let subscriptions = lock(&self.0).config.subscriptions();
        let names = match type_url {
            type_url::ENDPOINT => subscriptions.endpoints,
            type_url::ROUTE => subscriptions.routes,
            _ => return Vec::new(),
        };
        names.iter().map(ToString::to_string).collect()
    }
}

impl Core {
    fn apply(&mut self, update: &Update) -> Vec<Refusal> {
        let resources: Vec<Resource> = update
            .resources
            .iter()
            .map(|r| Resource { name: r.name.clone(), version: r.version.clone(), body: r.body.clone() })
            .collect();
        let rejections = self.config.apply(update.type_url, &resources, &update.removed);
        self.admin.applied(update.type_url, &resources, &update.removed, &rejections);
        self.held |= self.restoring;
        match update.type_url {
            type_url::NAME_TABLE => {
                self.take_names(update);
                // The last type of a push that is not asked for by name: with it, everything is new.
                self.renewed |= !self.restoring;
            }
            type_url::CLUSTER => self.seen.clusters = true,
            type_url::LISTENER => self.seen.listeners = true,
            _ => {}
        }
        self.switch();
        rejections.into_iter().map(|r| Refusal { name: r.resource, reason: r.reason }).collect()
    }

    fn release(&mut self) {
        self.held = false;
        self.switch();
    }

    /// Puts into use what was applied.
    fn switch(&mut self) {
        let whole = self.config.missing().is_empty();
        self.held &= !(self.renewed && whole);
        if self.held {
            return;
        }
        let applied = self.handle.apply(self.config.snapshot());
        self.complain(applied.errors.iter().map(ToString::to_string).collect());
        if !whole {
            return;
        }
        // A name must not lead anywhere before the listener behind its address has its routes.
        if let Some(names) = self.new_names.take() {
            self.names.send_replace(Some(names));
        }
        if self.seen.clusters && self.seen.listeners {
            self.admin.set_ready(true);
            if let Some(ready) = self.became_ready.take() {
                let _ = ready.send(());
            }
        }
    }
}

/// The names a host answers to. The control plane sends a Kubernetes service once, by its full name with its short
/// name and namespace beside it; which short forms are meant depends on who asks (Istio's agent does the same).
pub fn spellings(name: &str, info: &xds::nds::name_table::NameInfo, own_namespace: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    if info.registry == "Kubernetes" && !info.shortname.is_empty() {
        let (short, namespace) = (&info.shortname, &info.namespace);
        all.push(format!("{short}.{namespace}"));
        all.push(format!("{short}.{namespace}.svc"));
        if namespace == own_namespace {
            all.push(short.clone());
        }
    }
    all
}

impl Core {
    fn take_names(&mut self, update: &Update) {
        for resource in &update.resources {
            // What does not decode was refused by `config` already.
            let Ok(table) = xds::unpack::<xds::nds::NameTable>(&resource.body) else { continue };
            let entries = table.table.iter().flat_map(|(name, info)| {
                let addresses: Vec<IpAddr> = info.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
                let names = spellings(name, info, &self.namespace);
                names.into_iter().map(move |name| (name, addresses.clone()))
            });
            self.new_names = Some(Arc::new(NameTable::new(DOMAIN, entries)));
        }
    }

    fn complain(&mut self, errors: Vec<String>) {
        let now: HashMap<String, String> = errors.into_iter().map(|e| (e.clone(), e)).collect();
        for error in now.values() {
            if !self.complaints.contains_key(error) {
                say(error);
            }
        }
        self.complaints = now;
    }
}
