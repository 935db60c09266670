//! The sidecar's end of a holder process: its sockets, the application's life.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::app_sockets::AppSockets;
use crate::broker::HOLDER_ARGUMENT;
use crate::process_tree;
use crate::protocol::{self, Exit, Order, Report};
use crate::spec::{HolderSpec, Mode, Namespace};
use crate::syscalls;
use crate::why_not::{Settings, WhyNot, diagnose};

/// Making a namespace takes milliseconds; a holder that says nothing for this long hangs.
const PREPARE_LIMIT: Duration = Duration::from_secs(10);

/// A holder process, seen from the sidecar. Dropping it ends the application (SIGTERM, one second,
/// SIGKILL), as does the sidecar's death by any cause.
pub struct Holder {
    /// Where captured IPv4 connections arrive, in the namespace: [`Namespace::listeners`] of them,
    /// sharing the port. Non-blocking. Empty with [`Mode::Environment`].
    pub outbound: Vec<TcpListener>,
    /// The same for IPv6; empty where the namespace has none.
    pub outbound_v6: Vec<TcpListener>,
    /// Where the application's DNS queries arrive, for [`crate::dns::serve`].
    pub dns: DnsSockets,
    /// What could not be done but does not prevent capture: lines to show the user.
    pub notes: Vec<String>,
    sockets: AppSockets,
    control: Arc<OwnedFd>,
    life: Arc<Life>,
}

/// Sockets that receive DNS queries. Non-blocking.
#[derive(Debug, Default)]
pub struct DnsSockets {
    pub udp: Vec<UdpSocket>,
    pub tcp: Vec<TcpListener>,
}

/// How the application ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppExit {
    Code(i32),
    Signal(i32),
    /// The holder died and could not say; whatever was left of the application was killed.
    HolderLost,
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("transparent capture is impossible here: {0}")]
    NotPossible(#[from] WhyNot),
    #[error("cannot start the holder process {exe}: {source}")]
    Exec { exe: String, source: io::Error },
    #[error(
        "the holder process ended or went silent before its sockets were ready{0}: does the binary's main begin with holder_main?"
    )]
    Silent(String),
    #[error("talking to the holder process failed: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("command not found: {0}")]
    NotFound(String),
    #[error("cannot execute {0}: permission denied; is it executable?")]
    NotExecutable(String),
    #[error("cannot start {command}: {message}")]
    Other { command: String, message: String },
    #[error("the holder process is gone")]
    HolderLost,
}

impl AppExit {
    /// The exit status a shell would show: 128 and the number for a signal.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
            Self::HolderLost => 1,
        }
    }
}

impl StartError {
    /// The exit status a shell would show.
    pub fn status(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
            Self::Other { .. } | Self::HolderLost => 1,
        }
    }
}

/// Whether this machine can capture: makes a namespace with everything in it and lets it go again
/// (a few milliseconds). `exe` as in [`HolderSpec::exe`].
pub fn probe(exe: &Path) -> Result<(), SpawnError> {
    let spec = HolderSpec {
        exe: exe.to_owned(),
        command: Vec::new(),
        env: Vec::new(),
        cwd: None,
        mode: Mode::Namespace(Namespace { pool: 1, ..Namespace::new([127, 77, 0, 1].into()) }),
    };
    Holder::spawn(spec).map(drop)
}

impl Holder {
    /// Starts the holder and waits until its sockets are here. The application is not started yet,
    /// so that the sidecar can be ready for its first packet: see [`Holder::start`].
    pub fn spawn(spec: HolderSpec) -> Result<Self, SpawnError> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(io::Error::from)?;
        let mut command = Command::new(&spec.exe);
        command.arg(HOLDER_ARGUMENT).arg(theirs.as_raw_fd().to_string()).args(&spec.command);
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        syscalls::inherit_fd(&mut command, theirs.as_fd());
        let child = command
            .spawn()
            .map_err(|source| SpawnError::Exec { exe: spec.exe.display().to_string(), source })?;
        drop(theirs);
        let mut child = Reaped(Some(child));

