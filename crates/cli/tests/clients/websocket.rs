//! WebSockets: over HTTP/1, over extended CONNECT (RFC 8441), and from each to the other.
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::chain::Chain;
use crate::common::have;
use crate::peer::{self, Matrix, Server, script};

/// Every proxy takes extended CONNECT.
fn chain_to(origin: SocketAddr) -> Chain {
    let allowing = |mut manager: Value| {
        manager["http2_protocol_options"] = json!({ "allow_connect": true });
        manager
    };
    Chain::with(origin, allowing, |_, manager| allowing(manager))
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn tunnels_by_upgrade_and_by_extended_connect() {
    let Some(origin) = Server::origin("upgrades by Node") else { return };
    let chain = chain_to(origin.address);
    let mut matrix = Matrix::default();
    for http2 in [false, true] {
        let plan: Vec<_> = chain.paths.iter().map(|path| path.plan(http2)).collect();
        matrix.run(Command::new("node").arg(script("tunnel.js")), &plan);
    }
    chain.end();
    matrix.judge("tunnels");
}

/// A server that speaks HTTP/1 only, at the end of every path that ends so.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn websockets() {
    let Some(python) = peer::python(&["websockets"], "WebSockets") else { return };
    let server = Server::start(&python, "websocket_server.py");
    let chain = chain_to(server.address);
    let mut matrix = Matrix::default();
    for http2 in [false, true] {
        let fitting = chain.paths.iter().filter(|path| !path.ends_as_http2(http2));
        let plan: Vec<_> = fitting
            .map(|path| {
                let mut path = path.plan(http2);
                path["frames"] = true.into();
                path
            })
            .collect();
        if have("node", "WebSockets by hand over HTTP/1 and HTTP/2") {
            matrix.run(Command::new("node").arg(script("tunnel.js")), &plan);
        }
        if !http2 {
            matrix.run(Command::new(&python).arg(script("websocket_client.py")), &plan);
        }
    }
    chain.end();
    matrix.judge("WebSockets");
}
