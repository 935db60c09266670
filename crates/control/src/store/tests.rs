use std::time::Instant;

use api::{ObjectId, Spec};

use super::*;
use crate::source::memory::Memory;
use crate::source::{Standing, Update};

mod properties;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: {port}}}]}}\n"
    )
}

fn id(kind: &str, name: &str) -> ObjectId {
    ObjectId { kind: kind.into(), namespace: "default".into(), name: name.into(), ..ObjectId::default() }
}

fn port(store: &ObjectStore, name: &str) -> Option<u32> {
    match &store.get(&id("Service", name))?.loaded.object.spec {
        Spec::Service(service) => Some(service.ports[0].port.into()),
        other => panic!("{other:?}"),
    }
}

/// The order: applied, directories in the order of their flags, Kubernetes, config sources in their order,
/// registries; within a directory the path's bytes. Whatever order they come in, the first wins, and each takes over when
/// those before it go.
#[test]
fn precedence_and_takeover() {
    let order: [(SourceId, &str, &str); 9] = [
        (SourceId::Applied, "", "applied, revision 7"),
        (SourceId::Directory(0), "b.yaml", "b.yaml:1:1"),
        (SourceId::Directory(1), "a.yaml", "a.yaml:1:1"),
        (SourceId::Directory(1), "a/a.yaml", "a/a.yaml:1:1"),
        (SourceId::Directory(1), "b.yaml", "b.yaml:1:1"),
        (SourceId::Kubernetes(0), "", "Kubernetes, resource version 42"),
        (SourceId::ConfigSource(0), "", "config source xds://other:15010, version 42"),
        (SourceId::ConfigSource(1), "", "config source xds://other:15010, version 42"),
        (SourceId::Registry(0), "", "registry consul"),
    ];
    let numbered: Vec<(u16, _)> = (1..).zip(order).collect();
    let mut backwards = numbered.clone();
    backwards.reverse();
    let mut inside_out = numbered.clone();
    inside_out.rotate_left(4);
    for arrival in [&numbered, &backwards, &inside_out] {
        let mut store = ObjectStore::default();
        for (number, (source, file, _)) in arrival {
            store.apply(Memory { id: *source }.put(file, &service("a", *number)), 1);
        }
        for (at, (number, (source, file, place))) in numbered.iter().enumerate() {
            assert_eq!(port(&store, "a"), Some(u32::from(*number)));
            let held = store.get(&id("Service", "a")).unwrap();
            assert_eq!((held.source, held.loaded.place().to_string()), (*source, (*place).to_owned()));
            let losers: Vec<SourceId> = held.losers().map(|loser| loser.source).collect();
            let rest: Vec<SourceId> = numbered[at + 1..].iter().map(|(_, (source, ..))| *source).collect();
            assert_eq!(losers, rest);
            let problems = store.problems();
            assert_eq!(problems.len(), rest.len());
            assert!(problems.iter().all(|p| p.message.contains(place) && !p.is_error()), "{problems:?}");
            let delta = store.apply(Memory { id: *source }.delete(file, &service("a", *number)), 2);
            assert_eq!(delta.changed.len(), 1, "the next takes over");
        }
        assert!(store.is_empty() && store.problems().is_empty());
    }
}

/// One file may hold an identity twice: the first written wins.
#[test]
fn within_a_file_the_position_decides() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}---\n{}---\n{}", service("a", 1), service("b", 2), service("a", 3));
    std::fs::write(dir.path().join("a.yaml"), text).unwrap();
    let mut store = ObjectStore::default();
    for update in crate::source::Files::new(vec![dir.path().to_owned()]).first(Instant::now()) {
        store.apply(update, 1);
    }
    assert_eq!((port(&store, "a"), port(&store, "b")), (Some(1), Some(2)));
    let problems = store.problems();
    assert_eq!((problems.len(), problems[0].line), (1, 11), "the later one is named: {problems:?}");
    assert!(problems[0].message.contains("a.yaml:1:1"), "{problems:?}");
}

