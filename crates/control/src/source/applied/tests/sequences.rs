//! Any sequence of batches equals a map, over restarts, and so does every revision that is kept.

use super::disk::Disk;
use super::*;

/// Objects with the number of their content.
type Map = BTreeMap<String, u8>;

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(u8, u8)>),
    Delete(Vec<u8>),
    /// To so many revisions before the newest.
    Rollback(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..6u8, 0..3u8), 1..8).prop_map(Step::Apply),
        3 => prop::collection::vec(0..6u8, 1..5).prop_map(Step::Delete),
        1 => (0..4usize).prop_map(Step::Rollback),
        1 => Just(Step::Restart),
    ]
}

fn name(number: u8) -> String {
    format!("o{number}")
}

fn text_of(name: &str, content: u8) -> String {
    virtual_service(name, &format!("/{content}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_batches_equals_a_map(steps in prop::collection::vec(step(), 1..24)) {
        let disk = Disk::default();
        let (mut all, _) = source(disk.store().unwrap());
        let mut map = Map::new();
        // The map after each revision.
        let mut after: Vec<Map> = vec![Map::new()];
        for step in steps {
            let before = map.clone();
            match step {
                Step::Apply(objects) => {
                    let texts: Vec<String> = objects.iter().map(|(n, c)| text_of(&name(*n), *c)).collect();
                    for (number, content) in objects {
                        map.insert(name(number), content);
                    }
                    let done = all.apply(read(&texts.join("---\n")), cause(), false).unwrap();
                    // An object that changes and changes back within one batch may make a revision of its own.
                    prop_assert!(done.revision.is_some() || map == before);
                    if done.revision.is_some() {
                        after.push(map.clone());
                    }
                }
                Step::Delete(numbers) => {
                    let targets: Vec<Target> = numbers.iter().map(|n| Target::Exactly(id(&name(*n)))).collect();
                    map.retain(|known, _| !numbers.iter().any(|n| name(*n) == *known));
                    let done = all.delete(&targets, cause(), false).unwrap();
                    prop_assert_eq!(done.revision.is_some(), map != before);
                    if done.revision.is_some() {
                        after.push(map.clone());
                    }
                }
                Step::Rollback(back) => {
                    let Some(to) = (after.len() - 1).checked_sub(back).filter(|to| *to > 0) else { continue };
                    map = after[to].clone();
                    let done = all.restore(to as u64, cause(), false).unwrap();
                    prop_assert!(done.what.problems.is_empty());
                    prop_assert_eq!(done.revision.is_some(), map != before);
                    if done.revision.is_some() {
                        after.push(map.clone());
                    }
                }
                Step::Restart => {
                    drop(all);
                    all = source(disk.store().unwrap()).0;
                }
            }
            let reading = all.first(directories(""));
            let found: Map = reading.objects.iter().map(|loaded| {
                let object = &loaded.object;
                let text = all.manifest(object.identity()).unwrap().unwrap();
                let content = (0..3u8).find(|c| text == text_of(object.name(), *c)).unwrap();
                (object.name().to_owned(), content)
            }).collect();
            prop_assert_eq!(&found, &map);
        }
        let kept: Vec<u64> = all.history(usize::MAX, |_| true).unwrap().iter().map(|entry| entry.revision.number).collect();
        let last = after.len() as u64 - 1;
        prop_assert_eq!(&kept, &(last.saturating_sub(3).max(1)..=last).collect::<Vec<_>>(), "the last four");
        for number in kept {
            let state = all.state_after(number).unwrap();
            let texts: Vec<String> = state.into_iter().map(|version| version.text.unwrap()).collect();
            let expected: Vec<String> =
                after[usize::try_from(number).unwrap()].iter().map(|(n, c)| text_of(n, *c)).collect();
            prop_assert_eq!(texts, expected, "after revision {}", number);
        }
    }
}
