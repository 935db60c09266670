use super::*;
use crate::mesh_config::{InboundMode, MeshOutboundMode};
use crate::networking::StringMatch;

fn parse(text: &str) -> Parsed {
    parse_documents("app.yaml", text, &Options::default())
}

fn printed(text: &str) -> Vec<String> {
    parse(text).problems.iter().map(ToString::to_string).collect()
}

const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  namespace: prod
  creationTimestamp: 2026-01-31T12:00:00Z
  annotations: {example.com/name: 页面}
spec:
  hosts: [reviews]
  http:
  - match:
    - uri: {prefix: /v2}
      headers:
        x-user: {}
    route:
    - destination: {host: reviews, subset: v2}
    timeout: 1.5s
";

#[test]
fn an_object_as_written() {
    let parsed = parse(GOOD);
    assert_eq!(parsed.problems, []);
    let object = &parsed.objects[0];
    assert_eq!((object.name(), object.namespace()), ("reviews", "prod"));
    assert_eq!(object.meta.annotations.values().next().map(String::as_str), Some("页面"));
    assert!(object.meta.creation_timestamp.is_some());
    let Spec::VirtualService(service) = &object.spec else {
        panic!("a VirtualService");
    };
    let route = &service.http[0];
    assert_eq!(route.timeout, Some(std::time::Duration::from_millis(1500)));
    assert_eq!(route.matches[0].uri, Some(StringMatch::Prefix("/v2".into())));
    assert_eq!(route.matches[0].headers.get("x-user"), Some(&StringMatch::Present));
    assert_eq!(route.route[0].destination.subset, "v2");
}

#[test]
fn fields_know_their_lines() {
    let object = parse(GOOD).objects.remove(0);
    for (path, line, column) in [
        ("", 1, 1),
        ("spec", 8, 1),
        ("spec.http[0]", 11, 5),
        ("spec.http[0].match[0].uri.prefix", 12, 13),
        ("spec.http[0].timeout", 17, 5),
        ("spec.http[0].retries.attempts", 11, 5),
        ("spec.http[7]", 10, 3),
        ("metadata.annotations[example.com/name]", 7, 17),
        ("nothing", 1, 1),
    ] {
        let place = object.position(path);
        assert_eq!((place.line, place.column), (line, column), "{path}");
    }
}

#[test]
fn the_hash_is_of_what_is_said() {
    let hash = |text: &str| parse(text).objects[0].content_hash();
    let same = "# comment\n{kind: VirtualService, apiVersion: networking.istio.io/v1, spec: {http: [{timeout: \"1.5s\", \
                route: [{destination: {subset: v2, host: reviews}}], match: [{headers: {x-user: {}}, \
                uri: {prefix: /v2}, name: null}]}], hosts: [reviews]}, metadata: {name: reviews, namespace: prod, \
                resourceVersion: \"5\", annotations: {example.com/name: 页面}, \
                creationTimestamp: 2026-01-31T12:00:00Z}, status: {x: 1}}";
    assert_eq!(hash(GOOD), hash(same));
    assert_eq!(parse(GOOD).objects, parse(same).objects);
    assert_ne!(hash(GOOD), hash(&GOOD.replace("1.5s", "1.6s")));
    assert_ne!(parse(GOOD).objects, parse(&GOOD.replace("1.5s", "1.6s")).objects);
}

#[test]
fn every_mistake_is_named_with_place_path_and_what_would_be_right() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: r
  trafficPolcy: {}
  trafficPolicy:
    loadBalancer: {simple: RANDM}
    connectionPool:
      tcp: {maxConnections: \"5\", connectTimeout: 5}
      http: {idleTimeout: 1d, maxRetries: 99999999999}
";
    assert_eq!(
        printed(text),
        [
            "app.yaml:6:3: DestinationRule/default/r spec.trafficPolcy: unknown field; did you mean \"trafficPolicy\"?",
            "app.yaml:8:28: DestinationRule/default/r spec.trafficPolicy.loadBalancer.simple: must be one of UNSPECIFIED, \
             LEAST_CONN, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST, not string \"RANDM\"",
            "app.yaml:10:29: DestinationRule/default/r spec.trafficPolicy.connectionPool.tcp.maxConnections: must be an \
             integer, not string \"5\"; write it without quotes",
            "app.yaml:10:50: DestinationRule/default/r spec.trafficPolicy.connectionPool.tcp.connectTimeout: must be a \
             duration such as 1.5s, 100ms or 1h, not number 5",
            "app.yaml:11:27: DestinationRule/default/r spec.trafficPolicy.connectionPool.http.idleTimeout: must be a \
             duration such as 1.5s, 100ms or 1h, not \"1d\": the unit must be one of ns, us, ms, s, m, h",
            "app.yaml:11:43: DestinationRule/default/r spec.trafficPolicy.connectionPool.http.maxRetries: must be an \
             integer from -2147483648 to 2147483647, not 99999999999",
        ]
    );
}

#[test]
fn one_bad_object_costs_no_other() {
    let text = format!(
        "{GOOD}---\nkind: [\n---\n{}---\nnot an object\n---\na: 1\n",
        GOOD.replace("reviews", "ratings")
    );
    let parsed = parse(&text);
    let names: Vec<_> = parsed.objects.iter().map(|object| object.name()).collect();
    assert_eq!(names, ["reviews", "ratings"]);
    let errors: Vec<_> = parsed.problems.iter().map(|problem| (problem.line, problem.is_error())).collect();
    assert_eq!(errors, [(20, true), (39, true), (41, false)]);
}

