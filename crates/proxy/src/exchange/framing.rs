//! How a response's body is framed for its client, and chunks.

use wire::h1::{LAST_CHUNK, push_chunk_header};

/// How the response's body is written to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    /// As it comes.
    #[default]
    Same,
    /// It comes without an announced end; chunks are put around it.
    Chunk,
    /// It comes in chunks and the client does not know chunks, or frames by itself.
    Unchunk,
}

/// Payload as a chunk; at the end, the last chunk and what trailers there are.
pub(crate) fn frame_chunk(payload: &[u8], trailers: &[u8], end: bool, out: &mut Vec<u8>) {
    if !payload.is_empty() {
        push_chunk_header(out, payload.len() as u64);
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }
    if end && trailers.is_empty() {
        out.extend_from_slice(LAST_CHUNK);
    } else if end {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(trailers);
    }
}
