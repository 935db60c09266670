//! One row per rule: a spec, and where the findings must be (`w:` for a warning). The sources are Istio's schema (CRDs of
//! istio/api) and webhook (`pkg/config/validation`), and the Gateway API's schemas.

use crate::{Options, parse_documents};

const ROUTE: &str = "route: [{destination: {host: a.b}}]";

fn findings(api_version: &str, kind: &str, spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x, namespace: own}}\nspec: {spec}\n"
    );
    let parsed = parse_documents("x.yaml", &text, &Options::default());
    let mut found: Vec<_> = parsed
        .problems
        .iter()
        .map(|problem| {
            let path = problem
                .path
                .strip_prefix("spec")
                .map_or(problem.path.as_str(), |path| path.trim_start_matches('.'));
            format!("{}{path}", if problem.is_error() { "" } else { "w:" })
        })
        .collect();
    found.sort();
    found
}

fn judge(api_version: &str, kind: &str, table: &[(&str, &[&str])]) {
    for (spec, expected) in table {
        let spec = spec.replace("ROUTE", ROUTE);
        assert_eq!(findings(api_version, kind, &spec), *expected, "{kind} {spec}");
    }
}

#[test]
fn virtual_services() {
    judge(
        "networking.istio.io/v1",
        "VirtualService",
        &[
            ("{hosts: [a.b], http: [{ROUTE}]}", &[]),
            ("{http: [{ROUTE}]}", &[]),
            ("{hosts: [a.b]}", &[""]),
            ("{hosts: ['*'], http: [{ROUTE}]}", &["hosts[0]"]),
            ("{hosts: ['*'], gateways: [g], http: [{ROUTE}]}", &[]),
            ("{hosts: ['*.a.b', '*.b'], http: [{ROUTE}]}", &["hosts[1]"]),
            ("{hosts: [a.b], gateways: ['*/g'], http: [{ROUTE}]}", &["gateways[0]"]),
            ("{hosts: [outbound_.80_._.a.b], gateways: [g], http: [{ROUTE}]}", &[]),
            ("{hosts: [outbound_.x_._.a.b], gateways: [g], http: [{ROUTE}]}", &["hosts[0]"]),
            ("{hosts: [a.b], http: [{}]}", &["http[0]"]),
            ("{hosts: [a.b], http: [{ROUTE, redirect: {uri: /}}]}", &["http[0].redirect"]),
            ("{hosts: [a.b], http: [{redirect: {}}]}", &["http[0].redirect"]),
            (
                "{hosts: [a.b], http: [{redirect: {uri: /, redirectCode: 400}}]}",
                &["http[0].redirect.redirectCode"],
            ),
            ("{hosts: [a.b], http: [{directResponse: {status: 199}}]}", &["http[0].directResponse.status"]),
            ("{hosts: [a.b], http: [{ROUTE, delegate: {name: d}}]}", &["http[0].route"]),
            ("{hosts: [a.b], http: [{delegate: {name: d}}]}", &[]),
            ("{hosts: [a.b], http: [{ROUTE, timeout: 1ms}]}", &[]),
            ("{hosts: [a.b], http: [{ROUTE, timeout: 1.5ms}]}", &["http[0].timeout"]),
            ("{hosts: [a.b], http: [{ROUTE, timeout: 0s}]}", &["http[0].timeout"]),
            ("{hosts: [a.b], http: [{ROUTE, retries: {attempts: 0}}]}", &[]),
            ("{hosts: [a.b], http: [{ROUTE, retries: {retryOn: 5xx}}]}", &["http[0].retries.attempts"]),
            ("{hosts: [a.b], http: [{ROUTE, retries: {attempts: 1, retryOn: '5xx,503'}}]}", &[]),
            (
                "{hosts: [a.b], http: [{ROUTE, retries: {attempts: 1, retryOn: '5xx,600'}}]}",
                &["http[0].retries.retryOn"],
            ),
            ("{hosts: [a.b], http: [{ROUTE, rewrite: {}}]}", &["http[0].rewrite"]),
            ("{hosts: [a.b], http: [{ROUTE, fault: {}}]}", &["http[0].fault"]),
            (
                "{hosts: [a.b], http: [{ROUTE, fault: {abort: {httpStatus: 100, percentage: {value: 101}}}}]}",
                &["http[0].fault.abort.httpStatus", "http[0].fault.abort.percentage.value"],
            ),
            (
                "{hosts: [a.b], http: [{ROUTE, mirror: {host: a}, mirrors: [{destination: {host: a}}]}]}",
                &["http[0].mirrors"],
            ),
            ("{hosts: [a.b], http: [{ROUTE, mirrorPercent: 5}]}", &["w:http[0].mirrorPercent"]),
            (
                "{hosts: [a.b], http: [{ROUTE, corsPolicy: {allowMethods: [PUTT]}}]}",
                &["http[0].corsPolicy.allowMethods[0]"],
            ),
            ("{hosts: [a.b], http: [{ROUTE, corsPolicy: {maxAge: 1500ms}}]}", &["http[0].corsPolicy.maxAge"]),
            ("{hosts: [a.b], http: [{ROUTE, headers: {request: {set: {':authority': x}}}}]}", &[]),
            (
                "{hosts: [a.b], http: [{ROUTE, headers: {response: {set: {host: x}}}}]}",
                &["http[0].headers.response.set.host"],
            ),
            (
                "{hosts: [a.b], http: [{ROUTE, rewrite: {authority: x}, headers: {request: {set: {host: z}}}}]}",
                &["http[0]"],
            ),
            ("{hosts: [a.b], http: [{ROUTE, match: [{uri: {prefix: ''}}]}]}", &[]),
            (
                "{hosts: [a.b], http: [{ROUTE, match: [{uri: {regex: '('}}]}]}",
                &["http[0].match[0].uri.regex"],
            ),
            (
                "{hosts: [a.b], http: [{ROUTE, match: [{method: {prefix: ''}}]}]}",
                &["http[0].match[0].method.prefix"],
            ),
            ("{hosts: [a.b], http: [{ROUTE, match: [{withoutHeaders: {h: {regex: '*'}}}]}]}", &[]),
            (
                "{hosts: [a.b], http: [{match: [{uri: {prefix: /a}}], ROUTE}, {match: [{uri: {prefix: /ab}}], ROUTE}]}",
                &["w:http[1].match[0]"],
            ),
            (
                "{hosts: [a.b], http: [{match: [{uri: {exact: /}}], ROUTE}, {match: [{uri: {exact: /}}], ROUTE}]}",
                &["w:http[1].match[0]"],
            ),
            ("{hosts: [a.b], http: [{ROUTE}, {ROUTE}]}", &["w:http[1]"]),
            (
                "{hosts: [a.b], http: [{route: [{destination: {host: '*'}}]}]}",
                &["http[0].route[0].destination.host"],
            ),
            (
                "{hosts: [a.b], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
                &["http[0].route"],
            ),
            (
                "{hosts: [a.b], http: [{route: [{destination: {host: a}, weight: 1}, {destination: {host: b}}]}]}",
                &[],
            ),
            ("{hosts: [a.b], tcp: [{}]}", &["tcp[0].route"]),
            ("{hosts: [a.b], tls: [{match: [{sniHosts: [c.d]}], ROUTE}]}", &["tls[0].match[0].sniHosts[0]"]),
            ("{hosts: [a.b], exportTo: ['*', ns], http: [{ROUTE}]}", &["exportTo"]),
            ("{hosts: [a.b], exportTo: [., own], http: [{ROUTE}]}", &["exportTo[1]"]),
            ("{hosts: [a.b], exportTo: ['~'], http: [{ROUTE}]}", &["exportTo[0]"]),
        ],
    );
}

