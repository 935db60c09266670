//! gRPC: grpcio over every path that ends in HTTP/2, and gRPC-Web by hand over every path.
use std::process::Command;

use crate::chain::{Chain, Kind, with_filter};
use crate::peer::{self, Matrix, Server, script};

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn grpcio() {
    let Some(python) = peer::python(&["grpc"], "gRPC with grpcio") else { return };
    let server = Server::start(&python, "grpc_server.py");
    let chain = Chain::to(server.address);
    // gRPC is HTTP/2 on the whole way: its trailers do not live through HTTP/1.
    let whole = chain.paths.iter().filter(|path| !path.kinds.contains(&Kind::Http1));
    let plan: Vec<_> = whole.map(|path| path.plan(true)).collect();
    assert_eq!(plan.len(), 6);
    let mut matrix = Matrix::default();
    matrix.run(Command::new(&python).arg(script("grpc_client.py")), &plan);
    chain.end();
    matrix.judge("grpcio");
}

/// The translation is done by the last proxy, whatever carries the request to it, or by the first, and HTTP/2 goes on.
#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn grpc_web() {
    const FILTER: (&str, &str) =
        ("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb");
    let Some(python) = peer::python(&["grpc", "httpx", "h2"], "gRPC-Web before grpcio") else { return };
    let server = Server::start(&python, "grpc_server.py");
    let mut matrix = Matrix::default();
    for by_the_first in [false, true] {
        let chain = Chain::with(
            server.address,
            |manager| if by_the_first { manager } else { with_filter(manager, FILTER.0, FILTER.1) },
            |_, manager| if by_the_first { with_filter(manager, FILTER.0, FILTER.1) } else { manager },
        );
        for http2 in [false, true] {
            let fitting = chain.paths.iter().filter(|path| {
                let ends_well = path.ends_as_http2(http2);
                if by_the_first {
                    path.kinds.len() == 2
                        && ends_well
                        && path.kinds[0].http2(http2)
                        && path.kinds[1] != Kind::Http1
                } else {
                    ends_well
                }
            });
            let plan: Vec<_> = fitting.map(|path| path.plan(http2)).collect();
            matrix.run(Command::new(&python).arg(script("grpc_web.py")), &plan);
        }
        chain.end();
    }
    matrix.judge("gRPC-Web");
}
