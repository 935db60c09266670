//! Objects out of text.

use std::sync::Arc;

use crate::decode::{Context, Decode, Finding, closest, partial};
use crate::kinds::{self, Known};
use crate::kubernetes::{EndpointSlice, Pod};
use crate::mesh_config::MeshConfig;
use crate::object::{Meta, Object, ObjectId, Positions, SourceRef, Spec, content_hash};
use crate::problem::{Problem, Severity};
use crate::yaml::{self, Limits, Node, Position, shorten};

/// What to read and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub limits: Limits,
    /// Whether objects are judged by Istio's rules (schema and webhook), not only by their types.
    pub validate: bool,
    /// Whether objects with errors are given out too, as far as they could be read: for analysis and simulation, which
    /// look at what would be refused. Wrong fields have their defaults.
    pub keep_invalid: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), validate: true, keep_invalid: false }
    }
}

/// What a text holds.
#[derive(Debug, Default, Clone)]
pub struct Parsed {
    /// The good objects, in the order written; a problem in one never costs another.
    pub objects: Vec<Arc<Object>>,
    /// Document by document, in the order of lines; errors are about objects (or documents) that are not in `objects`, unless they are kept.
    pub problems: Vec<Problem>,
    /// The objects that errors are about, if it could be told which.
    pub refused: Vec<Arc<ObjectId>>,
}

/// Reads every document of a YAML or JSON text. `file` is what problems and objects call it.
pub fn parse_documents(file: &str, text: &str, options: &Options) -> Parsed {
    let reader = Reader { file: file.into(), text, options };
    let mut parsed = Parsed::default();
    for document in yaml::load(text, options.limits) {
        match document {
            Ok(node) => reader.document(&node, &mut parsed),
            Err(error) => parsed.problems.push(reader.problem(error.at, None, "", error.message)),
        }
    }
    parsed
}

/// Reads one object, or a list of them, from a tree; `text` is what the tree was loaded from.
pub fn parse_tree(file: &str, text: &str, tree: &Node, options: &Options) -> Parsed {
    let mut parsed = Parsed::default();
    Reader { file: file.into(), text, options }.document(tree, &mut parsed);
    parsed
}

/// Reads a mesh configuration on its own (the content of Istio's ConfigMap); what it does not say is Istio's default.
/// With errors among the problems it must not be used.
pub fn parse_mesh_config(file: &str, text: &str, options: &Options) -> (MeshConfig, Vec<Problem>) {
    let reader = Reader { file: file.into(), text, options };
    let mut context = Context::mesh();
    let config = decode_mesh(text, options, &mut context);
    (config, reader.problems(context, "MeshConfig"))
}

/// Reads the same as an object: the ConfigMap `istio` in the root namespace that the text names. A text that says nothing
/// holds no object.
pub fn parse_mesh_document(file: &str, text: &str, options: &Options) -> Parsed {
    let reader = Reader { file: file.into(), text, options };
    let mut context = Context::mesh();
    let config = decode_mesh(text, options, &mut context);
    let meta = Meta {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: kinds::MESH_CONFIG_MAP.into(),
        namespace: Some(config.root_namespace.clone()),
        ..Meta::default()
    };
    let identity = Arc::new(meta.identity());
    let mut parsed = Parsed::default();
    if context.has_errors() {
        parsed.refused.push(identity);
    } else if let Some(Ok(node)) = yaml::load(text, options.limits).into_iter().next() {
        parsed.objects.push(Arc::new(Object {
            source: SourceRef { file: reader.file.clone(), line: node.at.line, column: node.at.column },
            positions: Positions::of(&node),
            content_hash: content_hash(&node),
            spec: Spec::MeshConfig(Box::new(config)),
            identity,
            meta,
        }));
    }
    parsed.problems = reader.problems(context, "MeshConfig");
    parsed
}

struct Reader<'t> {
    file: Arc<str>,
    text: &'t str,
    options: &'t Options,
}

partial! {
    struct Header {
        api_version: String,
        kind: String,
        metadata: Metadata,
    }
}

partial! {
    struct Metadata {
        name: String,
        generate_name: String,
        namespace: Option<String>,
        labels: std::collections::BTreeMap<String, String>,
        annotations: std::collections::BTreeMap<String, String>,
        creation_timestamp: Option<jiff::Timestamp>,
        uid: String,
        generation: i64,
    }
}

