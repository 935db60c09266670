//! The applied objects: decided, written, remembered; over disks that fill up and machines that lose power.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use api::ObjectId;
use proptest::prelude::*;
use redb::{Database, DatabaseError, StorageBackend};

use super::batch::{Known, Target, plan, plan_deletion};
use super::revision::{Entry, Verb, Who};
use super::revisions::Limits;
use super::source::AppliedSource;
use super::store::{AppliedError, Cause, Store};
use crate::source::manifest::{Manifest, Manifests, Purpose};
use crate::source::tests::reading::Reading;
use crate::source::{Loaded, Origin, Slot, SourceId, Update, Upsert};
use crate::store::ObjectStore;

mod disk;
mod sequences;

fn virtual_service(name: &str, path: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{name}]\n  \
         http: [{{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: web}}}}]}}]\n"
    )
}

fn read(text: &str) -> Vec<Manifest> {
    let mut found = Manifests::default();
    found.read("test.yaml", text, None, Purpose::Apply);
    assert!(!found.has_errors(), "{:?}", found.problems);
    found.items
}

fn id(name: &str) -> ObjectId {
    ObjectId {
        group: "networking.istio.io".into(),
        kind: "VirtualService".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn cause() -> Cause {
    Cause { who: Who { uid: Some(7), user: "tester".into() }, comment: Some("why".into()), at: 42 }
}

/// A source, and the objects that an engine would hold after each of its updates.
struct Source {
    applied: AppliedSource,
    objects: Arc<RwLock<ObjectStore>>,
}

/// What was together the case after each update.
type Readings = Arc<Mutex<Vec<Reading>>>;

fn source(store: Store) -> (Source, Readings) {
    let (readings, objects) = (Readings::default(), Arc::<RwLock<ObjectStore>>::default());
    let (kept, held) = (readings.clone(), objects.clone());
    let say = move |updates: Vec<Update>| {
        let mut held = held.write().unwrap();
        held.apply_all(updates, 0);
        let mut kept = kept.lock().unwrap();
        kept.push(Reading::of(&held, Instant::now()));
        kept.len() as u64 + 1
    };
    (Source { applied: AppliedSource::new(store, objects.clone(), say), objects }, readings)
}

impl Source {
    /// All there is at the start: what is applied, beside a directory with these files.
    fn first(&self, files: Update) -> Reading {
        self.objects.write().unwrap().apply_all([self.applied.all(Instant::now())], 0);
        self.directories(files)
    }

    fn directories(&self, files: Update) -> Reading {
        let mut objects = self.objects.write().unwrap();
        objects.apply_all([files], 0);
        Reading::of(&objects, Instant::now())
    }
}

impl Deref for Source {
    type Target = AppliedSource;

    fn deref(&self) -> &AppliedSource {
        &self.applied
    }
}

/// A directory with these files.
fn directories(text: &str) -> Update {
    let parsed = api::parse_documents("mesh/file.yaml", text, &api::Options::default());
    let mut update = Update::all(SourceId::Directory(0), Instant::now());
    update.upserts.extend(parsed.objects.into_iter().map(|object| Upsert {
        slot: Slot::File { path: object.source.file.clone(), copy: 0 },
        loaded: Loaded { object, stale: false, origin: Origin::File },
    }));
    update
}

fn names(reading: &Reading) -> Vec<(String, String)> {
    reading.objects.iter().map(|l| (l.object.name().to_owned(), l.object.source.file.to_string())).collect()
}

#[test]
fn a_batch_is_one_revision_and_one_reading_and_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (all, readings) = source(Store::open(dir.path()).unwrap());
    all.first(directories(""));
    let text = [virtual_service("a", "/1"), virtual_service("b", "/1")].join("---\n");
    let done = all.apply(read(&text), cause(), false).unwrap();
    assert_eq!((done.revision, done.said), (Some(1), 2));
    assert_eq!(done.what.iter().map(|p| p.verb).collect::<Vec<_>>(), [Verb::Created, Verb::Created]);
    assert_eq!(readings.lock().unwrap().len(), 1, "two objects are one change");

    let text = [virtual_service("a", "/1"), virtual_service("b", "/2")].join("---\n");
    let again = all.apply(read(&text), cause(), false).unwrap();
    assert_eq!(again.what.iter().map(|p| p.verb).collect::<Vec<_>>(), [Verb::Unchanged, Verb::Configured]);
    let nothing = all.apply(read(&text), cause(), false).unwrap();
    assert_eq!((nothing.revision, nothing.said), (None, 3), "what is applied already is no change");
    let gone = all.delete(&[Target::Exactly(id("a"))], cause(), false).unwrap();
    assert_eq!(gone.revision, Some(3));
    let dry = all.delete(&[Target::Exactly(id("b"))], cause(), true).unwrap();
    assert_eq!((dry.revision, dry.what.deleted.len()), (None, 1));
    assert_eq!(readings.lock().unwrap().len(), 3);
    drop(all);

    let (all, _) = source(Store::open(dir.path()).unwrap());
    let reading = all.first(directories(""));
    assert_eq!(names(&reading), [("b".to_owned(), "applied@2".to_owned())]);
    assert_eq!(all.manifest(&id("b")).unwrap(), Some(virtual_service("b", "/2")));
    assert_eq!(all.manifest(&id("a")).unwrap(), None);
    let line = |Entry { revision, changes }: Entry| {
        let changes: Vec<String> =
            changes.iter().map(|(id, verb)| format!("{} {}", verb.as_str(), id.name)).collect();
        let (number, user, at) = (revision.number, revision.who.user, revision.at);
        format!("{number} {user} {} {at}: {}", revision.comment.unwrap_or_default(), changes.join(", "))
    };
    let history: Vec<String> = all.history(usize::MAX, |_| true).unwrap().into_iter().map(line).collect();
    assert_eq!(
        history,
        [
            "1 tester why 42: created a, created b",
            "2 tester why 42: configured b",
            "3 tester why 42: deleted a"
        ]
    );
    let of_a = |limit| all.history(limit, |id| id.name == "a").unwrap();
    assert_eq!(of_a(9).iter().map(|entry| entry.revision.number).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(of_a(1).iter().map(|entry| entry.revision.number).collect::<Vec<_>>(), [3]);
    let then = all.state_after(1).unwrap();
    assert_eq!(
        then.iter().map(|v| v.text.clone().unwrap()).collect::<String>(),
        [virtual_service("a", "/1"), virtual_service("b", "/1")].concat()
    );
    assert!(matches!(all.state_after(9), Err(AppliedError::NoRevision(9))));
}

#[test]
fn what_was_applied_wins_over_a_file_which_counts_again_when_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (all, readings) = source(Store::open(dir.path()).unwrap());
    let in_file = virtual_service("a", "/file") + "---\n" + &virtual_service("only-in-file", "/file");
    all.first(directories(&in_file));
    let done = all.apply(read(&virtual_service("a", "/applied")), cause(), false).unwrap();
    let one = done.what.first().unwrap();
    assert_eq!(one.verb, Verb::Configured);
    assert_eq!(one.over.as_ref().map(ToString::to_string), Some("mesh/file.yaml:1:1".to_owned()));
    let reading = readings.lock().unwrap().pop().unwrap();
    assert_eq!(
        names(&reading),
        [("a".to_owned(), "applied@1".to_owned()), ("only-in-file".to_owned(), "mesh/file.yaml".to_owned())]
    );
    let problems: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "mesh/file.yaml:1:1: VirtualService/default/a: warning: is in conflict with applied, revision 1, which has \
             precedence and is used"
        ]
    );
    // A file that comes to say something else changes nothing of that.
    let other = all.directories(directories(&virtual_service("a", "/other")));
    assert_eq!(names(&other), [("a".to_owned(), "applied@1".to_owned())]);

    all.directories(directories(&in_file));
    readings.lock().unwrap().clear();
    let refused =
        all.delete(&[Target::Exactly(id("a")), Target::Exactly(id("only-in-file"))], cause(), false);
    let refused = refused.unwrap();
    assert_eq!(refused.revision, None, "a target that stands in a file only: nothing is deleted");
    assert_eq!(refused.what.in_files.len(), 1);
    assert!(readings.lock().unwrap().is_empty());
    let deleted = all.delete(&[Target::Exactly(id("a"))], cause(), false).unwrap();
    let over = deleted.what.deleted.first().unwrap().1.as_ref().map(ToString::to_string);
    assert_eq!((deleted.revision, over), (Some(2), Some("mesh/file.yaml:1:1".to_owned())));
    let reading = readings.lock().unwrap().pop().unwrap();
    assert!(
        names(&reading).iter().all(|(_, file)| file == "mesh/file.yaml"),
        "the file's version counts now"
    );
    assert!(reading.problems.is_empty());
}

