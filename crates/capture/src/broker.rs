//! The holder's end: it owns the namespaces, starts the application, hands out sockets, and sees to
//! it that nothing of the application outlives the sidecar.
//!
//! One thread, one loop, two descriptors: the control socket and a signalfd. Signals are taken
//! through the signalfd, with their dispositions untouched, so that the application inherits what
//! the user's shell set (`nohup`, for one), and so that Ctrl-C in a terminal, which reaches the whole
//! foreground group, ends the application its own way instead of ending the holder before it.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdin, dup2_stdout};

use crate::app_sockets::{Family, unconnected};
use crate::protocol::{self, Exit, ListenerCounts, MAX_FDS, Order, Report};
use crate::spec::Mode;
use crate::why_not::{SetupFailure, Stage};
use crate::{listeners, namespace, network, process_tree, syscalls};

/// The hidden argument that turns the binary into a holder.
pub const HOLDER_ARGUMENT: &str = "__holder";

/// How long descendants have between SIGTERM and SIGKILL when the sidecar is gone or the
/// application itself has ended. With the kill's own time it stays under the two seconds promised.
const GRACE: Duration = Duration::from_secs(1);

/// Between two rounds of SIGKILL: a process that forked while the first round read the list.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// To be called first thing in `main`, before any thread exists. In an ordinary start it returns at
/// once; in a process started as a holder it never returns.
pub fn holder_main() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != HOLDER_ARGUMENT) {
        return;
    }
    let control = arguments.next().and_then(|fd| fd.to_str()?.parse().ok());
    let Some(control) = control.and_then(syscalls::own_inherited_socket) else {
        say(format_args!("`{HOLDER_ARGUMENT}` is for the sidecar's own use; see `filamesh run --help`"));
        std::process::exit(64);
    };
    let code = match Broker::prepare(control, arguments.collect()) {
        Ok(Some(mut broker)) => broker.run(),
        // The sidecar went away first.
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = code {
        process_tree::signal_descendants(Pid::this(), Signal::SIGKILL);
        say(format_args!("the process that holds the application failed: {error}"));
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Unlike `eprintln!`, survives that nobody takes it.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "filamesh: {line}");
}

struct Broker {
    /// `None` once the sidecar is gone.
    control: Option<OwnedFd>,
    signals: SignalFd,
    command: Vec<OsString>,
    /// Capabilities the application must not have.
    dropped: Vec<u8>,
    application: Option<Pid>,
    started: bool,
    /// When SIGTERM was sent and SIGKILL follows.
    kill_at: Option<Instant>,
    done: bool,
}

