//! The fuzz targets over their corpora and over generated configurations.

use control::fuzzing::{fuzz_config_source, fuzz_manifests, fuzz_translate};
use proptest::prelude::*;

fn replay(corpus: &str, target: impl Fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(corpus);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there").flatten() {
        target(&std::fs::read(entry.path()).expect("an input is readable"));
        seen += 1;
    }
    assert!(seen > 0, "no inputs in {}", folder.display());
}

#[test]
fn the_corpus_is_translated() {
    replay("translate", fuzz_translate);
}

#[test]
fn the_corpus_is_taken_apart_into_manifests() {
    replay("manifests", fuzz_manifests);
    // Whatever is translated may be applied, too.
    replay("translate", fuzz_manifests);
}

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let add = std::cell::RefCell::new(&mut all);
    replay(folder, |data| add.borrow_mut().push(data.to_vec()));
    all
}

#[test]
fn the_corpus_is_what_config_sources_say() {
    replay("config_source", fuzz_config_source);
}

/// Names few enough that objects meet each other.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "web"])
}

fn namespace() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["default", "prod", "istio-system"])
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        name().prop_map(str::to_owned),
        (name(), namespace()).prop_map(|(name, namespace)| format!("{name}.{namespace}.svc.cluster.local")),
        prop::sample::select(vec![
            "*",
            "*.example.com",
            "x.example.com",
            "*.prod.svc.cluster.local",
            "10.1.2.3"
        ])
        .prop_map(str::to_owned),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![0, 80, 443, 8080, 3306, 15001])
}

fn protocol() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["http", "tcp", "tls", "https", "grpc", "mongo", "x", ""])
}

fn service() -> impl Strategy<Value = String> {
    let address = prop::sample::select(vec!["None", "10.1.0.1", "10.1.0.2", "", "fd00::1"]);
    (name(), namespace(), address, prop::collection::vec((port(), protocol()), 0..4)).prop_map(
        |(name, namespace, address, ports)| {
            let ports: Vec<String> = ports
                .iter()
                .enumerate()
                .map(|(at, (port, protocol))| format!("{{port: {port}, name: '{protocol}-{at}'}}"))
                .collect();
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{clusterIP: '{address}', selector: {{app: {name}}}, ports: [{}]}}\n",
                ports.join(", ")
            )
        },
    )
}

fn pod() -> impl Strategy<Value = String> {
    (name(), namespace(), 1..5u8).prop_map(|(name, namespace, last)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-{last}, namespace: {namespace}, labels: {{app: {name}, \
             security.istio.io/tlsMode: istio}}}}\nstatus: {{phase: Running, podIP: 10.0.0.{last}}}\n"
        )
    })
}

fn service_entry() -> impl Strategy<Value = String> {
    let resolution = prop::sample::select(vec!["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]);
    let addresses = prop::sample::select(vec!["[]", "[10.9.0.1]", "[10.9.0.0/16, 10.9.0.2]", "['fd00::/8']"]);
    let endpoints = prop::sample::select(vec!["[]", "[{address: 10.0.0.5}]", "[{address: x.example.com}]"]);
    (name(), namespace(), host(), resolution, addresses, endpoints, port(), protocol()).prop_map(
        |(name, namespace, host, resolution, addresses, endpoints, port, protocol)| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: se-{name}, namespace: \
                 {namespace}}}\nspec: {{hosts: ['{host}'], resolution: {resolution}, addresses: {addresses}, endpoints: \
                 {endpoints}, ports: [{{number: {port}, name: p, protocol: '{protocol}'}}]}}\n"
            )
        },
    )
}

