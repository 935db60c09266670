use super::*;

fn documents(text: &str) -> Vec<Result<Node, SyntaxError>> {
    load(text, Limits::default())
}

fn one(text: &str) -> Node {
    documents(text).remove(0).expect("a good document")
}

fn error(text: &str) -> SyntaxError {
    documents(text).remove(0).expect_err("a bad document")
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

#[test]
fn places_count_from_one_in_characters() {
    let node = one("\u{feff}名字: 页面\r\nspec:\r\n  hosts: [a, 二, c]\r\n");
    assert_eq!(node.field("名字").map(|node| node.at), Some(at(1, 5)));
    let hosts = node.field("spec").and_then(|spec| spec.field("hosts")).expect("hosts");
    let places: Vec<_> = hosts.items().expect("a list").iter().map(|item| item.at).collect();
    assert_eq!(places, [at(3, 11), at(3, 14), at(3, 17)]);
}

#[test]
fn a_bad_document_leaves_the_others() {
    let read = documents("a: 1\n---\nb: [1\n---\nc: 3\n---\n# nothing\n---\n\"d: 4\n--- {e: 5}\n...\nf: 6\n");
    let summary: Vec<_> = read
        .iter()
        .map(|document| match document {
            Ok(node) => format!("ok {}", node.at.line),
            Err(error) => format!("error {}", error.at.line),
        })
        .collect();
    assert_eq!(summary, ["ok 1", "error 4", "ok 5", "error 9", "ok 10", "ok 12"]);
}

#[test]
fn a_marker_inside_a_word_is_no_marker() {
    assert_eq!(documents("a: x\n----\n").len(), 1);
    assert_eq!(documents("a: |\n  ---\n  x\n").len(), 1);
}

#[test]
fn json_is_yaml() {
    let node = one("{\"a\": {\"b\": [1, 2.5, true, null, \"x\\/y\"]},\n\t\"c\": \"\\u9875\"}");
    let list = node.field("a").and_then(|a| a.field("b")).and_then(Node::items).expect("a list");
    let values: Vec<_> = list.iter().map(|item| item.value.clone()).collect();
    assert_eq!(
        values,
        [Value::Int(1), Value::Float(2.5), Value::Bool(true), Value::Null, Value::String("x/y".into())]
    );
    assert_eq!(node.field("c").and_then(Node::text), Some("页"));
}

#[test]
fn aliases_and_merges() {
    let node = one(
        "base: &base {a: 1, b: 2}\nuse: *base\nmore:\n  <<: *base\n  b: 3\nlist: &l [*base]\nagain: *l\n",
    );
    assert_eq!(
        node.field("use").and_then(|node| node.field("b")).map(|node| &node.value),
        Some(&Value::Int(2))
    );
    let more = node.field("more").expect("more");
    assert_eq!(more.field("a").map(|node| &node.value), Some(&Value::Int(1)));
    assert_eq!(more.field("b").map(|node| &node.value), Some(&Value::Int(3)));
    assert_eq!(more.entries().map(<[_]>::len), Some(2));
}

#[test]
fn what_is_refused_is_named() {
    for (text, line, message) in [
        ("a: 1\nb: 2\na: 3\n", 3, "the key \"a\" is there twice"),
        ("a: &x [*x]\n", 1, "the alias names a value that contains it"),
        ("a: !custom 1\n", 1, "the tag !custom is not supported"),
        ("a: !!int x\n", 1, "\"x\" is not what its tag says"),
        ("? [a]\n: b\n", 1, "a key must be a word, not a list, mapping or null"),
        ("<<: 5\n", 1, "only a mapping or a list of mappings can be merged with <<"),
    ] {
        let error = error(text);
        assert_eq!((error.at.line, error.message.as_str()), (line, message), "{text:?}");
    }
}

#[test]
fn keys_that_are_no_strings_become_text() {
    let node = one("80: a\ntrue: b\n1.50: c\n");
    let names: Vec<_> = node.entries().expect("a mapping").iter().map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(names, ["80", "true", "1.50"]);
}

#[test]
fn depth_is_limited() {
    assert!(error(&"[".repeat(200)).message.starts_with("nested deeper"));
    let deep = format!("{}{}", "[".repeat(99), "]".repeat(99));
    assert!(documents(&deep)[0].is_ok());
}

/// The "billion laughs": 9 levels of 9 aliases.
#[test]
fn alias_bombs_are_limited() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    assert!(error(&text).message.starts_with("anchors and aliases make more than"));
}

/// Beyond YAML 1.2, as libyaml and so kubectl take it.
#[test]
fn flow_collections_may_be_indented_less() {
    let node = one("spec:\n  args: [\n    a,\n  b,\n  ]\n  more: {\nx: 1\n}\n  last: 5\n");
    let spec = node.field("spec").expect("spec");
    let args = spec.field("args").and_then(Node::items).expect("a list");
    assert_eq!(args.iter().map(|item| item.at).collect::<Vec<_>>(), [at(3, 5), at(4, 3)]);
    assert_eq!(spec.field("more").and_then(|more| more.field("x")).map(|x| x.at), Some(at(7, 4)));
    assert_eq!(spec.field("last").map(|last| last.at), Some(at(9, 9)));
    assert!(documents("a:\n    b: 1\n  c: 2\n")[0].is_err());
}

/// Beyond YAML 1.2 again: a colon before a bracket or comma belongs to the word.
#[test]
fn addresses_in_brackets() {
    let node = one("a: [::1, 2001:db8::, fe80::]\nb: [c: , {d:}]\ne:\n- f:\n- g:");
    let words = |name: &str| -> Vec<Option<String>> {
        let items = node.field(name).and_then(Node::items).expect("a list");
        items.iter().map(|item| item.text().map(str::to_owned)).collect()
    };
    assert_eq!(words("a"), [Some("::1".into()), Some("2001:db8::".into()), Some("fe80::".into())]);
    assert_eq!(words("b"), [None, None]);
    assert_eq!(words("e"), [None, None]);
}
