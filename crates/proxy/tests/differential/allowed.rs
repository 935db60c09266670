//! The differences there may be between Envoy and this proxy, each with its reason.
//!
//! This proxy may be stricter, never laxer: where it refuses what Envoy forwards, the message it refuses is looked at
//! by rules of this file's own, which name the fault; without one, the difference stands.

use crate::generate::Case;
use crate::host::Seen;
use crate::subject::Outcome;

/// Alike (`None`), different for a reason, or what differs.
pub fn compare(case: &Case, theirs: &Outcome, ours: &Outcome) -> Result<Option<&'static str>, String> {
    if let Some(seen) = ours.requests.iter().find(|seen| seen.fault.is_some()) {
        return Err(format!("what we forward is no HTTP: {seen}"));
    }
    if ours.requests.len() > case.requests {
        return Err("more requests forwarded than sent".to_owned());
    }
    // A request that only Envoy forwards may lie between: found again by what the host saw.
    let mut left = theirs.requests.iter();
    for seen in &ours.requests {
        let Some(same) = left
            .find(|their| their.line == seen.line)
            .or_else(|| theirs.requests.get(ours.requests.len() - 1))
        else {
            return Err(format!("forwarded what Envoy refuses: {seen}"));
        };
        equal(same, seen)?;
    }
    if theirs.statuses == ours.statuses
        && theirs.requests.len() == ours.requests.len()
        && theirs.interim == ours.interim
    {
        return Ok(None);
    }
    let without_continue =
        |interim: &[u16]| -> Vec<u16> { interim.iter().copied().filter(|status| *status != 100).collect() };
    if theirs.statuses == ours.statuses
        && theirs.requests.len() == ours.requests.len()
        && ours.interim == without_continue(&theirs.interim)
        && theirs.requests.iter().all(|seen| seen.body.is_empty())
    {
        return Ok(Some("RFC 9110 section 10.1.1: nobody waits for 100 who has no body to send"));
    }
    match reason(case, theirs, ours) {
        Some(reason) => Ok(Some(reason)),
        None => Err("another answer".to_owned()),
    }
}

/// Whether the host saw the same request.
pub fn equal(theirs: &Seen, ours: &Seen) -> Result<(), String> {
    let (left, right) = (headers(theirs), headers(ours));
    if left != right {
        let only = |these: &[(String, String)], those: &[(String, String)]| -> Vec<(String, String)> {
            these.iter().filter(|field| !those.contains(field)).cloned().collect()
        };
        return Err(format!(
            "other headers: Envoy {:?}, ours {:?}",
            only(&left, &right),
            only(&right, &left)
        ));
    }
    for (what, same) in [
        ("request line", theirs.line == ours.line),
        ("body", theirs.body == ours.body),
        ("trailers", trailers(theirs) == trailers(ours)),
    ] {
        if !same {
            return Err(format!("another {what}"));
        }
    }
    Ok(())
}

/// Those that must be equal. Not the framing, which the body stands for (Envoy writes `content-length: 0` where a
/// request has none), nor an id each proxy makes up. Lines of one name count as one list: Envoy joins some of them.
fn headers(seen: &Seen) -> Vec<(String, String)> {
    let mut joined: Vec<(String, String)> = vec![];
    // Beside an upgrade Envoy leaves standing what Connection lists (H-34).
    let listed =
        seen.headers.iter().filter(|(name, _)| name == "connection").flat_map(|(_, value)| value.split(','));
    let listed: Vec<String> =
        listed.map(|name| name.trim().to_ascii_lowercase()).filter(|name| name != "upgrade").collect();
    for (name, value) in &seen.headers {
        // White space around a value is none of it (RFC 9112 section 5.1); lines are forwarded as they came.
        let mut value = value.as_str();
        while value.starts_with(' ') || value.starts_with("\\t") {
            value = value.trim_start_matches(' ').trim_start_matches("\\t");
        }
        while value.ends_with(' ') || value.ends_with("\\t") {
            value = value.trim_end_matches(' ').trim_end_matches("\\t");
        }
        match name.as_str() {
            "transfer-encoding" | "content-length" => continue,
            // Of an offer of h2c, which goes no further (U-03), even where Connection does not list it.
            "http2-settings" => continue,
            // A client's own id stays.
            "x-request-id" if value.len() == 36 => continue,
            // Beside an upgrade Envoy leaves keep-alive standing.
            "connection" if value == "keep-alive" || value.to_ascii_lowercase().contains("upgrade") => {
                continue;
            }
            // Said twice it says no more.
            "te" if joined.iter().any(|(last, _)| last == name) => continue,
            "te" if value.split(',').all(|option| option.trim() == "trailers") => {
                joined.push((name.clone(), "trailers".to_owned()));
                continue;
            }
            _ if name != "te" && listed.contains(name) => continue,
            _ => {}
        }
        match joined.last_mut().filter(|(last, _)| last == name) {
            Some((_, list)) => *list = format!("{list},{value}"),
            None => joined.push((name.clone(), value.to_owned())),
        }
    }
    joined
}

