//! The canonical request path: computed once, used by the router, the policies, the external filters and the
//! upstream alike, so that none of them can be led to read another path than the others.
//!
//! Istio's four modes (`MeshConfig.pathNormalization`) are combinations of Envoy's three settings. The steps, in
//! Envoy's order: the fragment goes (Istio strips it, Envoy by itself answers 400); `%2F` and `%5C` are decoded (only in
//! the decode mode); dot segments lose their parameters (`..;x` is `..`, as some servers read it); unreserved escapes
//! are decoded, what has no place in a URL is escaped, `\` becomes `/`, dot segments are removed (RFC 3986 §5.2.4,
//! §6.2.2.2); slashes are merged. Nothing is decoded twice, every other escape stays as sent, the query is never
//! touched. Each measured with Envoy 1.40.

use std::borrow::Cow;

use crate::{
    reject::{Reject, details},
    text::{hex_digit, hex_value},
};

/// What to do to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalization {
    /// Envoy's `normalize_path`.
    pub normalize: bool,
    /// Envoy's `merge_slashes`.
    pub merge_slashes: bool,
    /// Envoy's `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// What a fragment is, which no client should send.
    pub fragment: Fragment,
}

/// What is done about a `#` and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Istio's choice: it runs Envoy with `http_reject_path_with_fragment` off.
    Strip,
    /// 400 `path_normalization_failed`, Envoy's own.
    Reject,
}

/// What `%2F` and `%5C` in a path are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapedSlashes {
    Keep,
    /// 400 `path_normalization_failed`.
    Reject,
    UnescapeAndForward,
    /// 307 to the unescaped path; see [`Canonical::redirect`].
    UnescapeAndRedirect,
}

impl Normalization {
    pub const NONE: Normalization = Normalization {
        normalize: false,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        fragment: Fragment::Strip,
    };
    /// Istio's default.
    pub const BASE: Normalization = Normalization { normalize: true, ..Normalization::NONE };
    pub const MERGE_SLASHES: Normalization = Normalization { merge_slashes: true, ..Normalization::BASE };
    pub const DECODE_AND_MERGE_SLASHES: Normalization =
        Normalization { escaped_slashes: EscapedSlashes::UnescapeAndForward, ..Normalization::MERGE_SLASHES };
}

/// A canonical path with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// Path and query without fragment: the target to send upstream. Borrowed when it is a prefix of the input.
    pub target: Cow<'a, [u8]>,
    path_length: usize,
    /// The path held escaped slashes and the setting asks to send the client to this target instead.
    pub redirect: bool,
}

impl Canonical<'_> {
    /// Without the query: what routes and policies match on.
    #[inline]
    pub fn path(&self) -> &[u8] {
        self.target.get(..self.path_length).unwrap_or_default()
    }

    /// After the `?`, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        self.target.get(self.path_length + 1..)
    }
}

/// Makes `target` (a path with or without query and fragment) canonical. `*` and the empty target of a CONNECT
/// pass unchanged.
///
/// Refuses (400 `path_normalization_failed`), when it normalizes at all: `%00`, a `%` that begins no escape
/// (Envoy keeps it; `%uXXXX` is kept here too), a dot segment with parameters that another step brought about
/// (`%2e%2e;`, which Envoy forwards as `..;`: who makes that canonical again finds another path), and escaped slashes
/// where the setting says so.
#[inline]
pub fn canonicalize(target: &[u8], how: Normalization) -> Result<Canonical<'_>, Reject> {
    let mut path_length = target.len();
    let mut end = target.len();
    let mut special = false;
    let mut previous = 0;
    for (at, byte) in target.iter().enumerate() {
        match byte {
            b'?' | b'#' => {
                path_length = at;
                let rest = target.get(at..).unwrap_or_default();
                end = memchr::memchr(b'#', rest).map_or(end, |hash| at + hash);
                break;
            }
            b'%' | b'\\' => special = true,
            b'.' if previous == b'/' => special = true,
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => special |= how.normalize,
            b'/' if previous == b'/' => special |= how.merge_slashes,
            _ => {}
        }
        previous = *byte;
    }
    if end < target.len() && how.fragment == Fragment::Reject {
        return Err(FAILED);
    }
    let kept = target.get(..end).unwrap_or_default();
    let as_sent = Canonical { target: Cow::Borrowed(kept), path_length, redirect: false };
    if !special || how == Normalization::NONE || target.first() != Some(&b'/') {
        return Ok(as_sent);
    }
    normalize(as_sent, how)
}

