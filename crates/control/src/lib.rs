//! The control plane: sources, service registry, translation, push, status.
//!
//! | module | what |
//! |---|---|
//! | [`workload`] | an instance as it registers |

pub mod workload;
