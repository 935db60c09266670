//! The pool of unconnected TCP sockets that live in the application's namespace.
//!
//! A socket keeps the network namespace it was made in, so the sidecar reaches the application by
//! connecting a socket the holder made. Only the holder can make them (entering the namespace
//! needs a single-threaded process), hence a queue that is refilled before it runs dry: taking one
//! is a lock and a pop, and the request for more is one non-blocking send.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, setsockopt, socket, sockopt};

use crate::protocol::{self, Order};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Takes sockets for connecting to the application. Cheap to clone; every worker holds one.
#[derive(Clone)]
pub struct AppSockets(Arc<Source>);

enum Source {
    /// The application shares our namespace: any socket will do.
    Host,
    Namespace(Pool),
}

pub(crate) struct Pool {
    control: Arc<OwnedFd>,
    queues: Mutex<Queues>,
    arrived: Condvar,
}

struct Queues {
    v4: Queue,
    v6: Queue,
    /// Called when sockets arrive after a `take` found none.
    waker: Option<Arc<dyn Fn() + Send + Sync>>,
    starved: bool,
    /// The holder is gone: no socket will ever arrive again.
    closed: bool,
}

struct Queue {
    ready: VecDeque<OwnedFd>,
    /// How many are asked for but not here yet.
    asked: usize,
    full: usize,
}

impl AppSockets {
    pub(crate) fn host() -> Self {
        Self(Arc::new(Source::Host))
    }

    pub(crate) fn namespace(control: Arc<OwnedFd>, full_v4: usize, full_v6: usize) -> Self {
        let queue = |full| Queue { ready: VecDeque::with_capacity(full), asked: 0, full };
        let queues =
            Queues { v4: queue(full_v4), v6: queue(full_v6), waker: None, starved: false, closed: false };
        Self(Arc::new(Source::Namespace(Pool {
            control,
            queues: Mutex::new(queues),
            arrived: Condvar::new(),
        })))
    }

    /// A non-blocking, close-on-exec, unconnected TCP socket with TCP_NODELAY set, in the
    /// application's namespace. Never blocks. `None` when the queue ran dry (more are under way:
    /// see [`AppSockets::wake_when_refilled`]) or the holder is gone.
    pub fn take(&self, family: Family) -> Option<OwnedFd> {
        match &*self.0 {
            Source::Host => unconnected(family).ok(),
            Source::Namespace(pool) => {
                let mut queues = pool.lock();
                let taken = queues.of(family).ready.pop_front();
                queues.starved |= taken.is_none();
                pool.refill(&mut queues);
                taken
            }
        }
    }

    /// As [`AppSockets::take`], waiting up to `limit`. For health checks and tests, not for workers.
    pub fn take_within(&self, family: Family, limit: Duration) -> io::Result<OwnedFd> {
        let pool = match &*self.0 {
            Source::Host => return Ok(unconnected(family)?),
            Source::Namespace(pool) => pool,
        };
        let deadline = Instant::now() + limit;
        let mut queues = pool.lock();
        loop {
            if let Some(taken) = queues.of(family).ready.pop_front() {
                pool.refill(&mut queues);
                return Ok(taken);
            }
            if queues.closed {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the application's holder is gone"));
            }
            pool.refill(&mut queues);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no socket from the holder in time"));
            }
            queues = match pool.arrived.wait_timeout(queues, left) {
                Ok((queues, _)) => queues,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Sets what is called, from the holder's thread, when sockets arrive after a
    /// [`AppSockets::take`] found none, or when none will ever arrive again. Replaces an earlier one.
    pub fn wake_when_refilled(&self, waker: impl Fn() + Send + Sync + 'static) {
        if let Source::Namespace(pool) = &*self.0 {
            pool.lock().waker = Some(Arc::new(waker));
        }
    }

    /// How many sockets are ready, IPv4 and IPv6; for metrics. `None` where every socket will do.
    pub fn ready(&self) -> Option<(usize, usize)> {
        match &*self.0 {
            Source::Host => None,
            Source::Namespace(pool) => {
                let queues = pool.lock();
                Some((queues.v4.ready.len(), queues.v6.ready.len()))
            }
        }
    }

    /// Sockets arrived: `fds` holds `v4` IPv4 ones, then IPv6. `failed` says that the rest of what
    /// was asked for is not coming, so that the next take asks again.
    pub(crate) fn arrived(&self, fds: Vec<OwnedFd>, v4: usize, failed: bool) {
        let Source::Namespace(pool) = &*self.0 else { return };
        let mut queues = pool.lock();
        for (index, fd) in fds.into_iter().enumerate() {
            let queue = if index < v4 { &mut queues.v4 } else { &mut queues.v6 };
            queue.asked = queue.asked.saturating_sub(1);
            queue.ready.push_back(fd);
        }
        if failed {
            queues.v4.asked = 0;
            queues.v6.asked = 0;
        }
        pool.wake(queues);
    }

    /// Asks for a first filling.
    pub(crate) fn fill(&self) {
        if let Source::Namespace(pool) = &*self.0 {
            pool.refill(&mut pool.lock());
        }
    }

    pub(crate) fn close(&self) {
        let Source::Namespace(pool) = &*self.0 else { return };
        let mut queues = pool.lock();
        queues.closed = true;
        queues.v4.ready.clear();
        queues.v6.ready.clear();
        queues.starved = true;
        pool.wake(queues);
    }
}

impl Pool {
    /// A panic elsewhere cannot leave the queues half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for what is missing once a queue is half empty: one request per half queue, not one per
    /// socket. If the control socket is full the holder is far behind and asking can wait for the
    /// next take.
    fn refill(&self, queues: &mut Queues) {
        if queues.closed {
            return;
        }
        let (v4, v6) = (queues.v4.missing(), queues.v6.missing());
        if v4 == 0 && v6 == 0 {
            return;
        }
        let order = Order::Sockets { v4, v6 };
        if protocol::send(self.control.as_fd(), &order, &[], MsgFlags::MSG_DONTWAIT).is_ok() {
            queues.v4.asked += usize::from(v4);
            queues.v6.asked += usize::from(v6);
        }
    }

    fn wake(&self, mut queues: MutexGuard<'_, Queues>) {
        let waker = if std::mem::take(&mut queues.starved) { queues.waker.clone() } else { None };
        drop(queues);
        self.arrived.notify_all();
        if let Some(waker) = waker {
            waker();
        }
    }
}

impl Queues {
    fn of(&mut self, family: Family) -> &mut Queue {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Queue {
    fn missing(&self) -> u16 {
        let coming = self.ready.len() + self.asked;
        if coming * 2 > self.full {
            return 0;
        }
        u16::try_from(self.full - coming).unwrap_or(u16::MAX)
    }
}

/// A socket as the pool hands them out, in the caller's own namespace.
pub(crate) fn unconnected(family: Family) -> nix::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    // Set here, off the data path: every proxied connection wants it.
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    Ok(fd)
}