#[test]
fn a_delta_tells_what_changed_and_nothing_else() {
    let memory = Memory { id: SourceId::Directory(0) };
    let mut store = ObjectStore::default();
    let first = store.apply(memory.all("a.yaml", &service("a", 80)), 1);
    assert_eq!((first.changed.len(), first.shown), (1, true));
    let again = store.apply(memory.put("a.yaml", &format!("\n\n{}", service("a", 80))), 2);
    assert_eq!((again.changed.len(), again.shown), (0, true));
    let held = store.get(&id("Service", "a")).unwrap();
    assert_eq!((held.loaded.object.source.line, held.since), (3, 1), "another line, the same age");
    let mut changed = store.apply(memory.put("a.yaml", &service("a", 81)), 3);
    let change = &changed.changed[0];
    assert!(change.before.is_some() && change.after.is_some());
    assert_eq!(store.get(&id("Service", "a")).unwrap().since, 3);
    // And back: together they are nothing.
    changed.merge(store.apply(memory.put("a.yaml", &service("a", 80)), 3));
    assert!(changed.changed.is_empty() && changed.shown);
    // All of it is another object now.
    let all = store.apply(memory.all("a.yaml", &service("b", 80)), 4);
    let ids: Vec<&str> = all.changed.iter().map(|change| change.id.name.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    let none = store.apply(Update::part(memory.id, Instant::now()), 5);
    assert!(none.changed.is_empty() && !none.shown);
}

/// Whatever one source says, the objects of the others stay.
#[test]
fn a_source_empties_itself_only() {
    let (one, other) = (Memory { id: SourceId::Directory(0) }, Memory { id: SourceId::Kubernetes(0) });
    let mut store = ObjectStore::default();
    store.apply(one.all("a.yaml", &service("a", 80)), 1);
    store.apply(other.all("", &format!("{}---\n{}", service("a", 81), service("b", 81))), 1);
    assert_eq!(port(&store, "a"), Some(80));
    let delta = store.apply(Update::all(one.id, Instant::now()), 2);
    assert_eq!((delta.changed.len(), port(&store, "a"), port(&store, "b")), (1, Some(81), Some(81)));
}

#[test]
fn problems_are_replaced_by_file_and_told_once() {
    let problem = |file: &str, message: &str| api::Problem {
        severity: api::Severity::Error,
        file: file.into(),
        line: 1,
        column: 1,
        object: None,
        path: String::new(),
        message: message.into(),
    };
    let mut store = ObjectStore::default();
    let mut say = |file: &str, messages: &[&str]| {
        let mut update = Update::part(SourceId::Directory(0), Instant::now());
        update.problems.push((file.into(), messages.iter().map(|m| problem(file, m)).collect()));
        let told: Vec<String> = store.apply(update, 1).told.into_iter().map(|p| p.message).collect();
        (told, store.problems().into_iter().map(|p| p.message).collect::<Vec<_>>())
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(say("b", &["x"]), (texts(&["x"]), texts(&["x"])));
    assert_eq!(say("a", &["y", "z"]), (texts(&["y", "z"]), texts(&["y", "z", "x"])));
    assert_eq!(say("a", &["z", "w"]), (texts(&["w"]), texts(&["z", "w", "x"])));
    assert_eq!(say("a", &[]), (texts(&[]), texts(&["x"])));
}

/// Istio reads the ConfigMap of istiod's own namespace only.
#[test]
fn the_mesh_configuration_is_the_config_map_of_the_root_namespace() {
    let config = |namespace: &str, file: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: {namespace}}}\ndata:\n  mesh: |\n    accessLogFile: {file}\n"
        )
    };
    let log = |store: &ObjectStore| store.mesh_config().map(|config| config.access_log_file.clone());
    let memory = Memory { id: SourceId::Directory(0) };
    let mut store = ObjectStore::default();
    let delta = store.apply(memory.put("a.yaml", &config("tenant", "/tenant")), 1);
    assert_eq!((log(&store), delta.mesh), (None, false));
    assert!(delta.told[0].message.contains("istio-system"), "{:?}", delta.told);
    let delta = store.apply(memory.put("c.yaml", &config("istio-system", "/root")), 1);
    assert_eq!((log(&store).as_deref(), delta.mesh), (Some("/root"), true));
    // A second one is in conflict; the first path wins.
    let delta = store.apply(memory.put("b.yaml", &config("istio-system", "/second")), 1);
    assert_eq!((log(&store).as_deref(), delta.mesh), (Some("/second"), true));
    assert!(delta.told[0].message.contains("b.yaml:1:1") && delta.told[0].file.contains("c.yaml"));
    assert_eq!(store.problems().len(), 2, "{:?}", store.problems());
    // The file of the mesh configuration goes before, and says which namespace is the root.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mesh.yaml");
    std::fs::write(&file, "rootNamespace: tenant\naccessLogFile: /file\n").unwrap();
    let mesh = crate::mesh_file::MeshFile::open(file).unwrap();
    let delta = store.apply(mesh.all(Instant::now()), 1);
    assert_eq!((log(&store).as_deref(), delta.mesh, store.root_namespace()), (Some("/file"), true, "tenant"));
    let problems: Vec<String> = store.problems().iter().map(ToString::to_string).collect();
    assert!(problems.iter().any(|p| p.starts_with("a.yaml") && p.contains("conflict")), "{problems:#?}");
    assert!(
        problems.iter().any(|p| p.starts_with("b.yaml") && p.contains("root namespace")),
        "{problems:#?}"
    );
    let delta = store.apply(Update::all(SourceId::MeshFile, Instant::now()), 1);
    assert_eq!((log(&store).as_deref(), delta.mesh), (Some("/second"), true));
}

