//! The data plane: workers, listeners, exchanges, upstreams, admin.
