//! YAML and JSON text to trees with places.

mod load;
mod node;
mod scalar;

pub use load::{Limits, SyntaxError, load};
pub use node::{Key, Node, Position, Value};

pub(crate) use node::shorten;