impl Broker {
    /// Everything up to the sockets being with the sidecar. `None` when there is nothing to run:
    /// the sidecar is gone or has been told why it does not work.
    fn prepare(control: OwnedFd, command: Vec<OsString>) -> io::Result<Option<Self>> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            // A stopped holder could not end the application when the sidecar is killed.
            Signal::SIGTSTP,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
        ] {
            mask.add(signal);
        }
        mask.thread_set_mask()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        prctl::set_child_subreaper(true)?;

        let Some((order, _)) = protocol::receive::<Order>(control.as_fd())? else { return Ok(None) };
        let Order::Prepare(mode) = order else {
            return Err(io::Error::other("the sidecar's first order was not to prepare"));
        };
        let prepared = match mode {
            Mode::Environment => Ok(Prepared::default()),
            Mode::Namespace(spec) => namespace::enter().and_then(|dropped| {
                let v6 = network::set_up(&spec)?;
                namespace::relax();
                let notes = namespace::hide_sockets(&spec.hidden_sockets);
                let opened = listeners::open(&spec, v6).and_then(|(mut fds, counts)| {
                    fds.push(File::open("/proc/self/ns/net")?.into());
                    Ok((fds, counts))
                });
                let (fds, counts) = opened.map_err(|error| SetupFailure {
                    stage: Stage::Sockets,
                    errno: error.raw_os_error(),
                    message: error.to_string(),
                })?;
                Ok(Prepared { dropped, notes, fds, counts })
            }),
        };
        match prepared {
            Err(failure) => {
                send(&control, &Report::Failed(failure), &[])?;
                Ok(None)
            }
            Ok(Prepared { dropped, notes, fds, counts }) => {
                let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                send(&control, &Report::Ready { counts, notes }, &fds)?;
                Ok(Some(Self {
                    control: Some(control),
                    signals,
                    command,
                    dropped,
                    application: None,
                    started: false,
                    kill_at: None,
                    done: false,
                }))
            }
        }
    }

    /// Until nothing is left to look after.
    fn run(&mut self) -> io::Result<()> {
        while !self.done {
            let (order, signal) = self.wait()?;
            if signal {
                self.take_signals()?;
            }
            if order {
                self.take_order();
            }
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                process_tree::signal_descendants(Pid::this(), Signal::SIGKILL);
                self.kill_at = Some(Instant::now() + KILL_AGAIN);
            }
        }
        Ok(())
    }

    /// Waits for an order, a signal or the time to kill.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let timeout = match self.kill_at {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
            }
        };
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(control) = &self.control {
            fds.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
        Ok((ready(fds.get(1)), ready(fds.first())))
    }

    fn take_order(&mut self) {
        let Some(control) = &self.control else { return };
        match protocol::receive::<Order>(control.as_fd()) {
            // End of file: the sidecar is gone, by whatever death.
            Ok(None) => {
                self.control = None;
                self.end(GRACE);
            }
            Ok(Some((order, _))) => match order {
                Order::Prepare(_) => {}
                Order::Start { cwd } => self.start(cwd),
                Order::Sockets { v4, v6 } => self.hand_out(v4, v6),
                Order::Signal(number) => {
                    if let (Some(pid), Ok(signal)) = (self.application, Signal::try_from(number)) {
                        let _ = kill(pid, signal);
                    }
                }
                Order::Stop { grace_ms } => self.end(Duration::from_millis(grace_ms)),
            },
            Err(error) => {
                say(format_args!("unreadable order from the sidecar, ending the application: {error}"));
                self.control = None;
                self.end(GRACE);
            }
        }
    }

    fn take_signals(&mut self) -> io::Result<()> {
        let mut children = false;
        while let Some(info) = self.signals.read_signal()? {
            match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => children = true,
                // Meant for us alone: the terminal sends other signals.
                Ok(Ok(Signal::SIGTERM)) => self.end(GRACE),
                _ => {}
            }
        }
        if children { self.reap() } else { Ok(()) }
    }

    fn start(&mut self, cwd: Option<PathBuf>) {
        let spawned = match self.command.split_first() {
            _ if self.started => Err(io::Error::other("the application was started before")),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "no command was given")),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments);
                if let Some(cwd) = &cwd {
                    command.current_dir(cwd);
                }
                syscalls::prepare_application(&mut command, SigSet::empty(), self.dropped.clone());
                command.spawn()
            }
        };
        let report = match spawned {
            Ok(child) => {
                self.started = true;
                self.application = i32::try_from(child.id()).ok().map(Pid::from_raw);
                // Whoever reads the application's output, or writes its input, waits for the last
                // holder of the other end to go; that must be the application.
                if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
                    let _ = dup2_stdin(&null);
                    let _ = dup2_stdout(&null);
                }
                Report::Started { pid: child.id() }
            }
            Err(error) => Report::StartFailed { errno: error.raw_os_error(), message: error.to_string() },
        };
        self.report(&report, &[]);
    }

    /// Makes sockets and sends them, as many to a message as the kernel takes.
    fn hand_out(&self, v4: u16, v6: u16) {
        let (mut v4, mut v6) = (usize::from(v4), usize::from(v6));
        while v4 + v6 > 0 {
            let now_v4 = v4.min(MAX_FDS);
            let now_v6 = v6.min(MAX_FDS - now_v4);
            let mut fds = Vec::with_capacity(now_v4 + now_v6);
            let mut made = [0_u16; 2];
            let mut failed = None;
            for (index, (family, wanted)) in
                [(Family::V4, now_v4), (Family::V6, now_v6)].into_iter().enumerate()
            {
                for _ in 0..wanted {
                    match unconnected(family) {
                        Ok(fd) => {
                            fds.push(fd);
                            if let Some(count) = made.get_mut(index) {
                                *count += 1;
                            }
                        }
                        Err(errno) => {
                            failed = Some(errno as i32);
                            break;
                        }
                    }
                }
            }
            let [made_v4, made_v6] = made;
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            self.report(&Report::Sockets { v4: made_v4, v6: made_v6, errno: failed }, &borrowed);
            if failed.is_some() {
                break;
            }
            v4 -= now_v4;
            v6 -= now_v6;
        }
    }

    /// SIGTERM now, SIGKILL after `grace`; sooner if an earlier call said sooner.
    fn end(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        match self.application {
            // The application first and alone: a server with workers ends them in its own order.
            Some(pid) => {
                let _ = kill(pid, Signal::SIGTERM);
                // A stopped process takes the signal only when continued.
                let _ = kill(pid, Signal::SIGCONT);
            }
            None => {
                process_tree::signal_descendants(Pid::this(), Signal::SIGTERM);
            }
        }
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        if !self.started {
            self.done = true;
        }
    }

    /// Collects everything that died. As a subreaper we inherit every orphan of the application, so
    /// "no children" means that nothing of it is left.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => break,
                Err(errno) => return Err(errno.into()),
            };
            if Some(pid) == self.application {
                self.application = None;
                self.report(&Report::Exited(exit), &[]);
                self.end(GRACE);
            }
        }
        if self.started && self.application.is_none() {
            self.report(&Report::Gone, &[]);
            self.done = true;
        }
        Ok(())
    }

    /// Tells the sidecar. If it cannot be told it is gone, and the control socket says so next.
    fn report(&self, report: &Report, fds: &[BorrowedFd<'_>]) {
        if let Some(control) = &self.control
            && let Err(error) = send(control, report, fds)
            // A refused message with descriptors (too many in flight) is answered without them.
            && !fds.is_empty()
        {
            let empty = Report::Sockets { v4: 0, v6: 0, errno: error.raw_os_error() };
            let _ = send(control, &empty, &[]);
        }
    }
}

/// What a namespace gives the sidecar; nothing without one.
#[derive(Default)]
struct Prepared {
    dropped: Vec<u8>,
    notes: Vec<String>,
    fds: Vec<OwnedFd>,
    counts: ListenerCounts,
}

fn send(control: &OwnedFd, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    protocol::send(control.as_fd(), report, fds, MsgFlags::empty())
}
