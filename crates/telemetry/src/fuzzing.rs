//! Entry points for fuzzers and for the tests that replay their corpora. Each must return for any
//! bytes; the assertions inside are what must hold of the answer.

use std::time::Duration;

use crate::Flags;
use crate::access_log::{
    Address, AddressField, Context, Format, HeaderName, JsonTemplate, LogSource, NumberField, TextField,
    TimeCache,
};

/// A format, compiled as text and as JSON and rendered from hostile values: one line comes out.
pub fn fuzz_format(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let context = Context { hostname: Some("host"), environment: &|name| Some(name.to_owned()) };
    let mut time = TimeCache::default();
    let source = Hostile(data);
    if let Ok(format) = Format::text(&text, &context) {
        let mut out = Vec::new();
        format.render(&source, &mut time, &mut out);
        // Line feeds of the format itself (time formats' %n included) are its author's wish.
        if !text.contains(['\n', '\r']) && !text.contains("%n") && !text.contains("%t") {
            let line = out.strip_suffix(b"\n").unwrap_or(&out);
            assert!(
                !line.iter().any(|byte| *byte == b'\n' || *byte == b'\r'),
                "{:?}",
                String::from_utf8_lossy(&out)
            );
        }
    }
    let json = JsonTemplate::Object(vec![(text.to_string(), JsonTemplate::Format(text.to_string()))]);
    if let Ok(format) = Format::json(&json, &context) {
        let mut out = Vec::new();
        format.render(&source, &mut time, &mut out);
        let line = out.strip_suffix(b"\n").unwrap_or(&out);
        assert!(std::str::from_utf8(line).is_ok_and(|line| !line.contains(char::is_control)));
    }
}

/// A value from outside in every place of Istio's formats: one line, of UTF-8, comes out.
pub fn fuzz_value(data: &[u8]) {
    for format in [Format::istio(), Format::istio_legacy(), Format::istio_json()] {
        let mut out = Vec::new();
        format.render(&Hostile(data), &mut TimeCache::default(), &mut out);
        let text = std::str::from_utf8(&out).expect("a line is UTF-8");
        let line = text.strip_suffix('\n').expect("a line ends");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{line:?}");
    }
}

/// A scrape: no answer holds more samples than the text has lines.
pub fn fuzz_scrape(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(samples) = crate::scrape::parse(&text) {
        assert!(samples.len() <= text.split('\n').count());
        let _ = crate::scrape::traffic(&[], &samples, Duration::from_secs(1), |sample| {
            Some(sample.name.to_owned())
        });
    }
}

/// Answers the same bytes to every question.
struct Hostile<'a>(&'a [u8]);

impl LogSource for Hostile<'_> {
    fn start_time(&self) -> Duration {
        Duration::from_nanos(
            self.0.iter().fold(0u64, |sum, byte| sum.wrapping_mul(257).wrapping_add(u64::from(*byte))),
        )
    }

    fn flags(&self) -> Flags {
        Flags::NO_ROUTE_FOUND
    }

    fn path(&self) -> Option<&[u8]> {
        Some(self.0)
    }

    fn request_header(&self, _: &HeaderName) -> Option<&[u8]> {
        Some(self.0)
    }

    fn text(&self, _: TextField) -> Option<&[u8]> {
        Some(self.0)
    }

    fn number(&self, _: NumberField) -> Option<u64> {
        None
    }

    fn address(&self, _: AddressField) -> Option<Address<'_>> {
        Some(Address::Named(self.0))
    }
}
