//! HPACK (RFC 7541).
//!
//! Decoded fields are HTTP/1 field lines in one text, so that a head is read by the same views whichever protocol it
//! came by, and a line from the table is one copy.

pub mod decode;
pub mod encode;
pub mod huffman;
pub mod integer;
pub mod name;
pub mod static_table;
pub mod table;

#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, HpackError, Sink};
pub use encode::{Encoder, Indexing, Origin};
