//! Packing into and out of `Any`.
use crate::{Any, Name};

/// Why an `Any` could not be read as the wanted message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnpackError {
    #[error("expected {expected}, found {found}")]
    Type { expected: String, found: String },
    #[error("{type_url} does not decode: {reason}")]
    Decode { type_url: String, reason: String },
}

/// The message with its type URL.
pub fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// The message, if the `Any` holds one of this type.
pub fn unpack<M: Name + Default>(any: &Any) -> Result<M, UnpackError> {
    if any.type_url != M::type_url() {
        return Err(UnpackError::Type { expected: M::type_url(), found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice())
        .map_err(|e| UnpackError::Decode { type_url: any.type_url.clone(), reason: e.to_string() })
}
