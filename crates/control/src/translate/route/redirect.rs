//! Answers without an upstream.

use api::networking::{HttpBody, HttpDirectResponse, HttpRedirect, RedirectPort};
use xds::core::{DataSource, data_source};
use xds::route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use xds::route::route::Action;
use xds::route::{DirectResponseAction, RedirectAction};

use super::Circumstances;

/// `None` for a status no redirect can have.
pub fn redirect(redirect: &HttpRedirect, at: &Circumstances<'_>) -> Option<Action> {
    let status = match redirect.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return None,
    };
    let scheme = match (redirect.scheme.as_str(), at.is_tls) {
        ("", true) => "https",
        ("", false) => "http",
        (scheme, _) => scheme,
    };
    let port = match (redirect.port, redirect.derive_port) {
        (Some(port), _) => port,
        // Routes are made for one port, so that is the request's.
        (None, Some(RedirectPort::FromRequestPort)) => at.port,
        (None, _) => 0,
    };
    let port = match (port, scheme) {
        (80, "http") | (443, "https") => 0,
        (port, _) => port,
    };
    let path = if redirect.prefix_rewrite.is_empty() {
        PathRewriteSpecifier::PathRedirect(redirect.uri.clone())
    } else {
        PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone())
    };
    Some(Action::Redirect(RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: port,
        scheme_rewrite_specifier: (!redirect.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(redirect.scheme.clone())),
        path_rewrite_specifier: Some(path),
        response_code: status as i32,
        ..Default::default()
    }))
}

pub fn direct_response(response: &HttpDirectResponse) -> Action {
    let specifier = match &response.body {
        None | Some(HttpBody::None) => None,
        Some(HttpBody::String(text)) => Some(data_source::Specifier::InlineString(text.clone())),
        Some(HttpBody::Bytes(bytes)) => Some(data_source::Specifier::InlineBytes(bytes.clone())),
    };
    Action::DirectResponse(DirectResponseAction {
        status: response.status,
        body: specifier.map(|specifier| DataSource { specifier: Some(specifier), watched_directory: None }),
    })
}
