//! `apply`, `delete`, `get` and `history` as their users meet them: one command is one change, remembered.
#![allow(clippy::print_stdout, reason = "tests print what they measured")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use common::{Running, until};

/// A control plane over a directory named as people name it: relative to where they stand.
struct Mesh {
    running: Running,
    files: tempfile::TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Mesh {
    fn up() -> Mesh {
        let files = tempfile::tempdir().unwrap();
        std::fs::create_dir(files.path().join("dir")).unwrap();
        // What the rules of the tests lead to.
        let web = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
        std::fs::write(files.path().join("dir/web.yaml"), web).unwrap();
        let at = files.path().to_owned();
        let running = Running::start_with(&["up", "--config", "./dir", "--no-gateway"], |command| {
            command.current_dir(at);
        });
        Mesh { running, files }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(&self.running.command(arguments).output().unwrap())
    }

    /// The generation that a change says it is live in.
    fn generation(said: &Said) -> u64 {
        let number = said.err.rsplit_once("(generation ").and_then(|(_, rest)| rest.split(')').next());
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no generation in {said:?}"))
    }
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn virtual_service(name: &str, prefix: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {name}\nspec:\n  hosts: [{name}]\n  http:\n  \
         - match: [{{uri: {{prefix: {prefix}}}}}]\n    route: [{{destination: {{host: web}}}}]\n"
    )
}

/// Its line 9 is not valid.
fn invalid() -> String {
    virtual_service("bad", "/").replace("{host: web}", "{host: web}, weight: -1")
}

fn many(count: usize, prefix: &str) -> String {
    (0..count).map(|n| virtual_service(&format!("n{n}"), prefix)).collect::<Vec<_>>().join("---\n")
}

const VS: &str = "virtualservice.networking.istio.io";

#[test]
fn a_command_is_one_change() {
    let mesh = Mesh::up();
    let file = mesh.file("many.yaml", &many(50, "/1"));
    let first = mesh.run(&["apply", "-f", &file, "--comment", "the first"]);
    assert_eq!((first.code, first.out.lines().count()), (Some(0), 50), "{first:?}");
    assert!(first.out.lines().all(|line| line.ends_with(" created")));
    // A file with one changed, one new, the others as they were.
    let changed = [many(49, "/1"), virtual_service("n49", "/2"), virtual_service("new", "/")].join("---\n");
    let file = mesh.file("many.yaml", &changed);
    let second = mesh.run(&["apply", "-f", &file]);
    assert_eq!(Mesh::generation(&second), Mesh::generation(&first) + 1);
    let count = |verb: &str| second.out.lines().filter(|line| line.ends_with(verb)).count();
    assert_eq!((count(" unchanged"), count(" configured"), count(" created")), (49, 1, 1));
    let third = mesh.run(&["apply", "-f", &file]);
    assert_eq!((third.code, third.err.as_str()), (Some(0), ""), "nothing has changed, nothing is waited for");

    let gone = mesh.run(&["delete", "-f", &file]);
    assert_eq!(gone.out.lines().filter(|line| line.ends_with(" deleted")).count(), 51, "{gone:?}");
    assert_eq!(Mesh::generation(&gone), Mesh::generation(&second) + 1);
    assert_eq!(mesh.run(&["get", "vs", "-o", "name"]).out, "");

    let history: serde_json::Value =
        serde_json::from_str(&mesh.running.filamesh(&["history", "-o", "json"])).unwrap();
    let told: Vec<(u64, usize)> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["number"].as_u64().unwrap(), r["objects"].as_array().unwrap().len()))
        .collect();
    assert_eq!(told, [(1, 50), (2, 2), (3, 51)]);
    let first = &history["items"][0];
    assert_eq!(
        (first["comment"].as_str(), first["uid"].as_u64()),
        (Some("the first"), Some(u64::from(nix::unistd::geteuid().as_raw())))
    );
    let of_one = mesh.running.filamesh(&["history", "vs", "n49"]);
    assert_eq!(of_one.lines().count(), 4, "{of_one}");
    // What was deleted comes back from what is remembered.
    let before = mesh.running.filamesh(&["get", "vs", "n49", "--revision", "2", "-o", "yaml"]);
    assert_eq!(before, virtual_service("n49", "/2"));
    assert_eq!(mesh.run(&["get", "vs", "n49", "--revision", "77"]).code, Some(1));
    let dry = mesh.run(&["rollback", "1", "--dry-run=server"]);
    assert_eq!((dry.code, dry.out.lines().count(), dry.err.as_str()), (Some(0), 50, ""));
    let back = mesh.run(&["rollback", "2"]);
    assert_eq!(
        (back.code, back.out.lines().filter(|line| line.ends_with(" created")).count()),
        (Some(0), 51)
    );
    assert_eq!(Mesh::generation(&back), Mesh::generation(&gone) + 1);
    assert_eq!(mesh.run(&["get", "vs", "n49", "-o", "yaml"]).out, virtual_service("n49", "/2"));
    let further = mesh.run(&["rollback", "1"]);
    assert_eq!(further.out, format!("{VS}/n49 configured\n{VS}/new deleted\n"));
    let nothing = mesh.run(&["rollback", "77"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(1), ""));
    assert!(nothing.err.contains("there is no revision 77"), "{}", nothing.err);
    assert!(mesh.running.filamesh(&["history"]).contains("rollback to revision 2"));
}

