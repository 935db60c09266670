//! Faults a route injects (Envoy's `fault` filter).
use std::time::Duration;

use serde::Serialize;
use xds::types::FractionalPercent;

use crate::proto::{self, Fraction};
use crate::refusal::{At, Compiled, each};
use crate::route_match::HeaderMatch;
use crate::view::RequestView;

/// Envoy's `HTTPFault` of a route, or of a chain.
#[derive(Debug)]
pub struct Fault {
    delay: Option<(Delay, Percentage)>,
    abort: Option<(Kind, Percentage)>,
    /// All have to match.
    headers: Vec<HeaderMatch>,
    /// Only for requests to this cluster.
    upstream_cluster: Option<Box<str>>,
    /// While so many requests have a fault at work, no other gets one.
    pub max_active: Option<u32>,
}

#[derive(Debug)]
enum Delay {
    Fixed(Duration),
    /// `x-envoy-fault-delay-request`, in milliseconds.
    Header,
}

#[derive(Debug)]
enum Kind {
    Fixed(Abort),
    /// `x-envoy-fault-abort-request`, else `x-envoy-fault-abort-grpc-request`.
    Header,
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

impl FaultDecision {
    pub fn is_none(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

impl Fault {
    pub(crate) fn compile(message: &xds::http_filters::fault::v3::HttpFault) -> Compiled<Fault> {
        use xds::fault_common::fault_delay::FaultDelaySecifier as D;
        use xds::http_filters::fault::v3::fault_abort::ErrorType;
        let delay = match &message.delay {
            None => None,
            Some(delay) => {
                let kind = match &delay.fault_delay_secifier {
                    Some(D::FixedDelay(fixed)) => {
                        Delay::Fixed(proto::duration(fixed).at("fixed_delay").at("delay")?)
                    }
                    Some(D::HeaderDelay(_)) => Delay::Header,
                    None => return refuse!("fixed_delay or header_delay is required").at("delay"),
                };
                Some((kind, Percentage::of(delay.percentage.as_ref())))
            }
        };
        let abort = match &message.abort {
            None => None,
            Some(abort) => {
                let kind = match &abort.error_type {
                    Some(ErrorType::HttpStatus(status)) => match status_of(u64::from(*status)) {
                        Some(abort) => Kind::Fixed(abort),
                        None => return refuse!("{status} is no status").at("http_status").at("abort"),
                    },
                    Some(ErrorType::GrpcStatus(status)) => match u16::try_from(*status) {
                        Ok(status) => Kind::Fixed(Abort::Grpc(status)),
                        Err(_) => return refuse!("{status} is no status").at("grpc_status").at("abort"),
                    },
                    Some(ErrorType::HeaderAbort(_)) => Kind::Header,
                    None => return refuse!("an error type is required").at("abort"),
                };
                Some((kind, Percentage::of(abort.percentage.as_ref())))
            }
        };
        Ok(Fault {
            delay,
            abort,
            headers: each("headers", &message.headers, HeaderMatch::compile)?,
            upstream_cluster: Some(message.upstream_cluster.as_str())
                .filter(|c| !c.is_empty())
                .map(Box::from),
            max_active: message.max_active_faults,
        })
    }

    /// Two dice, thrown apart: whether delayed says nothing about whether aborted. `cluster`: where the request is to go,
    /// `None` where its route redirects or answers by itself.
    pub fn decide<R: RequestView + ?Sized>(
        &self,
        request: &R,
        cluster: Option<&str>,
        random: [u64; 2],
    ) -> FaultDecision {
        let meant = self.upstream_cluster.as_deref().is_none_or(|c| Some(c) == cluster)
            && self.headers.iter().all(|h| h.matches(request));
        if !meant {
            return FaultDecision::default();
        }
        let number = |name: &str| {
            let value = request.header(name)?;
            std::str::from_utf8(&value).ok()?.parse::<u64>().ok()
        };
        let [delay_dice, abort_dice] = random;
        let delay = self.delay.as_ref().and_then(|(delay, percentage)| match delay {
            Delay::Fixed(fixed) => percentage.fixed.hits(delay_dice).then_some(*fixed),
            Delay::Header => {
                let wait = Duration::from_millis(number("x-envoy-fault-delay-request")?);
                let share = percentage.asked(number("x-envoy-fault-delay-request-percentage"));
                share.hits(delay_dice).then_some(wait)
            }
        });
        let abort = self.abort.as_ref().and_then(|(abort, percentage)| match abort {
            Kind::Fixed(fixed) => percentage.fixed.hits(abort_dice).then_some(*fixed),
            Kind::Header => {
                let http = number("x-envoy-fault-abort-request").and_then(status_of);
                let grpc = || u16::try_from(number("x-envoy-fault-abort-grpc-request")?).ok();
                let asked = http.or_else(|| grpc().map(Abort::Grpc))?;
                let share = percentage.asked(number("x-envoy-fault-abort-request-percentage"));
                share.hits(abort_dice).then_some(asked)
            }
        });
        FaultDecision { delay: delay.filter(|delay| !delay.is_zero()), abort }
    }
}

fn status_of(status: u64) -> Option<Abort> {
    u16::try_from(status).ok().filter(|status| (200..600).contains(status)).map(Abort::Status)
}

/// How often a fault applies: never where nothing is said. A request may ask for less by a header, in the same parts.
#[derive(Debug)]
struct Percentage {
    fixed: Fraction,
    message: FractionalPercent,
}

impl Percentage {
    fn of(message: Option<&FractionalPercent>) -> Percentage {
        let message = message.copied().unwrap_or_default();
        Percentage { fixed: proto::fraction(&message), message }
    }

    fn asked(&self, numerator: Option<u64>) -> Fraction {
        let Some(asked) = numerator.and_then(|asked| u32::try_from(asked).ok()) else { return self.fixed };
        let numerator = asked.min(self.message.numerator);
        proto::fraction(&FractionalPercent { numerator, ..self.message })
    }
}
