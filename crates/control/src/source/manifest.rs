//! What `apply` and `delete` are given: documents taken apart into one manifest for each object.
//!
//! A manifest is the text that is stored for an object. It is the document as its author wrote it, comments included,
//! unless it cannot be: an item of a list, or an object that gets its namespace from the command, is written anew from
//! its tree.

use std::sync::Arc;

use crate::admission;
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
        let mut parsed = api::parse_tree(self.file, self.document.text, tree, &self.options());
        if self.purpose == Purpose::Apply {
            admission::admit(&mut parsed);
        }
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
            Naming::Complete if alone => match self.ended(&object) {
                Some(text) => {
                    self.found.items.push(Manifest { object, text, place, as_written: true });
                }
                None => self.rendered(tree, place),
            },
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

    /// The document's text with the end of its last line. `None` if that says something else: in a block scalar that keeps
    /// its line breaks (`|+`) the end of the line is content.
    fn ended(&self, object: &Object) -> Option<String> {
        let text = self.document.text;
        if text.ends_with('\n') {
            return Some(text.to_owned());
        }
        let text = format!("{text}\n");
        let again = api::parse_documents(self.file, &text, &self.options()).objects;
        let same = again.first().is_some_and(|read| read.content_hash() == object.content_hash());
        same.then_some(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The identities and stored texts, or the first error.
    fn read(text: &str, namespace: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let mut found = Manifests::default();
        found.read("in.yaml", text, namespace, Purpose::Apply);
        match found.problems.iter().find(|problem| problem.is_error()) {
            Some(error) => Err(error.to_string()),
            None => Ok(found.items.into_iter().map(|m| (m.object.id(), m.text)).collect()),
        }
    }

    /// `kubectl apply -n`: it completes, refuses another namespace in these words (k8s.io/cli-runtime,
    /// `RetrieveLazy`/`RequireNamespace`), and leaves kinds alone that are in none. However the object is written.
    #[test]
    fn the_namespace_is_given_to_every_way_of_writing_an_object() {
        for text in [
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec: {ports: [{port: 80}]}\n",
            "apiVersion: v1\nkind: Service\nmetadata: # of the service\n    name: a\nspec: {ports: [{port: 80}]}\n",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n",
            "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"ports\":[{\"port\":80}]}}",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {ports: [{port: 80}]}\n",
            "metadata: {namespace: '', name: a}\nspec: {ports: [{port: 80}]}\nkind: Service\napiVersion: v1\n",
        ] {
            assert_eq!(read(text, None).unwrap()[0].0, "Service/default/a", "{text}");
            let [(id, stored)] = read(text, Some("prod")).unwrap().try_into().unwrap();
            assert_eq!(id, "Service/prod/a", "{text}");
            assert!(stored.contains("  name: a\n  namespace: prod\n"), "{stored}");
        }
        let other = "# first\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: test}\nspec: {ports: [{port: 80}]}\n";
        assert_eq!(
            read(other, Some("prod")).unwrap_err(),
            "in.yaml:5:21: Service/test/a: the namespace from the provided object \"test\" does not match the namespace \
             \"prod\". You must pass '--namespace=test' to perform this operation."
        );
        assert_eq!(read(other, Some("test")).unwrap()[0].0, "Service/test/a");
        let cluster = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
        assert_eq!(read(cluster, Some("prod")).unwrap(), [("Namespace/a".to_owned(), cluster.to_owned())]);
    }

    #[test]
    fn what_can_be_is_stored_as_its_author_wrote_it() {
        let first = "# Why this is so.\napiVersion: v1\nkind: Service # the first\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
        let second = "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{port: 80}]}\n";
        let text = format!("---\n{first}---\n{second}");
        let stored: Vec<String> = read(&text, None).unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(stored, [first, second]);
        // Where the text ends may be content.
        let kept = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: |+\n    a\n     \n\n";
        let hash = |text: &str| {
            api::parse_documents("x", text, &Options::default()).objects.first().map(|o| o.content_hash())
        };
        assert_ne!(hash(kept), hash(kept.trim_end()));
        for text in [kept, kept.trim_end(), second.trim_end()] {
            let [(_, stored)] = read(text, None).unwrap().try_into().unwrap();
            assert!(stored.ends_with('\n') && hash(&stored) == hash(text), "{stored:?}");
        }
    }

    #[test]
    fn findings_name_the_line_of_the_input() {
        let good = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
        let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{port: 99999}]}\n";
        let error = read(&format!("{good}---\n{bad}"), None).unwrap_err();
        assert!(error.starts_with("in.yaml:9:23: Service/default/b spec.ports[0].port:"), "{error}");
        let error = read(&format!("{good}---\na: [\n"), None).unwrap_err();
        assert!(error.starts_with("in.yaml:"), "{error}");
        let mut found = Manifests::default();
        found.read("in.yaml", &format!("{good}---\n{good}"), None, Purpose::Apply);
        let second = &found.items[1];
        assert_eq!(second.place.to_string(), "in.yaml:6:1");
        let about = Problem { line: 4, column: 3, ..found_problem() };
        assert_eq!(second.placed(&about).to_string(), "in.yaml:9:3: odd");
    }

    fn found_problem() -> Problem {
        Problem {
            severity: Severity::Error,
            file: "applied@1".into(),
            line: 1,
            column: 1,
            object: None,
            path: String::new(),
            message: "odd".into(),
        }
    }

    #[test]
    fn what_is_invalid_can_be_deleted() {
        let bad =
            "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{port: 99999}], other: 1}\n";
        let mut found = Manifests::default();
        found.read("in.yaml", bad, Some("prod"), Purpose::Delete);
        let ids: Vec<String> = found.items.iter().map(|manifest| manifest.object.id()).collect();
        assert_eq!((ids, found.has_errors()), (vec!["Service/prod/b".to_owned()], false));
    }
}
