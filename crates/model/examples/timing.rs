//! Prints what matching and applying cost in a table of ten thousand virtual hosts. Release builds only:
//! `cargo run --release -p filamesh-model --example timing`.
#![allow(clippy::print_stdout)]
use std::borrow::Cow;
use std::hint::black_box;
use std::time::Instant;

use model::view::ForwardedProto;
use model::{Config, RequestView, Resource};
use xds::route::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action, route_match,
};

const HOSTS: usize = 10_000;

struct Get(String);

impl RequestView for Get {
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn path(&self) -> &[u8] {
        b"/v1/items?page=2"
    }
    fn host(&self) -> &[u8] {
        self.0.as_bytes()
    }
    fn scheme(&self) -> &[u8] {
        b"http"
    }
    fn forwarded_proto(&self) -> ForwardedProto {
        ForwardedProto::Http
    }
    fn any_value(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> Option<bool> {
        None
    }
    fn header(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
}

fn host(i: usize, cluster: &str) -> VirtualHost {
    let full = format!("service-{i}.namespace-{}.svc.cluster.local", i % 50);
    let name = format!("service-{i}.namespace-{}", i % 50);
    VirtualHost {
        name: format!("{full}:8080"),
        domains: vec![
            full.clone(),
            name.clone(),
            format!("{name}.svc"),
            format!("10.0.{}.{}", i / 250, i % 250),
        ],
        routes: vec![Route {
            name: "default".into(),
            r#match: Some(RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Prefix("/".into())),
                ..RouteMatch::default()
            }),
            action: Some(route::Action::Route(RouteAction {
                cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.into())),
                timeout: Some(xds::Duration::default()),
                retry_policy: Some(xds::route::RetryPolicy {
                    retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
                        .into(),
                    num_retries: Some(2),
                    ..xds::route::RetryPolicy::default()
                }),
                ..RouteAction::default()
            })),
            ..Route::default()
        }],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

fn resource(message: &RouteConfiguration) -> Resource {
    Resource { name: message.name.clone(), version: String::new(), body: xds::pack(message) }
}

fn main() {
    let hosts = (0..HOSTS).map(|i| host(i, &format!("outbound|8080||service-{i}"))).collect();
    let mut message = RouteConfiguration {
        name: "8080".into(),
        virtual_hosts: hosts,
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    };
    let mut config = Config::new();
    let first = resource(&message);
    println!("route configuration: {HOSTS} virtual hosts, {} bytes", first.body.value.len());
    let start = Instant::now();
    assert!(config.apply(xds::type_url::ROUTE, &[first], &[]).is_empty());
    println!("first apply:                 {:>9.2?}", start.elapsed());

    for (what, change) in [("one route changed", 0), ("one host added in front", 1), ("one host removed", 2)]
    {
        let mut best = std::time::Duration::MAX;
        for round in 0..20 {
            match change {
                0 => message.virtual_hosts[5_000] = host(5_000, &format!("other-{round}")),
                1 => message.virtual_hosts.insert(0, host(HOSTS + round, "new")),
                _ => drop(message.virtual_hosts.remove(3_000)),
            }
            let changed = resource(&message);
            let start = Instant::now();
            let rejections = config.apply(xds::type_url::ROUTE, &[changed], &[]);
            let snapshot = config.snapshot();
            best = best.min(start.elapsed());
            assert!(rejections.is_empty(), "{rejections:?}");
            drop(snapshot);
        }
        println!("apply and snapshot, {what}: {best:>9.2?}");
    }

    let snapshot = config.snapshot();
    let table = snapshot.route_tables().next().expect("one was applied").clone();
    let requests: Vec<Get> = (0..HOSTS)
        .map(|i| {
            // Far apart in memory, so that nothing is cached by luck.
            let i = (i * 7_919) % HOSTS;
            Get(format!("service-{i}.namespace-{}.svc.cluster.local:8080", i % 50))
        })
        .collect();
    let sets =
        [("one host", 1), ("a hundred hosts in turn", 100), ("all hosts in turn (out of cache)", HOSTS)];
    for (what, hosts) in sets {
        let rounds = 2_000_000 / hosts;
        let start = on_cpu();
        for _ in 0..rounds {
            for request in requests.iter().take(hosts) {
                black_box(table.decide(black_box(request), 7).route.map(|r| r.name.len()));
            }
        }
        let each = on_cpu().saturating_sub(start) as f64 / (rounds * hosts) as f64;
        println!("decide, {what}: {each:.0} ns");
    }
}

/// Nanoseconds this thread was on a CPU: a busy machine must not count as ours.
fn on_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}
