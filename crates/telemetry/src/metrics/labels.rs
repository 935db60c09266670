//! A label set rendered as Prometheus text. The text is also the identity of the row.

/// `a="x",b="y"` under construction, values escaped and cut to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    text: String,
    value_limit: usize,
}

impl Labels {
    pub(crate) fn new(value_limit: usize) -> Labels {
        Labels { text: String::new(), value_limit }
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) -> &mut Labels {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(name);
        self.text.push_str("=\"");
        escape(&mut self.text, cut(value, self.value_limit));
        self.text.push('"');
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// The longest prefix of at most `limit` bytes that ends between characters.
fn cut(value: &str, limit: usize) -> &str {
    let mut end = value.len().min(limit);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default()
}

/// Prometheus text format 0.0.4: backslash, double quote and line feed in label values.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_cut_between_characters() {
        let mut labels = Labels::new(7);
        labels.push("a", "q\"\\\n").push("b", "网格网格");
        assert_eq!(labels.as_str(), r#"a="q\"\\\n",b="网格""#);
    }
}