#[test]
fn destination_rules() {
    judge(
        "networking.istio.io/v1",
        "DestinationRule",
        &[
            ("{host: a.b}", &[]),
            ("{}", &["host"]),
            ("{host: a, trafficPolicy: {}}", &["trafficPolicy"]),
            ("{host: a, trafficPolicy: {connectionPool: {}}}", &["trafficPolicy.connectionPool"]),
            ("{host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s}}}}", &[]),
            (
                "{host: a, trafficPolicy: {connectionPool: {http: {maxRetries: -1}}}}",
                &["trafficPolicy.connectionPool.http.maxRetries"],
            ),
            (
                "{host: a, trafficPolicy: {outlierDetection: {minHealthPercent: 101}}}",
                &["trafficPolicy.outlierDetection.minHealthPercent"],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}}",
                &["trafficPolicy.loadBalancer"],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}}}}",
                &["trafficPolicy.loadBalancer.consistentHash.maglev.tableSize"],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}}",
                &["w:trafficPolicy.loadBalancer.localityLbSetting"],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}}}",
                &["trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to"],
            ),
            (
                "{host: a, trafficPolicy: {tls: {mode: MUTUAL, privateKey: k}}}",
                &["trafficPolicy.tls.clientCertificate"],
            ),
            (
                "{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c, caCertificates: f}}}",
                &["trafficPolicy.tls.caCertificates"],
            ),
            (
                "{host: a, trafficPolicy: {portLevelSettings: [{tls: {mode: DISABLE}}]}}",
                &["trafficPolicy.portLevelSettings[0].port"],
            ),
            ("{host: a, subsets: [{name: v 1}]}", &["subsets[0].name"]),
            ("{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ['*']}", &["exportTo"]),
            ("{host: a, workloadSelector: {}}", &["w:workloadSelector"]),
        ],
    );
}

