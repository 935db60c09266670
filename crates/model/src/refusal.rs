//! Why a piece of configuration was refused.
use std::fmt;

/// One resource refused by name. The rest of its batch goes live, and its own previous version stays.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rejection {
    /// Name of the resource, or of the bootstrap's section.
    pub resource: String,
    /// The field's path, a colon, and why: `filter_chains[2].filters[0].typed_config: ...`.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.reason)
    }
}

/// What is wrong with a message, and where in it. Paths grow outwards as the error travels up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{reason}", .path, if .path.is_empty() { "" } else { ": " })]
pub struct Refusal {
    path: String,
    reason: String,
}

impl Refusal {
    pub fn new(reason: impl Into<String>) -> Self {
        Refusal { path: String::new(), reason: reason.into() }
    }

    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }

    pub fn reject(self, resource: impl Into<String>) -> Rejection {
        Rejection { resource: resource.into(), reason: self.to_string() }
    }
}

pub(crate) type Compiled<T> = Result<T, Refusal>;

/// Puts the field's name, or its name and position, before a refusal's path.
pub(crate) trait At<T> {
    fn at(self, field: &str) -> Compiled<T>;
    fn at_index(self, field: &str, index: usize) -> Compiled<T>;
}

impl<T> At<T> for Compiled<T> {
    fn at(self, field: &str) -> Compiled<T> {
        self.map_err(|e| e.within(field))
    }

    fn at_index(self, field: &str, index: usize) -> Compiled<T> {
        self.map_err(|e| e.within(&format!("{field}[{index}]")))
    }
}

/// Compiles every element of a repeated field, with its position in the path.
pub(crate) fn each<'m, M, T>(
    field: &str,
    messages: &'m [M],
    mut compile: impl FnMut(&'m M) -> Compiled<T>,
) -> Compiled<Vec<T>> {
    messages.iter().enumerate().map(|(i, m)| compile(m).at_index(field, i)).collect()
}
