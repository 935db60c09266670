//! h2load, the load generator of nghttp2, as the judge of HTTP/2: an implementation that is not ours.

use anyhow::{Context, ensure};

use crate::load::Measured;
use crate::procfs::Cpu;

/// Bytes of a call's body: the five of a gRPC message's head, and its content.
const CALL: usize = 100;
/// What each reply carries, or it came from somewhere else than the upstream.
const REPLY: u64 = crate::upstream::GRPC_BODY as u64;

pub fn call() -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, (CALL - 5) as u8];
    bytes.resize(CALL, b'x');
    bytes
}

/// `body`: the file that holds the call. Windows as large as they may be: flow control is not what is measured.
pub fn options(target: &str, connections: usize, streams: usize, seconds: f64, body: &str) -> Vec<String> {
    let milliseconds = (seconds * 1e3).ceil().max(1.0);
    let mut options: Vec<String> = vec![
        format!("--clients={connections}"),
        format!("--max-concurrent-streams={streams}"),
        "--threads=1".into(),
        format!("--duration={milliseconds}ms"),
        "--window-bits=24".into(),
        "--connection-window-bits=28".into(),
        format!("--data={body}"),
    ];
    for field in [":authority: bench.local", "content-type: application/grpc", "te: trailers"] {
        options.push(format!("--header={field}"));
    }
    options.push(format!("http://{target}/bench.Items/Read"));
    options
}

/// What one run said, and what the proxy used meanwhile.
pub fn read(said: &str, seconds: f64, used: Option<Cpu>) -> anyhow::Result<Measured> {
    let line = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key))
            .with_context(|| format!("h2load said nothing of {:?}", key.trim_end()))
    };
    let requests = line("requests: ")?;
    let count =
        |what: &str| number_before(requests, what).with_context(|| format!("h2load's count of{what}"));
    // Finished ones: status codes count those under way at the end as well.
    let (good, failed, errored) = (count(" succeeded")?, count(" failed")?, count(" errored")?);
    ensure!(good > 0, "h2load: no call succeeded ({failed} failed, {errored} errored): no HTTP/2 there?");
    let data = line("traffic: ")?.rsplit_once('(').and_then(|(_, rest)| rest.split(')').next());
    let data: u64 = data.and_then(|data| data.parse().ok()).context("h2load's count of bytes")?;
    ensure!(data >= good * REPLY, "{good} replies hold {data} B, not {REPLY} each: not the upstream's");
    let (user_us, system_us) = used.map(|used| Measured::split(used, good)).unzip();
    let rps = line("finished in ")?.split(", ").find_map(|part| part.strip_suffix(" req/s")?.parse().ok());
    Ok(Measured {
        replies: good,
        served: good,
        errors: failed + errored,
        first_error: (failed + errored > 0).then(|| requests.trim().to_owned()),
        seconds,
        rps: rps.context("h2load's rate")?,
        user_us,
        system_us,
        // It tells least, greatest and mean only.
        p50_us: None,
        p90_us: None,
        p99_us: None,
        p999_us: None,
        max_us: None,
    })
}

/// `12` of `..., 12 failed, ...`.
fn number_before(text: &str, what: &str) -> Option<u64> {
    text.split(',').find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SAID: &str = "starting benchmark...
finished in 1.50s, 2000.00 req/s, 600.10KB/s
requests: 3000 total, 3128 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 750.00KB (768000) total, 20.00KB (20480) headers (space savings 70.00%), 376.00KB (385024) data
                     min         max         mean         sd        +/- sd
time for request:      110us      3.10ms       1.20ms       600us    61.00%
";

    #[test]
    fn what_it_says_is_read() {
        let ms = Duration::from_millis;
        let used = Cpu { total: ms(30), user: ms(10), system: ms(20) };
        let measured = read(SAID, 1.5, Some(used)).unwrap();
        assert_eq!((measured.replies, measured.errors, measured.rps), (3000, 0, 2000.0));
        assert!((measured.cpu_us().unwrap() - 10.0).abs() < 1e-9, "{measured:?}");
        assert!((measured.user_us.unwrap() - 10.0 / 3.0).abs() < 1e-9, "{measured:?}");
    }

    #[test]
    fn replies_that_are_not_the_upstreams_are_no_figures() {
        let locally_made = SAID.replace("(385024) data", "(0) data");
        assert!(read(&locally_made, 1.5, None).unwrap_err().to_string().contains("not the upstream's"));
        let refused = SAID.replace("3000 succeeded", "0 succeeded").replace("0 failed", "64 failed");
        let why = read(&refused, 1.5, None).unwrap_err().to_string();
        assert_eq!(why, "h2load: no call succeeded (64 failed, 0 errored): no HTTP/2 there?");
        assert!(read("", 1.5, None).is_err());
        let some = read(&SAID.replace("0 errored", "7 errored"), 1.5, None).unwrap();
        assert_eq!((some.errors, some.cpu_us()), (7, None));
    }

    #[test]
    fn a_call_is_one_message() {
        let call = call();
        assert_eq!((call.len(), usize::from(call[4])), (CALL, CALL - 5));
    }
}
