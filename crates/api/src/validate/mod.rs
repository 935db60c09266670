//! Istio's rules about one object: what its schema and its webhook refuse, and what they warn about.

use crate::decode::Context;
use crate::mesh_config::MeshConfig;
use crate::object::Object;
use crate::yaml::Node;

/// Reports everything wrong with an object whose types are right.
pub(crate) fn object(_object: &Object, _document: &Node, _context: &mut Context) {}

pub(crate) fn mesh_config(_config: &MeshConfig, _document: &Node, _context: &mut Context) {}
