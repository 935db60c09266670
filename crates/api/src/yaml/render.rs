//! JSON values as block YAML: what `-o yaml` prints and `apply` stores.
use serde_json::Value;

/// The document as YAML that any YAML 1.1 or 1.2 reader reads back as the same value.
pub fn render(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    pad(indent, out);
                }
                scalar_text(key, out);
                out.push(':');
                child(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(indent, out);
                }
                out.push_str("- ");
                if is_block(item) {
                    block(item, indent + 2, out);
                } else {
                    scalar(item, out);
                    out.push('\n');
                }
            }
        }
        other => {
            scalar(other, out);
            out.push('\n');
        }
    }
}

fn child(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        // kubectl's style: a list stands at the indent of its key.
        let deeper = if value.is_array() { indent } else { indent + 2 };
        pad(deeper, out);
        block(value, deeper, out);
    } else {
        out.push(' ');
        scalar(value, out);
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => scalar_text(text, out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

/// JSON's quotes; characters that YAML does not take as they are (§5.1, C1 controls and separators of lines) are escaped.
fn quoted(text: &str, out: &mut String) {
    for character in Value::String(text.to_owned()).to_string().chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
}

/// Plain where no reader can take it for anything but this string, else JSON's quotes (valid YAML).
fn scalar_text(text: &str, out: &mut String) {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let word = text.to_ascii_lowercase();
    let taken = matches!(
        word.as_str(),
        "" | "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "nan" | "inf"
    );
    let plain = !taken
        && text.chars().all(safe)
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with('-');
    if plain {
        out.push_str(text);
    } else {
        quoted(text, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_lists_maps_and_dangerous_strings() {
        let value = serde_json::json!({
            "kind": "VirtualService", "on": "yes", "number": "12",
            "spec": {"http": [{"route": [{"weight": 5}], "empty": {}}], "hosts": ["*", "名"]},
        });
        let expected = "kind: VirtualService\n\"on\": \"yes\"\nnumber: \"12\"\nspec:\n  http:\n  - route:\n    - weight: 5\n    empty: {}\n  hosts:\n  - \"*\"\n  - \"名\"\n";
        assert_eq!(render(&value), expected);
    }
}
