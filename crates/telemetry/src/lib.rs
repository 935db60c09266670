//! Metric cells, the Prometheus text encoder, access-log formats compiled to operations.
