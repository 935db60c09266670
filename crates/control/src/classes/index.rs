//! The class of a proxy, by what it answers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{ClassId, Group};
use crate::proxy::{Answer, Answers, Facts, Question};

/// Classes of a group by what was asked, then by the answers. Few sets of questions are different.
#[derive(Debug, Default)]
pub(super) struct Index {
    groups: HashMap<Group, Vec<Asked>>,
}

/// The classes of which the same was asked.
#[derive(Debug)]
struct Asked {
    questions: Vec<Question>,
    /// By the hash of the answers.
    classes: HashMap<u64, Vec<(Vec<Answer>, ClassId)>>,
}

impl Index {
    pub fn insert(&mut self, group: &Group, answers: &Answers, class: ClassId) {
        let (questions, answers) = parted(answers);
        let of_group = self.groups.entry(group.clone()).or_default();
        let at = match of_group.iter().position(|asked| asked.questions == questions) {
            Some(at) => at,
            None => {
                of_group.push(Asked { questions, classes: HashMap::new() });
                of_group.len() - 1
            }
        };
        if let Some(asked) = of_group.get_mut(at) {
            asked.classes.entry(hash(&answers)).or_default().push((answers, class));
        }
    }

    pub fn remove(&mut self, group: &Group, answers: &Answers, class: ClassId) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let (questions, answers) = parted(answers);
        for asked in of_group.iter_mut().filter(|asked| asked.questions == questions) {
            let hash = hash(&answers);
            if let Some(same) = asked.classes.get_mut(&hash) {
                same.retain(|(_, other)| *other != class);
                if same.is_empty() {
                    asked.classes.remove(&hash);
                }
            }
        }
        of_group.retain(|asked| !asked.classes.is_empty());
        if of_group.is_empty() {
            self.groups.remove(group);
        }
    }

    pub fn find(&self, group: &Group, facts: &Facts<'_>) -> Option<ClassId> {
        self.groups.get(group)?.iter().find_map(|asked| {
            let answers: Vec<Answer> =
                asked.questions.iter().map(|question| facts.ask(question.clone())).collect();
            let same = asked.classes.get(&hash(&answers))?;
            same.iter().find(|(own, _)| *own == answers).map(|(_, class)| *class)
        })
    }
}

fn parted(answers: &Answers) -> (Vec<Question>, Vec<Answer>) {
    answers.iter().map(|(question, answer)| (question.clone(), answer.clone())).unzip()
}

fn hash(answers: &[Answer]) -> u64 {
    let mut hasher = DefaultHasher::new();
    answers.hash(&mut hasher);
    hasher.finish()
}
