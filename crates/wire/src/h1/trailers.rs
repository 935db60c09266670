//! The trailer section of a chunked body: gathered, bounded, checked, and rid of what it may not say.

use crate::{
    HeaderId,
    reject::{Reject, Side, details},
};

use super::{PartialHead, limits::MAX_HEADERS, request::syntax};

/// Allocated only for the rare body that has trailers.
#[derive(Clone, Debug, Default)]
pub(super) struct Trailers {
    text: Vec<u8>,
    partial: PartialHead,
}

impl Trailers {
    /// Takes bytes up to the end of the section; how many, and whether it ended.
    pub fn take(
        &mut self,
        bytes: &[u8],
        max_size: usize,
        max_fields: usize,
        side: Side,
    ) -> Result<(usize, bool), Reject> {
        let mut taken = 0;
        for lf in memchr::memchr_iter(b'\n', bytes) {
            self.add(bytes.get(taken..=lf).unwrap_or_default(), max_size, max_fields, side)?;
            taken = lf + 1;
            if !self.text.ends_with(b"\r\n") {
                return Err(Reject::malformed(side, details::CODEC_ERROR));
            }
            if self.text.ends_with(b"\r\n\r\n") {
                self.check(max_fields, side)?;
                return Ok((taken, true));
            }
        }
        self.add(bytes.get(taken..).unwrap_or_default(), max_size, max_fields, side)?;
        Ok((bytes.len(), false))
    }

    /// The section to forward, its empty line included.
    pub fn section(&self) -> &[u8] {
        &self.text
    }

    /// Keeps bytes that fit, each looked at once: what is wrong first is told, however the section is cut.
    fn add(&mut self, bytes: &[u8], max_size: usize, max_fields: usize, side: Side) -> Result<(), Reject> {
        let room = max_size.saturating_sub(self.text.len());
        self.text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.partial.trailers(&self.text, max_fields, side)?;
        if bytes.len() > room {
            return Err(Reject::with_status(side, 431, details::TRAILERS_TOO_LARGE));
        }
        Ok(())
    }

    /// Checks the syntax and drops the fields a trailer may not set (bad-inputs H-22).
    fn check(&mut self, max_fields: usize, side: Side) -> Result<(), Reject> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let fields = &mut fields[..max_fields.min(MAX_HEADERS)];
        let parsed = match httparse::parse_headers(&self.text, fields) {
            Ok(httparse::Status::Complete((length, parsed))) if length == self.text.len() => parsed,
            Ok(_) => return Err(Reject::malformed(side, details::CODEC_ERROR)),
            Err(error) => return Err(syntax(error, side)),
        };
        let mut kept = Vec::with_capacity(self.text.len());
        for field in parsed.iter().filter(|field| !HeaderId::forbidden_in_trailers(field.name.as_bytes())) {
            kept.extend_from_slice(field.name.as_bytes());
            kept.extend_from_slice(b": ");
            kept.extend_from_slice(field.value);
            kept.extend_from_slice(b"\r\n");
        }
        kept.extend_from_slice(b"\r\n");
        self.text = kept;
        Ok(())
    }
}
