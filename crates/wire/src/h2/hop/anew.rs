//! The general case: lines are added, moved, or spelled with other white space.

use crate::{
    BodyFraming, HeaderId,
    h1::{
        HeadStorage, ResponseTo, Version,
        connection::is_upgrade,
        head::{Slot, SlotSet, Span},
    },
    text::{is_token, parse_decimal, push_u64, trim},
};

use super::{super::gather::PATH, DECLINED, is_declined};

/// The lines are written anew in their order, after the old ones, and take their place in the end.
/// Nothing is changed if the value does not fit.
pub(super) fn restore_anew(
    text: &mut Vec<u8>,
    storage: &mut HeadStorage,
    to: Option<ResponseTo>,
) -> Option<()> {
    let (end, slots) = (text.len(), storage.slots.len());
    let done = Anew::begin(text, storage, to).and_then(|mut anew| anew.lines());
    match done {
        Some(done) => done.take_place(text, storage, end, slots),
        None => {
            text.truncate(end);
            storage.slots.truncate(slots);
            return None;
        }
    }
    Some(())
}

impl Done {
    /// The new lines in the place of the old: those begin where the start line ends, these at `end` and `slots`.
    fn take_place(self, text: &mut Vec<u8>, storage: &mut HeadStorage, end: usize, slots: usize) {
        let place = (storage.line.fields as usize).min(end);
        text.copy_within(end.., place);
        text.truncate(text.len() - (end - place));
        let shift = (end - place) as u32;
        let moved = |span: Span| Span { start: span.start.saturating_sub(shift), ..span };
        storage.adopt(slots, self.sensitive, self.recurring);
        for slot in &mut storage.slots {
            (slot.name, slot.value, slot.end) = (moved(slot.name), moved(slot.value), slot.end - shift);
        }
        let line = &mut storage.line;
        (line.fields, line.end) = (self.fields as u32 - shift, text.len() as u32);
        line.start = if self.reason.is_some() { place as u32 } else { line.fields };
        line.reason = self.reason.map(moved).unwrap_or_default();
        line.version = self.version.unwrap_or(line.version);
        line.status = self.status.unwrap_or(line.status);
        line.method = self.method.map_or(line.method, moved);
        line.authority = self.authority.map_or(line.authority, moved);
        line.upgrade = self.upgrade.and_then(|at| u8::try_from(at).ok());
    }
}

struct Anew<'a> {
    text: &'a mut Vec<u8>,
    storage: &'a mut HeadStorage,
    to: Option<ResponseTo>,
    /// The field's value, read from `at` on.
    value: Span,
    at: usize,
    /// The slots of old, and the next of them.
    slots: usize,
    next: usize,
    hop: usize,
    /// A Cookie put together of several, which are to be apart again.
    joined: Option<usize>,
    host: Option<usize>,
    upgrade: Option<usize>,
    coded: bool,
    done: Done,
}

/// What is known when the lines are written.
#[derive(Clone, Copy, Default)]
struct Done {
    version: Option<Version>,
    status: Option<u16>,
    /// Where it stands in the new text; its place there, and the slots' places, count from the beginning of the text.
    method: Option<Span>,
    reason: Option<Span>,
    fields: usize,
    authority: Option<Span>,
    upgrade: Option<usize>,
    sensitive: SlotSet,
    recurring: SlotSet,
}

/// One line of the value.
struct Spelled {
    name: Span,
    /// White space before and after the value, as letters.
    spaces: Option<(Span, Span)>,
    value: Option<Span>,
}

