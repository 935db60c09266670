//! Step 1: taking connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::{Interest, Token, unix::SourceFd};
use socket2::Socket;

use super::command::{Command, Listen};
use super::connection::{Conn, Inspecting, Origin};
use super::{FIRST_LISTENER, Worker};

/// Connections taken from one socket before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// A socket this worker takes connections from.
pub struct Listening {
    socket: Socket,
    pub listener: Arc<str>,
    redirected: bool,
    share: bool,
}

impl Worker {
    pub(super) fn listen(&mut self, listen: Listen) -> io::Result<()> {
        let entry = self.listening.vacant_entry();
        // Level-triggered would be kinder here, but mio knows edges only: a full turn ends with asking again.
        self.sockets.registry().register(
            &mut SourceFd(&listen.socket.as_raw_fd()),
            Token(entry.key() + FIRST_LISTENER),
            Interest::READABLE,
        )?;
        let key = entry.key();
        entry.insert(Listening {
            socket: listen.socket,
            listener: listen.listener,
            redirected: listen.redirected,
            share: listen.share,
        });
        // What came before it was registered raises no edge.
        self.accept(key);
        Ok(())
    }

    pub(super) fn unlisten(&mut self, name: Option<&str>) {
        let registry = self.sockets.registry();
        self.listening.retain(|_, listening| {
            let keep = name.is_some_and(|name| *listening.listener != *name);
            if !keep {
                // The descriptor may be shared with another process, which keeps it in epoll when ours is closed.
                let _ = registry.deregister(&mut SourceFd(&listening.socket.as_raw_fd()));
            }
            keep
        });
    }

    pub(super) fn accept(&mut self, key: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listening) = self.listening.get(key) else { return };
            let (socket, address) = match accept_one(&listening.socket) {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client left while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    self.accept_failed(key, &error);
                    return;
                }
            };
            let (listener, redirected) = (listening.listener.clone(), listening.redirected);
            if listening.share && self.shared.workers.len() > 1 {
                self.next_worker = (self.next_worker + 1) % self.shared.workers.len();
                if self.next_worker != self.index
                    && let Some(worker) = self.shared.workers.get(self.next_worker)
                {
                    worker.send(Command::Accepted { socket, remote: address, listener, redirected });
                    continue;
                }
            }
            self.accepted(socket, address, &listener, redirected);
        }
        self.accept_more.push(key);
    }

    /// Out of descriptors, most likely: tried again soon, for the edge that told of this connection is gone.
    #[cold]
    fn accept_failed(&mut self, key: usize, error: &io::Error) {
        if self.accept_pause.is_none() {
            eprintln!("filamesh: can not accept connections: {error}; trying again");
        }
        self.accept_pause = Some(self.now.after(std::time::Duration::from_millis(100)));
        self.accept_more.push(key);
    }

    /// Whether the destination is the workload's own: then it leads to the application, not back to us.
    fn is_application(&self, destination: SocketAddr) -> bool {
        let application = self.shared.application.as_ref();
        application.is_some_and(|application| application.addresses.contains(&destination.ip()))
    }

    /// A connection of this worker: which listener is it for, and must its first bytes be seen?
    pub(super) fn accepted(&mut self, socket: Socket, remote: SocketAddr, name: &str, redirected: bool) {
        let snapshot = self.snapshot.clone();
        let Some(met) = snapshot.listener(name) else { return };
        let destination = match original_destination(&socket, remote, redirected) {
            Ok(destination) => destination,
            // Gone already.
            Err(_) => return,
        };
        let listener = match redirected || met.use_original_dst {
            true => snapshot.listener_for(met, destination),
            false => met,
        };
        let _ = socket.set_tcp_nodelay(true);
        let stats = self.chains.listener(listener);
        if self.sockets.open() >= self.shared.max_sockets && !listener.ignore_global_connection_limit {
            self.telemetry.shard.inc(stats.downstream_global_cx_overflow);
            return;
        }
        self.telemetry.shard.inc(stats.downstream_cx_total);
        self.telemetry.shard.shift(stats.downstream_cx_active, 1);
        let Ok(key) = self.sockets.add(socket, false) else { return };
        let origin = Origin {
            entry: met.name.clone(),
            protocol: None,
            listener: listener.clone(),
            local: destination,
            destination: (redirected || self.is_application(destination)).then_some(destination),
            remote,
            server_name: "".into(),
            started: self.now,
        };
        let inspectors = listener.inspectors(destination.port());
        let inspecting = Box::new(Inspecting { origin, inspectors, bytes: vec![] });
        if inspectors.any() {
            if let Some(timeout) = listener.sniff_timeout {
                self.sockets.set_deadline(key, self.now.after(timeout));
            }
            self.telemetry.shard.shift(stats.downstream_pre_cx_active, 1);
            self.put(key, Conn::Inspecting(inspecting));
        } else {
            self.pick_chain(key, inspecting.origin, None, &[]);
        }
    }
}

/// Whom the client wanted: what the kernel remembers of a redirected connection, else the address it came to.
fn original_destination(socket: &Socket, remote: SocketAddr, redirected: bool) -> io::Result<SocketAddr> {
    let own = || socket.local_addr().map(|address| address.as_socket());
    let address = if redirected {
        let original = if remote.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
        match original {
            Ok(address) => address.as_socket(),
            // Came straight to the port.
            Err(_) => own()?,
        }
    } else {
        own()?
    };
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// `accept4`: the connection non-blocking and its peer's address in one call.
fn accept_one(socket: &Socket) -> io::Result<(Socket, SocketAddr)> {
    use rustix::net::SocketFlags;
    let (fd, address) = rustix::net::acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    // A Unix socket has no address of this kind.
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok((Socket::from(fd), address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))))
}