impl Reader<'_> {
    fn document(&self, node: &Node, parsed: &mut Parsed) {
        let kind = node.field("kind").and_then(Node::text).unwrap_or_default();
        // What `kubectl get -o yaml` prints.
        if kind == "List"
            && let Some(items) = node.field("items").and_then(Node::items)
        {
            for item in items {
                self.object(item, parsed);
            }
            return;
        }
        self.object(node, parsed);
    }

    fn object(&self, node: &Node, parsed: &mut Parsed) {
        let mut context = Context::default();
        // Directories hold other YAML too, such as a chart's values.
        if node.entries().is_some() && node.field("apiVersion").is_none() && node.field("kind").is_none() {
            context
                .warning(node.at, "is not an object (it has neither apiVersion nor kind) and is passed over");
            parsed.problems.extend(self.problems(context, ""));
            return;
        }
        let Some(header) = Header::decode(node, &mut context) else {
            parsed.problems.extend(self.problems(context, ""));
            return;
        };
        let meta = header.into_meta(node, &mut context);
        let mut object = Object {
            source: SourceRef { file: self.file.clone(), line: node.at.line, column: node.at.column },
            positions: Positions::default(),
            content_hash: 0,
            spec: Spec::Unsupported,
            identity: Arc::new(meta.identity()),
            meta,
        };
        let spec = self.spec(&object.meta, node, &mut context);
        let readable = spec.is_some();
        if let Some(spec) = spec {
            object.spec = spec;
        }
        if self.options.validate && (readable || !context.has_errors()) {
            // What could not be read has its default, about which there is nothing to say.
            let mut judged = Context::default();
            crate::validate::object(&object, node, &mut judged);
            context.adopt_unrelated(judged);
        }
        let id = object.id();
        if !context.has_errors() || (self.options.keep_invalid && readable) {
            object.positions = Positions::of(node);
            object.content_hash = content_hash(node);
            parsed.objects.push(Arc::new(object));
        } else {
            parsed.refused.push(object.identity);
        }
        parsed.problems.extend(self.problems(context, &id));
    }

    /// `None` if a problem was reported.
    fn spec(&self, meta: &Meta, node: &Node, context: &mut Context) -> Option<Spec> {
        let (group, _) = kinds::split(&meta.api_version);
        match kinds::lookup(&meta.api_version, &meta.kind) {
            Known::Supported => {}
            Known::Unsupported => return Some(Spec::Unsupported),
            Known::WrongVersion(versions) => {
                let at = place(node, "apiVersion");
                let versions: Vec<_> = versions.iter().map(|version| join(group, version)).collect();
                context.in_field("apiVersion", |context| {
                    let versions = versions.join(", ");
                    context.error(
                        at,
                        format!("{} is served as {versions}, not {:?}", meta.kind, meta.api_version),
                    );
                });
                return None;
            }
            Known::Unknown => {
                if !meta.kind.is_empty() && !meta.api_version.is_empty() {
                    unknown_kind(meta, node, context);
                }
                return None;
            }
        }
        let spec = match (group, meta.kind.as_str()) {
            ("networking.istio.io", "VirtualService") => Spec::VirtualService(boxed(node, context)?),
            ("networking.istio.io", "DestinationRule") => Spec::DestinationRule(boxed(node, context)?),
            ("networking.istio.io", "ServiceEntry") => Spec::ServiceEntry(boxed(node, context)?),
            ("networking.istio.io", "Gateway") => Spec::Gateway(boxed(node, context)?),
            ("networking.istio.io", "Sidecar") => Spec::Sidecar(boxed(node, context)?),
            ("networking.istio.io", "WorkloadEntry") => Spec::WorkloadEntry(boxed(node, context)?),
            ("networking.istio.io", "WorkloadGroup") => Spec::WorkloadGroup(boxed(node, context)?),
            ("security.istio.io", "PeerAuthentication") => Spec::PeerAuthentication(boxed(node, context)?),
            ("", "Service") => {
                let mut service: Box<crate::kubernetes::Service> = boxed(node, context)?;
                service.apply_defaults();
                Spec::Service(service)
            }
            ("", "Namespace") => Spec::Namespace(boxed(node, context)?),
            ("", "Pod") => Spec::Pod(Box::new(Pod::decode(node, context))),
            ("discovery.k8s.io", "EndpointSlice") => {
                Spec::EndpointSlice(Box::new(EndpointSlice::decode(node, context)))
            }
            ("apps", _) => Spec::Deployment(boxed(node, context)?),
            ("", "ConfigMap") => return self.config_map(meta, node, context),
            _ => Spec::Unsupported,
        };
        Some(spec)
    }

    /// Istio's own ConfigMap holds the mesh configuration; no other is read. Whether its namespace is the root
    /// namespace, the store of all objects knows.
    fn config_map(&self, meta: &Meta, node: &Node, context: &mut Context) -> Option<Spec> {
        let mesh = node.field("data").and_then(|data| data.field("mesh"));
        let (true, Some(mesh)) = (meta.name == kinds::MESH_CONFIG_MAP, mesh) else {
            return Some(Spec::Unsupported);
        };
        let text = String::decode(mesh, context)?;
        let mut inner = Context::mesh();
        inner.start_at("data.mesh");
        let config = decode_mesh(&text, self.options, &mut inner);
        let shift = self.embedded(mesh.at);
        for finding in inner.into_findings() {
            context.adopt(Finding { at: shift(finding.at), ..finding });
        }
        Some(Spec::MeshConfig(Box::new(config)))
    }

    /// Maps places in a text written as a block (`|`) to places in the file; in any other text all are its own place.
    fn embedded(&self, at: Position) -> impl Fn(Position) -> Position + use<> {
        // The place of a block is where its first line begins, below the `|`.
        let above = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(2);
        let is_block = at.line > 1
            && self.text.lines().nth(above).is_some_and(|line| {
                let line = line.trim_end().trim_end_matches(['+', '-']);
                line.trim_end_matches(|digit: char| digit.is_ascii_digit()).ends_with('|')
            });
        move |inner: Position| {
            if is_block {
                Position {
                    line: (at.line - 1).saturating_add(inner.line),
                    column: at.column.saturating_sub(1).saturating_add(inner.column),
                }
            } else {
                at
            }
        }
    }

    fn problems(&self, context: Context, object: &str) -> Vec<Problem> {
        let mut findings = context.into_findings();
        findings.sort_by_key(|finding| finding.at);
        findings
            .into_iter()
            .map(|finding| Problem {
                severity: finding.severity,
                ..self.problem(finding.at, Some(object), &finding.path, finding.message)
            })
            .collect()
    }

    fn problem(&self, at: Position, object: Option<&str>, path: &str, message: String) -> Problem {
        Problem {
            severity: Severity::Error,
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            object: object.filter(|object| !object.is_empty()).map(str::to_owned),
            path: path.to_owned(),
            message,
        }
    }
}

