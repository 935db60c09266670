//! The messages between holder and sidecar.
//!
//! One JSON object per message over a `SOCK_SEQPACKET` socketpair, with file descriptors riding on
//! the message that names them. Both ends are always the same binary, so there is no version.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::spec::Mode;
use crate::syscalls;
use crate::why_not::SetupFailure;

/// The kernel's limit is 253 (`SCM_MAX_FD`).
pub(crate) const MAX_FDS: usize = 250;
/// Far above any message sent: the largest is [`Mode`] with its paths.
const MAX_MESSAGE: usize = 16 * 1024;

/// From the sidecar to the holder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first message: make the namespace and open its sockets.
    Prepare(Mode),
    /// Start the application given on the holder's command line.
    Start { cwd: Option<std::path::PathBuf> },
    /// Send more unconnected sockets.
    Sockets { v4: u16, v6: u16 },
    /// Pass a signal to the application.
    Signal(i32),
    /// SIGTERM to the application now, SIGKILL to everything left after the grace.
    Stop { grace_ms: u64 },
}

/// From the holder to the sidecar.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The sockets of the namespace, in this order: outbound v4, outbound v6, DNS UDP, DNS TCP. The
    /// namespace itself (its file in /proc) follows them when there is one.
    Ready {
        counts: ListenerCounts,
        notes: Vec<String>,
    },
    /// The namespace could not be made; the holder exits.
    Failed(SetupFailure),
    /// Unconnected sockets: first `v4` IPv4, then `v6` IPv6. Fewer than asked when `errno` is set.
    Sockets {
        v4: u16,
        v6: u16,
        errno: Option<i32>,
    },
    Started {
        pid: u32,
    },
    StartFailed {
        errno: Option<i32>,
        message: String,
    },
    /// The application's own end; descendants may still be running.
    Exited(Exit),
    /// No descendant is left.
    Gone,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct ListenerCounts {
    pub outbound_v4: usize,
    pub outbound_v6: usize,
    pub dns_udp: usize,
    pub dns_tcp: usize,
}

/// How the application ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

pub(crate) fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&body)],
            control,
            flags | MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// The next message with its descriptors; `None` at end of file: the other process is gone.
pub(crate) fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut body = vec![0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (length, fds) = loop {
        let mut parts = [IoSliceMut::new(&mut body)];
        let received =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
        let message = match received {
            Err(Errno::EINTR) => continue,
            // A peer that died with unread messages in its queue resets instead of closing.
            Err(Errno::ECONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(message) => message,
        };
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                fds.extend(syscalls::own_received(&raw));
            }
        }
        break (message.bytes, fds);
    };
    if length == 0 {
        return Ok(None);
    }
    body.truncate(length);
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}
