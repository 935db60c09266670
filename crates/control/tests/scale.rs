//! How long a big mesh takes: the figures that the push budget stands on. The budgets are only asserted on when asked for
//! (`FILAMESH_BUDGETS`, optimised); that time does not grow with the square is asserted always. Both in CPU time of this
//! thread, so that a busy machine does not count.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use api::{MeshConfig, parse_documents};
use control::classes::Classes;
use control::proxy::{Profile, Proxy, ProxyKind};
use control::translate::{Options, resources};
use control::world::{Delta, Settings, World};

/// Services with two endpoints each, every fifth one with a rule and a DestinationRule.
fn objects(services: usize) -> Vec<std::sync::Arc<api::Object>> {
    let mut text = String::new();
    for at in 0..services {
        let (high, low) = (at / 250, at % 250 + 1);
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{at}, namespace: n{}}}\n\
             spec: {{clusterIP: 10.1.{high}.{low}, selector: {{app: s{at}}}, ports: [{{name: http, port: 80}}, {{name: tcp, port: {}}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{at}-1, namespace: n{}, labels: {{kubernetes.io/service-name: s{at}}}}}\n\
             addressType: IPv4\nendpoints: [{{addresses: [10.2.{high}.{low}]}}, {{addresses: [10.3.{high}.{low}]}}]\n\
             ports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]\n---\n",
            at % 10,
            3000 + at % 50,
            at % 10,
        );
        if at % 5 == 0 {
            let _ = write!(
                text,
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: s{at}, namespace: n{}}}\n\
                 spec: {{hosts: [s{at}], http: [{{match: [{{uri: {{prefix: /a}}}}], route: [{{destination: {{host: s{at}, subset: v1}}}}]}}, {{route: [{{destination: {{host: s{at}}}}}]}}]}}\n---\n\
                 apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: s{at}, namespace: n{}}}\n\
                 spec: {{host: s{at}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n---\n",
                at % 10,
                at % 10,
            );
        }
    }
    let parsed = parse_documents("scale", &text, &Default::default());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems.first());
    parsed.objects
}

fn proxy() -> Proxy {
    Proxy {
        kind: ProxyKind::Sidecar,
        ip: "10.0.0.5".into(),
        ips: Vec::new(),
        namespace: "n1".into(),
        id: String::new(),
        labels: Default::default(),
        metadata: Default::default(),
        locality: String::new(),
    }
}

/// Time to build the world, and to make one class's resources of it; the best of three.
fn measure(services: usize) -> (Duration, Duration) {
    let objects = objects(services);
    let proxy = proxy();
    let options = Options { profile: Profile::Mesh, ..Default::default() };
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let given = objects.clone();
        let start = cpu();
        let world = World::build(given, Vec::new(), MeshConfig::istio_default(), Settings::default());
        let built = cpu() - start;
        let start = cpu();
        let made = resources(&world, &proxy, &options);
        let translated = cpu() - start;
        assert_eq!(made.endpoints.len(), services * 2 + services / 5 * 2);
        best = (best.0.min(built), best.1.min(translated));
    }
    best
}

/// Time to take in that one service has one endpoint more, or one less, until what a class gets is made; the best of four.
fn measure_move(services: usize) -> Duration {
    let objects = objects(services);
    let world = World::build(objects.clone(), Vec::new(), MeshConfig::istio_default(), Settings::default());
    let mut classes = Classes::new(world, Options { profile: Profile::Mesh, ..Default::default() });
    classes.join(1, Arc::new(proxy()), Profile::Mesh);
    let slice = objects.iter().find(|object| object.meta.kind == "EndpointSlice").expect("there are slices");
    let mut best = Duration::MAX;
    for there in [false, true, false, true] {
        let start = cpu();
        let objects = vec![(slice.identity().clone(), there.then(|| slice.clone()))];
        let concerned = classes.change(Delta { objects, ..Default::default() });
        best = best.min(cpu() - start);
        assert_eq!(concerned.into_iter().collect::<Vec<_>>(), [1]);
    }
    best
}

/// What the kernel says this thread has had of a processor; it brings its count up to date when the thread yields.
fn cpu() -> Duration {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
}

#[test]
fn a_bigger_mesh_takes_longer_in_proportion() {
    let small = measure(250);
    let big = measure(1000);
    eprintln!("250 services: world {:?}, resources {:?}", small.0, small.1);
    eprintln!("1000 services: world {:?}, resources {:?}", big.0, big.1);
    // Four times the services; sixteen times the time would be the square.
    assert!(big.1 < small.1 * 12, "resources: {:?} for 250, {:?} for 1000", small.1, big.1);
    assert!(big.0 < small.0 * 12, "world: {:?} for 250, {:?} for 1000", small.0, big.0);
    let (few, moved) = (measure_move(250), measure_move(1000));
    eprintln!("endpoints of one moved: {few:?} of 250 services, {moved:?} of 1000");
    assert!(moved * 20 < big.1, "what did not move is made again: {moved:?} of {:?}", big.1);
    if std::env::var_os("FILAMESH_BUDGETS").is_some() {
        eprintln!("endpoints of one of 4000 services moved: {:?}", measure_move(4000));
        assert!(big.1 < Duration::from_millis(60), "resources of 1000 services: {:?}", big.1);
        let (world, _) = measure(4000);
        eprintln!("4000 services (9600 objects): world {world:?}");
        assert!(world < Duration::from_millis(50), "a world of 9600 objects: {world:?}");
    }
}
