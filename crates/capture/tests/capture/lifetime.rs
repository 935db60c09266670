//! Nothing outlives what it should not.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use capture::{AppExit, Holder, HolderSpec, Mode, StartError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{App, LIMIT, Test, alive, exe, spec, until};

pub const TESTS: &[Test] = &[
    ("exit_status_is_the_applications", exit_status),
    ("what_cannot_be_started_is_said", start_errors),
    ("stop_asks_first_and_then_kills", stop),
    ("a_terminals_signals_leave_the_holder_alone", terminal_signals),
    ("descendants_end_with_the_application", descendants),
    ("nothing_is_left_when_the_sidecar_is_killed", killed_sidecar),
    ("nothing_is_left_when_the_sidecar_is_killed_without_capture", killed_sidecar_environment),
    ("nothing_is_left_when_the_holder_is_killed", killed_holder),
    ("dropping_ends_the_application", dropped),
    ("environment_fallback", environment),
    ("output_ends_with_the_application", output_ends),
];

/// An application that does not want to end: it ignores SIGTERM, and has a child in another session
/// and a grandchild whose parent is gone, both of which ignore it too. It prints the three pids.
const STUBBORN: &str = r#"
trap '' TERM HUP INT
setsid sh -c 'trap "" TERM HUP INT; sleep 1000' & 
sh -c 'setsid sh -c "trap \"\" TERM HUP INT; echo \$\$; while :; do sleep 1000; done" &'
echo $! $$
wait
sleep 1000
"#;

fn mode(name: &str) -> Mode {
    match name {
        "environment" => Mode::Environment,
        _ => spec(&[]).mode,
    }
}

/// The part of a sidecar: starts the command, says the holder's pid, and waits.
pub fn sidecar(mode_name: &str, command: &[&str]) {
    let holder = Holder::spawn(HolderSpec { mode: mode(mode_name), ..spec(command) }).unwrap();
    println!("holder {}", holder.holder_pid());
    holder.start().unwrap();
    std::process::exit(holder.wait().status());
}

/// A stubborn application under a sidecar of its own; its pids and the holder's.
fn stubborn(mode: &str) -> (Child, i32, Vec<i32>) {
    let mut sidecar = Command::new(exe())
        .args(["sidecar", mode, "sh", "-c", STUBBORN])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sidecar.stdout.take().unwrap()).lines().map(Result::unwrap);
    let holder = lines.next().unwrap().strip_prefix("holder ").unwrap().parse().unwrap();
    let pids: Vec<i32> = lines
        .by_ref()
        .take(2)
        .flat_map(|line| line.split(' ').map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>())
        .collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|&pid| alive(pid)), "{pids:?}");
    (sidecar, holder, pids)
}

fn killed_sidecar() {
    killed_sidecar_in("namespace");
}

fn killed_sidecar_environment() {
    killed_sidecar_in("environment");
}

fn killed_sidecar_in(mode: &str) {
    let (mut sidecar, holder, mut pids) = stubborn(mode);
    pids.push(holder);
    sidecar.kill().unwrap();
    let took = until(Duration::from_secs(2), "everything gone after kill -9 of the sidecar", || {
        !pids.iter().any(|&pid| alive(pid))
    });
    println!("  gone {took:.0?} after the sidecar (SIGTERM ignored)");
    sidecar.wait().unwrap();
}

fn killed_holder() {
    let (mut sidecar, holder, pids) = stubborn("namespace");
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    until(Duration::from_secs(2), "everything gone after kill -9 of the holder", || {
        !pids.iter().any(|&pid| alive(pid))
    });
    assert_eq!(sidecar.wait().unwrap().code(), Some(AppExit::HolderLost.status()));
}

fn run(command: &[&str]) -> AppExit {
    let holder = Holder::spawn(spec(command)).unwrap();
    let pid = holder.start().unwrap();
    assert_eq!(holder.app_pid(), Some(pid));
    holder.wait_within(LIMIT).expect("the application ends")
}

fn exit_status() {
    assert_eq!(run(&["sh", "-c", "exit 7"]), AppExit::Code(7));
    assert_eq!(run(&["true"]), AppExit::Code(0));
    let killed = run(&["sh", "-c", "kill -9 $$"]);
    assert_eq!((killed, killed.status()), (AppExit::Signal(9), 137));

    let holder = Holder::spawn(spec(&["sleep", "1000"])).unwrap();
    holder.start().unwrap();
    holder.signal(Signal::SIGINT as i32).unwrap();
    assert_eq!(holder.wait_within(LIMIT), Some(AppExit::Signal(2)));
}