impl<'a> Anew<'a> {
    fn begin(
        text: &'a mut Vec<u8>,
        storage: &'a mut HeadStorage,
        to: Option<ResponseTo>,
    ) -> Option<Anew<'a>> {
        if storage.repeats(HeaderId::XFilameshHop) {
            return None;
        }
        let hop = storage.known(HeaderId::XFilameshHop)?;
        let value = storage.slots.get(hop)?.value;
        let apart = storage.slots.iter().any(|slot| slot.id == HeaderId::Cookie && slot.hidden);
        let joined = storage.known(HeaderId::Cookie).filter(|_| apart);
        let upgrade = storage.line.upgrade.map(usize::from);
        // The last of what was sent.
        let added = storage.slots.len() - 1 - hop;
        if added != usize::from(joined.is_some()) + usize::from(upgrade.is_some()) {
            return None;
        }
        let mut anew = Anew {
            value,
            at: value.start as usize,
            slots: storage.slots.len(),
            next: 0,
            hop,
            joined,
            host: storage.known(HeaderId::Host).filter(|_| to.is_none()),
            upgrade,
            coded: false,
            done: Done::default(),
            to,
            storage,
            text,
        };
        if anew.storage.recurring.has(PATH) {
            anew.done.recurring.insert(PATH);
        }
        Some(anew)
    }

    fn byte(&self) -> Option<u8> {
        let end = (self.value.start + self.value.length) as usize;
        (self.at < end).then(|| self.text.get(self.at).copied()).flatten()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.byte() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    /// The bytes from here on that are so.
    fn while_so(&mut self, so: impl Fn(u8) -> bool) -> Span {
        let start = self.at;
        while self.byte().is_some_and(&so) {
            self.at += 1;
        }
        Span { start: start as u32, length: (self.at - start) as u32 }
    }

    /// `length ":" bytes`
    fn counted(&mut self) -> Option<Span> {
        let digits = self.while_so(|byte| byte.is_ascii_digit());
        let length = parse_decimal(digits.of(self.text)).filter(|_| self.take(b':'))?;
        let end = (self.value.start + self.value.length) as usize;
        let length = usize::try_from(length).ok().filter(|length| *length <= end - self.at)?;
        let span = Span { start: self.at as u32, length: length as u32 };
        self.at += length;
        Some(span)
    }

    fn lines(&mut self) -> Option<Done> {
        self.before_lines()?;
        let mut first = true;
        while self.byte().is_some() {
            if !first && !self.take(b',') {
                return None;
            }
            first = false;
            let spelled = self.spelled()?;
            self.line(&spelled)?;
        }
        if self.host.is_some() {
            // In its place only if no line has another.
            let host = self.host.take().filter(|_| first)?;
            self.old(host);
        }
        while let Some(at) = self.following() {
            self.old(at);
        }
        if let Some(at) = self.upgrade.take() {
            self.old(at);
        }
        self.text.extend_from_slice(b"\r\n");
        Some(self.done)
    }

    /// Version, status, method or reason, and the part of the start line that is needed.
    fn before_lines(&mut self) -> Option<()> {
        self.done.version = Some(match self.byte()? {
            b'0' => Version::Http10,
            b'1' => Version::Http11,
            _ => return None,
        });
        self.at += 1;
        let mut status = self.storage.line.status;
        if self.take(b'@') {
            let digits = self.while_so(|byte| byte.is_ascii_digit());
            let said = parse_decimal(digits.of(self.text)).and_then(|n| u16::try_from(n).ok())?;
            let declined = self.to.is_some_and(|to| to.upgrade) && status == DECLINED && is_declined(said);
            let bodiless = said == 204 && self.storage.line.framing != BodyFraming::None;
            self.done.status = Some(said).filter(|_| declined && !bodiless && self.take(b','));
            status = self.done.status?;
        }
        if self.take(b'/') {
            let said = self.counted().filter(|_| self.take(b','))?;
            let from = said.start as usize..(said.start + said.length) as usize;
            if self.to.is_none() {
                if self.storage.line.upgrade.is_none() || !is_token(said.of(self.text)) || said.length > 64 {
                    return None;
                }
                self.done.method = Some(Span { start: self.text.len() as u32, ..said });
                self.text.extend_from_within(from);
            } else {
                if !matches!(said.of(self.text), [] | [b' ', ..]) {
                    return None;
                }
                let old = self.done.version == Some(Version::Http10);
                self.text.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
                push_u64(self.text, u64::from(status));
                self.done.reason = Some(Span {
                    start: (self.text.len() + usize::from(said.length > 0)) as u32,
                    length: said.length.saturating_sub(1),
                });
                self.text.extend_from_within(from);
                self.text.extend_from_slice(b"\r\n");
            }
        }
        self.done.fields = self.text.len();
        Some(())
    }

    fn spelled(&mut self) -> Option<Spelled> {
        let name = self.while_so(|byte| !matches!(byte, b',' | b'=' | b':'));
        let mut spelled = Spelled { name, spaces: None, value: None };
        if self.take(b'=') {
            let is_space = |byte| matches!(byte, b's' | b't');
            let before = self.while_so(is_space);
            if !self.take(b'/') {
                return None;
            }
            spelled.spaces = Some((before, self.while_so(is_space)));
        }
        if self.take(b':') {
            spelled.value = Some(self.counted()?);
        }
        Some(spelled)
    }

    fn line(&mut self, spelled: &Spelled) -> Option<()> {
        let id = HeaderId::of(spelled.name.of(self.text));
        match id {
            HeaderId::Upgrade => {
                let at = self.upgrade.take()?;
                // In a request it is what `:protocol` said in lower case; in a response it is the server's word.
                let value = spelled.value.filter(|value| {
                    let value = value.of(self.text);
                    is_upgrade(value) && trim(value) == value
                })?;
                let old = self.storage.value(at, self.text);
                if self.to.is_none() && !old.eq_ignore_ascii_case(value.of(self.text)) {
                    return None;
                }
                self.done.upgrade = Some(self.storage.slots.len() - self.slots);
                self.write(Some(at), id, spelled, Some(value));
            }
            HeaderId::TransferEncoding => {
                let chunked =
                    spelled.value.is_none_or(|value| value.of(self.text).eq_ignore_ascii_case(CHUNKED));
                if std::mem::replace(&mut self.coded, true) || !chunked {
                    return None;
                }
                let line = &self.storage.line;
                let status = self.done.status.unwrap_or(line.status);
                let no_body = self.to.is_some_and(|to| match status {
                    304 => true,
                    ..200 | 204 => false,
                    _ => to.head && line.framing == BodyFraming::None,
                });
                // Where there is no body to frame it must not say there is.
                if line.framing == BodyFraming::Chunked || no_body {
                    self.write(None, id, spelled, spelled.value);
                }
            }
            _ if spelled.value.is_some() => return None,
            HeaderId::Host if self.host.is_some() => {
                let at = self.host.take()?;
                let value = self.storage.slots.get(at)?.value;
                self.write(Some(at), id, spelled, Some(value));
            }
            _ => {
                let at = self.following()?;
                let slot = self.storage.slots.get(at)?;
                if !slot.name.of(self.text).eq_ignore_ascii_case(spelled.name.of(self.text)) {
                    return None;
                }
                let (id, value) = (slot.id, slot.value);
                self.write(Some(at), id, spelled, Some(value));
            }
        }
        Some(())
    }

    /// The next of the old slots that has no place of its own.
    fn following(&mut self) -> Option<usize> {
        loop {
            let at = self.next;
            if at >= self.slots {
                return None;
            }
            self.next += 1;
            let slot = self.storage.slots.get(at)?;
            let own = self.to.is_none() && slot.id == HeaderId::Host
                || at == self.hop
                || Some(at) == self.joined
                || self.storage.line.upgrade.map(usize::from) == Some(at);
            if !own {
                return Some(at);
            }
        }
    }

    /// A line as it was.
    fn old(&mut self, at: usize) {
        let Some(slot) = self.storage.slots.get(at).copied() else { return };
        if slot.id == HeaderId::Upgrade {
            self.done.upgrade = Some(self.storage.slots.len() - self.slots);
        }
        let spelled = Spelled { name: slot.name, spaces: None, value: None };
        self.write(Some(at), slot.id, &spelled, Some(slot.value));
    }

    /// Without a value: `chunked`.
    fn write(&mut self, from: Option<usize>, id: HeaderId, spelled: &Spelled, value: Option<Span>) {
        let name = self.copy(spelled.name);
        self.text.push(b':');
        match spelled.spaces {
            Some((before, _)) => self.spaces(before),
            None => self.text.push(b' '),
        }
        let value = match value {
            Some(value) => self.copy(value),
            None => {
                let start = self.text.len() as u32;
                self.text.extend_from_slice(CHUNKED);
                Span { start, length: CHUNKED.len() as u32 }
            }
        };
        if let Some((_, after)) = spelled.spaces {
            self.spaces(after);
        }
        self.text.extend_from_slice(b"\r\n");
        let new = self.storage.slots.len() - self.slots;
        if let Some(from) = from {
            if self.storage.sensitive.has(from) {
                self.done.sensitive.insert(new);
            }
            if self.storage.recurring.has(from) {
                self.done.recurring.insert(new);
            }
        }
        if id == HeaderId::Host && self.to.is_none() {
            self.done.authority = Some(value);
        }
        let serial = from.and_then(|from| self.storage.slots.get(from)).map_or(0, |slot| slot.serial);
        let end = self.text.len() as u32;
        self.storage.slots.push(Slot { name, value, end, id, hidden: false, serial });
    }

    fn copy(&mut self, span: Span) -> Span {
        let start = self.text.len() as u32;
        self.text.extend_from_within(span.start as usize..(span.start + span.length) as usize);
        Span { start, ..span }
    }

    fn spaces(&mut self, letters: Span) {
        for at in letters.start..letters.start + letters.length {
            let space = if self.text.get(at as usize) == Some(&b't') { b'\t' } else { b' ' };
            self.text.push(space);
        }
    }
}

const CHUNKED: &[u8] = b"chunked";
