//! YAML and JSON text to trees with places, and back.

mod load;
mod node;
mod render;
mod scalar;

pub use load::{Document, Limits, SyntaxError, documents, load};
pub use node::{Key, Node, Position, Value};
pub use render::render;

pub(crate) use node::shorten;