#[test]
fn service_entries_and_workloads() {
    judge(
        "networking.istio.io/v1",
        "ServiceEntry",
        &[
            ("{hosts: [a.b], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}", &[]),
            ("{hosts: ['*']}", &["hosts[0]"]),
            ("{hosts: ['*a.b']}", &["w:hosts[0]"]),
            ("{hosts: ['*.a.b'], resolution: DNS}", &["hosts[0]"]),
            ("{hosts: [a.b], addresses: [10.0.0.0/8], resolution: DNS}", &["addresses[0]"]),
            ("{hosts: [a.b], addresses: [10.0.0.0/33]}", &["addresses[0]"]),
            ("{hosts: [a.b], endpoints: [{address: 1.1.1.1}]}", &["endpoints"]),
            ("{hosts: [a.b], resolution: STATIC, endpoints: [{address: a.b}]}", &["endpoints[0].address"]),
            (
                "{hosts: [a.b], resolution: DNS, endpoints: [{address: a.b, ports: {x: 1}}]}",
                &["endpoints[0].ports.x"],
            ),
            (
                "{hosts: [a.b], resolution: DNS, ports: [{number: 1, name: a}, {number: 1, name: a}]}",
                &["ports[1].name", "ports[1].number"],
            ),
            (
                "{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: '*'}}}",
                &["workloadSelector.labels.a"],
            ),
            ("{hosts: [a.b], resolution: DYNAMIC_DNS}", &["hosts"]),
            ("{hosts: [a.b], exportTo: ['~']}", &[]),
        ],
    );
    judge(
        "networking.istio.io/v1",
        "WorkloadEntry",
        &[
            ("{address: 1.1.1.1}", &[]),
            ("{}", &["address"]),
            ("{network: net}", &["w:"]),
            ("{address: 'unix:///a'}", &[]),
            ("{address: 'unix:///a/'}", &["address"]),
            ("{address: 'unix://@a', ports: {http: 80}}", &["ports"]),
        ],
    );
    judge(
        "networking.istio.io/v1",
        "WorkloadGroup",
        &[
            ("{template: {}}", &[]),
            ("{}", &["template"]),
            ("{template: {}, probe: {tcpSocket: {port: 0}}}", &["probe.tcpSocket.port"]),
        ],
    );
}

