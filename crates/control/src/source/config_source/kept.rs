//! What a server said, on disk: the last good versions of its objects as they were sent, so that a control plane that starts
//! while the server is away has them.
//!
//! One file for each address: a line with a checksum, then one length-delimited `DiscoveryResponse` for each collection.
//! They are read by the same code as those that come over the wire.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xds::discovery::DiscoveryResponse;
use xds::{Any, Message};
use xxhash_rust::xxh3::xxh3_64;

const HEAD: &str = "filamesh config source 1 ";

/// The file of a server.
pub(super) fn file(state_dir: &Path, address: &str) -> PathBuf {
    state_dir.join(format!("config-source-{:016x}.bin", xxh3_64(address.as_bytes())))
}

/// The content of the file.
pub(super) fn encode(collections: Vec<(&'static str, Vec<Arc<Any>>)>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    for (type_url, resources) in collections {
        let resources = resources.into_iter().map(Arc::unwrap_or_clone).collect();
        let response = DiscoveryResponse { type_url: type_url.to_owned(), resources, ..Default::default() };
        response.encode_length_delimited(&mut body).map_err(io::Error::other)?;
    }
    let mut content = format!("{HEAD}{:016x}\n", xxh3_64(&body)).into_bytes();
    content.extend(body);
    Ok(content)
}

/// What a file holds; `None` if there is none.
pub(super) fn read(file: &Path) -> Result<Option<Vec<DiscoveryResponse>>, String> {
    match std::fs::read(file) {
        Ok(content) => decode(&content).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

pub(super) fn decode(content: &[u8]) -> Result<Vec<DiscoveryResponse>, String> {
    let damaged = || "is damaged".to_owned();
    let rest = content.strip_prefix(HEAD.as_bytes()).ok_or_else(damaged)?;
    let (sum, mut body) = rest.split_at_checked(17).ok_or_else(damaged)?;
    if sum != format!("{:016x}\n", xxh3_64(body)).as_bytes() {
        return Err(damaged());
    }
    let mut responses = Vec::new();
    while !body.is_empty() {
        let response = DiscoveryResponse::decode_length_delimited(&mut body);
        responses.push(response.map_err(|error| format!("is damaged: {error}"))?);
    }
    Ok(responses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_back_and_what_was_damaged_is_not() {
        let any = |value: &[u8]| Arc::new(Any { type_url: "t".into(), value: value.to_vec() });
        let content = encode(vec![("a/b/C", vec![any(b"1"), any(b"2")]), ("a/b/D", vec![])]).unwrap();
        let responses = decode(&content).unwrap();
        let sizes: Vec<_> = responses.iter().map(|r| (r.type_url.as_str(), r.resources.len())).collect();
        assert_eq!(sizes, [("a/b/C", 2), ("a/b/D", 0)]);
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&content[..at]).is_err(), "cut at {at}");
        }
    }
}
