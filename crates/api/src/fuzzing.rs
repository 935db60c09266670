//! Entry points for fuzzers: any bytes in, no panic, and what must hold of every input.

use crate::{Options, Problem, Spec, hosts, parse_documents, parse_mesh_config, parse_mesh_document};

/// Documents of any kind: every object can tell its places, every problem is placed and prints on one line.
pub fn documents(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = parse_documents("fuzz.yaml", &text, &Options::default());
    for object in &parsed.objects {
        assert!(object.source.line > 0, "an object stands somewhere");
        assert!(object.position("spec.http[0].match[1].uri").line > 0, "every path has a nearest place");
        assert_eq!(object.content_hash(), object.clone().content_hash());
    }
    for problem in &parsed.problems {
        assert!(problem.line > 0 && problem.column > 0, "{problem}");
        assert!(!problem.to_string().contains('\n'), "{problem:?}");
    }
}

/// A mesh configuration.
pub fn mesh_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (config, problems) = parse_mesh_config("fuzz.yaml", &text, &Options::default());
    let parsed = parse_mesh_document("fuzz.yaml", &text, &Options::default());
    assert_eq!(parsed.problems, problems, "one reading, two forms");
    for object in &parsed.objects {
        assert!(!problems.iter().any(Problem::is_error), "{problems:?}");
        assert_eq!(object.namespace(), object.meta.identity().namespace);
        assert_eq!(object.spec, Spec::MeshConfig(Box::new(config.clone())));
    }
}

/// Two host names: a subset overlaps, and whatever is a subset both ways is equal.
pub fn host_names(left: &str, right: &str) {
    if hosts::is_subset(left, right) {
        assert!(hosts::matches(left, right), "{left:?} within {right:?}");
        if hosts::is_subset(right, left) {
            assert_eq!(left, right);
        }
    }
    assert_eq!(hosts::matches(left, right), hosts::matches(right, left));
    assert_eq!(hosts::more_specific(left, right), hosts::more_specific(right, left).reverse());
}
