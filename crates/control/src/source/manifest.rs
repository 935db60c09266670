//! What `apply` and `delete` are given: documents taken apart into one manifest for each object.
//!
//! A manifest is the text that is stored for an object. It is the document as its author wrote it, comments included,
//! unless it cannot be: an item of a list, or an object that gets its namespace from the command, is written anew from
//! its tree.

use std::sync::Arc;

use api::yaml::{self, Document, Key, Node, Value};
use api::{Object, Options, Problem, Severity, SourceRef};

/// One object of the input.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub object: Arc<Object>,
    /// YAML or JSON that reads back as the object; places in the object are places in it.
    pub text: String,
    /// Where it stands in the input.
    pub place: SourceRef,
    /// The text is the author's: its lines are those of the input from there on.
    as_written: bool,
}

/// What an input holds.
#[derive(Debug, Default)]
pub struct Manifests {
    pub items: Vec<Manifest>,
    /// Errors and warnings, with the places of the input.
    pub problems: Vec<Problem>,
}

/// What the manifests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every object must be valid.
    Apply,
    /// Only who an object is counts: what is invalid can be deleted.
    Delete,
}

impl Manifests {
    /// Takes a text apart. `namespace` is given to objects that name none; one that names another is an error, as in
    /// kubectl. Kinds that are in no namespace ignore it.
    pub fn read(&mut self, file: &str, text: &str, namespace: Option<&str>, purpose: Purpose) {
        for document in yaml::documents(text) {
            Reader { file, document: inside(document), namespace, purpose, found: self }.document();
        }
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

impl Manifest {
    /// A finding about the object, with the place in the input.
    pub(crate) fn placed(&self, problem: &Problem) -> Problem {
        let above = self.place.line.saturating_sub(self.object.source.line);
        let (line, column) = match self.as_written {
            true => (problem.line.saturating_add(above), problem.column),
            false => (self.place.line, self.place.column),
        };
        Problem { file: self.place.file.clone(), line, column, ..problem.clone() }
    }
}

/// The manifest of an object that was read from a file with these documents; `None` if they say something else now.
pub(crate) fn manifest_in(documents: &[Document<'_>], object: &Object) -> Option<String> {
    let after = documents.partition_point(|document| document.first_line < object.source.line);
    let document = documents.get(after.checked_sub(1)?)?;
    let mut found = Manifests::default();
    found.read(&object.source.file, document.text, None, Purpose::Delete);
    let same = |manifest: &Manifest| {
        manifest.object.identity() == object.identity()
            && manifest.object.content_hash() == object.content_hash()
    };
    found.items.into_iter().find(same).map(|manifest| manifest.text)
}

struct Reader<'r> {
    file: &'r str,
    document: Document<'r>,
    namespace: Option<&'r str>,
    purpose: Purpose,
    found: &'r mut Manifests,
}

/// The namespace of an object beside the one the command names.
enum Naming {
    /// Nothing to add.
    Complete,
    Missing(String),
    Other {
        written: String,
        wanted: String,
    },
}

impl Reader<'_> {
    fn options(&self) -> Options {
        match self.purpose {
            Purpose::Apply => Options::default(),
            Purpose::Delete => Options { validate: false, keep_invalid: true, ..Options::default() },
        }
    }

    fn document(&mut self) {
        let trees = yaml::load(self.document.text, self.options().limits);
        // A directive means something only where the document begins: what is stored must go between others.
        let directives = self.document.text.lines().any(|line| line.starts_with('%'));
        let alone = trees.len() == 1 && !directives;
        for tree in trees {
            let tree = match tree {
                Ok(tree) => tree,
                Err(error) => {
                    let problem = self.problem(error.at, None, error.message);
                    self.add_problem(problem);
                    continue;
                }
            };
            match items_of_list(&tree) {
                Some(items) => items.iter().for_each(|item| self.object(item, false)),
                None => self.object(&tree, alone),
            }
        }
    }

    /// `alone`: the document holds this object and nothing else.
    fn object(&mut self, tree: &Node, alone: bool) {
        let parsed = api::parse_tree(self.file, self.document.text, tree, &self.options());
        let object = parsed.objects.into_iter().next();
        let refused = self.purpose == Purpose::Apply || object.is_none();
        for problem in parsed.problems {
            if refused || !problem.is_error() {
                self.add_problem(problem);
            }
        }
        let Some(object) = object else { return };
        let mut place = object.source.clone();
        place.line = place.line.saturating_add(self.document.first_line);
        match naming(&object, self.namespace) {
            Naming::Complete if alone => {
                let text = self.document.text.trim_end().to_owned() + "\n";
                self.found.items.push(Manifest { object, text, place, as_written: true });
            }
            Naming::Complete => self.rendered(tree, place),
            Naming::Missing(namespace) => self.rendered(&with_namespace(tree, &namespace), place),
            Naming::Other { written, wanted } => {
                let message = format!(
                    "the namespace from the provided object \"{written}\" does not match the namespace \"{wanted}\". \
                     You must pass '--namespace={written}' to perform this operation."
                );
                let at = object.position("metadata.namespace");
                let problem = self.problem(at, Some(object.id()), message);
                self.add_problem(problem);
            }
        }
    }

    /// Writes the tree anew and reads what was written, so that places in the object are those of the stored text.
    fn rendered(&mut self, tree: &Node, place: SourceRef) {
        let text = yaml::render(&tree.to_json());
        let meant = api::parse_tree(self.file, self.document.text, tree, &self.options());
        let again = api::parse_documents(self.file, &text, &self.options());
        match (meant.objects.as_slice(), again.objects.as_slice()) {
            ([meant], [read])
                if meant.identity() == read.identity() && meant.content_hash() == read.content_hash() =>
            {
                self.found.items.push(Manifest { object: read.clone(), text, place, as_written: false });
            }
            _ => {
                let message = "cannot be written as YAML that reads back as the same object; give it a document of \
                               its own that names its namespace";
                let problem = self.problem(tree.at, None, message.to_owned());
                self.add_problem(problem);
            }
        }
    }

    fn problem(&self, at: yaml::Position, object: Option<String>, message: String) -> Problem {
        Problem {
            severity: Severity::Error,
            file: self.file.into(),
            line: at.line,
            column: at.column,
            object,
            path: String::new(),
            message,
        }
    }

    /// Places in the document become places in the input.
    fn add_problem(&mut self, mut problem: Problem) {
        problem.line = problem.line.saturating_add(self.document.first_line);
        self.found.problems.push(problem);
    }
}

/// The document without the line that separates it from the one before.
fn inside(document: Document<'_>) -> Document<'_> {
    match document.text.split_once('\n') {
        Some((separator, text)) if separator.trim_end() == "---" => {
            Document { text, first_line: document.first_line.saturating_add(1) }
        }
        _ => document,
    }
}

/// The items of what `kubectl get -o yaml` prints.
fn items_of_list(tree: &Node) -> Option<&[Node]> {
    tree.field("kind").filter(|kind| kind.text() == Some("List"))?;
    tree.field("items")?.items()
}

fn naming(object: &Object, wanted: Option<&str>) -> Naming {
    let Some(wanted) = wanted else { return Naming::Complete };
    if api::kinds::is_cluster_scoped(&object.meta.api_version, &object.meta.kind) {
        return Naming::Complete;
    }
    match object.meta.namespace.as_deref() {
        None | Some("") => Naming::Missing(wanted.to_owned()),
        Some(written) if written == wanted => Naming::Complete,
        Some(written) => Naming::Other { written: written.to_owned(), wanted: wanted.to_owned() },
    }
}

/// The tree with `metadata.namespace`.
fn with_namespace(tree: &Node, namespace: &str) -> Node {
    let mut tree = tree.clone();
    let at = tree.at;
    let Value::Mapping(fields) = &mut tree.value else { return tree };
    let Some((_, metadata)) = fields.iter_mut().find(|(key, _)| key.name == "metadata") else { return tree };
    if let Value::Mapping(fields) = &mut metadata.value {
        fields.retain(|(key, _)| key.name != "namespace");
        let value = Node { at, value: Value::String(namespace.to_owned()) };
        // After the name, where people look for it.
        let place = fields.iter().position(|(key, _)| key.name == "name").map_or(0, |at| at + 1);
        fields.insert(place, (Key { name: "namespace".to_owned(), at }, value));
    }
    tree
}
