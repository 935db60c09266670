//! Kinds that nothing acts on yet are judged all the same: `kubectl apply` would refuse a broken one, and so must we.

mod authorization_policy;
mod extensions;
mod gateway_api;
mod request_authentication;
mod telemetry;

use super::rules::Rules;
use super::{selectors, values};
use crate::decode::{Context, Decode};
use crate::extensions::{TrafficExtension, WasmPlugin};
use crate::networking::{EnvoyContext, EnvoyFilter, PolicySelector, ProxyConfigResource, TargetReference};
use crate::object::Object;
use crate::security::{AuthorizationPolicy, RequestAuthentication};
use crate::telemetry::Telemetry;
use crate::yaml::{Node, Value};

/// Reads and checks a document of one of these kinds; leaves any other alone.
pub(crate) fn check(object: &Object, document: &Node, context: &mut Context) {
    let group = crate::kinds::split(&object.meta.api_version).0;
    match (group, object.meta.kind.as_str()) {
        ("security.istio.io", "AuthorizationPolicy") => {
            judge(document, context, |policy: &AuthorizationPolicy, rules| {
                authorization_policy::check(policy, object, rules);
            })
        }
        ("security.istio.io", "RequestAuthentication") => {
            judge(document, context, |policy: &RequestAuthentication, rules| {
                request_authentication::check(policy, rules);
            })
        }
        ("telemetry.istio.io", "Telemetry") => judge(document, context, |telemetry: &Telemetry, rules| {
            telemetry::check(telemetry, rules);
        }),
        ("extensions.istio.io", "WasmPlugin") => judge(document, context, |plugin: &WasmPlugin, rules| {
            extensions::check_plugin(plugin, rules);
        }),
        ("extensions.istio.io", "TrafficExtension") => {
            judge(document, context, |extension: &TrafficExtension, rules| {
                extensions::check_extension(extension, rules);
            })
        }
        ("gateway.networking.k8s.io", "Gateway") => judge(document, context, gateway_api::check_gateway),
        ("gateway.networking.k8s.io", "HTTPRoute") => judge(document, context, gateway_api::check_http_route),
        ("gateway.networking.k8s.io", "ReferenceGrant") => {
            judge(document, context, gateway_api::check_reference_grant)
        }
        ("networking.istio.io", "ProxyConfig") => judge(document, context, check_proxy_config),
        ("networking.istio.io", "EnvoyFilter") => judge(document, context, check_envoy_filter),
        _ => {}
    }
}

fn judge<T: Decode>(document: &Node, context: &mut Context, check: impl FnOnce(&T, &mut Rules<'_, '_>)) {
    let empty = Node { at: document.at, value: Value::Mapping(Vec::new()) };
    let spec = document.field("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty);
    let decoded = context.in_field("spec", |context| T::decode(spec, context));
    if let Some(decoded) = decoded {
        let mut judged = Context::default();
        Rules::new(document, &mut judged).field("spec", |rules| check(&decoded, rules));
        context.adopt_unrelated(judged);
    }
}

/// By labels, or by what they are attached to.
fn check_targets(
    selector: Option<&PolicySelector>,
    one: Option<&TargetReference>,
    several: &[TargetReference],
    rules: &mut Rules<'_, '_>,
) {
    selectors::policy("selector", selector, rules);
    let ways = [selector.is_some(), one.is_some(), !several.is_empty()];
    if ways.into_iter().filter(|set| *set).count() > 1 {
        rules.error("only one of selector, targetRef and targetRefs may be set");
    }
    if several.len() > 16 {
        rules.field_error("targetRefs", "must not have more than 16 entries");
    }
    rules.optional("targetRef", one, check_target);
    rules.items("targetRefs", several, check_target);
}

fn check_target(rules: &mut Rules<'_, '_>, target: &TargetReference) {
    const TARGETS: &[(&str, &str)] = &[
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    ];
    if target.name.is_empty() {
        rules.field_error("name", "must not be empty");
    }
    if !target.namespace.is_empty() {
        rules.field_error("namespace", "must not be set: the target is in the policy's own namespace");
    }
    if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
        rules.error(format!(
            "must be a Service, networking.istio.io/ServiceEntry, gateway.networking.k8s.io/Gateway or GatewayClass, not {}/{}",
            target.group, target.kind
        ));
    }
}

/// Reports empty words of a list.
fn no_empty_words(name: &str, words: &[String], rules: &mut Rules<'_, '_>) {
    rules.items(name, words, |rules, word| {
        if word.is_empty() {
            rules.error("must not be empty");
        }
    });
}

fn check_proxy_config(config: &ProxyConfigResource, rules: &mut Rules<'_, '_>) {
    selectors::policy("selector", config.selector.as_ref(), rules);
    values::not_negative("concurrency", config.concurrency.unwrap_or(0), rules);
}

fn check_envoy_filter(filter: &EnvoyFilter, rules: &mut Rules<'_, '_>) {
    rules.warning("changes Envoy's own configuration, which other proxies do not have and Envoy may change");
    selectors::workload(filter.workload_selector.as_ref(), rules);
    if filter.workload_selector.is_some() && !filter.target_refs.is_empty() {
        rules.error("only one of workloadSelector and targetRefs may be set");
    }
    rules.items("targetRefs", &filter.target_refs, check_target);
    rules.items("configPatches", &filter.config_patches, |rules, patch| {
        rules.optional("match", patch.matches.as_ref(), |rules, matches| {
            if (matches.context == EnvoyContext::Waypoint) != matches.waypoint.is_some() {
                rules.error("waypoint and context WAYPOINT go together");
            }
            if let Some(port) = matches.waypoint.as_ref().and_then(|waypoint| waypoint.port_number) {
                rules.field("waypoint", |rules| rules.require_field("portNumber", values::port(port)));
            }
        });
    });
}