#[test]
fn one_invalid_object_refuses_the_whole_input_by_its_line() {
    let mesh = Mesh::up();
    let bad = virtual_service("good", "/") + "---\n" + &invalid();
    let file = mesh.file("bad.yaml", &bad);
    let refused = mesh.run(&["apply", "-f", &file]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(65), ""));
    let line = format!("{file}:19:");
    assert!(refused.err.contains(&line), "{line} in {}", refused.err);
    assert!(refused.err.ends_with("1 error in the input; nothing was applied\n"), "{}", refused.err);
    for mode in ["client", "server"] {
        let dry = mesh.run(&["apply", "-f", &file, "--dry-run", mode]);
        assert_eq!((dry.code, dry.out.as_str()), (Some(65), ""), "{mode}");
        assert!(dry.err.contains(&line), "{mode}: {}", dry.err);
    }
    assert_eq!(mesh.run(&["get", "vs", "-o", "name"]).out, "");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let mesh = Mesh::up();
    let a = mesh.file("a.yaml", &virtual_service("a", "/1"));
    mesh.running.filamesh(&["apply", "-f", &a]);
    let two = mesh.file("two.yaml", &(virtual_service("a", "/2") + "---\n" + &virtual_service("b", "/")));
    let server = mesh.run(&["apply", "-f", &two, "--dry-run=server"]);
    let lines = format!("{VS}/a configured (server dry run)\n{VS}/b created (server dry run)\n");
    assert_eq!(server, Said { code: Some(0), out: lines, err: String::new() });
    let client = mesh.run(&["apply", "-f", &two, "--dry-run=client", "-n", "prod", "-o", "yaml"]);
    let expected = virtual_service("a", "/2").replace("name: a\n", "name: a\n  namespace: prod\n");
    let read = |text: &str| api::parse_documents("x", text, &api::Options::default()).objects;
    assert_eq!(read(&client.out)[0].content_hash(), read(&expected)[0].content_hash(), "{}", client.out);
    assert_eq!(read(&client.out).len(), 2);
    let deleted = mesh.run(&["delete", "vs", "a", "--dry-run=server"]);
    assert_eq!(deleted.out, format!("{VS}/a deleted (server dry run)\n"));
    assert_eq!(mesh.run(&["get", "vs", "-o", "name"]).out, format!("{VS}/a\n"));
    assert_eq!(mesh.run(&["get", "vs", "a", "-o", "yaml"]).out, virtual_service("a", "/1"));
    assert_eq!(mesh.running.filamesh(&["history"]).lines().count(), 2);
    let name = mesh.run(&["apply", "-f", &two, "-o", "name", "--wait=false"]);
    assert_eq!(name, Said { code: Some(0), out: format!("{VS}/a\n{VS}/b\n"), err: String::new() });
    let list: serde_json::Value =
        serde_json::from_str(&mesh.running.filamesh(&["apply", "-f", &two, "-o", "json"])).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("List"), Some(2)));
}

