//! The kernel as a worker's network: sockets by `socket2`, readiness by `mio`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use mio::{Interest, Registry, Token, unix::SourceFd};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::network::{Accept, Acceptor, Connect, Event, IpVersion, Network, Stream, Wake};

pub struct Kernel {
    registry: Registry,
}

impl Kernel {
    pub fn new(registry: Registry) -> Kernel {
        Kernel { registry }
    }

    fn register(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        // A descriptor's place in epoll: 64 bits, as the assertion below says.
        self.registry.register(&mut SourceFd(&fd), Token(token as usize), interest)
    }
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>());

impl Network for Kernel {
    fn connect(&self, connect: &Connect<'_>) -> io::Result<(Stream, bool)> {
        let to = connect.to;
        let socket = match connect.make {
            Some(make) => {
                let socket = Socket::from(make(if to.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 })?);
                socket.set_nonblocking(true)?;
                socket
            }
            None => {
                let kind = Type::STREAM.nonblocking().cloexec();
                Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?
            }
        };
        if let Some(source) = connect.source {
            // The port is chosen when it connects, so that many connections to different hosts share it.
            let no_port = nix::sys::socket::sockopt::IpBindAddressNoPort;
            let _ = nix::sys::socket::setsockopt(&socket, no_port, &true);
            socket.bind(&source.into())?;
        }
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = connect.keepalive {
            let mut settings = socket2::TcpKeepalive::new();
            if let Some(time) = keepalive.time {
                settings = settings.with_time(std::time::Duration::from_secs(time.into()));
            }
            if let Some(interval) = keepalive.interval {
                settings = settings.with_interval(std::time::Duration::from_secs(interval.into()));
            }
            if let Some(probes) = keepalive.probes {
                settings = settings.with_retries(probes);
            }
            socket.set_tcp_keepalive(&settings)?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => Ok((Stream::Kernel(socket), false)),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                Ok((Stream::Kernel(socket), true))
            }
            Err(error) => Err(error),
        }
    }

    fn watch(&self, stream: &Stream, token: u64) -> io::Result<()> {
        match stream {
            Stream::Kernel(socket) => {
                self.register(socket.as_raw_fd(), token, Interest::READABLE | Interest::WRITABLE)
            }
            Stream::Given(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn forget(&self, stream: &Stream) {
        if let Stream::Kernel(socket) = stream {
            let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
    }

    fn watch_acceptor(&self, acceptor: &Acceptor, token: u64) -> io::Result<()> {
        match acceptor {
            Acceptor::Kernel(socket) => self.register(socket.as_raw_fd(), token, Interest::READABLE),
            Acceptor::Given(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The descriptor may be shared with another process, which keeps it in epoll when ours is closed.
    fn forget_acceptor(&self, acceptor: &Acceptor) {
        if let Acceptor::Kernel(socket) = acceptor {
            let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
    }
}

impl Wake for mio::Waker {
    fn wake(&self) -> io::Result<()> {
        mio::Waker::wake(self)
    }
}

impl From<&mio::event::Event> for Event {
    #[inline]
    fn from(event: &mio::event::Event) -> Event {
        Event {
            token: event.token().0 as u64,
            readable: event.is_readable(),
            writable: event.is_writable(),
            hung_up: event.is_read_closed() || event.is_write_closed() || event.is_error(),
        }
    }
}

impl Acceptor {
    /// `accept4`: the connection non-blocking and its peer's address in one call.
    pub fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        use rustix::net::SocketFlags;
        let socket = match self {
            Acceptor::Kernel(socket) => socket,
            Acceptor::Given(given) => return Accept::accept(&**given),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, address) = rustix::net::acceptfrom_with(socket, flags)?;
        // A Unix socket has no address of this kind.
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        Ok((Stream::Kernel(Socket::from(fd)), address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))))
    }
}
