//! A network in memory: buffers without bounds, nothing waits, nothing fails. Its ends are a worker's or the driver's.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxy::machine::{Accept, Acceptor, Connect, Connection, Event, Network, Stream, Wake};

/// One end of a connection, by its place in the network.
pub type End = usize;

#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ends: Vec<Buffer>,
    listeners: HashMap<SocketAddr, Listener>,
    /// By worker: what it is told with its next turn.
    events: Vec<Vec<Event>>,
    /// Ends of connections that workers made to addresses where nobody listens: the driver's.
    hosts: Vec<End>,
}

#[derive(Default)]
struct Buffer {
    peer: End,
    address: Option<SocketAddr>,
    bytes: Vec<u8>,
    /// Read so far.
    at: usize,
    /// The worker that watches it, and by which token.
    watched: Option<(usize, u64)>,
    signalled: bool,
}

struct Listener {
    worker: usize,
    token: u64,
    waiting: VecDeque<End>,
}

impl Net {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of the driver's to a listener.
    pub fn connect(&self, to: SocketAddr) -> End {
        self.lock().pair(to)
    }

    /// The driver's ends of the connections that workers have made to hosts.
    pub fn hosts(&self) -> Vec<End> {
        self.lock().hosts.clone()
    }

    pub fn write(&self, end: End, bytes: &[u8]) {
        self.lock().write(end, bytes, &[]);
    }

    /// Takes all that lies at an end.
    pub fn take(&self, end: End, into: &mut Vec<u8>) {
        into.clear();
        if let Some(buffer) = self.lock().ends.get_mut(end) {
            std::mem::swap(&mut buffer.bytes, into);
            into.drain(..std::mem::take(&mut buffer.at));
        }
    }

    /// What happened for this worker since it was last asked.
    pub fn events(&self, worker: usize, into: &mut Vec<Event>) {
        into.clear();
        let mut state = self.lock();
        if let Some(events) = state.events.get_mut(worker) {
            std::mem::swap(events, into);
        }
    }

    pub fn waker(&self, worker: usize) -> Arc<Waker> {
        Arc::new(Waker { net: self.clone(), worker })
    }

    pub fn of_worker(&self, worker: usize) -> Box<OfWorker> {
        Box::new(OfWorker { net: self.clone(), worker })
    }

    pub fn listener(&self, worker: usize, address: SocketAddr) -> Acceptor {
        let listener = Listener { worker, token: 0, waiting: VecDeque::new() };
        self.lock().listeners.insert(address, listener);
        Acceptor::Given(Box::new(Listening { net: self.clone(), address }))
    }
}

impl State {
    /// Both ends of a connection to this address: the one that was asked for is returned.
    fn pair(&mut self, to: SocketAddr) -> End {
        let end = self.ends.len();
        let buffer = |peer| Buffer { peer, address: Some(to), ..Buffer::default() };
        self.ends.push(buffer(end + 1));
        self.ends.push(buffer(end));
        match self.listeners.get_mut(&to) {
            None => self.hosts.push(end + 1),
            Some(listener) => {
                listener.waiting.push_back(end + 1);
                let (worker, token) = (listener.worker, listener.token);
                self.tell(worker, Event { token, readable: true, writable: false, hung_up: false });
            }
        }
        end
    }

    fn tell(&mut self, worker: usize, event: Event) {
        if self.events.len() <= worker {
            self.events.resize_with(worker + 1, Vec::new);
        }
        if let Some(events) = self.events.get_mut(worker) {
            events.push(event);
        }
    }

    fn write(&mut self, end: End, head: &[u8], body: &[u8]) -> usize {
        let Some(peer) = self.ends.get(end).map(|buffer| buffer.peer) else { return 0 };
        let Some(buffer) = self.ends.get_mut(peer) else { return 0 };
        buffer.bytes.extend_from_slice(head);
        buffer.bytes.extend_from_slice(body);
        if let (Some((worker, token)), false) = (buffer.watched, buffer.signalled) {
            buffer.signalled = true;
            self.tell(worker, Event { token, readable: true, writable: false, hung_up: false });
        }
        head.len() + body.len()
    }
}

/// A worker's end of a connection.
struct Given {
    net: Net,
    end: End,
}

impl Connection for Given {
    fn id(&self) -> u64 {
        self.end as u64
    }

    #[inline(never)]
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.net.lock();
        let buffer = state.ends.get_mut(self.end).ok_or(io::ErrorKind::NotConnected)?;
        buffer.signalled = false;
        let bytes = buffer.bytes.get(buffer.at..).unwrap_or_default();
        let length = bytes.len().min(into.len());
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let (Some(into), Some(bytes)) = (into.get_mut(..length), bytes.get(..length)) {
            into.copy_from_slice(bytes);
        }
        buffer.at += length;
        if buffer.at == buffer.bytes.len() {
            buffer.bytes.clear();
            buffer.at = 0;
        }
        Ok(length)
    }

    #[inline(never)]
    fn write(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        Ok(self.net.lock().write(self.end, head, body))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn reset_when_closed(&self) {}

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([10, 0, 0, 9], 40_000)))
    }

    fn peer_address(&self) -> io::Result<SocketAddr> {
        let address = self.net.lock().ends.get(self.end).and_then(|buffer| buffer.address);
        address.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn original_destination(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotFound.into())
    }
}

struct Listening {
    net: Net,
    address: SocketAddr,
}

impl Accept for Listening {
    fn id(&self) -> u64 {
        u64::from(self.address.port())
    }

    fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let mut state = self.net.lock();
        let waiting =
            state.listeners.get_mut(&self.address).and_then(|listener| listener.waiting.pop_front());
        let end = waiting.ok_or(io::ErrorKind::WouldBlock)?;
        drop(state);
        let remote = SocketAddr::from(([10, 0, 0, 8], 50_000));
        Ok((Stream::Given(Box::new(Given { net: self.net.clone(), end })), remote))
    }
}

pub struct OfWorker {
    net: Net,
    worker: usize,
}

impl Network for OfWorker {
    fn connect(&self, connect: &Connect<'_>) -> io::Result<(Stream, bool)> {
        let end = self.net.lock().pair(connect.to);
        Ok((Stream::Given(Box::new(Given { net: self.net.clone(), end })), false))
    }

    fn watch(&self, stream: &Stream, token: u64) -> io::Result<()> {
        let Stream::Given(given) = stream else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut state = self.net.lock();
        let buffer = state.ends.get_mut(given.id() as End).ok_or(io::ErrorKind::NotConnected)?;
        buffer.watched = Some((self.worker, token));
        if !buffer.bytes.is_empty() {
            buffer.signalled = true;
            state.tell(self.worker, Event { token, readable: true, writable: false, hung_up: false });
        }
        Ok(())
    }

    fn watch_acceptor(&self, acceptor: &Acceptor, token: u64) -> io::Result<()> {
        let Acceptor::Given(given) = acceptor else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut state = self.net.lock();
        let mut all = state.listeners.iter_mut();
        let found = all.find(|(address, _)| u64::from(address.port()) == given.id());
        found.ok_or(io::ErrorKind::NotFound)?.1.token = token;
        Ok(())
    }

    fn forget_acceptor(&self, _: &Acceptor) {}
}

pub struct Waker {
    net: Net,
    worker: usize,
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        let event = Event { token: proxy::machine::WAKER, readable: true, writable: false, hung_up: false };
        self.net.lock().tell(self.worker, event);
        Ok(())
    }
}
