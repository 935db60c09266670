//! gRPC frames of a delta ADS stream, written from bytes that are encoded once and shared.
//!
//! A frame is a flag (0: not compressed), the length in four bytes, and the message.

use std::collections::VecDeque;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::Response;
use super::field::{field_len, put_field, put_key};
use crate::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::limits::{LARGE_REQUESTS, NODE_BYTES, REQUEST_BYTES, UNKNOWN_BYTES, USUAL_REQUEST_BYTES};
use crate::state_server::StateResponse;
use crate::{Message, core};

const HEADER: usize = 5;

/// Why a request's frame cannot be read. The stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a compressed request: compression was not offered")]
    Compressed,
    #[error("a request of {0} bytes: the limit is {REQUEST_BYTES}")]
    TooLong(usize),
    #[error("more than {LARGE_REQUESTS} requests of over {USUAL_REQUEST_BYTES} bytes on one stream")]
    TooMany,
    #[error("the first request is large and does not begin with the node")]
    NoNode,
    #[error("a node of {0} bytes: the limit is {NODE_BYTES}; shorten its metadata")]
    Node(usize),
    #[error("a request that does not decode: {0}")]
    Decode(String),
}

/// A request of one of the two ADS methods.
pub trait DiscoveryMessage: Message + Default {
    /// The number of the node's field.
    const NODE: u32;

    fn node(&self) -> Option<&core::Node>;
}

impl DiscoveryMessage for DeltaDiscoveryRequest {
    const NODE: u32 = 1;

    fn node(&self) -> Option<&core::Node> {
        self.node.as_ref()
    }
}

impl DiscoveryMessage for DiscoveryRequest {
    const NODE: u32 = 2;

    fn node(&self) -> Option<&core::Node> {
        self.node.as_ref()
    }
}

/// Cuts requests out of a stream of bytes.
#[derive(Debug)]
pub struct Requests<M> {
    buffer: BytesMut,
    /// Whether the owner knows who the client is: until then no more is taken in than a node needs.
    known: bool,
    large_left: usize,
    message: PhantomData<fn() -> M>,
}

impl<M> Default for Requests<M> {
    fn default() -> Self {
        let (buffer, message) = (BytesMut::new(), PhantomData);
        Self { buffer, known: false, large_left: LARGE_REQUESTS, message }
    }
}

impl<M: DiscoveryMessage> Requests<M> {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The client was judged by its node: large requests are taken from now on.
    pub fn accept(&mut self) {
        self.known = true;
    }

    /// How long the request is that has come in part, where it is larger than an ordinary one; else 0.
    pub fn awaited(&self) -> usize {
        match self.announced() {
            Ok(Some(length)) if length > USUAL_REQUEST_BYTES => length,
            _ => 0,
        }
    }

    /// The next whole request.
    pub fn take(&mut self) -> Result<Option<M>, FrameError> {
        let Some(length) = self.announced()? else { return Ok(None) };
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        if length > USUAL_REQUEST_BYTES {
            self.large_left = self.large_left.checked_sub(1).ok_or(FrameError::TooMany)?;
        }
        self.buffer.advance(HEADER);
        let message = self.buffer.split_to(length);
        if self.buffer.is_empty() {
            // An idle stream owns no buffer.
            self.buffer = BytesMut::new();
        }
        let request = M::decode(message.freeze()).map_err(|error| FrameError::Decode(error.to_string()))?;
        match request.node().map(Message::encoded_len) {
            Some(length) if length > NODE_BYTES => Err(FrameError::Node(length)),
            _ => Ok(Some(request)),
        }
    }

    /// The node of a first request that is too large to be taken in before its sender is known: read as soon as it has
    /// come, for which it has to stand at the beginning, where every encoder puts it. `None`: not yet, or not needed.
    pub fn node(&self) -> Result<Option<core::Node>, FrameError> {
        match self.announced()? {
            Some(length) if !self.known && length > UNKNOWN_BYTES => {
                let start = self.buffer.get(HEADER..).unwrap_or_default();
                first_node(start, M::NODE, length)
            }
            _ => Ok(None),
        }
    }

    /// The length of the request that begins the buffer.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some((flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        match (*flag, length) {
            (0, length) if length <= REQUEST_BYTES => Ok(Some(length)),
            (0, length) => Err(FrameError::TooLong(length)),
            _ => Err(FrameError::Compressed),
        }
    }
}

