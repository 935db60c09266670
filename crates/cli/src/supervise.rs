//! The processes of a mesh: started, watched, restarted, ended together.
//!
//! Every child holds the read end of a pipe of ours as its standard input: when this process is gone, for
//! whatever reason, the pipe ends and the child ends itself (`lifeline.rs`). So `kill -9` leaves nothing.
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::exit::Failure;

/// A child to run: our own program with these arguments.
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Where what it writes to stderr goes.
    pub log: PathBuf,
}

/// What happened to a child.
#[derive(Debug)]
pub enum Event {
    /// It printed an event of its own, a JSON object on one line.
    Said(usize, Value),
    Ended(usize, String),
    /// SIGINT, SIGTERM or SIGHUP came to this process.
    Stop,
}

/// A running child.
pub struct Process {
    pub pid: u32,
    pub started: Instant,
    lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts the child; its events come with this index.
    pub fn start(role: Role, index: usize, events: &Sender<Event>) -> Result<Process, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::io("cannot find our own program", &e))?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&role.log)
            .map_err(|e| Failure::io(format!("cannot open {}", role.log.display()), &e))?;
        let mut command = Command::new(program);
        command
            .args(&role.arguments)
            .envs(role.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        // A terminal's Ctrl-C goes to its whole process group: the order of the end is ours.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child =
            command.spawn().map_err(|e| Failure::io(format!("cannot start {}", role.name), &e))?;
        let lifeline = child.stdin.take();
        let pid = child.id();
        watch(child, index, events.clone());
        Ok(Process { pid, started: Instant::now(), lifeline })
    }

    /// Asks it to end: SIGTERM and the end of its lifeline.
    pub fn ask_to_end(&mut self) {
        self.lifeline = None;
        self.signal(Signal::SIGTERM);
    }

    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// One thread a child: hands on what it says, then how it ended.
fn watch(mut child: Child, index: usize, events: Sender<Event>) {
    std::thread::spawn(move || {
        if let Some(out) = child.stdout.take() {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    let _ = events.send(Event::Said(index, value));
                }
            }
        }
        let how = match child.wait() {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let _ = events.send(Event::Ended(index, how));
    });
}

/// Ends all children: asked first, killed after the grace. Returns when none is left.
pub fn end_all(
    processes: &mut [Option<Process>],
    events: &std::sync::mpsc::Receiver<Event>,
    grace: Duration,
) {
    for process in processes.iter_mut().flatten() {
        process.ask_to_end();
    }
    let deadline = Instant::now() + grace;
    let mut killed = false;
    while processes.iter().any(Option::is_some) {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(if killed { Duration::from_secs(1) } else { left }) {
            Ok(Event::Ended(index, _)) => {
                if let Some(slot) = processes.get_mut(index) {
                    *slot = None;
                }
            }
            Ok(_) => {}
            Err(_) if killed => return,
            Err(_) => {
                killed = true;
                for process in processes.iter().flatten() {
                    process.signal(Signal::SIGKILL);
                }
            }
        }
    }
}

/// Sends `Event::Stop` when this process is asked to end. Call before any thread is started.
pub fn watch_signals(events: Sender<Event>) {
    let stop = crate::signals::Stop::take();
    std::thread::spawn(move || {
        loop {
            stop.wait();
            if events.send(Event::Stop).is_err() {
                return;
            }
        }
    });
}