/// Review A6.
#[test]
fn the_namespace_of_the_command_is_that_of_the_objects_for_both_verbs() {
    let mesh = Mesh::up();
    let json = "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"hosts\":\
                [\"a\"],\"http\":[{\"route\":[{\"destination\":{\"host\":\"web\"}}]}]}}";
    let file = mesh.file("a.json", json);
    mesh.running.filamesh(&["apply", "-f", &file]);
    mesh.running.filamesh(&["apply", "-n", "prod", "-f", &file]);
    let all = || mesh.running.filamesh(&["get", "vs", "-A"]);
    assert_eq!(all().lines().count(), 3, "one in each namespace: {}", all());
    let gone = mesh.run(&["delete", "-n", "prod", "-f", &file]);
    assert_eq!((gone.code, gone.out), (Some(0), format!("{VS}/a deleted\n")));
    assert!(all().lines().nth(1).is_some_and(|line| line.starts_with("default ")), "{}", all());
    let named = mesh.file(
        "named.yaml",
        &virtual_service("b", "/").replace("  name: b\n", "  name: b\n  namespace: test\n"),
    );
    for verb in ["apply", "delete"] {
        let refused = mesh.run(&[verb, "-n", "prod", "-f", &named]);
        assert_eq!(refused.code, Some(65));
        let words = "the namespace from the provided object \"test\" does not match the namespace \"prod\". You must pass \
                     '--namespace=test' to perform this operation.";
        assert!(refused.err.contains(words), "{}", refused.err);
    }
}

