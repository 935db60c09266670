//! What the control plane tells about itself over HTTP.

pub mod shapes;