impl Header {
    fn into_meta(self, node: &Node, context: &mut Context) -> Meta {
        for (name, value) in [("apiVersion", &self.api_version), ("kind", &self.kind)] {
            if value.is_empty()
                && node.field(name).is_none_or(|field| field.is_null() || field.text() == Some(""))
            {
                context.in_field(name, |context| context.error(node.at, "is required but missing"));
            }
        }
        let metadata = self.metadata;
        // An installer's input, which no API server sees.
        let unnamed_too = kinds::split(&self.api_version).0 == "install.istio.io";
        if metadata.name.is_empty() && metadata.generate_name.is_empty() && !unnamed_too {
            let at = place(node, "metadata");
            context.in_field("metadata", |context| {
                context.in_field("name", |context| context.error(at, "is required but missing"));
            });
        }
        Meta {
            api_version: self.api_version,
            kind: self.kind,
            name: if metadata.name.is_empty() { metadata.generate_name } else { metadata.name },
            namespace: metadata.namespace,
            labels: metadata.labels,
            annotations: metadata.annotations,
            creation_timestamp: metadata.creation_timestamp,
            uid: metadata.uid,
            generation: metadata.generation,
        }
    }
}

/// A document without `spec` has an empty one.
fn boxed<T: Decode>(document: &Node, context: &mut Context) -> Option<Box<T>> {
    let empty = Node { at: document.at, value: yaml::Value::Mapping(Vec::new()) };
    let spec = document.field("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty);
    context.in_field("spec", |context| T::decode(spec, context)).map(Box::new)
}

fn decode_mesh(text: &str, options: &Options, context: &mut Context) -> MeshConfig {
    let mut config = MeshConfig::istio_default();
    match yaml::load(text, options.limits).into_iter().next() {
        None => {}
        Some(Err(error)) => context.error(error.at, error.message),
        Some(Ok(node)) => {
            if let Some(decoded) = MeshConfig::decode(&node, context) {
                config = decoded;
            }
            if options.validate {
                let mut judged = context.sibling();
                crate::validate::mesh_config(&config, &node, &mut judged);
                context.adopt_unrelated(judged);
            }
        }
    }
    config
}

fn unknown_kind(meta: &Meta, node: &Node, context: &mut Context) {
    let group = kinds::groups_of(&meta.kind).first().copied();
    let hint = match (group, closest(&meta.kind, &kinds::kinds_in(&meta.api_version))) {
        (Some(""), _) => "; there is one in v1".to_owned(),
        (Some(group), _) => format!("; there is one in {group}"),
        (None, Some(kind)) => format!("; did you mean {kind}?"),
        (None, None) => String::new(),
    };
    let at = place(node, "kind");
    context.in_field("kind", |context| {
        context.error(
            at,
            format!("no kind {:?} is known in {:?}{hint}", shorten(&meta.kind), shorten(&meta.api_version)),
        );
    });
}

fn place(node: &Node, field: &str) -> Position {
    node.field(field).map_or(node.at, |field| field.at)
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl Decode for jiff::Timestamp {
    fn decode(node: &Node, context: &mut Context) -> Option<Self> {
        let text = String::decode(node, context)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            context.error(
                node.at,
                format!("must be a time such as 2026-01-31T12:00:00Z, not {:?}", shorten(&text)),
            );
        }
        parsed
    }
}

#[cfg(test)]
mod tests;