fn rule() -> impl Strategy<Value = String> {
    let body = (name(), port(), host(), host()).prop_map(|(name, port, first, second)| {
        format!(
            "http: [{{match: [{{uri: {{prefix: /{name}}}, port: {port}}}, {{headers: {{x: {{}}}}}}], route: \
             [{{destination: {{host: '{first}'}}, weight: 1}}, {{destination: {{host: '{second}', subset: v1}}, weight: 0}}]}}, \
             {{delegate: {{name: vs-{name}}}}}, {{route: [{{destination: {{host: '{second}', port: {{number: {port}}}}}}}]}}], \
             tls: [{{match: [{{sniHosts: ['{first}']}}], route: [{{destination: {{host: '{second}'}}}}]}}], \
             tcp: [{{match: [{{port: {port}}}], route: [{{destination: {{host: '{first}'}}}}]}}]"
        )
    });
    let hosts = prop::collection::vec(host(), 0..3);
    let gateways = prop::sample::select(vec!["[]", "[mesh]", "[gw]", "[prod/gw-a, mesh]"]);
    (name(), namespace(), hosts, gateways, body).prop_map(|(name, namespace, hosts, gateways, body)| {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("'{host}'")).collect();
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-{name}, namespace: \
             {namespace}}}\nspec: {{hosts: [{}], gateways: {gateways}, {body}}}\n",
            hosts.join(", ")
        )
    })
}

fn policies() -> impl Strategy<Value = String> {
    let mode = prop::sample::select(vec!["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]);
    (name(), namespace(), host(), mode, port()).prop_map(|(name, namespace, host, mode, port)| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr-{name}, namespace: \
             {namespace}}}\nspec: {{host: '{host}', trafficPolicy: {{outlierDetection: {{}}, portLevelSettings: [{{port: \
             {{number: {port}}}, tls: {{mode: SIMPLE}}}}]}}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: pa-{name}, namespace: \
             {namespace}}}\nspec: {{selector: {{matchLabels: {{app: {name}}}}}, mtls: {{mode: {mode}}}, portLevelMtls: \
             {{8080: {{mode: {mode}}}}}}}\n---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: \
             sc-{name}, namespace: {namespace}}}\nspec: {{workloadSelector: {{labels: {{app: client}}}}, egress: [{{port: \
             {{number: {port}, protocol: HTTP}}, hosts: ['./*']}}, {{hosts: ['*/{host}']}}]}}\n"
        )
    })
}

fn gateway() -> impl Strategy<Value = String> {
    let tls = prop::sample::select(vec![
        "",
        "tls: {httpsRedirect: true}",
        "tls: {mode: SIMPLE, credentialName: c}",
        "tls: {mode: PASSTHROUGH}",
        "tls: {mode: AUTO_PASSTHROUGH}",
        "tls: {mode: ISTIO_MUTUAL}",
    ]);
    let server = (port(), protocol(), host(), tls).prop_map(|(port, protocol, host, tls)| {
        format!(
            "{{port: {{number: {port}, protocol: '{protocol}', name: p-{port}}}, hosts: ['{host}'], {tls}}}"
        )
    });
    (name(), namespace(), prop::collection::vec(server, 1..4)).prop_map(|(name, namespace, servers)| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw-{name}, namespace: {namespace}}}\n\
             spec: {{selector: {{app: gateway}}, servers: [{}]}}\n",
            servers.join(", ")
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_is_translated(
        documents in prop::collection::vec(
            prop_oneof![service(), pod(), service_entry(), rule(), policies(), gateway()],
            0..12,
        ),
    ) {
        fuzz_translate(documents.join("---\n").as_bytes());
        fuzz_manifests(documents.join("---\n").as_bytes());
    }

    #[test]
    fn any_text_in_a_list_is_stored_as_it_is(text in "\\PC*", key in "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{0,40}", number in any::<f64>()) {
        let quoted = |text: &str| serde_json::to_string(text).expect("a string");
        let number = serde_json::Number::from_f64(number).map_or("0".to_owned(), |number| number.to_string());
        let list = format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \
             \"metadata\": {{\"name\": \"a\", \"annotations\": {{\"x\": {}}}}}, \"data\": {{{}: {}}}, \"n\": {number}}}]}}",
            quoted(&text), quoted(&key), quoted(&text),
        );
        fuzz_manifests(list.as_bytes());
    }

    /// Responses one after the other, with some bytes others.
    #[test]
    fn whatever_config_sources_say_is_taken_or_refused(
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let corpus = corpus("config_source");
        let mut data: Vec<u8> = order.iter().flat_map(|at| at.get(&corpus).clone()).collect();
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        fuzz_config_source(&data);
    }
}
