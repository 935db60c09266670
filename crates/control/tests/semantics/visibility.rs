//! Hosts, namespaces, Sidecars, listeners.

use serde_json::json;

use super::*;

#[test]
fn by_which_hosts_a_service_is_called_rule_7() {
    let made = made(&(service("a", "default") + &service("b", "prod")));
    let domains = |name: &str| host(&made, "80", name)["domains"].as_array().expect("domains").clone();
    let own = domains("a.default.svc.cluster.local:80");
    for expected in
        ["a", "a.default", "a.default.svc", "a.default.svc.cluster.local", "a.default.svc.cluster.local."]
    {
        assert!(own.contains(&json!(expected)), "{expected} in {own:?}");
    }
    assert!(own.iter().any(|domain| domain.as_str().is_some_and(|domain| domain.starts_with("10.1."))));
    let other = domains("b.prod.svc.cluster.local:80");
    assert!(other.contains(&json!("b.prod")) && !other.contains(&json!("b")), "{other:?}");
}

#[test]
fn headless_services_answer_for_their_pods_rules_7_and_41() {
    let text =
        "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, selector: {app: db}, \
                ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}\n---\n"
            .to_owned()
            + &pod("db", "10.0.0.7", "tier: db")
            + &pod("db", "10.0.0.5", "tier: db");
    let made = made(&text);
    let host = host(&made, "80", "db.default.svc.cluster.local:80");
    assert!(host["domains"].as_array().expect("domains").contains(&json!("*.db.default.svc.cluster.local")));
    let listeners: Vec<&str> = made.listeners.iter().map(|one| one.name.as_str()).collect();
    assert!(listeners.contains(&"10.0.0.7_5432"), "{listeners:?}");
    assert!(!listeners.contains(&"10.0.0.5_5432"), "not for the client itself");
    assert_eq!(cluster(&made, "outbound|5432||db.default.svc.cluster.local")["type"], "ORIGINAL_DST");
    let table = &made.name_table.as_ref().expect("a name table").table;
    assert_eq!(table["db.default.svc.cluster.local"].ips, ["10.0.0.5", "10.0.0.7"]);
    assert_eq!(table["db-10.0.0.7.db.default.svc.cluster.local"].ips, ["10.0.0.7"]);
}

#[test]
fn export_to_rule_26() {
    for (export, seen) in [("'.'", false), ("'*'", true), ("default", true), ("other", false), ("'~'", false)]
    {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: b, namespace: prod, annotations: {{networking.istio.io/exportTo: {export}}}}}\n\
             spec: {{clusterIP: 10.1.0.9, ports: [{{name: http, port: 80}}]}}\n"
        );
        let made = made(&text);
        let found = made.clusters.iter().any(|one| one.name == "outbound|80||b.prod.svc.cluster.local");
        assert_eq!(found, seen, "{export}");
    }
}

