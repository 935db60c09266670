//! The four forms of a request target (RFC 9112 §3.2).

use crate::{
    authority::Authority,
    header::starts_with_ignore_case,
    reject::{Reject, Side, details},
};

use super::{head::Span, head_view::Scheme};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path`: its authority wins over Host, which is rewritten.
    Absolute,
    /// `host:port`, CONNECT only.
    Authority,
    /// `*`, OPTIONS only.
    Asterisk,
}

/// A target taken apart; `authority` only where the form has one.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub form: TargetForm,
    pub path: &'a [u8],
    pub authority: Option<&'a [u8]>,
    /// Of an absolute target.
    pub scheme: Option<Scheme>,
}

impl<'a> Target<'a> {
    /// `secure`: [`super::Limits::secure`]; without it an `https://` target is refused as Envoy does.
    #[inline]
    pub fn parse(method: &[u8], target: &'a [u8], secure: bool) -> Result<Target<'a>, Reject> {
        const INVALID: Reject = Reject::malformed(Side::Request, details::INVALID_URL);
        // Visible ASCII only: what lies beyond is read differently by different servers (bad-inputs H-32).
        // Without an early end the compiler makes vectors of it.
        if target.iter().fold(false, |bad, byte| bad | !(0x21..=0x7e).contains(byte)) {
            return Err(INVALID);
        }
        if method == b"CONNECT" {
            return match Authority::parse(target) {
                Some(Authority { port: Some(_), .. }) => Ok(Target {
                    form: TargetForm::Authority,
                    path: b"",
                    authority: Some(target),
                    scheme: None,
                }),
                _ => Err(INVALID),
            };
        }
        match target {
            [b'/', ..] => {
                Ok(Target { form: TargetForm::Origin, path: target, authority: None, scheme: None })
            }
            b"*" if method == b"OPTIONS" => {
                Ok(Target { form: TargetForm::Asterisk, path: target, authority: None, scheme: None })
            }
            _ => {
                let (scheme, rest) = if starts_with_ignore_case(target, b"http://") {
                    (Scheme::Http, target.get(b"http://".len()..))
                } else if starts_with_ignore_case(target, b"https://") {
                    if !secure {
                        return Err(Reject::with_status(Side::Request, 403, details::HTTPS_ON_PLAINTEXT));
                    }
                    (Scheme::Https, target.get(b"https://".len()..))
                } else {
                    return Err(INVALID);
                };
                let rest = rest.unwrap_or_default();
                let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                // A query without a path can not be forwarded in origin form as it stands.
                if !matches!(path, [] | [b'/', ..]) {
                    return Err(INVALID);
                }
                Ok(Target {
                    form: TargetForm::Absolute,
                    path,
                    authority: Some(authority),
                    scheme: Some(scheme),
                })
            }
        }
    }
}

impl Target<'_> {
    pub fn path_span(&self, base: usize) -> Span {
        Span::within(base, self.path)
    }
}