#[test]
fn kinds_that_are_not_acted_on_are_known_and_others_are_errors() {
    let object = |api_version: &str, kind: &str| {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n")
    };
    let known = parse(&object("gateway.networking.k8s.io/v1", "HTTPRoute"));
    assert_eq!(known.objects[0].spec, Spec::Unsupported);
    assert_eq!(
        printed(&object("networking.istio.io/v1", "VirtualServce")),
        [
            "app.yaml:2:7: VirtualServce/default/a kind: no kind \"VirtualServce\" is known in \"networking.istio.io/v1\"; did you mean VirtualService?"
        ]
    );
    assert_eq!(
        printed(&object("istio.io/v1", "VirtualService")),
        [
            "app.yaml:2:7: VirtualService/default/a kind: no kind \"VirtualService\" is known in \"istio.io/v1\"; there is \
          one in networking.istio.io"
        ]
    );
    assert_eq!(
        printed(&object("networking.istio.io/v2", "Sidecar")),
        ["app.yaml:1:13: Sidecar/default/a apiVersion: Sidecar is served as networking.istio.io/v1, \
          networking.istio.io/v1beta1, networking.istio.io/v1alpha3, not \"networking.istio.io/v2\""]
    );
}

#[test]
fn a_list_is_its_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod}\n";
    let parsed = parse(text);
    assert_eq!(parsed.objects[0].id(), "Namespace/a");
    assert_eq!(printed(text), ["app.yaml:5:3: Pod/default/ metadata.name: is required but missing"]);
}

/// The API server's defaults.
#[test]
fn services_have_defaults() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  clusterIP: None\n  ports:\n  - port: 80\n  \
                - {port: 81, targetPort: web, protocol: UDP}\n  - {port: 82, targetPort: \"8082\"}\n";
    let parsed = parse(text);
    let Spec::Service(service) = &parsed.objects[0].spec else {
        panic!("a Service");
    };
    use crate::kubernetes::{PortReference, TransportProtocol};
    let ports: Vec<_> = service.ports.iter().map(|port| (port.target_port.clone(), port.protocol)).collect();
    assert_eq!(
        ports,
        [
            (PortReference::Number(80), TransportProtocol::Tcp),
            (PortReference::Name("web".into()), TransportProtocol::Udp),
            (PortReference::Number(8082), TransportProtocol::Tcp),
        ]
    );
    assert!(service.is_headless());
}

/// Proto3 JSON leaves out an enumeration's first value; a block given replaces the default, the proxies' is merged.
#[test]
fn a_mesh_configuration_is_laid_over_istios() {
    let (mesh, problems) = parse_mesh_config("mesh", "", &Options::default());
    assert_eq!(problems, []);
    assert_eq!(mesh, MeshConfig::istio_default());
    let text = "{\"outboundTrafficPolicy\": {}, \"default_config\": {\"concurrency\": \"2\"}, \"rootNamespace\": \"root\", \"nonsense\": 1}";
    let (mesh, problems) = parse_mesh_config("mesh", text, &Options::default());
    assert_eq!(mesh.outbound_traffic_policy.mode, MeshOutboundMode::RegistryOnly);
    assert_eq!(mesh.inbound_traffic_policy.mode, InboundMode::Passthrough);
    assert_eq!(mesh.root_namespace, "root");
    assert_eq!(mesh.default_config.concurrency, Some(2));
    assert_eq!(mesh.default_config.proxy_admin_port, 15000);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["mesh:1:96: MeshConfig nonsense: warning: unknown field (ignored)"]);
}

#[test]
fn findings_in_istios_config_map_point_into_it() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |-\n    # first\n    trustDomain: -x\n";
    let problems = printed(text);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .starts_with("app.yaml:7:18: ConfigMap/default/istio data.mesh.trustDomain: \"-x\" is not"),
        "{problems:?}"
    );
}

#[test]
fn invalid_objects_are_kept_on_request() {
    let text = GOOD.replace("1.5s", "0s");
    assert!(parse(&text).objects.is_empty());
    let options = Options { keep_invalid: true, ..Options::default() };
    let parsed = parse_documents("app.yaml", &text, &options);
    assert_eq!((parsed.objects.len(), parsed.problems.len()), (1, 1));
}

#[test]
fn generated_names_are_not_finished() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {generateName: a-}\n";
    assert_eq!((printed(text).len(), parse(text).objects[0].name()), (0, "a-"));
    assert_eq!(printed(&text.replace("generateName", "name")).len(), 1);
}

/// Rules are judged even where something else could not be read, but not about what was not read.
#[test]
fn wrong_types_do_not_hide_broken_rules() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: 页面}
spec:
  hosts: [a b]
  http:
  - route:
    - destination: {host: a, subset: v 1}
      weight: five
    - destination: {host: b}
    timeout: 0s
    retrys: {}
";
    let paths: Vec<_> =
        parse(text).problems.into_iter().map(|problem| (problem.line, problem.path)).collect();
    let expected = [
        (3, "metadata.name"),
        (5, "spec.hosts[0]"),
        (8, "spec.http[0].route[0].destination.subset"),
        (9, "spec.http[0].route[0].weight"),
        (11, "spec.http[0].timeout"),
        (12, "spec.http[0].retrys"),
    ];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}
