//! The system calls that no safe wrapper covers.
#![allow(unsafe_code)]
// Why unsafe at all: what runs between fork and exec (`pre_exec`) may use only async-signal-safe
// calls, which the compiler cannot check; file descriptors that arrive in a message are bare numbers
// until someone takes ownership of them; two prctl operations have no wrapper.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::{Pid, getppid};

/// Lets the child of `command` inherit `fd` under its present number. Done in the child, after the
/// fork: cleared in the parent, another thread's child could inherit it too.
pub(crate) fn inherit_fd(command: &mut Command, fd: BorrowedFd<'_>) {
    let fd = fd.as_raw_fd();
    // SAFETY: the closure only calls fcntl(2), which is async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Prepares the application's process: the signal mask the holder itself was started with, death
/// when the holder dies, and no more of the capabilities in `drop` than exec could give back.
pub(crate) fn prepare_application(command: &mut Command, mask: SigSet, drop: Vec<u8>) {
    let holder = Pid::this();
    // SAFETY: sigprocmask, prctl and getppid are plain system calls; `drop` was allocated before
    // the fork and is only read.
    unsafe {
        command.pre_exec(move || {
            pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
            for &capability in &drop {
                drop_capability(capability)?;
            }
            // First aid against a killed holder; the holder is single-threaded, so "the thread that
            // forked" lives exactly as long as the process. The holder may have died before the
            // prctl: then nobody would tell us, so look.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != holder {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Removes a capability from the bounding and the ambient set, so that no exec brings it back. A
/// number this kernel does not know is no error, nor is lacking CAP_SETPCAP: without it there is no
/// capability to lose.
fn drop_capability(capability: u8) -> io::Result<()> {
    let number = libc::c_ulong::from(capability);
    let zero: libc::c_ulong = 0;
    // SAFETY: both operations take integers only.
    let dropped = unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_LOWER, number, zero, zero);
        libc::prctl(libc::PR_CAPBSET_DROP, number, zero, zero, zero)
    };
    if dropped == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => Ok(()),
        error => Err(error),
    }
}

/// Takes ownership of descriptors that just arrived by `SCM_RIGHTS`.
pub(crate) fn own_received(fds: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the kernel installed these numbers for this message; nobody else knows them yet.
    fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Takes ownership of the control socket whose number came on the command line, after checking
/// that it is an open socket. `None` when it is not.
pub(crate) fn own_inherited_socket(fd: RawFd) -> Option<OwnedFd> {
    if fd <= 2 {
        return None;
    }
    // SAFETY: fstat of any number is safe; the buffer is a plain C struct.
    let mode = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut stat) != 0 {
            return None;
        }
        stat.st_mode
    };
    if mode & libc::S_IFMT != libc::S_IFSOCK {
        return None;
    }
    // SAFETY: called once, first thing in a process that opened nothing itself: an inherited
    // descriptor has no other owner.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: as above. The application must not inherit it: it would keep the end-of-file away.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    Some(owned)
}
