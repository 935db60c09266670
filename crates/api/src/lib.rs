//! What users write: Istio and Kubernetes kinds, parsed with line and column, defaulted, validated.
