//! Reading Prometheus text back: what `filamesh stat` computes between two scrapes of a proxy.

mod parse;
mod quantile;
mod traffic;

pub use parse::{ParseError, Sample, Samples, parse};
pub use quantile::quantile;
pub use traffic::{Traffic, traffic};

#[cfg(test)]
mod tests;
