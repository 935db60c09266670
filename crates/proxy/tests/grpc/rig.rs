//! A proxy before a host that is told what to do, over every combination of protocols.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use proxy::ProxyOptions;
use serde_json::{Value, json};
use wire::h2::Config;

use crate::common::{Proxy, cluster, http, http_listener, to, typed};
use crate::peer::Peer;

/// A cluster whose hosts speak HTTP/2.
pub fn http2_cluster(name: &str, hosts: &[SocketAddr]) -> Value {
    let mut cluster = cluster(name, hosts);
    cluster["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
        typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": { "http2_protocol_options": {} } })) });
    cluster
}

/// A connection manager over these routes with the gRPC-Web filter, taking extended CONNECT.
pub fn manager(routes: Value) -> Value {
    let mut manager = http(routes);
    let web = typed("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", json!({}));
    manager["http_filters"].as_array_mut().unwrap().insert(0, json!({ "name": "web", "typed_config": web }));
    manager["http2_protocol_options"] = json!({ "allow_connect": true });
    manager
}

/// Where a host listens whose end of each connection the test holds.
pub fn host() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A proxy of one worker, so that all its requests share connections.
pub fn start(listener: Value, clusters: &[Value]) -> Proxy {
    let options = ProxyOptions { workers: 1, drain: Duration::from_secs(1), ..ProxyOptions::default() };
    Proxy::with(listener, clusters, options)
}

/// A proxy before one HTTP/2 host.
pub struct Rig {
    pub proxy: Proxy,
    host: TcpListener,
    kept: RefCell<Option<Peer>>,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(to("app"))
    }

    pub fn with(routes: Value) -> Rig {
        let (host, address) = host();
        let proxy = start(http_listener(manager(routes)), &[http2_cluster("app", &[address])]);
        Rig { proxy, host, kept: RefCell::new(None) }
    }

    pub fn client(&self) -> Peer {
        Peer::connect(self.proxy.address)
    }

    /// The host's end of the proxy's next connection.
    pub fn host(&self) -> Peer {
        self.host_with(Config::default())
    }

    /// The host's end of the connection that was kept, if one was.
    pub fn host_or_kept(&self) -> Peer {
        self.kept.take().unwrap_or_else(|| self.host())
    }

    pub fn keep(&self, host: Peer) {
        self.kept.replace(Some(host));
    }

    pub fn host_with(&self, config: Config) -> Peer {
        Peer::accept(&self.host, config)
    }
}

/// The head of a gRPC call, and more lines of it.
pub fn call(lines: &str) -> String {
    format!(
        "POST /shop.Cart/Add HTTP/1.1\r\nhost: shop\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
         {lines}transfer-encoding: chunked\r\n\r\n"
    )
}

/// One message.
pub fn message(text: &str) -> Vec<u8> {
    let mut out = vec![];
    wire::grpc::push_prefix(&mut out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
    out
}
