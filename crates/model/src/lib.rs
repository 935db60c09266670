//! The compiled, immutable data-plane configuration and all matching and deciding code.
