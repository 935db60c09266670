//! Namespace: everything that matters about it is in its labels and annotations.

use crate::decode::partial;

partial! {
    pub struct Namespace {
        finalizers: Vec<String>,
    }
}
