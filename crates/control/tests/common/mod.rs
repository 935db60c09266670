//! A control plane over temporary directories, and proxies that only keep what they are given.
#![allow(dead_code)]

pub mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use control::{ControlOptions, Listen, Running};
use serde_json::{Value, json};
use tempfile::TempDir;
use xds::delta_client::{Client, Consumer, Options, Refusal, Update};
use xds::{Message, cluster, core, hcm, listener, tcp_proxy, type_url};

pub const DEADLINE: Duration = Duration::from_secs(10);

pub struct Plane {
    /// Before the directory: fields are dropped in order.
    pub running: Option<Running>,
    pub dir: TempDir,
    pub xds: SocketAddr,
    pub http: SocketAddr,
}

impl Plane {
    pub fn start(files: &[(&str, String)]) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("config");
        std::fs::create_dir(&config).unwrap();
        for (name, content) in files {
            std::fs::write(config.join(name), content).unwrap();
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = control::serve(options(&dir, any, any)).unwrap();
        let (xds, http) = (running.xds(), running.http());
        Self { dir, running: Some(running), xds, http }
    }

    pub fn stop(&mut self) {
        self.running = None;
    }

    /// On the same ports, from the same directories.
    pub fn restart(&mut self) {
        self.stop();
        // Connections of the one before may hold the port for a moment.
        let running = until("the ports", || control::serve(options(&self.dir, self.xds, self.http)).ok());
        self.running = Some(running);
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Writes a file of the configuration directory as editors that are careful do: whole, then renamed.
    pub fn put(&self, file: &str, text: &str) {
        let beside = self.dir.path().join("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, self.config().join(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.config().join(file)).unwrap();
    }

    /// Status and body.
    pub fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a metric line.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.request("GET", "/metrics");
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    pub fn connect(&self, options: Options) -> Proxy {
        Proxy::start(options, Held::default())
    }
}

fn options(dir: &TempDir, xds: SocketAddr, http: SocketAddr) -> ControlOptions {
    ControlOptions {
        config_dirs: vec![dir.path().join("config")],
        accept_empty: false,
        mesh_config: None,
        state_dir: dir.path().join("state"),
        xds: Listen::Address(xds),
        http: Listen::Address(http),
        log: |line| eprintln!("control: {line}"),
    }
}

/// What a sidecar of ours says about itself.
pub fn sidecar(plane: SocketAddr, service: &str, number: u8) -> Options {
    let address = format!("127.77.9.{number}");
    let metadata = json!({
        "NAMESPACE": "default", "WORKLOAD_NAME": format!("{service}-v1"), "SERVICE_ACCOUNT": service,
        "LABELS": {"app": service, "version": "v1"}, "CLUSTER_ID": "Kubernetes",
        "FILAMESH_WORKLOAD": {
            "service": service, "version": "v1", "proxyPid": std::process::id(),
            "ports": [{"port": 80, "targetPort": 8080, "name": "http"}],
        },
    });
    let Value::Object(metadata) = metadata else { unreachable!() };
    Options {
        address: plane.into(),
        node: core::Node {
            id: format!("sidecar~{address}~{service}-v1-{number}.default~default.svc.cluster.local"),
            metadata: Some(control::node::metadata_struct(&metadata)),
            user_agent_name: "filamesh".into(),
            ..Default::default()
        },
        cache: None,
    }
}

pub struct Proxy {
    pub client: Client,
    pub held: Held,
}

impl Proxy {
    pub fn start(options: Options, held: Held) -> Self {
        let client = Client::start(options, held.clone(), |line| eprintln!("proxy: {line}"));
        Self { client, held }
    }
}

/// What a proxy holds; shared with the test.
#[derive(Clone, Default)]
pub struct Held(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
pub struct State {
    /// By kind and name: version and bytes.
    pub resources: BTreeMap<(&'static str, String), (String, Vec<u8>)>,
    /// `CDS +name`, `RDS -name`, in the order of arrival.
    pub events: Vec<String>,
    /// Resources that arrived.
    pub received: usize,
    /// What is refused, as `CDS name`, with the reason.
    pub refuse: BTreeMap<String, String>,
}

impl Held {
    pub fn lock<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.0.0.lock().unwrap())
    }

    /// Waits until there is what is looked for.
    pub fn until<T>(&self, what: &str, mut find: impl FnMut(&mut State) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&mut state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not come; events: {:?}", state.events);
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    pub fn has(&self, kind: &'static str, name: &str) {
        self.until(name, |s| s.resources.contains_key(&(kind, name.to_owned())).then_some(()));
    }

    pub fn lacks(&self, kind: &'static str, name: &str) {
        self.until(name, |s| (!s.resources.contains_key(&(kind, name.to_owned()))).then_some(()));
    }

    /// The addresses of a cluster.
    pub fn endpoints(state: &State, cluster: &str) -> Vec<String> {
        let Some((_, bytes)) = state.resources.get(&("EDS", cluster.to_owned())) else { return Vec::new() };
        let assignment = xds::endpoint::ClusterLoadAssignment::decode(bytes.as_slice()).unwrap();
        let mut all: Vec<String> = assignment
            .endpoints
            .iter()
            .flat_map(|l| &l.lb_endpoints)
            .map(|e| format!("{e:?}"))
            .map(|text| {
                let start = text.find("127.77.").unwrap_or_else(|| panic!("no address in {text}"));
                text[start..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
            })
            .collect();
        all.sort();
        all
    }

    pub fn has_endpoints(&self, cluster: &str, expected: &[&str]) {
        self.until(&format!("{expected:?}"), |s| (Self::endpoints(s, cluster) == expected).then_some(()));
    }
}

fn short(type_url: &str) -> &'static str {
    match type_url {
        type_url::CLUSTER => "CDS",
        type_url::ENDPOINT => "EDS",
        type_url::LISTENER => "LDS",
        type_url::ROUTE => "RDS",
        type_url::NAME_TABLE => "NDS",
        other => panic!("{other}"),
    }
}

impl Consumer for Held {
    fn apply(&mut self, update: &Update) -> Vec<Refusal> {
        let kind = short(update.type_url);
        let mut state = self.0.0.lock().unwrap();
        let mut refusals = Vec::new();
        for name in &update.removed {
            state.events.push(format!("{kind} -{name}"));
            state.resources.remove(&(kind, name.clone()));
        }
        for resource in &update.resources {
            state.received += 1;
            state.events.push(format!("{kind} +{}", resource.name));
            if let Some(reason) = state.refuse.get(&format!("{kind} {}", resource.name)) {
                refusals.push(Refusal { name: resource.name.clone(), reason: reason.clone() });
                continue;
            }
            let held = (resource.version.clone(), resource.body.value.clone());
            state.resources.insert((kind, resource.name.clone()), held);
        }
        drop(state);
        self.0.1.notify_all();
        refusals
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        let state = self.0.0.lock().unwrap();
        let of = |kind: &'static str| {
            state.resources.iter().filter(move |((k, _), _)| *k == kind).map(|(_, v)| &v.1)
        };
        match type_url {
            type_url::ENDPOINT => of("CDS")
                .map(|bytes| cluster::Cluster::decode(bytes.as_slice()).unwrap())
                .filter(|c| c.eds_cluster_config.is_some())
                .map(|c| match c.eds_cluster_config {
                    Some(eds) if !eds.service_name.is_empty() => eds.service_name,
                    _ => c.name,
                })
                .collect(),
            type_url::ROUTE => {
                let names: BTreeSet<String> = of("LDS")
                    .flat_map(|bytes| route_names(&listener::Listener::decode(bytes.as_slice()).unwrap()))
                    .collect();
                names.into_iter().collect()
            }
            other => panic!("{other}"),
        }
    }
}

fn route_names(listener: &listener::Listener) -> Vec<String> {
    let chains = listener.filter_chains.iter().chain(listener.default_filter_chain.as_ref());
    let filters = chains.flat_map(|c| &c.filters);
    let names = filters.filter_map(|filter| {
        let Some(listener::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return None };
        match xds::unpack::<hcm::HttpConnectionManager>(any) {
            Ok(manager) => match manager.route_specifier {
                Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
                _ => None,
            },
            Err(_) => {
                let _ = xds::unpack::<tcp_proxy::TcpProxy>(any);
                None
            }
        }
    });
    names.collect()
}

/// Tries until it works.
pub fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{app: {name}}}\n  ports:\n  - {{name: http, port: 80, targetPort: 8080}}\n"
    )
}

/// Everything for `service` goes to the path's rewrite, so that each is another content.
pub fn virtual_service(service: &str, uri: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {service}, namespace: default}}\nspec:\n  hosts: [{service}]\n  http:\n  - rewrite: {{uri: {uri}}}\n    route:\n    - destination: {{host: {service}}}\n"
    )
}

pub fn cluster_of(service: &str) -> String {
    format!("outbound|80||{service}.default.svc.cluster.local")
}
