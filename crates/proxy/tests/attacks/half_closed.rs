//! Connections of which one direction has ended and the other stays: they cost nothing while nothing comes. (An end that was
//! told in every turn kept a worker at 99 % of a core for as long as the other side stayed.)

use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::common::cost::{alone, hold_quietly, settled};
use crate::common::*;
use crate::connect;
use crate::h2client::H2Client;

fn tcp_listener(extra: Value) -> Value {
    let mut filter = json!({ "stat_prefix": "tcp", "cluster": "up" });
    for (key, value) in extra.as_object().unwrap() {
        filter[key] = value.clone();
    }
    listener("main", typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", filter))
}

/// A host that hands its connections to the test, after the head of a request has been granted with these words.
fn handing_over(grant: Option<&'static str>) -> (Host, Receiver<TcpStream>) {
    let (give, given): (Sender<TcpStream>, _) = channel();
    let host = Host::start(move |connection| {
        if let Some(grant) = grant {
            let Some(head) = connection.request() else { return };
            let proof = header(&head, "sec-websocket-key").map_or_else(String::new, |key| {
                let proof = wire::websocket::accept(key.as_bytes());
                format!("sec-websocket-accept: {}\r\n", str::from_utf8(&proof).unwrap())
            });
            connection.say(&format!("{grant}{proof}\r\n"));
        }
        give.send(connection.stream.try_clone().unwrap()).unwrap();
    });
    (host, given)
}

#[test]
fn a_half_closed_tcp_session_costs_nothing() {
    let _alone = alone();
    let (host, given) = handing_over(None);
    let proxy = Proxy::start(tcp_listener(json!({})), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    client.say("x");
    client.stream.shutdown(Shutdown::Write).unwrap();
    let host_side = given.recv_timeout(PATIENCE).unwrap();
    settled();
    hold_quietly("the client has ended, the host stays");
    drop(host_side);
    assert_eq!(client.rest(), b"");
    let client = proxy.client();
    let host_side = given.recv_timeout(PATIENCE).unwrap();
    host_side.shutdown(Shutdown::Write).unwrap();
    settled();
    hold_quietly("the host has ended, the client stays");
    drop((client, host_side));
    eventually("no session is left", || proxy.count("envoy_listener_downstream_cx_active", &[]) == 0);
}

/// An upgrade over HTTP/1 and over HTTP/2, and a CONNECT.
#[test]
fn a_half_closed_tunnel_costs_nothing() {
    const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let _alone = alone();
    let (host, given) = handing_over(Some(GRANT));
    let mut manager = http(to("up"));
    manager["http2_protocol_options"] = json!({ "allow_connect": true });
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    let granted = || {
        let mut client = proxy.client();
        client.say(ASK);
        assert_eq!(client.answer().status, 101);
        (client, given.recv_timeout(PATIENCE).unwrap())
    };
    let (client, host_side) = granted();
    client.stream.shutdown(Shutdown::Write).unwrap();
    settled();
    hold_quietly("the client has ended, the host stays");
    drop((client, host_side));
    let (client, host_side) = granted();
    host_side.shutdown(Shutdown::Write).unwrap();
    settled();
    hold_quietly("the host has ended its direction, the client stays");
    drop((client, host_side));
    let (client, host_side) = granted();
    drop(host_side);
    settled();
    hold_quietly("the host is gone, the client stays");
    drop(client);
    let mut client = H2Client::connect(proxy.address);
    let stream = client.upgrade(ASK);
    assert_eq!(client.until(stream, |said| said.status != 0).status, 101);
    let host_side = given.recv_timeout(PATIENCE).unwrap();
    client.send(stream, b"", true);
    settled();
    hold_quietly("an HTTP/2 client has ended, the host stays");
    drop(host_side);
    client.answer(stream);
    let stream = client.upgrade(ASK);
    assert_eq!(client.until(stream, |said| said.status != 0).status, 101);
    let host_side = given.recv_timeout(PATIENCE).unwrap();
    host_side.shutdown(Shutdown::Write).unwrap();
    settled();
    hold_quietly("the host has ended, an HTTP/2 client stays");
    drop((client, host_side));
    eventually("no request is left", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
}

/// The end of a client that waits for a connect which nobody answers, by TCP and by HTTP.
#[test]
fn the_end_of_a_client_while_its_host_is_connected_to_costs_nothing() {
    let _alone = alone();
    let hole = BlackHole::new();
    let mut slow = cluster("up", &[hole.address]);
    slow["connect_timeout"] = "3s".into();
    let proxy = Proxy::start(tcp_listener(json!({})), &[slow.clone()]);
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.say("x");
        client.stream.shutdown(Shutdown::Write).unwrap();
    }
    eventually("sessions", || proxy.count("envoy_listener_downstream_cx_active", &[]) == 5);
    settled();
    hold_quietly("TCP clients have ended, their host is connected to");
    for client in &mut clients {
        client.rest();
    }
    assert_eq!(proxy.count("envoy_cluster_upstream_cx_connect_timeout", &[]), 5);
    let proxy = Proxy::start(http_listener(http(to("up"))), &[slow]);
    let clients: Vec<_> = (0..5)
        .map(|number| {
            let mut client = connect(proxy.address);
            std::io::Write::write_all(
                &mut client,
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx",
            )
            .unwrap();
            if number % 2 == 0 {
                client.shutdown(Shutdown::Write).unwrap();
            }
            client
        })
        .collect();
    settled();
    hold_quietly("HTTP clients have ended, their host is connected to");
    drop(clients);
    eventually("none is left", || proxy.count("envoy_http_downstream_rq_active", &[]) == 0);
}