/// Kinds of one name in two groups are two kinds; names may have 253 characters.
#[test]
fn the_group_is_part_of_who_an_object_is() {
    let dir = tempfile::tempdir().unwrap();
    let (all, readings) = source(Store::open(dir.path()).unwrap());
    all.first(directories(""));
    let name = "n".repeat(253);
    let istio = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {{servers: [{{port: {{number: 80, \
         name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n"
    );
    let gateway_api = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {{gatewayClassName: istio, \
         listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n"
    );
    all.apply(read(&istio), cause(), false).unwrap();
    let second = all.apply(read(&gateway_api), cause(), false).unwrap();
    assert_eq!(second.what.first().map(|p| p.verb), Some(Verb::Created));
    assert_eq!(readings.lock().unwrap().last().map(|r| r.objects.len()), Some(2));

    let named = |kind: &str| Target::Named {
        kind: kind.into(),
        namespace: "default".into(),
        name: Some(name.clone()),
    };
    let ambiguous = all.delete(&[named("gw")], cause(), false).unwrap();
    assert_eq!((ambiguous.revision, ambiguous.what.ambiguous.len()), (None, 1));
    let one = all.delete(&[named("gateways.networking.istio.io")], cause(), false).unwrap();
    let deleted: Vec<&str> = one.what.deleted.iter().map(|(id, _)| id.group.as_str()).collect();
    assert_eq!(deleted, ["networking.istio.io"]);
    let left = readings.lock().unwrap().pop().unwrap();
    assert_eq!(
        left.objects.first().map(|l| l.object.identity().group.clone()),
        Some("gateway.networking.k8s.io".into())
    );
}

#[test]
fn targets_that_are_missing_are_named_and_all_of_a_kind_spares_files() {
    let dir = tempfile::tempdir().unwrap();
    let (all, _) = source(Store::open(dir.path()).unwrap());
    all.first(directories(&virtual_service("file", "/")));
    all.apply(read(&virtual_service("a", "/")), cause(), false).unwrap();
    let named = |kind: &str, namespace: &str, name: Option<&str>| Target::Named {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.map(str::to_owned),
    };
    let elsewhere = all.delete(&[named("vs", "prod", None)], cause(), false).unwrap();
    assert_eq!(elsewhere.revision, None);
    let targets = [named("vs", "default", Some("nobody")), named("vs", "default", None)];
    let done = all.delete(&targets, cause(), false).unwrap().what;
    // One that was named and stands nowhere costs the others nothing, as in kubectl.
    assert_eq!(done.missing, ["vs nobody in namespace default"]);
}

#[test]
fn two_manifests_of_one_object_are_applied_one_after_the_other() {
    struct Nothing;
    impl Known for Nothing {
        fn applied(&self, _: &ObjectId) -> Option<Option<&Arc<api::Object>>> {
            None
        }
        fn in_file(&self, _: &ObjectId) -> Option<&Arc<api::Object>> {
            None
        }
        fn ids(&self) -> std::collections::BTreeSet<Arc<ObjectId>> {
            Default::default()
        }
    }
    let text =
        [virtual_service("a", "/1"), virtual_service("a", "/2"), virtual_service("a", "/2")].join("---\n");
    let verbs: Vec<Verb> = plan(read(&text), &Nothing).iter().map(|planned| planned.verb).collect();
    assert_eq!(verbs, [Verb::Created, Verb::Configured, Verb::Unchanged]);
    let missing = plan_deletion(&[Target::Exactly(id("a"))], &Nothing).missing;
    assert_eq!(missing, ["virtualservice.networking.istio.io/a in namespace default"]);

    let dir = tempfile::tempdir().unwrap();
    let (all, readings) = source(Store::open(dir.path()).unwrap());
    all.first(directories(""));
    all.apply(read(&text), cause(), false).unwrap();
    assert_eq!(readings.lock().unwrap().len(), 1);
    assert_eq!(all.manifest(&id("a")).unwrap(), Some(virtual_service("a", "/2")));
}

#[test]
fn a_manifest_that_cannot_be_read_any_more_is_kept_and_named() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut store = Store::open(dir.path()).unwrap();
        let change = super::revision::Change {
            id: id("a"),
            verb: Verb::Created,
            text: Some(
                "apiVersion: networking.istio.io/v9\nkind: VirtualService\nmetadata: {name: a}\n".into(),
            ),
        };
        store.commit(&[(change, None)], cause()).unwrap();
    }
    let (all, readings) = source(Store::open(dir.path()).unwrap());
    let reading = all.first(directories(""));
    assert!(reading.objects.is_empty());
    assert!(reading.problems.first().is_some_and(|p| p.is_error() && &*p.file == "applied@1"), "{reading:?}");
    let repaired = all.apply(read(&virtual_service("a", "/")), cause(), false).unwrap();
    assert_eq!(repaired.what.first().map(|p| p.verb), Some(Verb::Configured));
    assert_eq!(readings.lock().unwrap().last().map(|r| r.objects.len()), Some(1));
}

/// Memory of the past is bounded by bytes, too; what is applied now and the newest revision are not.
#[test]
fn old_revisions_go_when_their_manifests_are_too_many_bytes() {
    let disk = disk::Disk::default();
    let limits = Limits { revisions: 100, bytes: 1000 };
    let store = || Store::over(PathBuf::from("memory"), limits, disk.opener()).unwrap();
    let (all, _) = source(store());
    all.first(directories(""));
    for number in 0..9 {
        all.apply(read(&virtual_service("changed", &format!("/{number}"))), cause(), false).unwrap();
        all.apply(read(&virtual_service(&format!("once{number}"), "/")), cause(), false).unwrap();
    }
    let numbers = |all: &AppliedSource| -> Vec<u64> {
        all.history(usize::MAX, |_| true).unwrap().iter().map(|entry| entry.revision.number).collect()
    };
    let each = virtual_service("changed", "/1").len() as u64;
    let kept = numbers(&all);
    assert!(
        (2..=1000 / each).contains(&(kept.len() as u64)) && kept.last() == Some(&18),
        "{kept:?} of {each} bytes"
    );
    let oldest = *kept.first().unwrap();
    assert!(matches!(all.state_after(oldest - 1), Err(AppliedError::NoRevision(_))));
    assert_eq!(all.state_after(oldest).unwrap().len() as u64, oldest / 2 + 1, "all objects there were then");
    drop(all);
    let (all, _) = source(store());
    let found = all.first(directories("")).objects.len();
    assert_eq!(found, 10, "what is applied now is never dropped");
    let large: Vec<String> = (0..9).map(|n| virtual_service(&format!("large{n}"), "/")).collect();
    all.apply(read(&large.join("---\n")), cause(), false).unwrap();
    assert_eq!(numbers(&all), [19], "the newest is kept however large it is");
    assert_eq!(all.state_after(19).unwrap().len(), 19);
}
