//! Child processes: placed on a core, logged, and ended when dropped, or with us if we are killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

/// Until a program listens.
const START_LIMIT: Duration = Duration::from_secs(20);
/// From the request to end until the kill.
const END_LIMIT: Duration = Duration::from_secs(8);

/// How a program is to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Placement {
    pub core: Option<usize>,
    pub class: Class,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Class {
    #[default]
    Ordinary,
    /// `SCHED_IDLE`, or an error: what all others leave.
    Leftover,
    /// Ahead of ordinary ones, if this user may.
    Urgent,
    /// `SCHED_FIFO`, or an error.
    RealTime,
}

impl Placement {
    /// The command that becomes `command` so placed: our own program, which needs no code between fork and exec.
    pub fn command(self, command: &[String]) -> anyhow::Result<Command> {
        let mut process = Command::new(std::env::current_exe().context("our own program")?);
        process.arg("place").args(["--parent", &std::process::id().to_string()]);
        if let Some(core) = self.core {
            process.args(["--core", &core.to_string()]);
        }
        if let Some(class) = self.class.to_possible_value() {
            process.args(["--class", class.get_name()]);
        }
        process.arg("--").args(command);
        Ok(process)
    }
}

#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Standard error goes to the log `NAME.log` in the directory; standard output too, unless it is piped.
    pub fn start(
        name: &str,
        command: &[String],
        environment: &[(&str, String)],
        placement: Placement,
        directory: &Path,
        pipes: bool,
    ) -> anyhow::Result<Running> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let mut process = placement.command(command)?;
        process.envs(environment.iter().map(|(key, value)| (key, value)));
        process.stderr(file.try_clone()?);
        if pipes {
            process.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            process.stdin(Stdio::null()).stdout(file);
        }
        let child = process.spawn().with_context(|| format!("start {name}"))?;
        Ok(Running { name: name.to_owned(), child, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Of a child with pipes, once.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }

    /// Waits until something listens there.
    pub fn wait_listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}): {}", self.name, self.last_words());
            }
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}: {}", self.name, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What it said last, if it has ended.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{} ended ({status}): {}", self.name, self.last_words()))
    }

    /// Waits until it has ended well, and looks on with its PID about once a second. An error if it ends otherwise or takes
    /// longer; it is ended when dropped.
    pub fn wait(&mut self, limit: Duration, mut look: impl FnMut(u32)) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        for turn in 0_u32.. {
            if turn.is_multiple_of(20) {
                look(self.pid());
            }
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended ({status}): {}", self.name, self.last_words()),
                None if Instant::now() > deadline => {
                    bail!("{} did not end within {:.0} s", self.name, limit.as_secs_f64())
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        Ok(())
    }

    /// The end of its log, for messages.
    pub fn last_words(&self) -> String {
        let mut text = Vec::new();
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(1500)))?;
            file.take(1500).read_to_end(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) if text.is_empty() => "it said nothing".to_owned(),
            Ok(text) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(e) => format!("its log {} cannot be read: {e}", self.log.display()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), pid) {
            let _ = kill_process(pid, Signal::TERM);
            let deadline = Instant::now() + END_LIMIT;
            while matches!(self.child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    eprintln!("{} did not end when asked to: killed", self.name);
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// What a command says, or an error when it takes longer: it is killed then.
pub fn output_within(mut command: Command, limit: Duration) -> anyhow::Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(child.wait_with_output());
    });
    match outcome.recv_timeout(limit) {
        Ok(output) => Ok(output?),
        Err(_) => {
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::KILL);
            }
            bail!("it did not end within {:.0} s", limit.as_secs_f64())
        }
    }
}

/// The first line of a pipe, or an error when it ends or the time is over. Further lines are read and dropped, so
/// that the writer never blocks.
pub fn first_line(pipe: ChildStdout, limit: Duration) -> anyhow::Result<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        let _ = pipe.read_line(&mut line);
        let _ = sender.send(line);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    });
    match lines.recv_timeout(limit) {
        Ok(line) if !line.is_empty() => Ok(line),
        Ok(_) => bail!("it ended without a word"),
        Err(_) => bail!("it said nothing within {} s", limit.as_secs()),
    }
}

/// A port nobody listens on now. Another process may take it before the one it is for does; that one then says so.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?)
}
