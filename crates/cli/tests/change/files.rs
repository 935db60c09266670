//! 10,000 objects in as many files: what a start costs, and what one changed file does.
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Running, until};
use crate::mesh::{Place, put, shown};

const FILES: usize = 10_000;
/// From the start of the control plane until a proxy has its configuration, all threads, on a machine that does nothing else.
const GOAL: Duration = Duration::from_secs(1);
/// What is asserted: on a busy machine the same work takes more of a processor.
const AT_MOST: Duration = Duration::from_millis(1500);

fn service_entry(number: usize, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: e{number}\n  namespace: default\nspec:\n  hosts:\n  - e{number}.example.com\n  \
         ports:\n  - number: {port}\n    name: http\n    protocol: HTTP\n  resolution: STATIC\n  endpoints:\n  - address: 10.0.0.1\n"
    )
}

/// Processor time of a process so far, in user and kernel mode, by all its threads.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / 100)
}

fn control(place: &Place) -> Running {
    let (config, state) = (shown(&place.config()), shown(&place.state()));
    let any = "127.0.0.1:0";
    Running::start(&["control", "--config", &config, "--state-dir", &state, "--xds", any, "--http", any])
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn ten_thousand_files_are_served_after_a_second_of_processor_time() {
    let place = Place::new();
    for number in 0..FILES {
        std::fs::write(place.config().join(format!("{number:05}.yaml")), service_entry(number, 80)).unwrap();
    }
    let control = control(&place);
    let ready = cpu(control.child.id());
    let xds = control.text("/control/xds").to_owned();
    let gateway_state = shown(&place.path("beside"));
    let gateway =
        ["proxy", "--gateway", "istio-ingressgateway", "--xds", &xds, "--state-dir", &gateway_state];
    let gateway = Running::start(&gateway);
    let served = cpu(control.child.id());
    println!(
        "{FILES} files: ready after {:?} and {ready:?} of CPU, a proxy has all of it after {served:?}",
        control.took
    );
    let admin = gateway.text("/admin").to_owned();
    let clusters = crate::common::client::get(&format!("http://{admin}/clusters"), &[]).1;
    assert!(clusters.matches("::added_via_api::").count() >= FILES, "{}", clusters.len());
    println!("goal {GOAL:?}: {}", if served <= GOAL { "met" } else { "missed" });
    assert!(served <= AT_MOST, "{served:?} of CPU from the start until a proxy has its configuration");
    one_changed_file_is_one_file_read(&place, &control);
}

/// By strace: the files of the directory that the control plane opened and looked at.
fn one_changed_file_is_one_file_read(place: &Place, control: &Running) {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: files that a change reads (strace is not installed)");
        return;
    }
    let page = |path: &str| {
        let http = control.text("/control/http");
        crate::common::client::get(&format!("{http}{path}"), &[]).1
    };
    let port = |number: usize| page(&format!("/filamesh/v1/objects?kind=serviceentry&name=e{number}"));
    let trace = place.path("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=file,getdents64", "-o"])
        .arg(&trace)
        .args(["-p", &control.child.id().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let traced = || std::fs::read_to_string(&trace).unwrap_or_default();
    // The look at every file a second after the start is over, and the tracer is there, when a change shows in the trace
    // and makes no more than its own file be opened.
    let mut least = usize::MAX;
    for round in 0..5u16 {
        let before = traced().len();
        let file = format!("{:05}.yaml", 500 + round);
        let name = 500 + usize::from(round);
        put(&place.config(), &file, &service_entry(name, 8100 + round));
        until("the change is read", Duration::from_secs(10), || {
            port(name).contains(&format!("number: {}", 8100 + round)) && traced()[before..].contains(&file)
        });
        let text = traced();
        // The page that is asked for opens the file too, to show what is written: that is not the reading of the change.
        let config = place.config();
        let opened = opened(&text[before..], &config);
        let others = opened.iter().filter(|path| !path.ends_with(&file)).count();
        let looked = text[before..].lines().filter(|line| line.contains(&shown(&config))).count();
        println!(
            "one changed file: {others} others opened, {looked} calls that name the directory or a file in it"
        );
        least = least.min(others.max(looked / 100));
        if least == 0 {
            break;
        }
    }
    kill(Pid::from_raw(i32::try_from(strace.id()).unwrap()), Signal::SIGINT).unwrap();
    strace.wait().unwrap();
    assert_eq!(least, 0, "a change of one file opened others, or looked at hundreds");
}

/// Paths of configuration files that were opened.
fn opened<'t>(trace: &'t str, config: &Path) -> Vec<&'t str> {
    let config = shown(config);
    let of = |line: &'t str| line.contains("open").then(|| line.split('"').nth(1)).flatten();
    trace.lines().filter_map(of).filter(|path| path.starts_with(&config) && path.ends_with(".yaml")).collect()
}
