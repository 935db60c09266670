//! Waiting until a change is live on every proxy, once for all its objects.
use std::time::{Duration, Instant};

use clap::{ArgAction, Args, ValueEnum};
use control::shapes::Live;
use control::status::change::Changed;
use http::Method;

use crate::exit::{Code, Failure, Outcome};
use crate::http_client;
use crate::mesh::MeshFile;
use crate::output::say;

/// The control plane's answer may come so much later than it was asked for.
const ANSWER: Duration = Duration::from_secs(10);

/// `--wait` and `--timeout`, as kubectl has them.
#[derive(Debug, Args)]
pub struct Wait {
    /// Return when the change is live on every connected proxy; `--wait=false`: as soon as it is stored
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true",
          require_equals = true)]
    wait: bool,
    /// How long to wait before saying which proxies lag: 500ms, 30s, 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    timeout: Duration,
}

/// `--dry-run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Do it
    None,
    /// Check the input here, ask no mesh
    Client,
    /// Ask the control plane what it would do
    Server,
}

impl DryRun {
    /// What kubectl writes behind what it would have done.
    pub fn remark(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text}: a number with a unit, e.g. 500ms, 30s, 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "" if number == 0 => Some(0),
        _ => None,
    };
    // The control plane waits ten minutes at most.
    millis.filter(|millis| *millis <= 600_000).map(Duration::from_millis).ok_or_else(wrong)
}

impl Wait {
    /// Waits for the generation of the change. `began`: when the command did.
    pub fn for_change(&self, mesh: &MeshFile, changed: &Changed, began: Instant) -> Outcome {
        if !self.wait || changed.revision.is_none() {
            return Ok(());
        }
        let (generation, limit) = (changed.generation, self.timeout.as_millis());
        let url =
            format!("{}/filamesh/v1/wait?generation={generation}&timeout_ms={limit}", mesh.control.http);
        let (status, body) =
            http_client::request_within(Method::GET, &url, self.timeout.saturating_add(ANSWER))?;
        let live: Live = serde_json::from_slice(&body)
            .map_err(|e| Failure::new(Code::Failure, format!("{url} answered {status}: {e}")))?;
        for refused in &live.refused {
            say(format_args!("a proxy refused {} {}: {}", refused.kind, refused.resource, refused.reason));
        }
        say(format_args!(
            "live on {} of {} proxies after {} ms (generation {generation})",
            live.live,
            live.of,
            began.elapsed().as_millis()
        ));
        if status == 200 {
            return Ok(());
        }
        Err(Failure::new(
            Code::Failure,
            format!(
                "not live within {} s on: {} (see filamesh proxy-status)",
                self.timeout.as_secs_f64(),
                live.pending.join(", ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_for_kubectl() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("0", Some(0)),
            ("10m", Some(600_000)),
            ("11m", None),
            ("30", None),
            ("s", None),
            ("", None),
            ("18446744073709551615m", None),
            ("1h", None),
        ] {
            assert_eq!(parse_time(text).ok().map(|t| t.as_millis()), millis, "{text}");
        }
    }
}
