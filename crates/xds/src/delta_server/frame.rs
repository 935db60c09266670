//! gRPC frames of a delta ADS stream, written from bytes that are encoded once and shared.
//!
//! A frame is a flag (0: not compressed), the length in four bytes, and the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::Response;
use crate::Message;
use crate::discovery::DeltaDiscoveryRequest;

const HEADER: usize = 5;

/// A request may hold this much. A client that reconnects names everything it holds: 175 KB at a thousand services.
const REQUEST_BYTES: usize = 16 << 20;

/// Why a request's frame cannot be read. The stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a compressed request: compression was not offered")]
    Compressed,
    #[error("a request of {0} bytes: the limit is {REQUEST_BYTES}")]
    TooLong(usize),
    #[error("a request that does not decode: {0}")]
    Decode(String),
}

/// Cuts requests out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Requests {
    buffer: BytesMut,
}

impl Requests {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole request.
    pub fn take(&mut self) -> Result<Option<DeltaDiscoveryRequest>, FrameError> {
        let Some((flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if *flag != 0 {
            return Err(FrameError::Compressed);
        }
        if length > REQUEST_BYTES {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let message = self.buffer.split_to(length);
        if self.buffer.is_empty() {
            // An idle stream owns no buffer.
            self.buffer = BytesMut::new();
        }
        DeltaDiscoveryRequest::decode(message.freeze())
            .map(Some)
            .map_err(|error| FrameError::Decode(error.to_string()))
    }
}

/// The response as one frame. `control_plane` is what the server calls itself.
pub fn encode(response: &Response, control_plane: &str) -> Bytes {
    let nonce = format!("{:x}", response.nonce);
    let resources: usize = response.resources.iter().map(|e| e.encoded().len()).sum();
    let removed: usize = response.removed.iter().map(|n| field_len(n.len())).sum();
    let identifier = field_len(control_plane.len());
    let length = resources
        + removed
        + field_len(response.type_url.len())
        + field_len(nonce.len())
        + field_len(identifier);
    let mut out = BytesMut::with_capacity(HEADER + length);
    out.put_u8(0);
    // Responses are cut far below 4 GiB, but for one resource that is that large by itself.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    for entry in &response.resources {
        out.put_slice(entry.encoded());
    }
    put_field(&mut out, 4, response.type_url.as_bytes());
    put_field(&mut out, 5, nonce.as_bytes());
    for name in &response.removed {
        put_field(&mut out, 6, name.as_bytes());
    }
    encode_key(7, WireType::LengthDelimited, &mut out);
    encode_varint(identifier as u64, &mut out);
    put_field(&mut out, 1, control_plane.as_bytes());
    out.freeze()
}

fn put_field(out: &mut BytesMut, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// Of a length-delimited field with a tag below 16.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delta_server::{Entry, Kind};
    use crate::discovery::DeltaDiscoveryResponse;

    #[test]
    fn a_response_is_what_prost_reads() {
        let entry = Arc::new(Entry::new(Kind::Cluster, "a", None, b"body"));
        let response = Response {
            type_url: Kind::Cluster.type_url().into(),
            nonce: 0x1f,
            resources: vec![entry.clone()],
            removed: vec!["gone".into(), "r".repeat(200)],
        };
        let frame = encode(&response, "filamesh");
        assert_eq!(frame[0], 0);
        assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, frame.len() - 5);
        let read = DeltaDiscoveryResponse::decode(&frame[5..]).unwrap();
        assert_eq!((read.nonce.as_str(), read.type_url), ("1f", response.type_url));
        assert_eq!(read.removed_resources, response.removed);
        assert_eq!(read.control_plane.unwrap().identifier, "filamesh");
        assert_eq!(read.resources[0].version, entry.version_text());
        assert_eq!(read.resources[0].resource.as_ref().unwrap().value, b"body");
    }

    #[test]
    fn requests_are_cut_out_however_they_arrive() {
        let one = DeltaDiscoveryRequest { type_url: "t".into(), ..Default::default() };
        let two = DeltaDiscoveryRequest { response_nonce: "n".repeat(300), ..Default::default() };
        let mut stream = Vec::new();
        for request in [&one, &two] {
            let body = request.encode_to_vec();
            stream.push(0);
            stream.extend((body.len() as u32).to_be_bytes());
            stream.extend(body);
        }
        for piece in 1..=stream.len() {
            let (mut requests, mut read) = (Requests::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                requests.push(bytes);
                while let Some(request) = requests.take().unwrap() {
                    read.push(request);
                }
            }
            assert_eq!(read, [one.clone(), two.clone()], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_that_cannot_be_read_is_refused() {
        for (bytes, error) in [
            (&[1, 0, 0, 0, 0][..], FrameError::Compressed),
            (&[0, 1, 0, 0, 1][..], FrameError::TooLong((16 << 20) + 1)),
        ] {
            let mut requests = Requests::default();
            requests.push(bytes);
            assert_eq!(requests.take(), Err(error));
        }
        let mut requests = Requests::default();
        requests.push(&[0, 0, 0, 0, 2, 0xff, 0xff]);
        assert!(matches!(requests.take(), Err(FrameError::Decode(_))));
    }
}
