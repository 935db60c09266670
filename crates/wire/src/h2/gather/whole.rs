//! The rules for a message as a whole, after its last field.

use crate::{
    BodyFraming, HeaderId, Reject,
    authority::Authority,
    h1::{
        ResponseTo, Scheme, TargetForm, Version,
        connection::is_upgrade,
        head::{Slot, Span},
    },
    reject::{Side, details},
    text::is_token,
};

use super::{
    super::{
        error::detail,
        hpack::{Origin, name::Pseudo},
    },
    Fault, GET, Gather, Kind, MAX_METHOD, append_line,
};

/// The authority read last on a connection, and the table entry it came by: most requests of a connection are for the
/// same one, which is then not taken apart again.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::h2) struct SeenAuthority {
    origin: Origin,
    host_length: u32,
    port: Option<u16>,
}

impl Gather<'_> {
    /// After the last field of a trailer section.
    pub fn finish_trailers(&mut self, text: &mut Vec<u8>) -> Result<(), Fault> {
        text.extend_from_slice(b"\r\n");
        self.state.fault.map_or(Ok(()), Err)
    }

    /// After the last field of a request. `end`: there is no body.
    pub fn finish_request(
        &mut self,
        text: &mut Vec<u8>,
        end: bool,
        seen: &mut SeenAuthority,
    ) -> Result<Option<u64>, Fault> {
        let fields = match self.state.fields {
            Some(fields) => fields,
            None => {
                let start = text.len();
                self.begin_fields(text, start);
                start
            }
        };
        if let Some(fault) = self.state.fault {
            return Err(fault);
        }
        let Kind::Request { extended } = self.kind else {
            return Err(Fault::Malformed("not a request"));
        };
        if self.storage.repeats(HeaderId::Cookie) {
            self.join_cookies(text);
        }
        let missing = Fault::Malformed("pseudo-header field missing");
        let method = self.span(Pseudo::Method).ok_or(missing)?;
        let protocol = self.span(Pseudo::Protocol);
        let connect = method.of(text) == b"CONNECT";
        if protocol.is_some() && !(connect && extended) {
            return Err(Fault::Malformed(":protocol without an extended CONNECT"));
        }
        if !is_token(method.of(text)) || method.length as usize > MAX_METHOD {
            return Err(Fault::Malformed(":method is no token"));
        }
        let line = &mut self.storage.line;
        line.version = Version::Http2;
        (line.start, line.fields) = (fields as u32, fields as u32);
        line.method = method;
        self.read_target(text, connect && protocol.is_none())?;
        self.read_authority(text, seen)?;
        self.read_expect(text, end)?;
        if let Some(protocol) = protocol {
            self.read_protocol(text, protocol)?;
        }
        let length = self.state.content_length.filter(|_| !connect);
        if end && length.is_some_and(|length| length > 0) {
            return Err(Fault::Malformed("content-length and no body"));
        }
        let line = &mut self.storage.line;
        line.framing = match length {
            _ if connect && protocol.is_none() => BodyFraming::Tunnel,
            _ if end || protocol.is_some() => BodyFraming::None,
            Some(0) => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        if let Some(protocol) = protocol {
            // RFC 8441 §5: what HTTP/1 calls an upgrade.
            line.method = Span { start: 0, length: GET.len() as u32 };
            self.add_upgrade(text, protocol);
        }
        self.end_head(text);
        Ok(length)
    }

    /// What a request is for, by its pseudo-header fields. `tunnel`: it is a CONNECT as HTTP/1 has it.
    #[inline]
    fn read_target(&mut self, text: &[u8], tunnel: bool) -> Result<(), Fault> {
        let missing = Fault::Malformed("pseudo-header field missing");
        let scheme = self.span(Pseudo::Scheme);
        let path = self.span(Pseudo::Path);
        let authority = self.span(Pseudo::Authority);
        let line = &mut self.storage.line;
        if tunnel {
            // RFC 9113 §8.5.
            if scheme.is_some() || path.is_some() {
                return Err(Fault::Malformed("CONNECT with :scheme or :path"));
            }
            (line.form, line.target) = (TargetForm::Authority, authority.ok_or(missing)?);
        } else {
            let (scheme, path) = (scheme.ok_or(missing)?, path.ok_or(missing)?);
            line.form = target_form(path.of(text), line.method.of(text))?;
            line.scheme = Scheme::parse(scheme.of(text));
            if line.scheme.is_none() {
                return Err(Fault::Rejected(Reject::malformed(Side::Request, detail::INVALID_SCHEME)));
            }
            (line.target, line.path) = (path, path);
        }
        Ok(())
    }

    /// What an extended CONNECT asks to switch to.
    fn read_protocol(&mut self, text: &[u8], protocol: Span) -> Result<(), Fault> {
        // RFC 9110 §9.3.6: what asks for a tunnel has no content. Envoy forgives a length of zero.
        if self.state.content_length.is_some_and(|length| length > 0) {
            return Err(Fault::Malformed("content-length in an extended CONNECT"));
        }
        self.storage.cut(HeaderId::ContentLength);
        if !is_upgrade(protocol.of(text)) {
            return Err(Fault::Rejected(Reject::unserved(501, detail::UNEXPECTED_UPGRADE)));
        }
        Ok(())
    }

    /// After the last field of a response. `protocol`: what an extended CONNECT asked for.
    pub fn finish_response(
        &mut self,
        text: &mut Vec<u8>,
        end: bool,
        to: ResponseTo,
        protocol: Option<&[u8]>,
    ) -> Result<Option<u64>, Fault> {
        let fields = self.state.fields.unwrap_or(text.len());
        if let Some(fault) = self.state.fault {
            return Err(fault);
        }
        let status = self.span(Pseudo::Status).ok_or(Fault::Malformed("pseudo-header field missing"))?;
        let status = match status.of(text) {
            &[hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                u16::from(hundreds - b'0') * 100 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0')
            }
            _ => return Err(Fault::Malformed(":status is no status")),
        };
        // RFC 9113 §8.6; and no message ends with an interim response (§8.1).
        if status == 101 || status < 200 && end {
            return Err(Fault::Malformed("interim response that can not be"));
        }
        let switched = protocol.filter(|_| (200..300).contains(&status));
        let tunnel = switched.is_some() || to.connect && (200..300).contains(&status);
        let mut length = self.state.content_length;
        if tunnel || status < 200 || status == 204 {
            if !tunnel && length.is_some_and(|length| length > 0) {
                return Err(Fault::Malformed("content-length where there is no body"));
            }
            self.storage.cut(HeaderId::ContentLength);
            length = None;
        }
        let no_body = to.head || matches!(status, 100..=199 | 204 | 304);
        if end && !no_body && length.is_some_and(|length| length > 0) {
            return Err(Fault::Malformed("content-length and no body"));
        }
        let line = &mut self.storage.line;
        line.version = Version::Http2;
        (line.start, line.fields) = (fields as u32, fields as u32);
        line.status = if switched.is_some() { 101 } else { status };
        line.framing = match length {
            _ if tunnel => BodyFraming::Tunnel,
            _ if no_body || end => BodyFraming::None,
            Some(0) => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        if let Some(protocol) = switched {
            let start = text.len();
            text.extend_from_slice(b"upgrade: ");
            let value = Span { start: text.len() as u32, length: protocol.len() as u32 };
            text.extend_from_slice(protocol);
            text.extend_from_slice(b"\r\n");
            self.mark_upgrade(start, value, text.len());
        }
        self.end_head(text);
        Ok(if no_body { Some(0) } else { length })
    }

    fn end_head(&mut self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"\r\n");
        self.storage.line.end = text.len() as u32;
    }

    fn add_upgrade(&mut self, text: &mut Vec<u8>, protocol: Span) {
        let start = text.len();
        let value = append_line(text, HeaderId::Upgrade, protocol);
        self.mark_upgrade(start, Span { start: value as u32, ..protocol }, text.len());
    }

    fn mark_upgrade(&mut self, start: usize, value: Span, end: usize) {
        let slot = self.storage.slots.len();
        self.push(HeaderId::Upgrade, start, HeaderId::Upgrade.name().len(), value, end, 0);
        self.storage.line.upgrade = u8::try_from(slot).ok();
    }

    fn read_authority(&mut self, text: &[u8], seen: &mut SeenAuthority) -> Result<(), Fault> {
        let host = self.storage.known(HeaderId::Host).and_then(|slot| self.storage.slots.get(slot));
        let (span, serial) = host.map(|slot| (slot.value, slot.serial)).unwrap_or_default();
        if span.length == 0 {
            return Err(Fault::Rejected(Reject::unserved(400, details::MISSING_HOST)));
        }
        let origin = Origin { decoder: self.storage.decoder, serial };
        if serial == 0 || seen.origin != origin {
            let Some(authority) = Authority::parse(span.of(text)) else {
                return Err(Fault::Rejected(Reject::malformed(Side::Request, details::INVALID_AUTHORITY)));
            };
            *seen = SeenAuthority { origin, host_length: authority.host.len() as u32, port: authority.port };
        }
        let line = &mut self.storage.line;
        if line.form == TargetForm::Authority && seen.port.is_none() {
            return Err(Fault::Malformed("CONNECT without a port"));
        }
        line.authority = span;
        (line.host_length, line.port) = (seen.host_length, seen.port);
        Ok(())
    }

    fn read_expect(&mut self, text: &[u8], end: bool) -> Result<(), Fault> {
        let Some(slot) = self.storage.known(HeaderId::Expect) else { return Ok(()) };
        if self.storage.repeats(HeaderId::Expect)
            || !self.storage.value(slot, text).eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Fault::Rejected(Reject::unserved(417, details::EXPECTATION_FAILED)));
        }
        self.storage.line.expect_continue = !end;
        Ok(())
    }

    /// RFC 9113 §8.2.3: crumbs become one field before anyone else sees them.
    fn join_cookies(&mut self, text: &mut Vec<u8>) {
        let start = text.len();
        text.extend_from_slice(HeaderId::Cookie.name().as_bytes());
        text.extend_from_slice(b": ");
        let value = text.len();
        let (mut sensitive, mut recurring) = (false, true);
        for (at, slot) in self.storage.slots.iter().enumerate() {
            if slot.id == HeaderId::Cookie {
                if text.len() > value {
                    text.extend_from_slice(b"; ");
                }
                let crumb = slot.value.start as usize..(slot.value.start + slot.value.length) as usize;
                text.extend_from_within(crumb);
                sensitive |= self.storage.sensitive.has(at);
                recurring &= self.storage.recurring.has(at);
            }
        }
        let length = text.len() - value;
        text.extend_from_slice(b"\r\n");
        let slot = self.storage.slots.len();
        if sensitive {
            self.storage.sensitive.insert(slot);
        } else if recurring {
            self.storage.recurring.insert(slot);
        }
        self.storage.replace(Slot {
            name: Span { start: start as u32, length: HeaderId::Cookie.name().len() as u32 },
            value: Span { start: value as u32, length: length as u32 },
            end: text.len() as u32,
            id: HeaderId::Cookie,
            hidden: false,
            serial: 0,
        });
    }
}

/// RFC 9113 §8.3.1: visible ASCII that begins with a slash, without a fragment; or the asterisk of OPTIONS.
fn target_form(path: &[u8], method: &[u8]) -> Result<TargetForm, Fault> {
    let bad = path.iter().fold(false, |bad, byte| bad | !(0x21..=0x7e).contains(byte) | (*byte == b'#'));
    match path {
        [b'/', ..] if !bad => Ok(TargetForm::Origin),
        b"*" if method == b"OPTIONS" => Ok(TargetForm::Asterisk),
        _ => Err(Fault::Malformed(":path is no path")),
    }
}