fn first_node(start: &[u8], field: u32, length: usize) -> Result<Option<core::Node>, FrameError> {
    let wrong = |error: prost::DecodeError| FrameError::Decode(error.to_string());
    let enough = start.len() >= UNKNOWN_BYTES.min(length);
    let incomplete = || if enough { Err(FrameError::NoNode) } else { Ok(None) };
    let mut rest = start;
    while rest.has_remaining() {
        // A key and a length take up to ten bytes each.
        if rest.len() < 20 {
            return incomplete();
        }
        let (tag, wire) = decode_key(&mut rest).map_err(wrong)?;
        if tag != field {
            if skip_field(wire, tag, &mut rest, DecodeContext::default()).is_err() {
                return incomplete();
            }
            continue;
        }
        if wire != WireType::LengthDelimited {
            return Err(FrameError::NoNode);
        }
        let length = usize::try_from(decode_varint(&mut rest).map_err(wrong)?).unwrap_or(usize::MAX);
        if length > NODE_BYTES {
            return Err(FrameError::Node(length));
        }
        let Some(node) = rest.get(..length) else { return incomplete() };
        return core::Node::decode(node).map(Some).map_err(wrong);
    }
    incomplete()
}

/// A frame to be sent, in pieces: what is large is the bytes that all streams share, all else is written together.
#[derive(Debug, Default)]
pub struct Frame {
    pieces: VecDeque<Bytes>,
    /// Written and not a piece yet.
    open: BytesMut,
}

/// A resource from this length on is a piece of its own: what a thousand slow readers hold is the pieces, not their bytes.
const SHARED_FROM: usize = 128;

impl Frame {
    /// Begins with gRPC's header for a message of this length.
    fn of(length: usize, shared: usize) -> Self {
        let mut open = BytesMut::with_capacity(HEADER + length.saturating_sub(shared));
        open.put_u8(0);
        // Responses are cut far below 4 GiB, but for one resource that is that large by itself.
        open.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        Self { pieces: VecDeque::new(), open }
    }

    fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_FROM {
            return self.open.put_slice(&bytes);
        }
        if !self.open.is_empty() {
            self.pieces.push_back(self.open.split().freeze());
        }
        self.pieces.push_back(bytes);
    }

    fn finish(mut self) -> Self {
        self.pieces.push_back(std::mem::take(&mut self.open).freeze());
        self
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// The next bytes; none when all were sent.
    pub fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    /// So many of [`Frame::chunk`] were sent.
    pub fn advance(&mut self, bytes: usize) {
        if let Some(front) = self.pieces.front_mut() {
            front.advance(bytes.min(front.len()));
        }
        while self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// Copies the next bytes, which then count as sent. How many: all that have room.
    pub fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while let (chunk @ [_, ..], Some(room @ [_, ..])) = (self.chunk(), buffer.get_mut(filled..)) {
            let many = chunk.len().min(room.len());
            if let (Some(from), Some(to)) = (chunk.get(..many), room.get_mut(..many)) {
                to.copy_from_slice(from);
            }
            filled += many;
            self.advance(many);
        }
        filled
    }

    /// All that is left, in one.
    pub fn whole(&self) -> Bytes {
        self.pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
    }
}

fn shared(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.filter(|length| *length >= SHARED_FROM).sum()
}

/// The response as one frame. `control_plane` is what the server calls itself.
pub fn encode(response: &Response, control_plane: &str) -> Frame {
    let nonce = format!("{:x}", response.nonce);
    let lengths = || response.resources.iter().map(|e| e.encoded().len());
    let removed: usize = response.removed.iter().map(|n| field_len(n.len())).sum();
    let identifier = field_len(control_plane.len());
    let length = lengths().sum::<usize>()
        + removed
        + field_len(response.type_url.len())
        + field_len(nonce.len())
        + field_len(identifier);
    let mut frame = Frame::of(length, shared(lengths()));
    for entry in &response.resources {
        frame.put_shared(entry.encoded().clone());
    }
    put_field(&mut frame.open, 4, response.type_url.as_bytes());
    put_field(&mut frame.open, 5, nonce.as_bytes());
    for name in &response.removed {
        put_field(&mut frame.open, 6, name.as_bytes());
    }
    put_key(&mut frame.open, 7, identifier);
    put_field(&mut frame.open, 1, control_plane.as_bytes());
    frame.finish()
}