#[test]
fn gateways_and_sidecars() {
    const PORT: &str = "port: {number: 80, name: http, protocol: HTTP}";
    let gateway =
        |server: &str| findings("networking.istio.io/v1", "Gateway", &format!("{{servers: [{{{server}}}]}}"));
    for (server, expected) in [
        (format!("hosts: [ns/a.b], {PORT}"), &[][..]),
        (format!("hosts: [a], {PORT}"), &["servers[0].hosts[0]"]),
        (format!("hosts: ['*a.b'], {PORT}"), &["servers[0].hosts[0]"]),
        (format!("hosts: ['~/a.b'], {PORT}"), &["servers[0].hosts[0]"]),
        (format!("hosts: [1.1.1.1], {PORT}"), &[]),
        (format!("hosts: [a.b], bind: x, {PORT}"), &["servers[0].bind"]),
        (format!("hosts: [a.b], {PORT}, tls: {{httpsRedirect: true}}"), &[]),
        (format!("hosts: [a.b], {PORT}, tls: {{mode: SIMPLE, credentialName: c}}"), &["servers[0].tls"]),
        ("hosts: [a.b], port: {number: 443, name: s, protocol: HTTPS}".into(), &["servers[0].tls"]),
        ("hosts: [a.b], port: {number: 0, name: s, protocol: kafka}".into(), &["servers[0].port.number", "servers[0].port.protocol"]),
        (
            "hosts: [a.b], port: {number: 443, name: s, protocol: HTTPS}, tls: {mode: MUTUAL, serverCertificate: c, privateKey: k}".into(),
            &["servers[0].tls.caCertificates"],
        ),
        (
            "hosts: [a.b], port: {number: 443, name: s, protocol: HTTPS}, tls: {mode: PASSTHROUGH, caCrl: c}".into(),
            &["w:servers[0].tls.caCrl"],
        ),
    ] {
        assert_eq!(gateway(&server), expected, "{server}");
    }
    judge("networking.istio.io/v1", "Gateway", &[("{}", &["servers"])]);
    judge(
        "networking.istio.io/v1",
        "Sidecar",
        &[
            ("{egress: [{hosts: [./*, istio-system/*]}]}", &[]),
            ("{}", &[""]),
            ("{egress: [{hosts: [a.b]}]}", &["egress[0].hosts[0]"]),
            ("{egress: [{hosts: ['*/*', ns/a.b]}]}", &["w:egress[0].hosts[1]"]),
            ("{egress: [{hosts: ['*/*', ~/a.b]}]}", &[]),
            (
                "{egress: [{hosts: ['*/*']}, {hosts: ['*/*'], port: {number: 80, protocol: HTTP, name: a}}]}",
                &["egress[0]"],
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: '1.1.1.1:80'}]}",
                &["ingress[0].defaultEndpoint"],
            ),
            (
                "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b}}}",
                &["outboundTrafficPolicy.egressProxy.port"],
            ),
            ("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}", &["outboundTrafficPolicy.mode"]),
        ],
    );
}

#[test]
fn security() {
    judge(
        "security.istio.io/v1",
        "PeerAuthentication",
        &[
            ("{mtls: {mode: STRICT}}", &[]),
            ("{portLevelMtls: {8080: {mode: STRICT}}}", &["portLevelMtls"]),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: STRICT}}}", &[]),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}}", &["portLevelMtls.0"]),
        ],
    );
    judge(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        &[
            ("{}", &[]),
            ("{rules: [{}]}", &[]),
            ("{rules: [{from: [{}]}]}", &["rules[0].from[0].source"]),
            ("{rules: [{to: [{operation: {ports: ['x']}}]}]}", &["rules[0].to[0].operation.ports[0]"]),
            ("{rules: [{when: [{key: nonsense, values: [a]}]}]}", &["rules[0].when[0].key"]),
            ("{action: CUSTOM, rules: [{}]}", &["provider.name"]),
            ("{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}", &["w:rules[0]"]),
            ("{targetRef: {kind: Pod, name: a}}", &["targetRef"]),
        ],
    );
    judge(
        "security.istio.io/v1",
        "RequestAuthentication",
        &[
            ("{jwtRules: [{issuer: a, jwksUri: 'https://a.b:8443/keys'}]}", &[]),
            ("{jwtRules: [{}]}", &["jwtRules[0]"]),
            ("{jwtRules: [{issuer: a, jwksUri: 'ftp://a.b'}]}", &["jwtRules[0].jwksUri"]),
            ("{jwtRules: [{issuer: a, jwks: nonsense}]}", &["jwtRules[0].jwks"]),
        ],
    );
}

#[test]
fn gateway_api() {
    judge(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        &[
            ("{rules: [{backendRefs: [{name: a, port: 80}]}]}", &[]),
            ("{rules: [{backendRefs: [{name: a}]}]}", &["rules[0].backendRefs[0].port"]),
            ("{rules: [{matches: [{path: {value: '/a//b'}}]}]}", &["rules[0].matches[0].path.value"]),
            ("{rules: [{filters: [{type: CORS}]}]}", &["rules[0].filters[0].cors"]),
            (
                "{rules: [{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], \
                 matches: [{path: {type: Exact, value: /a}}]}]}",
                &["rules[0].filters"],
            ),
        ],
    );
    judge(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        &[
            ("{gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}", &[]),
            (
                "{gatewayClassName: a, listeners: [{name: a, port: 80, protocol: TCP, hostname: a.b}]}",
                &["listeners[0].hostname"],
            ),
        ],
    );
}
