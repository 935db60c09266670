//! A trailer section, read and sent alike whichever protocol it came by.

/// Field lines, each ended by CRLF, then an empty line: what [`crate::h1::BodyReader::tail`] gives, and what an
/// HTTP/1 peer is sent after the last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailers<'a> {
    section: &'a [u8],
    sensitive: bool,
}

impl<'a> Trailers<'a> {
    /// Of a section that was checked already, or made here.
    pub fn from_section(section: &'a [u8]) -> Trailers<'a> {
        Trailers { section, sensitive: false }
    }

    /// None of these may be put into a compression table.
    pub(super) fn sensitive(self, sensitive: bool) -> Trailers<'a> {
        Trailers { sensitive, ..self }
    }

    pub(super) fn is_sensitive(&self) -> bool {
        self.sensitive
    }

    /// The lines as HTTP/1 spells them, the empty one included.
    pub fn section(&self) -> &'a [u8] {
        self.section
    }

    /// Names and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        lines(self.section)
    }

    /// The first value of a field, its name in any case.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The fields of lines as HTTP/1 spells them; what is no field line is passed over.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, after) = rest.split_at_checked(end + 1)?;
            rest = after;
            let line = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n"))?;
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at_checked(colon)?;
            return Some((name, crate::text::trim(value.get(1..).unwrap_or_default())));
        }
    })
}
