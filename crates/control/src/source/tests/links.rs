//! Directories and links that come, go and lead elsewhere are watched as they are now, not as they were at the start.

use super::*;

#[test]
fn what_is_made_in_a_new_directory_at_once_is_seen() {
    let dir = TempDir::new().unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    for round in 0..20 {
        let deep = dir.path().join(format!("{round}/b/c/d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("a.yaml"), service(&format!("s{round:02}"), 80)).unwrap();
    }
    let all: Vec<String> = (0..20).map(|round| format!("s{round:02}")).collect();
    watched.until("every deep file", |r| {
        let mut names = names(r);
        names.sort();
        names == all
    });
}

#[test]
fn a_directory_made_anew_is_watched_anew() {
    let dir = TempDir::new().unwrap();
    let sub = dir.path().join("sub");
    let mut watched = Watched::start(&[dir.path()]);
    for round in 1..=5 {
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("a.yaml"), service("a", round)).unwrap();
        watched.until("a's port", |r| names(r) == ["a"] && port(r, "a") == u32::from(round));
        fs::write(sub.join("a.yaml"), service("a", 100 + round)).unwrap();
        watched.until("a's other port", |r| port(r, "a") == u32::from(100 + round));
        fs::remove_dir_all(&sub).unwrap();
        watched.names(&[]);
    }
}

#[test]
fn a_change_behind_a_link_is_seen() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::create_dir(elsewhere.path().join("tree")).unwrap();
    fs::write(elsewhere.path().join("a.yaml"), service("a", 80)).unwrap();
    fs::write(elsewhere.path().join("tree/b.yaml"), service("b", 80)).unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    symlink(elsewhere.path().join("a.yaml"), dir.path().join("a.yaml")).unwrap();
    symlink(elsewhere.path().join("tree"), dir.path().join("b")).unwrap();
    watched.names(&["a", "b"]);
    fs::write(elsewhere.path().join("a.yaml"), service("a", 81)).unwrap();
    watched.until("the linked file", |r| port(r, "a") == 81);
    fs::write(elsewhere.path().join("tree/b.yaml"), service("b", 82)).unwrap();
    watched.until("the file in the linked directory", |r| port(r, "b") == 82);
}

/// As a release directory is switched, or a root is a link that is led elsewhere: no event tells.
#[test]
fn a_root_that_leads_elsewhere_is_read_there() {
    let dir = TempDir::new().unwrap();
    for (version, port) in [("1", 80), ("2", 81)] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("a.yaml"), service("a", port)).unwrap();
    }
    let root = dir.path().join("current");
    symlink("1", &root).unwrap();
    let mut watched = Watched::start(&[&root]);
    assert_eq!(port(&watched.last, "a"), 80);
    symlink("2", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), &root).unwrap();
    watched.until("the other version", |r| port(r, "a") == 81);
    fs::write(root.join("a.yaml"), service("a", 82)).unwrap();
    watched.until("a change there", |r| port(r, "a") == 82);
}

/// The kernel's watch of a directory ends for us when it is moved away, whoever it is that comes back.
#[test]
fn a_directory_moved_away_and_back_is_watched() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (sub, away) = (dir.path().join("sub"), elsewhere.path().join("sub"));
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("a.yaml"), service("a", 1)).unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    for round in 2..7 {
        fs::rename(&sub, &away).unwrap();
        fs::rename(&away, &sub).unwrap();
        // Only after its events were taken: else they alone would have it read.
        fs::write(dir.path().join("b.yaml"), service("b", round)).unwrap();
        watched.until("the events", |r| names(r).contains(&"b".into()) && port(r, "b") == u32::from(round));
        fs::write(sub.join("a.yaml"), service("a", round)).unwrap();
        watched.until("a's port", |r| port(r, "a") == u32::from(round));
    }
}

/// A link may be there before what it leads to.
#[test]
fn a_link_to_nothing_is_followed_when_there_is_something() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(".hidden")).unwrap();
    symlink(".hidden/a.yaml", dir.path().join("b.yaml")).unwrap();
    symlink("b.yaml", dir.path().join("a.yaml")).unwrap();
    let mut watched = Watched::start(&[dir.path()]);
    watched.names(&[]);
    fs::write(dir.path().join(".hidden/a.yaml"), service("a", 80)).unwrap();
    watched.until("both links", |r| names(r) == ["a"] && r.problems.len() == 1);
    fs::write(dir.path().join(".hidden/a.yaml"), service("a", 81)).unwrap();
    watched.until("the change", |r| port(r, "a") == 81);
}