        protocol::send(ours.as_fd(), &Order::Prepare(spec.mode.clone()), &[], MsgFlags::empty())
            .or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        let limit = TimeVal::milliseconds(i64::try_from(PREPARE_LIMIT.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&ours, sockopt::ReceiveTimeout, &limit).map_err(io::Error::from)?;
        let report = match protocol::receive::<Report>(ours.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            other => other?,
        };
        let (counts, notes, fds) = match report {
            Some((Report::Ready { counts, notes }, fds)) => (counts, notes, fds),
            Some((Report::Failed(failure), _)) => return Err(diagnose(&failure, Settings::read()).into()),
            _ => return Err(SpawnError::Silent(child.end())),
        };
        setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::zero()).map_err(io::Error::from)?;

        let control = Arc::new(ours);
        let sockets = match &spec.mode {
            Mode::Environment => AppSockets::host(),
            Mode::Namespace(spec) => {
                let full = usize::from(spec.pool.clamp(1, 1024));
                let full_v6 = if counts.outbound_v6 > 0 { full.div_ceil(8) } else { 0 };
                AppSockets::namespace(Arc::clone(&control), full, full_v6)
            }
        };
        let mut fds = fds.into_iter();
        let holder = Self {
            outbound: fds.by_ref().take(counts.outbound_v4).map(TcpListener::from).collect(),
            outbound_v6: fds.by_ref().take(counts.outbound_v6).map(TcpListener::from).collect(),
            dns: DnsSockets {
                udp: fds.by_ref().take(counts.dns_udp).map(UdpSocket::from).collect(),
                tcp: fds.by_ref().take(counts.dns_tcp).map(TcpListener::from).collect(),
            },
            notes,
            sockets: sockets.clone(),
            control: Arc::clone(&control),
            life: Arc::new(Life::new(spec, child.process_id())),
        };
        // Held by the listening thread to its end: while it is open the number that identifies the
        // namespace cannot be given to another one.
        let namespace = fds.next().map(File::from);
        let life = Arc::clone(&holder.life);
        thread::Builder::new()
            .name("holder".to_owned())
            .spawn(move || listen(&control, &sockets, &life, child, namespace))?;
        holder.sockets.fill();
        Ok(holder)
    }

    /// Sockets for connecting to the application.
    pub fn sockets(&self) -> AppSockets {
        self.sockets.clone()
    }

    /// Starts the application; its pid, as the host sees it, is the answer.
    pub fn start(&self) -> Result<u32, StartError> {
        let order = Order::Start { cwd: self.life.spec.cwd.clone() };
        self.order(&order).map_err(|_| StartError::HolderLost)?;
        let mut state = self.life.lock();
        loop {
            if let Some(started) = state.started.take() {
                return started.map_err(|(errno, message)| self.start_error(errno, message));
            }
            if state.lost {
                return Err(StartError::HolderLost);
            }
            state = self.life.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The application's pid, once started.
    pub fn app_pid(&self) -> Option<u32> {
        self.life.lock().pid
    }

    /// The holder's own pid.
    pub fn holder_pid(&self) -> u32 {
        self.life.holder
    }

    /// Passes a signal (its number) to the application.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        self.order(&Order::Signal(number))
    }

    /// SIGTERM to the application now, SIGKILL after `grace` to everything of it that is left.
    /// Calling it again with a shorter grace shortens it. Returns at once; see [`Holder::wait`].
    pub fn stop(&self, grace: Duration) -> io::Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.order(&Order::Stop { grace_ms })
    }

    /// Blocks until the application and all its descendants are gone; for ever if it is never
    /// started and the holder lives.
    pub fn wait(&self) -> AppExit {
        let mut state = self.life.lock();
        loop {
            if let Some(exit) = state.end {
                return exit;
            }
            state = self.life.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Holder::wait`], for at most `limit`.
    pub fn wait_within(&self, limit: Duration) -> Option<AppExit> {
        let deadline = Instant::now() + limit;
        let mut state = self.life.lock();
        while state.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = match self.life.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        state.end
    }

    /// Calls `notify` once, from the holder's thread, when [`Holder::wait`] would return: for event
    /// loops that cannot block. At once, on this thread, if that has happened.
    pub fn when_ended(&self, notify: impl FnOnce(AppExit) + Send + 'static) {
        let mut state = self.life.lock();
        match state.end {
            Some(exit) => {
                drop(state);
                notify(exit);
            }
            None => state.notify.push(Box::new(notify)),
        }
    }

    fn order(&self, order: &Order) -> io::Result<()> {
        protocol::send(self.control.as_fd(), order, &[], MsgFlags::empty())
    }

    /// Whether there is a file where exec looks for `command`.
    fn is_present(&self, command: &str) -> bool {
        if command.contains('/') {
            return true;
        }
        let set = self.life.spec.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = set.map(|(_, value)| value.clone()).or_else(|| std::env::var_os("PATH"));
        path.is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(command).exists()))
    }

    fn start_error(&self, errno: Option<i32>, message: String) -> StartError {
        let command = self.life.spec.command.first();
        let command = command.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        match errno {
            // ENOENT may also be the working directory or a script's interpreter; only a program
            // that is nowhere is "not found".
            Some(libc::ENOENT) if self.life.spec.cwd.as_ref().is_some_and(|cwd| !cwd.is_dir()) => {
                let message = "its working directory does not exist".to_owned();
                StartError::Other { command, message }
            }
            Some(libc::ENOENT) => StartError::NotFound(command),
            // exec(3) says EACCES, too, for a name that is nowhere when it may not look into one of
            // PATH's directories.
            Some(libc::EACCES) if !self.is_present(&command) => StartError::NotFound(command),
            Some(libc::EACCES) => StartError::NotExecutable(command),
            _ => StartError::Other { command, message },
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The holder reads end-of-file, as if we had died, and can still tell us how it went.
        let _ = shutdown(self.control.as_raw_fd(), Shutdown::Write);
    }
}

/// What is known of the application's life, written by the listening thread.
struct Life {
    spec: HolderSpec,
    holder: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    started: Option<Result<u32, (Option<i32>, String)>>,
    pid: Option<u32>,
    exited: Option<Exit>,
    end: Option<AppExit>,
    lost: bool,
    notify: Vec<Box<dyn FnOnce(AppExit) + Send>>,
}

impl Life {
    fn new(spec: HolderSpec, holder: u32) -> Self {
        Self { spec, holder, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Every change is one assignment, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Reads the holder's reports until it is gone.
fn listen(control: &OwnedFd, sockets: &AppSockets, life: &Life, mut child: Reaped, namespace: Option<File>) {
    let mut orderly = false;
    // An unreadable report means a broken holder: the same as none.
    while let Ok(Some((report, fds))) = protocol::receive::<Report>(control.as_fd()) {
        match report {
            Report::Sockets { v4, errno, .. } => sockets.arrived(fds, usize::from(v4), errno.is_some()),
            Report::Started { pid } => life.change(|state| {
                state.started = Some(Ok(pid));
                state.pid = Some(pid);
            }),
            Report::StartFailed { errno, message } => {
                life.change(|state| state.started = Some(Err((errno, message))));
            }
            Report::Exited(exit) => life.change(|state| state.exited = Some(exit)),
            Report::Gone => {
                orderly = true;
                break;
            }
            Report::Ready { .. } | Report::Failed(_) => {}
        }
    }
    sockets.close();
    if !orderly {
        // Killed, most likely. Its application died with it (PDEATHSIG); the application's own
        // children did not, but they cannot have left the namespace.
        child.end();
        let number = namespace.as_ref().and_then(|file| file.metadata().ok()).map(|meta| meta.ino());
        if let Some(number) = number
            && life.lock().pid.is_some()
        {
            process_tree::kill_namespace(number);
        }
    }
    let mut state = life.lock();
    state.lost = true;
    let exit = match state.exited {
        Some(Exit::Code(code)) => AppExit::Code(code),
        Some(Exit::Signal(number)) => AppExit::Signal(number),
        None => AppExit::HolderLost,
    };
    state.end = Some(exit);
    let notify = std::mem::take(&mut state.notify);
    drop(state);
    life.changed.notify_all();
    for notify in notify {
        notify(exit);
    }
    child.end();
}

/// A child process that is ended and reaped on every way out.
struct Reaped(Option<Child>);

impl Reaped {
    fn process_id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Waits for the process, killing it if it does not go by itself. How it ended, for a message.
    fn end(&mut self) -> String {
        let Some(mut child) = self.0.take() else { return String::new() };
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return format!(" ({status})"),
                Err(_) => return String::new(),
                Ok(None) if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return " (it hung)".to_owned();
                }
                Ok(None) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
