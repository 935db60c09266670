//! Queries read, JSON written.

/// Whether the query has `name=value` (or just `name`, for an empty value).
pub fn has(query: &str, name: &str, value: &str) -> bool {
    parameter(query, name).is_some_and(|found| found == value)
}

pub fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

pub fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
