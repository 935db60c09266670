//! Label selectors.

use std::collections::BTreeMap;

use crate::decode::{names, partial};

/// Whether `labels` holds every pair of `selector`; an empty selector matches everything.
pub fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

partial! {
    /// Kubernetes' selector: pairs and expressions, all of which must hold.
    pub struct LabelSelector {
        match_labels: BTreeMap<String, String>,
        match_expressions: Vec<LabelExpression>,
    }
}

partial! {
    pub struct LabelExpression {
        key @required: String,
        operator @required: LabelOperator,
        values: Vec<String>,
    }
}

names! {
    pub enum LabelOperator {
        In = "In",
        NotIn = "NotIn",
        Exists = "Exists",
        DoesNotExist = "DoesNotExist",
    }
}

impl LabelSelector {
    /// An empty selector selects everything.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        matches(&self.match_labels, labels)
            && self.match_expressions.iter().all(|expression| expression.holds(labels))
    }

    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

impl LabelExpression {
    /// A missing label satisfies `NotIn` and `DoesNotExist`, as in Kubernetes.
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    /// Kubernetes' label selector semantics (documentation "Labels and Selectors", set-based requirements).
    #[test]
    fn expressions_as_in_kubernetes() {
        let present = labels(&[("app", "web"), ("tier", "front")]);
        for (key, operator, values, expected) in [
            ("app", LabelOperator::In, &["web", "api"][..], true),
            ("app", LabelOperator::In, &["api"][..], false),
            ("app", LabelOperator::NotIn, &["api"][..], true),
            ("none", LabelOperator::NotIn, &["api"][..], true),
            ("none", LabelOperator::In, &["api"][..], false),
            ("app", LabelOperator::Exists, &[][..], true),
            ("none", LabelOperator::Exists, &[][..], false),
            ("none", LabelOperator::DoesNotExist, &[][..], true),
        ] {
            let selector = LabelSelector {
                match_labels: labels(&[("tier", "front")]),
                match_expressions: vec![LabelExpression {
                    key: key.into(),
                    operator,
                    values: values.iter().map(ToString::to_string).collect(),
                }],
            };
            assert_eq!(selector.selects(&present), expected, "{key} {operator:?} {values:?}");
        }
        assert!(LabelSelector::default().selects(&present));
    }
}
