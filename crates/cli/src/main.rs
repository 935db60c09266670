//! The `filamesh` binary.
fn main() {}
