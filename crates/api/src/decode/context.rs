//! What decoding and validation carry along: where they are, and what they found.

use crate::decode::Decode;
use crate::object::{push_field, push_index};
use crate::problem::Severity;
use crate::yaml::{Node, Position};

/// More findings than this in one document help nobody.
const MAX_FINDINGS: usize = 200;

/// A problem before it knows its file and object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub severity: Severity,
    pub at: Position,
    pub path: String,
    pub message: String,
}

#[derive(Debug, Default)]
pub(crate) struct Context {
    path: String,
    findings: Vec<Finding>,
    /// Proto3 JSON (the mesh configuration) takes numbers written as strings and enumerations by number, CRD schemas do not.
    pub proto_json: bool,
    /// Whether fields passed over are named as warnings.
    pub name_unknown: bool,
}

impl Context {
    /// For the mesh configuration, which is proto3 JSON and open to fields nobody knows.
    pub(crate) fn mesh() -> Self {
        Self { proto_json: true, name_unknown: true, ..Self::default() }
    }

    /// Another one at the same place, with nothing found.
    pub(crate) fn sibling(&self) -> Self {
        Self { path: self.path.clone(), ..Self::default() }
    }

    /// Everything found from now on is below `path`.
    pub(crate) fn start_at(&mut self, path: &str) {
        path.clone_into(&mut self.path);
    }

    /// Takes over what was found about other fields than those with findings here already, their parents and children.
    pub(crate) fn adopt_unrelated(&mut self, other: Self) {
        let is_within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || outer.is_empty() || rest.starts_with(['.', '[']))
        };
        let known: Vec<String> = self.findings.iter().map(|finding| finding.path.clone()).collect();
        for finding in other.findings {
            if !known.iter().any(|path| is_within(path, &finding.path) || is_within(&finding.path, path)) {
                self.adopt(finding);
            }
        }
    }

    /// Takes over what another context found.
    pub(crate) fn adopt(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    pub(crate) fn in_field<T>(&mut self, name: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let parent = self.path.len();
        push_field(&mut self.path, name);
        let result = inner(self);
        self.path.truncate(parent);
        result
    }

    pub(crate) fn in_item<T>(&mut self, index: usize, inner: impl FnOnce(&mut Self) -> T) -> T {
        let parent = self.path.len();
        push_index(&mut self.path, index);
        let result = inner(self);
        self.path.truncate(parent);
        result
    }

    /// Decodes a top-level field of a document; `None` if it is absent, null or wrong.
    pub(crate) fn child<T: Decode>(&mut self, node: &Node, name: &str) -> Option<T> {
        let child = node.field(name).filter(|child| !child.is_null())?;
        self.in_field(name, |context| T::decode(child, context))
    }

    pub(crate) fn error(&mut self, at: Position, message: impl Into<String>) {
        self.find(Severity::Error, at, message.into());
    }

    pub(crate) fn warning(&mut self, at: Position, message: impl Into<String>) {
        self.find(Severity::Warning, at, message.into());
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    fn find(&mut self, severity: Severity, at: Position, message: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { severity, at, path: self.path.clone(), message });
        }
    }
}
