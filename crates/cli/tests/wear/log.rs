//! An access log that nobody reads: a request costs what it costs with one that somebody does.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::common::*;
use crate::subject::{Subject, bootstrap};

/// Istio's line is about as long.
const LINE: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% \
    %ROUTE_NAME%\n";
const CLIENTS: usize = 16;
/// Requests of each client in a round.
const TIMES: usize = 1000;
const ROUNDS: usize = 9;

fn pipe(path: &Path) -> File {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // For both: neither opening nor reading ends for want of the other side.
    File::options().read(true).write(true).open(path).unwrap()
}

fn logging_to(path: &Path, host: &Host) -> Subject {
    let mut manager = http(to("a"));
    let log = json!({ "path": path, "log_format": { "text_format_source": { "inline_string": LINE } } });
    manager["access_log"] = json!([{ "name": "file",
        "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", log) }]);
    Subject::ours(&bootstrap(&http_listener(manager), &[cluster("a", &[host.address])]), 1)
}

/// Processor time of the program for a request: all clients ask at once, and again when all have their answers.
fn cost(subject: &Subject, clients: &mut [Client]) -> Duration {
    let before = subject.ran();
    for _ in 0..TIMES {
        clients
            .iter_mut()
            .for_each(|client| client.say("GET /path?query HTTP/1.1\r\nhost: some.host\r\n\r\n"));
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    }
    (subject.ran() - before) / (TIMES * clients.len()) as u32
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_request_costs_the_same_while_nobody_reads_the_log() {
    let host = Host::saying("ok");
    let directory = tempfile::tempdir().unwrap();
    let (unread, read) = (directory.path().join("unread"), directory.path().join("read"));
    let _unread = pipe(&unread);
    let mut drained = pipe(&read);
    let bytes = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = bytes.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(length @ 1..) = drained.read(&mut buffer) {
            counted.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let subjects = [&unread, &read].map(|path| logging_to(path, &host));
    let mut clients = subjects.each_ref().map(|subject| {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| subject.client()).collect();
        // Until pipe, queue and buffer are full: a few MiB.
        for _ in 0..2 {
            cost(subject, &mut clients);
        }
        clients
    });
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let [unread, read] = &mut clients;
            let (blocked, draining) = match round % 2 {
                0 => (cost(&subjects[0], unread), cost(&subjects[1], read)),
                _ => {
                    let draining = cost(&subjects[1], read);
                    (cost(&subjects[0], unread), draining)
                }
            };
            println!("blocked {blocked:.2?}, drained {draining:.2?} a request");
            blocked.as_secs_f64() / draining.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ROUNDS / 2];
    println!(
        "blocked / drained: {ratio:.3} (median of {ROUNDS}, {:.3} to {:.3})",
        ratios[0],
        ratios[ROUNDS - 1]
    );
    assert!(bytes.load(std::sync::atomic::Ordering::Relaxed) > 1 << 20, "the log that is read has lines");
    assert!(ratio <= 1.05, "{ratio:.3}");
    std::io::stdout().flush().unwrap();
}
