//! Faults a route injects.
use std::time::Duration;

use serde::Serialize;

use crate::proto::{self, Fraction};
use crate::refusal::{At, Compiled, each};
use crate::route_match::HeaderMatch;
use crate::view::RequestView;

/// Envoy's `HTTPFault` of a route.
#[derive(Debug)]
pub struct Fault {
    pub delay: Option<(Duration, Fraction)>,
    pub abort: Option<(Abort, Fraction)>,
    /// All have to match.
    headers: Vec<HeaderMatch>,
    /// Only for requests to this cluster.
    upstream_cluster: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Abort {
    Status(u16),
    /// Sent as HTTP 200 with `grpc-status`.
    Grpc(u16),
}

/// What is done to one request: first the delay (flag DI), then the abort (flag FI).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FaultDecision {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

impl Fault {
    pub(crate) fn compile(message: &xds::http_filters::fault::v3::HttpFault) -> Compiled<Fault> {
        use xds::fault_common::fault_delay::FaultDelaySecifier as Delay;
        use xds::http_filters::fault::v3::fault_abort::ErrorType;
        let percentage = |p: Option<&xds::types::FractionalPercent>| match p {
            Some(p) => proto::fraction(p),
            None => Fraction { per_million: 0 },
        };
        let delay = match &message.delay {
            None => None,
            Some(delay) => {
                let Some(Delay::FixedDelay(fixed)) = &delay.fault_delay_secifier else {
                    return refuse!("fixed_delay is required").at("delay");
                };
                let fixed = proto::duration(fixed).at("fixed_delay").at("delay")?;
                Some((fixed, percentage(delay.percentage.as_ref())))
            }
        };
        let abort = match &message.abort {
            None => None,
            Some(abort) => {
                let kind = match abort.error_type {
                    Some(ErrorType::HttpStatus(status)) => match u16::try_from(status) {
                        Ok(status) if (200..600).contains(&status) => Abort::Status(status),
                        _ => return refuse!("{status} is no status").at("http_status").at("abort"),
                    },
                    Some(ErrorType::GrpcStatus(status)) => match u16::try_from(status) {
                        Ok(status) => Abort::Grpc(status),
                        Err(_) => return refuse!("{status} is no status").at("grpc_status").at("abort"),
                    },
                    None => return refuse!("an error type is required").at("abort"),
                };
                Some((kind, percentage(abort.percentage.as_ref())))
            }
        };
        Ok(Fault {
            delay,
            abort,
            headers: each("headers", &message.headers, HeaderMatch::compile)?,
            upstream_cluster: Some(message.upstream_cluster.as_str())
                .filter(|c| !c.is_empty())
                .map(Box::from),
        })
    }

    /// Two dice, thrown apart: whether delayed says nothing about whether aborted.
    pub fn decide<R: RequestView + ?Sized>(
        &self,
        request: &R,
        cluster: &str,
        random: [u64; 2],
    ) -> FaultDecision {
        let meant = self.headers.iter().all(|h| h.matches(request))
            && self.upstream_cluster.as_deref().is_none_or(|c| c == cluster);
        if !meant {
            return FaultDecision::default();
        }
        let [delay_dice, abort_dice] = random;
        FaultDecision {
            delay: self.delay.filter(|(_, f)| f.hits(delay_dice)).map(|(delay, _)| delay),
            abort: self.abort.filter(|(_, f)| f.hits(abort_dice)).map(|(abort, _)| abort),
        }
    }
}
