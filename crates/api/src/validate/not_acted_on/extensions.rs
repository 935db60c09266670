//! WasmPlugin and TrafficExtension.

use std::collections::BTreeSet;

use super::check_targets;
use crate::extensions::{EnvironmentSource, TrafficExtension, TrafficSelector, VmConfig, WasmPlugin};
use crate::validate::rules::Rules;
use crate::validate::values;
use crate::yaml::shorten;

pub(super) fn check_plugin(plugin: &WasmPlugin, rules: &mut Rules<'_, '_>) {
    check_targets(plugin.selector.as_ref(), plugin.target_ref.as_ref(), &plugin.target_refs, rules);
    rules.require_field("url", module_url(&plugin.url));
    rules.require_field("sha256", checksum(&plugin.sha256));
    check_lengths(plugin.image_pull_secret.as_deref(), plugin.plugin_name.as_deref(), rules);
    rules.optional("vmConfig", plugin.vm_config.as_ref(), check_environment);
    rules.items("match", &plugin.matches, check_match);
}

pub(super) fn check_extension(extension: &TrafficExtension, rules: &mut Rules<'_, '_>) {
    check_targets(extension.selector.as_ref(), None, &extension.target_refs, rules);
    if extension.wasm.is_some() == extension.lua.is_some() {
        rules.error("exactly one of wasm and lua is required");
    }
    rules.optional("wasm", extension.wasm.as_ref(), |rules, wasm| {
        rules.require_field("url", module_url(&wasm.url));
        rules.require_field("sha256", checksum(&wasm.sha256));
        check_lengths(wasm.image_pull_secret.as_deref(), wasm.plugin_name.as_deref(), rules);
        rules.optional("vmConfig", wasm.vm_config.as_ref(), check_environment);
    });
    rules.optional("lua", extension.lua.as_ref(), |rules, lua| {
        if lua.inline_code.is_empty() || lua.inline_code.len() > 65_536 {
            rules.field_error("inlineCode", "must have 1 to 65536 characters");
        }
    });
    rules.items("match", &extension.matches, check_match);
}

/// Without a scheme it is an OCI image.
fn module_url(url: &str) -> Result<(), String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        _ if url.is_empty() => Err("must not be empty".into()),
        None | Some("http" | "https" | "file" | "oci") => Ok(()),
        Some(other) => Err(format!("the scheme must be http, https, file or oci, not {:?}", shorten(other))),
    }
}

fn checksum(text: &str) -> Result<(), String> {
    let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.is_empty() || (text.len() == 64 && hex) {
        return Ok(());
    }
    Err(format!("must be 64 digits 0-9 and a-f, not {:?}", shorten(text)))
}

fn check_lengths(secret: Option<&str>, name: Option<&str>, rules: &mut Rules<'_, '_>) {
    for (field, text, limit) in [("imagePullSecret", secret, 253), ("pluginName", name, 256)] {
        if text.is_some_and(|text| text.is_empty() || text.len() > limit) {
            rules.field_error(field, format!("must have 1 to {limit} characters"));
        }
    }
}

fn check_environment(rules: &mut Rules<'_, '_>, config: &VmConfig) {
    if config.env.len() > 256 {
        rules.field_error("env", "must not have more than 256 entries");
    }
    let mut seen = BTreeSet::new();
    rules.items("env", &config.env, |rules, variable| {
        if variable.name.is_empty() || variable.name.len() > 256 {
            rules.field_error("name", "must have 1 to 256 characters");
        } else if !seen.insert(&variable.name) {
            rules.field_error("name", format!("{:?} is there twice", shorten(&variable.name)));
        }
        if variable.value_from == EnvironmentSource::Host && !variable.value.is_empty() {
            rules.field_error("value", "must not be set with valueFrom HOST");
        }
        if variable.value.len() > 2048 {
            rules.field_error("value", "must not be longer than 2048 characters");
        }
    });
}

fn check_match(rules: &mut Rules<'_, '_>, selector: &TrafficSelector) {
    let mut seen = BTreeSet::new();
    rules.items("ports", &selector.ports, |rules, port| {
        rules.require_field("number", values::port(port.number));
        if !seen.insert(port.number) {
            rules.field_error("number", format!("{} is there twice", port.number));
        }
    });
}
