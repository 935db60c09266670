//! The network in memory as a worker's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proxy::machine::{Accept, Acceptor, Connect, Connection, Network, Stream, Wake};

use crate::net::{EndId, Net, Owner};

/// Buffers of a worker's sockets to hosts.
const ROOM: usize = 256 * 1024;

pub struct WorkersNet {
    pub net: Net,
    pub worker: usize,
}

struct Given {
    net: Net,
    end: EndId,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.net.ask(|net| net.close(self.end));
    }
}

impl Connection for Given {
    fn id(&self) -> u64 {
        self.end as u64
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.net.ask(|net| net.read(self.end, buffer))
    }

    fn write(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        self.net.ask(|net| net.write(self.end, [head, body]))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.net.ask(|net| net.shutdown(self.end))
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.net.ask(|net| net.take_error(self.end)).map(io::Error::from))
    }

    fn reset_when_closed(&self) {
        self.net.ask(|net| net.reset_when_closed(self.end));
    }

    fn acknowledged(&self) -> Option<u64> {
        Some(self.net.ask(|net| net.acknowledged(self.end)))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.net.ask(|net| net.addresses(self.end)).0)
    }

    fn peer_address(&self) -> io::Result<SocketAddr> {
        self.net.ask(|net| match net.is_connecting(self.end) || net.is_dead(self.end) {
            true => Err(io::ErrorKind::NotConnected.into()),
            false => Ok(net.addresses(self.end).1),
        })
    }

    fn original_destination(&self) -> io::Result<SocketAddr> {
        self.net.ask(|net| net.addresses(self.end).2).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A worker's listening socket.
pub struct GivenListener {
    pub net: Net,
    pub worker: usize,
    pub address: SocketAddr,
}

impl Accept for GivenListener {
    fn id(&self) -> u64 {
        u64::from(self.address.port())
    }

    fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (end, remote) = self.net.ask(|net| {
            let end = net.accept(self.address, Owner::Worker(self.worker))?;
            io::Result::Ok((end, net.addresses(end).1))
        })?;
        Ok((Stream::Given(Box::new(Given { net: self.net.clone(), end })), remote))
    }
}

impl Drop for GivenListener {
    fn drop(&mut self) {
        self.net.ask(|net| net.unlisten(self.address));
    }
}

impl WorkersNet {
    /// The port stands for the listener: each has its own.
    fn address(&self, acceptor: &Acceptor) -> Option<SocketAddr> {
        let Acceptor::Given(given) = acceptor else { return None };
        self.net.ask(|net| net.listening(self.worker, given.id()))
    }
}

impl Network for WorkersNet {
    fn connect(&self, connect: &Connect<'_>) -> io::Result<(Stream, bool)> {
        let owner = Owner::Worker(self.worker);
        let (end, connecting) =
            self.net.ask(|net| net.connect(owner, connect.to, connect.source, None, ROOM))?;
        Ok((Stream::Given(Box::new(Given { net: self.net.clone(), end })), connecting))
    }

    fn watch(&self, stream: &Stream, token: u64) -> io::Result<()> {
        let Stream::Given(given) = stream else { return Err(io::ErrorKind::Unsupported.into()) };
        self.net.ask(|net| net.watch(given.id() as EndId, self.worker, token));
        Ok(())
    }

    fn watch_acceptor(&self, acceptor: &Acceptor, token: u64) -> io::Result<()> {
        let address = self.address(acceptor).ok_or(io::ErrorKind::Unsupported)?;
        self.net.ask(|net| net.watch_listener(address, token));
        Ok(())
    }

    fn forget_acceptor(&self, _: &Acceptor) {}
}

/// Wakes a worker for what lies in its mailbox.
pub struct Waker {
    pub net: Net,
    pub worker: usize,
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        self.net.ask(|net| net.wake_worker(self.worker));
        Ok(())
    }
}

impl Waker {
    pub fn of(net: &Net, worker: usize) -> Arc<Waker> {
        Arc::new(Waker { net: net.clone(), worker })
    }
}