fn start_errors() {
    let start = |spec: HolderSpec| Holder::spawn(spec).unwrap().start().unwrap_err();
    let missing = start(spec(&["no-such-program-anywhere"]));
    assert!(
        matches!(&missing, StartError::NotFound(name) if name == "no-such-program-anywhere"),
        "{missing}"
    );
    assert_eq!(missing.status(), 127);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plain");
    std::fs::write(&file, "text").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let plain = start(spec(&[file.to_str().unwrap()]));
    assert!(matches!(plain, StartError::NotExecutable(_)), "{plain}");
    assert_eq!(plain.status(), 126);

    let nowhere = start(HolderSpec { cwd: Some("/no/such/directory".into()), ..spec(&["true"]) });
    assert!(nowhere.to_string().contains("working directory"), "{nowhere}");
    assert!(matches!(start(spec(&[])), StartError::Other { .. }));
}

fn stop() {
    let directory = tempfile::tempdir().unwrap();
    let started = |script: &str| {
        let ready = directory.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let script = format!("{script}\n: > {}\nwhile :; do sleep 0.01; done", ready.display());
        let holder = Holder::spawn(spec(&["sh", "-c", &script])).unwrap();
        holder.start().unwrap();
        until(LIMIT, "the trap is set", || ready.exists());
        holder
    };
    let polite = started("trap 'exit 3' TERM");
    polite.stop(LIMIT).unwrap();
    assert_eq!(polite.wait_within(LIMIT), Some(AppExit::Code(3)));

    let deaf = started("trap '' TERM");
    let asked = Instant::now();
    deaf.stop(Duration::from_millis(300)).unwrap();
    assert_eq!(deaf.wait_within(LIMIT), Some(AppExit::Signal(9)));
    assert!(asked.elapsed() >= Duration::from_millis(300));

    let hurried = started("trap '' TERM");
    hurried.stop(Duration::from_secs(60)).unwrap();
    hurried.stop(Duration::ZERO).unwrap();
    assert_eq!(hurried.wait_within(LIMIT), Some(AppExit::Signal(9)));

    let stopped = started("trap 'exit 4' TERM");
    stopped.signal(Signal::SIGSTOP as i32).unwrap();
    stopped.stop(LIMIT).unwrap();
    assert_eq!(stopped.wait_within(LIMIT), Some(AppExit::Code(4)));
}

/// Ctrl-C reaches the whole foreground group; whether the application ends is its own affair.
fn terminal_signals() {
    let holder = Holder::spawn(spec(&["sleep", "1000"])).unwrap();
    holder.start().unwrap();
    let pid = Pid::from_raw(i32::try_from(holder.holder_pid()).unwrap());
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTSTP] {
        kill(pid, signal).unwrap();
    }
    assert_eq!(holder.wait_within(Duration::from_millis(200)), None);
    // Still at work: it passes a signal on.
    holder.signal(Signal::SIGKILL as i32).unwrap();
    assert_eq!(holder.wait_within(LIMIT), Some(AppExit::Signal(9)));

    // SIGTERM is meant for it.
    let holder = Holder::spawn(spec(&["sleep", "1000"])).unwrap();
    holder.start().unwrap();
    kill(Pid::from_raw(i32::try_from(holder.holder_pid()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(holder.wait_within(LIMIT), Some(AppExit::Signal(15)));
}

fn descendants() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & while [ ! -e {0} ]; do sleep 0.01; done; exit 5",
        file.display()
    );
    assert_eq!(run(&["sh", "-c", &script]), AppExit::Code(5));
    let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    assert!(!alive(pid), "wait() returned before the application's child was gone");
}

fn dropped() {
    let holder = Holder::spawn(spec(&["sleep", "1000"])).unwrap();
    let pid = i32::try_from(holder.start().unwrap()).unwrap();
    let holder_pid = i32::try_from(holder.holder_pid()).unwrap();
    drop(holder);
    until(Duration::from_secs(2), "application and holder gone", || !alive(pid) && !alive(holder_pid));
}

fn environment() {
    let proxy = "127.77.200.7:15080".parse().unwrap();
    let app = App::prepare_with(&["status"], |spec| {
        spec.mode = Mode::Environment;
        spec.env.extend(capture::environment::variables(proxy, false, &[]));
    });
    assert!(app.holder.outbound.is_empty() && app.holder.dns.udp.is_empty());
    app.holder.start().unwrap();
    assert!(app.findings().contains(r#"proxy: Some("http://127.77.200.7:15080")"#));
    assert_eq!(app.holder.wait_within(LIMIT), Some(AppExit::Code(0)));
    // Sockets are ordinary ones: the application shares our network.
    assert!(app.holder.sockets().take(capture::Family::V4).is_some());
}

/// Whoever reads the application's output sees its end when the application closes it, although the
/// holder started with the same output.
fn output_ends() {
    let mut sidecar = Command::new(exe())
        .args(["sidecar", "namespace", "sh", "-c", "echo said; exec sleep 0.2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    sidecar.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.ends_with("said\n"), "{said}");
    assert!(sidecar.wait().unwrap().success());
}