#[test]
fn which_sidecar_rule_27() {
    let sidecar = |name: &str, namespace: &str, selector: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{{selector} egress: [{{hosts: ['*/{host}.default.svc.cluster.local']}}]}}\n---\n"
        )
    };
    let services = ["root", "plain", "mine"].map(|name| service(name, "default")).concat();
    let root = sidecar("x", "istio-system", "", "root");
    let plain = sidecar("plain", "default", "", "plain");
    let mine = sidecar("mine", "default", "workloadSelector: {labels: {app: client}},", "mine");
    let others = sidecar("others", "default", "workloadSelector: {labels: {app: other}},", "root");
    for (text, expected) in [
        (services.clone(), &["mine", "plain", "root"][..]),
        (services.clone() + &root, &["root"]),
        (services.clone() + &root + &plain, &["plain"]),
        (services.clone() + &root + &plain + &others, &["plain"]),
        (services.clone() + &root + &plain + &others + &mine, &["mine"]),
    ] {
        let made = made(&text);
        let mut seen: Vec<&str> = made
            .clusters
            .iter()
            .filter_map(|one| {
                one.name.strip_prefix("outbound|80||")?.strip_suffix(".default.svc.cluster.local")
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }
}

/// The chain matrix: `control-plane` §1.3, rule 43.
#[test]
fn permissive_is_matching_of_chains_rule_43() {
    let server =
        r#"{"type": "sidecar", "ip": "10.0.0.9", "namespace": "default", "labels": {"app": "server"}}"#;
    for (mode, name, expected) in [
        ("PERMISSIVE", "http", "tls+any raw"),
        ("PERMISSIVE", "tcp", "tls+any raw tls-"),
        ("PERMISSIVE", "auto", "tls+http raw/http tls+tcp raw tls-"),
        ("STRICT", "http", "tls+"),
        ("STRICT", "tcp", "tls+"),
        ("STRICT", "auto", "tls+http tls+"),
        ("DISABLE", "http", "raw"),
        ("DISABLE", "tcp", "raw"),
        ("DISABLE", "auto", "raw/http raw"),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{clusterIP: 10.1.0.1, selector: {{app: server}}, ports: [{{name: {name}, port: 80, targetPort: 8080}}]}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        );
        let made = made_for(&text, server);
        let inbound = json(made.listeners.iter().find(|one| one.name == "virtualInbound").expect("inbound"));
        let chains: Vec<String> = inbound["filterChains"]
            .as_array()
            .expect("chains")
            .iter()
            .filter(|chain| chain["filterChainMatch"]["destinationPort"] == 8080)
            .map(describe)
            .collect();
        assert_eq!(chains.join(" "), expected, "{mode} {name}");
    }
}

fn describe(chain: &Value) -> String {
    let matcher = &chain["filterChainMatch"];
    let alpn = matcher["applicationProtocols"].as_array().map(|names| {
        let first = names.first().and_then(Value::as_str).unwrap_or_default();
        match (names.len(), first) {
            (5, _) => "any",
            (3, _) => "http",
            (_, "istio-peer-exchange") => "tcp",
            _ => "/http",
        }
    });
    let terminates = chain.get("transportSocket").is_some();
    let transport = matcher["transportProtocol"].as_str().unwrap_or_default();
    match (transport, terminates) {
        ("tls", true) => format!("tls+{}", alpn.unwrap_or_default()),
        ("tls", false) => "tls-".to_owned(),
        _ => format!("raw{}", alpn.unwrap_or_default()),
    }
}

#[test]
fn policies_about_peers_are_inherited() {
    let server =
        r#"{"type": "sidecar", "ip": "10.0.0.9", "namespace": "default", "labels": {"app": "server"}}"#;
    let policy = |name: &str, namespace: &str, body: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{body}}}\n---\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.1.0.1, selector: {app: server}, ports: [{name: http, port: 80}]}\n---\n";
    let mine = "selector: {matchLabels: {app: server}},";
    for (policies, chains) in [
        (String::new(), 2),
        (policy("m", "istio-system", "mtls: {mode: STRICT}"), 1),
        (
            policy("m", "istio-system", "mtls: {mode: DISABLE}")
                + &policy("ns", "default", "mtls: {mode: PERMISSIVE}"),
            2,
        ),
        (
            policy("ns", "default", "mtls: {mode: STRICT}")
                + &policy("w", "default", &format!("{mine} mtls: {{mode: UNSET}}")),
            1,
        ),
        (
            policy(
                "w",
                "default",
                &format!("{mine} mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: PERMISSIVE}}}}"),
            ),
            2,
        ),
        // Unset at the port: the workload's.
        (
            policy(
                "w",
                "default",
                &format!("{mine} mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: UNSET}}}}"),
            ),
            1,
        ),
        // A selector in the root namespace selects nothing.
        (policy("r", "istio-system", &format!("{mine} mtls: {{mode: STRICT}}")), 2),
    ] {
        let made = made_for(&format!("{service}{policies}"), server);
        let inbound = json(made.listeners.iter().find(|one| one.name == "virtualInbound").expect("inbound"));
        let own = inbound["filterChains"].as_array().expect("chains").iter();
        let own = own.filter(|chain| chain["filterChainMatch"]["destinationPort"] == 80).count();
        assert_eq!(own, chains, "{policies}");
    }
}