/// Without those that have no place in trailers (RFC 9110 §6.5.1), which this proxy drops (H-22) and Envoy forwards.
fn trailers(seen: &Seen) -> Vec<(String, String)> {
    const FORBIDDEN: &[&str] =
        &["content-length", "host", "authorization", "transfer-encoding", "connection", "te"];
    seen.trailers.iter().filter(|(name, _)| !FORBIDDEN.contains(&name.as_str())).cloned().collect()
}

/// Why this proxy may answer otherwise.
fn reason(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<&'static str> {
    let most = theirs.statuses.len().max(ours.statuses.len());
    let differs = (0..most).find(|at| theirs.statuses.get(*at) != ours.statuses.get(*at))?;
    let (their, our) = (theirs.statuses.get(differs).copied(), ours.statuses.get(differs).copied());
    match (their, our) {
        // Both refuse, in other words.
        (Some(400..), Some(400..)) => return Some("both refuse it, each with a status of its own"),
        // Envoy cuts off what it refuses inside a body without an answer.
        (None, Some(400)) if theirs.requests.len() == ours.requests.len() => {
            return Some("both refuse it, Envoy without a word");
        }
        // We end a connection whose first bytes are of another protocol without one.
        (Some(400 | 426), None) if ours.closed && ours.statuses.is_empty() && ours.requests.is_empty() => {
            return Some("both refuse it, we without a word: its first line is no HTTP");
        }
        (Some(_), None) if differs > 0 && ours.closed && ours.statuses[differs - 1] >= 400 => {
            return Some("both refuse it, this proxy ends the connection too");
        }
        (Some(_), Some(400..)) => {}
        _ => return None,
    }
    let message = message(&case.bytes, differs)?;
    fault(message)
}

/// The message with this number, those before it being well formed.
fn message(bytes: &[u8], number: usize) -> Option<&[u8]> {
    let mut rest = bytes;
    for _ in 0..number {
        // Empty lines before a request are skipped (RFC 9112 §2.2).
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        rest = rest.get(length(rest)?..)?;
    }
    Some(rest)
}

fn head(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    bytes.get(..end + 2)
}

fn values<'m>(head: &'m [u8], name: &str) -> Vec<&'m [u8]> {
    head.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
        .collect()
}

fn length(bytes: &[u8]) -> Option<usize> {
    let head = head(bytes)?;
    let begin = head.len() + 2;
    if !values(head, "transfer-encoding").is_empty() {
        return Some(begin + chunks(&bytes[begin..]).ok()?);
    }
    let length = match values(head, "content-length").first() {
        Some(value) => std::str::from_utf8(value).ok()?.parse().ok()?,
        None => 0,
    };
    Some(begin + length)
}

/// Where a chunked body ends, or what is wrong with it.
fn chunks(bytes: &[u8]) -> Result<usize, &'static str> {
    let line = |at: usize| -> Result<(&[u8], usize), &'static str> {
        let end = bytes[at.min(bytes.len())..]
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("H-20: a line of a chunk has no end")?
            + at;
        match bytes[at..=end].strip_suffix(b"\r\n") {
            Some(text) if text.contains(&b'\r') => Err("H-20: CR within a line of a chunk"),
            Some(text) => Ok((text, end + 1)),
            None => Err("H-20: a line of a chunk ends with LF alone"),
        }
    };
    let mut at = 0;
    loop {
        let (text, after) = line(at)?;
        let size = text.split(|byte| *byte == b';').next().unwrap_or_default();
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let digits = &size[..size.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1)];
        let hexadecimal = digits.iter().all(u8::is_ascii_hexdigit) && (1..=16).contains(&digits.len());
        let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|_| hexadecimal) else {
            return Err("H-18: a chunk's size is no number");
        };
        if text.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            return Err("H-20: a chunk's extension holds a control character");
        }
        at = after;
        if size == 0 {
            loop {
                let (text, after) = line(at)?;
                at = after;
                if text.is_empty() {
                    return Ok(at);
                }
                field(text)?;
            }
        }
        match bytes.get(at.saturating_add(size)..at.saturating_add(size).saturating_add(2)) {
            Some(b"\r\n") => at += size + 2,
            _ => return Err("H-20: a chunk does not end where it says"),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn field(line: &[u8]) -> Result<(), &'static str> {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err("H-26: a line without a colon");
    };
    let (name, value) = line.split_at(colon);
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("H-25: a folded line");
    }
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err("H-26: a name that is no token");
    }
    if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err("H-23: a control character in a value");
    }
    Ok(())
}

/// What is wrong with a message, by the catalogue's rows.
fn fault(message: &[u8]) -> Option<&'static str> {
    faulty(message).err()
}

