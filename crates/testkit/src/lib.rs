//! Test helpers: free ports, waiting by condition, echo upstreams (dev only).
