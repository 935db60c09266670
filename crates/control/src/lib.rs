//! The control plane: sources, service registry, translation, push, status.