fn faulty(message: &[u8]) -> Result<(), &'static str> {
    let Some(head) = head(message) else { return Err("H-27: a head without its end") };
    if head.windows(2).any(|pair| pair[0] != b'\r' && pair[1] == b'\n') || head.first() == Some(&b'\n') {
        return Err("H-27: a line that ends with LF alone");
    }
    if head.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n') {
        return Err("H-24: CR alone");
    }
    if head.len() > 60 * 1024 {
        return Err("L-05: a head beyond the limit");
    }
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    request_line(lines.next().unwrap_or_default())?;
    let mut count = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        field(line)?;
        count += 1;
    }
    if count > 100 {
        return Err("L-05: too many headers");
    }
    let hosts = values(head, "host");
    let [host] = hosts[..] else { return Err("H-30: not one Host") };
    authority(host)?;
    framing(head, message)?;
    options(head)
}

fn request_line(line: &[u8]) -> Result<(), &'static str> {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return Err("H-28: no request line") };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err("H-31: a method that is no token");
    }
    if version != b"HTTP/1.1" {
        return Err("H-28: another version");
    }
    if target.iter().any(|byte| !matches!(byte, 33..=126)) || target.contains(&b'#') {
        return Err("H-32: a target with characters it can not have");
    }
    let lower = target.to_ascii_lowercase();
    if lower.starts_with(b"https://") {
        return Err("H-32: an https target on a plaintext connection");
    }
    if method == b"CONNECT" {
        return Err("U-04: CONNECT");
    }
    if let Some(rest) = lower.strip_prefix(b"http://") {
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        if end == rest.len() && method == b"OPTIONS" {
            return Err("RFC 9112 §3.2.4: OPTIONS of a whole server, which no route is for");
        }
        if rest.get(end) == Some(&b'?') {
            return Err("H-32: an absolute target without a path");
        }
        authority(&rest[..end])?;
    } else if !(target.starts_with(b"/") || method == b"OPTIONS" && target == b"*") {
        return Err("H-32: a target of no form");
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let percents = path.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in percents {
        if !path.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err("H-32: a path that can not be normalized: a bad percent sequence");
        }
    }
    Ok(())
}

fn authority(host: &[u8]) -> Result<(), &'static str> {
    const BAD: Result<(), &str> = Err("H-30: no authority");
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => (&host[..colon], Some(&host[colon + 1..])),
        _ => (host, None),
    };
    if let Some(port) = port {
        let number = std::str::from_utf8(port).ok().and_then(|text| text.parse::<u16>().ok());
        if number.is_none() || !port.iter().all(u8::is_ascii_digit) {
            return BAD;
        }
    }
    let literal = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    if let Some(literal) = literal {
        let address =
            std::str::from_utf8(literal).ok().and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
        return if address.is_some() { Ok(()) } else { BAD };
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(byte);
    if name.is_empty() || !name.iter().all(plain) { BAD } else { Ok(()) }
}

fn framing(head: &[u8], message: &[u8]) -> Result<(), &'static str> {
    let (lengths, codings) = (values(head, "content-length"), values(head, "transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(()),
        ([length], []) => {
            let plain = length.iter().all(u8::is_ascii_digit) && (1..=19).contains(&length.len());
            if plain && (length.len() == 1 || length[0] != b'0') {
                Ok(())
            } else {
                Err("H-13: a content-length that is no number")
            }
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            chunks(&message[head.len() + 2..]).map(|_| ())
        }
        ([], _) => Err("H-03 to H-07: another coding than chunked"),
        (_, []) => Err("H-10, H-11: more than one content-length"),
        _ => Err("H-01: both length and coding"),
    }
}

fn options(head: &[u8]) -> Result<(), &'static str> {
    let expectations = values(head, "expect");
    if expectations.len() > 1 || expectations.iter().any(|value| !value.eq_ignore_ascii_case(b"100-continue"))
    {
        return Err("H-34: an expectation nobody knows");
    }
    let listed: Vec<Vec<u8>> = values(head, "connection")
        .into_iter()
        .flat_map(|value| {
            value
                .split(|byte| *byte == b',')
                .map(|name| name.trim_ascii().to_ascii_lowercase())
                .collect::<Vec<_>>()
        })
        .collect();
    let kept = |name: &[u8]| {
        let own: &[&[u8]] = &[b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie"];
        own.contains(&name)
            || name.starts_with(b":")
            || name.starts_with(b"x-forwarded-")
            || name.starts_with(b"x-envoy-")
    };
    if listed.iter().any(|name| kept(name)) {
        return Err("H-34: Connection lists what is not hop by hop");
    }
    if listed.iter().any(|name| name.is_empty() || !name.iter().copied().all(is_token)) {
        return Err("H-34: Connection lists what is no name");
    }
    if values(head, "upgrade").len() > 1 {
        return Err("U-03: more than one Upgrade");
    }
    Ok(())
}
