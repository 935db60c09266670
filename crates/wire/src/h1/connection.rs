//! Connection, TE and Upgrade: what is meant for this hop alone (RFC 9110 §7.6.1, §7.8).

use crate::{
    HeaderId,
    header::starts_with_ignore_case,
    reject::{Reject, Side, details},
    text::{list, list_has},
};

use super::{head::HeadStorage, head_view::Version};

/// Envoy's bound on names in Connection.
const MAX_NOMINATED: usize = 10;

/// What a Connection field says, and which fields it takes along.
#[derive(Debug, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// Decides keep-alive and upgrade, and collects the fields that are not forwarded.
///
/// A request whose Connection names a field that frames, routes or identifies it is refused (bad-inputs H-34,
/// Envoy's `connection_header_rejected`); in a response such a name is ignored.
#[inline]
pub(super) fn apply(storage: &mut HeadStorage, head: &[u8], side: Side) -> Result<(), Reject> {
    let options = match storage.known(HeaderId::Connection) {
        Some(_) => read_options(storage, head, side)?,
        None => Options::default(),
    };
    storage.line.keep_alive = match storage.line.version {
        Version::Http11 | Version::Http2 => !options.close,
        Version::Http10 => options.keep_alive && !options.close,
    };
    for id in
        [HeaderId::KeepAlive, HeaderId::ProxyConnection, HeaderId::Http2Settings, HeaderId::XFilameshHop]
    {
        storage.cut(id);
    }
    if storage.known(HeaderId::Te).is_some() {
        apply_te(storage, head);
    }
    if storage.known(HeaderId::Upgrade).is_some() {
        apply_upgrade(storage, head, options.upgrade, side)?;
    }
    Ok(())
}

#[inline(never)]
fn read_options(storage: &mut HeadStorage, head: &[u8], side: Side) -> Result<Options, Reject> {
    if !storage.repeats(HeaderId::Connection)
        && let Some(slot) = storage.known(HeaderId::Connection)
    {
        // Nearly always it is one of these two, alone.
        let value = storage.value(slot, head);
        let (close, keep_alive) =
            (value.eq_ignore_ascii_case(b"close"), value.eq_ignore_ascii_case(b"keep-alive"));
        if close || keep_alive {
            storage.per_hop.insert(slot);
            return Ok(Options { close, keep_alive, upgrade: false });
        }
    }
    let rejected = Reject::malformed(side, details::CONNECTION_HEADER_REJECTED);
    let mut options = Options::default();
    let mut per_hop = storage.per_hop;
    let mut nominated = 0;
    for slot in storage.all(HeaderId::Connection) {
        per_hop.insert(slot);
        for name in list(storage.value(slot, head)) {
            if name.eq_ignore_ascii_case(b"close") {
                options.close = true;
                continue;
            }
            if name.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
                continue;
            }
            let id = HeaderId::of(name);
            if id == HeaderId::Upgrade {
                options.upgrade = true;
                continue;
            }
            // TE has its own rule: `trailers` is for the whole way.
            if id == HeaderId::Te {
                continue;
            }
            nominated += 1;
            if nominated > MAX_NOMINATED {
                return Err(rejected);
            }
            if is_protected(id, name) {
                match side {
                    Side::Request => return Err(rejected),
                    Side::Response => continue,
                }
            }
            for (at, slot) in storage.slots.iter().enumerate() {
                if slot.id == id && slot.name.of(head).eq_ignore_ascii_case(name) {
                    per_hop.insert(at);
                }
            }
        }
    }
    storage.per_hop = per_hop;
    Ok(options)
}

/// Fields no sender may have removed on the way: they frame, route, identify or authorize the message.
fn is_protected(id: HeaderId, name: &[u8]) -> bool {
    use HeaderId::*;
    match id {
        Host | ContentLength | TransferEncoding | Expect | ContentType | ContentEncoding => true,
        Authorization | ProxyAuthorization | ProxyAuthenticate | Cookie | SetCookie | Origin => true,
        Forwarded | XForwardedFor | XForwardedProto | XForwardedHost | XForwardedPort => true,
        XForwardedClientCert | XRequestId | GrpcStatus | GrpcMessage | GrpcTimeout | GrpcEncoding => true,
        _ => starts_with_ignore_case(name, b"x-envoy-") || name.first() == Some(&b':'),
    }
}

/// Keeps `te: trailers`, cuts every other coding.
#[inline(never)]
fn apply_te(storage: &mut HeadStorage, head: &[u8]) {
    let mut per_hop = storage.per_hop;
    let mut kept = false;
    let mut wanted = false;
    for slot in storage.all(HeaderId::Te) {
        let value = storage.value(slot, head);
        if !kept && value.eq_ignore_ascii_case(b"trailers") {
            kept = true;
        } else {
            wanted |= list_has(value, b"trailers");
            per_hop.insert(slot);
        }
    }
    storage.per_hop = per_hop;
    storage.line.rewrite_te = wanted && !kept;
}

/// Recognizes an upgrade, or cuts the fields that look like one.
#[inline(never)]
fn apply_upgrade(storage: &mut HeadStorage, head: &[u8], asked: bool, side: Side) -> Result<(), Reject> {
    if asked && storage.repeats(HeaderId::Upgrade) {
        return Err(Reject::malformed(side, details::CODEC_ERROR));
    }
    let slot = storage.known(HeaderId::Upgrade).filter(|slot| {
        let value = storage.value(*slot, head);
        let is = match side {
            Side::Request => asks_for_upgrade(value),
            Side::Response => is_upgrade(value),
        };
        asked && storage.line.version == Version::Http11 && is
    });
    match slot {
        Some(slot) => storage.line.upgrade = u8::try_from(slot).ok(),
        None => storage.cut(HeaderId::Upgrade),
    }
    Ok(())
}

/// Whether a request's value of Upgrade asks for more than another version of HTTP, which is not taken up here. All of it is
/// then judged as one: a list with something else beside a protocol that is allowed is not that protocol (Envoy: 403).
fn asks_for_upgrade(value: &[u8]) -> bool {
    list(value).any(|protocol| !is_http(protocol))
}

fn is_http(protocol: &[u8]) -> bool {
    starts_with_ignore_case(protocol, b"h2c") || starts_with_ignore_case(protocol, b"http/")
}

/// Whether a value of Upgrade names protocols that may be switched to: a backend switching to HTTP/2 behind our back
/// would carry requests past every policy.
pub(crate) fn is_upgrade(value: &[u8]) -> bool {
    list(value).next().is_some() && !list(value).any(is_http)
}