/// Review A5: the directory is given as `./dir`.
#[test]
fn delete_deletes_what_was_applied_and_says_where_the_rest_is_written() {
    let mesh = Mesh::up();
    let in_file = virtual_service("file", "/file") + "---\n" + &virtual_service("both", "/file");
    mesh.file("dir/mesh.yaml", &in_file);
    until("the file is read", Duration::from_secs(10), || {
        mesh.run(&["get", "vs", "-o", "name"]).out.lines().count() == 2
    });

    let refused = mesh.run(&["delete", "vs", "file"]);
    let sentence = format!(
        "filamesh: {VS}/file was not applied but is written in ./dir/mesh.yaml:1: remove it from that file to delete it\n"
    );
    assert_eq!(refused, Said { code: Some(1), out: String::new(), err: sentence });

    let both = mesh.file("both.yaml", &virtual_service("both", "/applied"));
    let applied = mesh.run(&["apply", "-f", &both]);
    assert_eq!(applied.out, format!("{VS}/both configured\n"));
    let also = format!("{VS}/both is also written in ./dir/mesh.yaml:11; what was applied counts\n");
    assert!(applied.err.starts_with(&also), "{}", applied.err);
    assert!(mesh.running.filamesh(&["get", "vs", "both", "-o", "yaml"]).contains("/applied"));
    let again = mesh.run(&["apply", "-f", &both]);
    assert_eq!((again.out, again.err), (format!("{VS}/both unchanged\n"), String::new()));

    // One target that cannot be deleted: nothing is.
    let refused = mesh.run(&["delete", "vs/both", "vs/file"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(mesh.running.filamesh(&["get", "vs", "both", "-o", "yaml"]).contains("/applied"));

    let deleted = mesh.run(&["delete", "vs", "both"]);
    assert_eq!((deleted.code, deleted.out.as_str()), (Some(0), &*format!("{VS}/both deleted\n")));
    let counts = format!("{VS}/both is also written in ./dir/mesh.yaml:11: that version counts now\n");
    assert!(deleted.err.starts_with(&counts), "{}", deleted.err);
    assert!(mesh.running.filamesh(&["get", "vs", "both", "-o", "yaml"]).contains("/file"));

    let missing = mesh.run(&["delete", "vs", "nobody", "file2"]);
    assert_eq!(missing.code, Some(1));
    assert_eq!(
        missing.err,
        "filamesh: not found: vs nobody in namespace default, vs file2 in namespace default\n"
    );
    assert_eq!(mesh.run(&["delete", "vs", "nobody", "--ignore-not-found"]).code, Some(0));
    mesh.running.filamesh(&["apply", "-f", &mesh.file("many.yaml", &many(3, "/"))]);
    let all = mesh.run(&["delete", "vs", "--all", "-o", "name"]);
    assert_eq!((all.code, all.out), (Some(1), format!("{VS}/n0\n{VS}/n1\n{VS}/n2\n")));
    assert!(
        all.err.contains("./dir/mesh.yaml:1:")
            && all.err.ends_with("2 objects are written in files and stay\n"),
        "{}",
        all.err
    );
}

#[test]
fn what_get_prints_as_yaml_apply_reads_back() {
    let mesh = Mesh::up();
    mesh.file("dir/list.yaml", &format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {{name: a}}\n  spec: {{ports: [{{port: 80}}]}}\n\
         - apiVersion: v1\n  kind: Service\n  metadata: {{name: b}}\n  spec: {{ports: [{{port: 81}}]}}\n---\n# Of c.\n{}", virtual_service("c", "/")
    ));
    until("the file is read", Duration::from_secs(10), || {
        mesh.run(&["get", "all", "-o", "name"]).out.lines().count() == 4
    });
    mesh.running.filamesh(&["apply", "-f", &mesh.file("d.yaml", &virtual_service("d", "/"))]);
    assert_eq!(
        mesh.running.filamesh(&["get", "vs", "c", "-o", "yaml"]),
        format!("# Of c.\n{}", virtual_service("c", "/"))
    );
    let all = mesh.running.filamesh(&["get", "all", "-A", "-o", "yaml"]);
    let file = mesh.file("all.yaml", &all);
    let first = mesh.run(&["apply", "-f", &file]);
    assert_eq!((first.code, first.out.lines().count()), (Some(0), 5), "{all}\n{first:?}");
    assert!(first.out.contains(&format!("{VS}/d unchanged")), "{first:?}");
    let again = mesh.run(&[
        "apply",
        "-f",
        &mesh.file("all.yaml", &mesh.running.filamesh(&["get", "all", "-A", "-o", "yaml"])),
    ]);
    assert!(again.out.lines().all(|line| line.ends_with(" unchanged")), "{again:?}");
}

#[test]
fn an_object_that_is_refused_is_shown_with_its_reason() {
    let mesh = Mesh::up();
    mesh.file("dir/bad.yaml", &invalid());
    until("it is read", Duration::from_secs(10), || !mesh.run(&["get", "vs", "-o", "name"]).out.is_empty());
    let wide = mesh.running.filamesh(&["get", "vs", "-o", "wide"]);
    let line = wide.lines().nth(1).unwrap_or_default();
    assert!(line.contains("bad") && line.contains("refused") && line.contains("./dir/bad.yaml:9:"), "{wide}");
    let yaml = mesh.run(&["get", "vs", "bad", "-o", "yaml"]);
    assert!(yaml.out.is_empty() && yaml.err.contains("is left out: ./dir/bad.yaml:9:"), "{yaml:?}");
}

#[test]
fn what_a_mesh_keeps_is_for_its_user_alone_and_gone_with_it() {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().display().to_string();
    let mut mesh = Running::start(&["up", "--config", &config]);
    let file = files.path().join("a.txt");
    std::fs::write(&file, virtual_service("a", "/")).unwrap();
    mesh.filamesh(&["apply", "-f", file.to_str().unwrap()]);
    let state = mesh.state_dir();
    let kept = state.join("proxies/istio-ingressgateway/last-good.xds");
    until("the gateway's configuration is on disk", Duration::from_secs(10), || kept.exists());
    let mut seen = 0;
    let mut directories = vec![state.clone()];
    while let Some(directory) = directories.pop() {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "applied objects, locks, the socket, logs, mesh.json, the gateway's files: {seen}");
    // The next mesh of this user begins with nothing of it.
    let home = mesh.directory.path().to_owned();
    mesh.signal(nix::sys::signal::Signal::SIGTERM);
    until("it has ended", Duration::from_secs(10), || mesh.child.try_wait().unwrap().is_some());
    assert!(!state.exists());
    let next = Running::start_with(&["up", "--config", &config, "--no-gateway"], |command| {
        command.env("XDG_STATE_HOME", &home);
    });
    assert_ne!(next.state_dir(), state);
    assert_eq!(next.filamesh(&["get", "vs", "-o", "name"]), "");
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}