#[test]
fn kinds_that_nothing_acts_on_are_named_once_each() {
    let job = |name: &str| format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\n");
    let memory = Memory { id: SourceId::Directory(0) };
    let mut store = ObjectStore::default();
    assert_eq!(store.apply(memory.put("a.yaml", &job("a")), 1).told.len(), 1);
    assert_eq!(store.apply(memory.put("b.yaml", &job("b")), 1).told.len(), 0);
    assert!(store.problems()[0].message.ends_with("2 objects"));
    store.apply(memory.delete("a.yaml", &job("a")), 1);
    assert_eq!((store.problems().len(), &*store.problems()[0].file), (1, "b.yaml"));
    store.apply(memory.delete("b.yaml", &job("b")), 1);
    assert!(store.problems().is_empty());
}

#[test]
fn queries() {
    let memory = Memory { id: SourceId::Kubernetes(0) };
    let gateway = |api: &str| {
        format!(
            "apiVersion: {api}\nkind: Gateway\nmetadata: {{name: a}}\nspec: {{gatewayClassName: x, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n"
        )
    };
    let mut store = ObjectStore::default();
    store.expect(memory.id);
    assert_eq!(store.standings().collect::<Vec<_>>(), [(memory.id, Standing::Unread)]);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n";
    let other = service("a", 2).replace("name: a}", "name: a, namespace: prod}");
    let text = [namespace.to_owned(), service("b", 80), service("a", 1), other].join("---\n");
    store.apply(memory.all("", &text), 1);
    store.apply(memory.put("", &gateway("gateway.networking.k8s.io/v1")), 1);
    assert_eq!(store.standings().collect::<Vec<_>>(), [(memory.id, Standing::Synced)]);
    let kinds: Vec<_> = store.kinds().collect();
    assert_eq!(kinds, [("", "Namespace"), ("", "Service"), ("gateway.networking.k8s.io", "Gateway")]);
    let names = |held: Vec<Held<'_>>| held.iter().map(|h| h.loaded.object.id()).collect::<Vec<_>>();
    let all = ["Service/default/a", "Service/default/b", "Service/prod/a"];
    assert_eq!(names(store.of_kind("", "Service", None).collect()), all);
    assert_eq!(names(store.of_kind("", "Service", Some("prod")).collect()), all[2..]);
    assert_eq!(names(store.named("service", "default", "b").collect()), all[1..2]);
    assert_eq!(store.named("gateway", "default", "a").count(), 1);
    assert_eq!(store.named("Secret", "default", "a").count(), 0);
    assert_eq!(store.len(), store.iter().count());
}
