//! Protobuf fields written by hand: a key, a length, the bytes.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

pub(crate) fn put_key(out: &mut BytesMut, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

pub(crate) fn put_field(out: &mut BytesMut, tag: u32, bytes: &[u8]) {
    put_key(out, tag, bytes.len());
    out.put_slice(bytes);
}

/// Of a length-delimited field with a tag below 16.
pub(crate) fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}