/// The same for a state-of-the-world response.
pub fn encode_state(response: &StateResponse, control_plane: &str) -> Frame {
    let nonce = format!("{:x}", response.nonce);
    let resources: Vec<Bytes> = response.resources.iter().map(|e| e.encoded_any()).collect();
    let identifier = field_len(control_plane.len());
    let length = resources.iter().map(Bytes::len).sum::<usize>()
        + field_len(response.version.len())
        + field_len(response.type_url.len())
        + field_len(nonce.len())
        + field_len(identifier);
    let mut frame = Frame::of(length, shared(resources.iter().map(Bytes::len)));
    put_field(&mut frame.open, 1, response.version.as_bytes());
    for resource in resources {
        frame.put_shared(resource);
    }
    put_field(&mut frame.open, 4, response.type_url.as_bytes());
    put_field(&mut frame.open, 5, nonce.as_bytes());
    put_key(&mut frame.open, 6, identifier);
    put_field(&mut frame.open, 1, control_plane.as_bytes());
    frame.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delta_server::{Entry, Kind};
    use crate::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

    #[test]
    fn a_response_is_what_prost_reads() {
        let entry = Arc::new(Entry::new(Kind::Cluster, "a", None, b"body"));
        let response = Response {
            type_url: Kind::Cluster.type_url().into(),
            nonce: 0x1f,
            resources: vec![entry.clone()],
            removed: vec!["gone".into(), "r".repeat(200)],
        };
        let frame = encode(&response, "filamesh").whole();
        assert_eq!(frame[0], 0);
        assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, frame.len() - 5);
        let read = DeltaDiscoveryResponse::decode(&frame[5..]).unwrap();
        assert_eq!((read.nonce.as_str(), read.type_url.as_str()), ("1f", response.type_url.as_ref()));
        assert_eq!(read.removed_resources, response.removed);
        assert_eq!(read.control_plane.unwrap().identifier, "filamesh");
        assert_eq!(read.resources[0].version, entry.version_text());
        assert_eq!(read.resources[0].resource.as_ref().unwrap().value, b"body");
    }

    #[test]
    fn a_state_of_the_world_is_what_prost_reads() {
        let entries = [("a", &b"body"[..]), ("b", &[7; 70_000])];
        let entries = entries.map(|(name, body)| Arc::new(Entry::new(Kind::Cluster, name, None, body)));
        let response = StateResponse {
            type_url: Kind::Cluster.type_url().into(),
            nonce: 9,
            version: "v".into(),
            resources: entries.to_vec(),
        };
        let frame = encode_state(&response, "filamesh").whole();
        assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, frame.len() - 5);
        let read = DiscoveryResponse::decode(&frame[5..]).unwrap();
        assert_eq!((read.version_info.as_str(), read.nonce.as_str()), ("v", "9"));
        assert_eq!(read.resources, entries.map(|e| e.any()));
        assert_eq!(read.control_plane.unwrap().identifier, "filamesh");
    }

    /// Bytes of large resources are shared, whatever stands between them, and what is sent is let go.
    #[test]
    fn a_frame_leaves_in_pieces() {
        let entries = [("a", 10), ("b", 70_000), ("c", 5_000), ("d", 1)];
        let entries =
            entries.map(|(name, size)| Arc::new(Entry::new(Kind::Cluster, name, None, &vec![7; size])));
        let response = Response {
            type_url: Kind::Cluster.type_url().into(),
            nonce: 1,
            resources: entries.to_vec(),
            removed: Vec::new(),
        };
        let whole = encode(&response, "filamesh").whole();
        for step in [1, 7, 4096, 100_000] {
            let (mut frame, mut sent) = (encode(&response, "filamesh"), Vec::new());
            assert_eq!(frame.len(), whole.len());
            let is_shared =
                |entry: &Arc<Entry>| frame.pieces.iter().any(|p| p.as_ptr() == entry.encoded().as_ptr());
            assert_eq!(entries.each_ref().map(is_shared), [false, true, true, false]);
            let (mut filled, mut together) = (vec![0; step], Vec::new());
            let mut again = encode(&response, "filamesh");
            while !again.is_empty() {
                let many = again.fill(&mut filled);
                assert!(many == step || again.is_empty(), "no room is left while there are bytes");
                together.extend_from_slice(&filled[..many]);
            }
            assert_eq!(together, whole);
            while !frame.is_empty() {
                let many = frame.chunk().len().min(step);
                assert!(many > 0, "no piece is empty");
                sent.extend_from_slice(&frame.chunk()[..many]);
                frame.advance(many);
            }
            assert_eq!(sent, whole);
            assert_eq!(frame.pieces.capacity(), 0);
        }
    }

    fn framed(request: &DeltaDiscoveryRequest) -> Vec<u8> {
        let body = request.encode_to_vec();
        let mut out = vec![0];
        out.extend((body.len() as u32).to_be_bytes());
        out.extend(body);
        out
    }

    /// Before a client is known no more is taken in than a node needs: a large first request is read up to its node.
    #[test]
    fn a_large_first_request_shows_its_node_before_the_rest_is_taken_in() {
        let node = core::Node { id: "n".repeat(300), ..Default::default() };
        let names = |many| (0..many).map(|i| format!("outbound|80||service-{i}")).collect::<Vec<_>>();
        let large = DeltaDiscoveryRequest {
            node: Some(node.clone()),
            resource_names_subscribe: names(10_000),
            ..Default::default()
        };
        let frame = framed(&large);
        let mut requests = Requests::<DeltaDiscoveryRequest>::default();
        requests.push(&frame[..200]);
        assert_eq!(requests.node(), Ok(None), "not all of it has come");
        requests.push(&frame[200..500]);
        assert_eq!(requests.node(), Ok(Some(node.clone())));
        requests.accept();
        assert_eq!(requests.node(), Ok(None), "once is enough");
        requests.push(&frame[500..]);
        assert_eq!(requests.take(), Ok(Some(large)));

        let nobody = DeltaDiscoveryRequest { resource_names_subscribe: names(10_000), ..Default::default() };
        let mut requests = Requests::<DeltaDiscoveryRequest>::default();
        requests.push(&framed(&nobody)[..UNKNOWN_BYTES]);
        assert_eq!(requests.node(), Ok(None));
        requests.push(&framed(&nobody)[UNKNOWN_BYTES..UNKNOWN_BYTES + HEADER]);
        assert_eq!(requests.node(), Err(FrameError::NoNode));

        let fat = core::Node { id: "n".repeat(NODE_BYTES), ..Default::default() };
        let length = fat.encoded_len();
        for names in [names(0), names(10_000)] {
            let request = DeltaDiscoveryRequest {
                node: Some(fat.clone()),
                resource_names_subscribe: names,
                ..Default::default()
            };
            let mut requests = Requests::<DeltaDiscoveryRequest>::default();
            requests.push(&framed(&request));
            let judged = requests.node().and_then(|_| requests.take());
            assert_eq!(judged, Err(FrameError::Node(length)));
        }
    }

    #[test]
    fn large_requests_are_counted() {
        let large = DeltaDiscoveryRequest { type_url: "t".repeat(USUAL_REQUEST_BYTES), ..Default::default() };
        let mut requests = Requests::<DeltaDiscoveryRequest>::default();
        requests.accept();
        for _ in 0..LARGE_REQUESTS {
            let frame = framed(&large);
            requests.push(&frame[..10]);
            assert_eq!(requests.awaited(), frame.len() - HEADER);
            requests.push(&frame[10..]);
            assert!(requests.take().unwrap().is_some());
            assert_eq!(requests.awaited(), 0);
        }
        requests.push(&framed(&large));
        assert_eq!(requests.take(), Err(FrameError::TooMany));
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
            let (mut requests, mut read) = (Requests::<DeltaDiscoveryRequest>::default(), Vec::new());
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
            let mut requests = Requests::<DeltaDiscoveryRequest>::default();
            requests.push(bytes);
            assert_eq!(requests.take(), Err(error));
        }
        let mut requests = Requests::<DeltaDiscoveryRequest>::default();
        requests.push(&[0, 0, 0, 0, 2, 0xff, 0xff]);
        assert!(matches!(requests.take(), Err(FrameError::Decode(_))));
    }
}
