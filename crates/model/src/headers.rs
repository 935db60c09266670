//! What configuration does to the headers of a request or a response, level by level.
use std::sync::Arc;

use serde::Serialize;
use xds::core::header_value_option::HeaderAppendAction;

use crate::refusal::{At, Compiled};
use crate::template::Template;

/// One level's changes: first what is removed, then what is set, each in its order (Envoy's
/// `HeaderParser::evaluateHeaders`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HeaderPlan {
    /// Lower-case names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderSet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderSet {
    /// Lower case; `:authority` (also written `host`) and `:path` are the request's own.
    pub name: Arc<str>,
    pub value: Template,
    pub how: HowSet,
    /// Set it even if the value comes out empty.
    pub keep_empty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HowSet {
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfPresent,
}

impl HeaderPlan {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }

    pub(crate) fn compile(
        side: &str,
        add: &[xds::core::HeaderValueOption],
        remove: &[String],
    ) -> Compiled<HeaderPlan> {
        let mut plan = HeaderPlan::default();
        for (i, name) in remove.iter().enumerate() {
            let name = header_name(name).at_index(&format!("{side}_headers_to_remove"), i)?;
            // Envoy: neither a pseudo header nor Host may be removed.
            if name.starts_with(':') || &*name == "host" {
                return refuse!("{name:?} may not be removed")
                    .at_index(&format!("{side}_headers_to_remove"), i);
            }
            plan.remove.push(name);
        }
        for (i, option) in add.iter().enumerate() {
            plan.set.push(HeaderSet::compile(option).at_index(&format!("{side}_headers_to_add"), i)?);
        }
        Ok(plan)
    }
}

impl HeaderSet {
    fn compile(option: &xds::core::HeaderValueOption) -> Compiled<HeaderSet> {
        let Some(header) = &option.header else { return refuse!("header is required") };
        let name = header_name(&header.key).at("header.key")?;
        let name = if &*name == "host" { ":authority".into() } else { name };
        if name.starts_with(':') && !matches!(&*name, ":authority" | ":path") {
            return refuse!("{name:?} may not be set").at("header.key");
        }
        let raw = std::str::from_utf8(&header.raw_value);
        let value = match (header.value.as_str(), raw) {
            ("", Ok(raw)) => Template::compile(raw).at("header.raw_value")?,
            ("", Err(_)) => return refuse!("must be UTF-8").at("header.raw_value"),
            (value, _) => Template::compile(value).at("header.value")?,
        };
        let how = match (option.append, option.append_action()) {
            // The older field, where it is set.
            (Some(false), HeaderAppendAction::AppendIfExistsOrAdd) => HowSet::Overwrite,
            (_, HeaderAppendAction::AppendIfExistsOrAdd) => HowSet::Append,
            (_, HeaderAppendAction::AddIfAbsent) => HowSet::AddIfAbsent,
            (_, HeaderAppendAction::OverwriteIfExistsOrAdd) => HowSet::Overwrite,
            (_, HeaderAppendAction::OverwriteIfExists) => HowSet::OverwriteIfPresent,
        };
        Ok(HeaderSet { name, value, how, keep_empty: option.keep_empty_value })
    }
}

/// A header's name as it goes on the wire: a token (RFC 9110 §5.6.2), lower case, perhaps with a `:` before.
fn header_name(name: &str) -> Compiled<Arc<str>> {
    let token = name.strip_prefix(':').unwrap_or(name);
    let good = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if token.is_empty() || !token.bytes().all(good) {
        return refuse!("{name:?} is no header name");
    }
    Ok(name.to_ascii_lowercase().into())
}

/// The changes of all levels in the order they are made.
#[derive(Debug, Clone, Copy)]
pub struct HeaderPlans<'t>(pub(crate) [Option<&'t HeaderPlan>; 4]);

impl<'t> HeaderPlans<'t> {
    /// Most specific first (weighted cluster, route, virtual host, route configuration), so that the least
    /// specific overwrites; the other way round with `most_specific_header_mutations_wins`.
    pub(crate) fn ordered(levels: [Option<&'t HeaderPlan>; 4], most_specific_wins: bool) -> HeaderPlans<'t> {
        let [split, route, host, table] = levels;
        HeaderPlans(if most_specific_wins {
            [table, host, route, split]
        } else {
            [split, route, host, table]
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &'t HeaderPlan> + use<'t> {
        self.0.into_iter().flatten().filter(|p| !p.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