#[inline(never)]
fn normalize(sent: Canonical<'_>, how: Normalization) -> Result<Canonical<'_>, Reject> {
    let path = sent.path();
    let (mut out, unescaped) = unescape_slashes(path, how.escaped_slashes)?;
    if how.normalize {
        out = remove_dot_segments(&decode(&without_parameters(&out))?)?;
    }
    if how.merge_slashes {
        out.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    }
    let redirect = unescaped && how.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
    if out == path {
        return Ok(Canonical { redirect, ..sent });
    }
    let path_length = out.len();
    out.extend_from_slice(sent.target.get(sent.path_length..).unwrap_or_default());
    Ok(Canonical { target: Cow::Owned(out), path_length, redirect })
}

const FAILED: Reject = Reject::unserved(400, details::PATH_NORMALIZATION_FAILED);

/// Decodes `%2F` and `%5C` where that is asked for; says whether there was one.
fn unescape_slashes(path: &[u8], how: EscapedSlashes) -> Result<(Vec<u8>, bool), Reject> {
    let mut out = Vec::with_capacity(path.len());
    let mut unescaped = false;
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let slash = match rest {
            _ if how == EscapedSlashes::Keep => None,
            [b'%', b'2', b'f' | b'F', after @ ..] => Some((b'/', after)),
            [b'%', b'5', b'c' | b'C', after @ ..] => Some((b'\\', after)),
            _ => None,
        };
        if slash.is_some() && how == EscapedSlashes::Reject {
            return Err(FAILED);
        }
        unescaped |= slash.is_some();
        let (byte, after) = slash.unwrap_or((byte, after));
        out.push(byte);
        rest = after;
    }
    Ok((out, unescaped))
}

/// Dot segments as sent, without what a `;` begins in them.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (number, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if number > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(dots_with_parameters(segment).unwrap_or(segment));
    }
    out
}

/// The dots of `.;x` and `..;x`.
fn dots_with_parameters(segment: &[u8]) -> Option<&[u8]> {
    match segment {
        [b'.', b';', ..] => segment.get(..1),
        [b'.', b'.', b';', ..] => segment.get(..2),
        _ => None,
    }
}

/// Decodes the escapes of unreserved characters, once; escapes what has no place in a URL, and turns `\`.
fn decode(path: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => out.push(b'/'),
            b'%' => {
                let escape = match rest {
                    [high, low, after @ ..] => {
                        hex_value(*high).zip(hex_value(*low)).map(|value| (value, after))
                    }
                    _ => None,
                };
                match escape {
                    None if is_wide_escape(rest) => out.push(byte),
                    None | Some(((0, 0), _)) => return Err(FAILED),
                    Some(((high, low), after)) if is_unreserved(high << 4 | low) => {
                        out.push(high << 4 | low);
                        rest = after;
                    }
                    Some((_, after)) => {
                        out.push(byte);
                        out.extend_from_slice(rest.get(..2).unwrap_or_default());
                        rest = after;
                    }
                }
            }
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                let digit = |nibble: u8| hex_digit(nibble).to_ascii_uppercase();
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    Ok(out)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `uXXXX` after a `%`: an escape of one vendor's, which Istio's tests want kept as it is.
fn is_wide_escape(text: &[u8]) -> bool {
    matches!(text, [b'u', digits @ ..] if digits.len() >= 4
        && digits.iter().take(4).all(u8::is_ascii_hexdigit))
}

/// RFC 3986 §5.2.4 for a path that begins with a slash.
fn remove_dot_segments(path: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    out.truncate(memchr::memrchr(b'/', &out).unwrap_or(0));
                }
                if last {
                    out.push(b'/');
                }
            }
            _ if dots_with_parameters(segment).is_some() => return Err(FAILED),
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
