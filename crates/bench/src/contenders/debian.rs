//! The same hop for nginx and HAProxy: keep-alive on both sides, the request id and forwarded headers that a
//! sidecar adds, no access log (their cheapest form, as they are commonly compared).

use super::site::{Between, Site};

pub fn nginx(site: &Site) -> String {
    let Site { listen, upstream, directory, .. } = site;
    let connections = site.connections() * 2;
    let directory = directory.display();
    let (listening, pass) = match site.between {
        Between::Http1 | Between::Multiplexed => (
            "",
            "proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header connection \"\";
      proxy_set_header host $host;
      proxy_set_header x-request-id $request_id;
      proxy_set_header x-forwarded-proto $scheme;
      proxy_buffers 8 16k;",
        ),
        Between::Http2 => (
            " http2",
            "grpc_pass grpc://behind;
      grpc_set_header host $host;
      grpc_set_header x-request-id $request_id;
      grpc_set_header x-forwarded-proto $scheme;",
        ),
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {directory}/{kind};\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
  access_log off;
{temporary}  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  upstream behind {{
    server {upstream};
    keepalive 4096;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {listen}{listening} backlog=4096;
    location / {{
      {pass}
    }}
  }}
}}
"
    )
}

pub fn haproxy(site: &Site) -> String {
    let Site { listen, upstream, .. } = site;
    let connections = site.connections();
    let protocol = match site.between {
        Between::Http1 | Between::Multiplexed => "",
        Between::Http2 => " proto h2",
    };
    format!(
        "global
  maxconn {connections}
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  http-reuse always
frontend front
  bind {listen}{protocol} backlog 4096
  http-request set-header x-request-id %[uuid()]
  http-request set-header x-forwarded-proto http
  default_backend behind
backend behind
  server one {upstream} maxconn {connections} pool-max-conn {connections}{protocol}
"
    )
}
