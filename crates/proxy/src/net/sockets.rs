//! The sockets of one worker: written at once, what does not go is kept; read by the one who owns the loop.
//!
//! Sockets are registered once, edge-triggered, for both directions. A short read ends a read and a short write ends a
//! write: the kernel says when there is more, and nobody asks in vain. No call here calls back: an error found while
//! sending is put on the `broken` list and handled after the event that is being handled, so that no state machine is entered
//! while another one stands in the middle of its work.

use std::io;
use std::net::SocketAddr;

use crate::clock::Time;
use crate::net::network::{COPY_LIMIT, Network, Stream};
use crate::net::socket::{Flags, Socket};
use crate::net::timers::Wheel;
use crate::table::Table;

pub use crate::net::socket::{HIGH_WATER, Side, Writable, high_water};
pub use crate::table::Key;

/// Reading goes on when no more than this waits.
const LOW_WATER: usize = 32 * 1024;

pub struct Sockets {
    pub(super) slots: Table<Socket>,
    network: Box<dyn Network>,
    /// Those of clients among `slots`.
    clients: usize,
    wheel: Wheel,
    /// Where deferred errors and closings wait for the end of the turn.
    pub(super) broken: Vec<(Key, io::ErrorKind)>,
    closing: Vec<Key>,
    /// Where two small parts are put together for one send.
    joined: Vec<u8>,
    /// Small sends to one socket within a turn are put together for one system call: which socket that is now.
    pub(super) corked: Option<Key>,
    /// The bytes put together for the corked socket.
    pub(super) cork: Vec<u8>,
}

impl Sockets {
    pub fn new(network: Box<dyn Network>, now: Time) -> Sockets {
        Sockets {
            slots: Table::default(),
            network,
            clients: 0,
            wheel: Wheel::new(now),
            broken: vec![],
            closing: vec![],
            joined: Vec::with_capacity(COPY_LIMIT),
            corked: None,
            cork: vec![],
        }
    }

    /// Takes over a non-blocking stream and has it watched.
    pub fn add(&mut self, stream: Stream, side: Side) -> io::Result<Key> {
        self.network.watch(&stream, self.slots.next_key().word())?;
        let client = side == Side::Client;
        let connecting = side == Side::Host { connecting: true };
        self.clients += usize::from(client);
        Ok(self.slots.insert(Socket {
            stream,
            written: 0,
            outbox: None,
            flags: Flags { connecting, client, ..Flags::default() },
            layered: None,
        }))
    }

    pub fn network(&self) -> &dyn Network {
        &*self.network
    }

    /// Sockets of clients, closed ones of this turn among them.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// All sockets.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Whether the key is still that of a socket, if only of one that will be closed when the turn ends.
    pub fn exists(&self, key: Key) -> bool {
        self.slots.get(key).is_some()
    }

    /// Whether the socket may still be read and written.
    #[inline]
    pub fn is_open(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| !socket.flags.closed && !socket.flags.broken)
    }

    pub fn local_address(&self, key: Key) -> Option<SocketAddr> {
        self.slots.get(key)?.stream.local_address().ok()
    }

    /// Reads once. Call until a read is short (or, after [`Sockets::hung_up`], until it gives 0 or `WouldBlock`).
    #[inline]
    pub fn receive(&mut self, key: Key, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(socket) = self.slots.get_mut(key) else { return Ok(0) };
        let read = socket.read(buffer);
        socket.flags.read_ended |= matches!(read, Ok(0));
        read
    }

    /// Notes that reading goes on later; false if that was known.
    pub fn queue(&mut self, key: Key) -> bool {
        self.slots.get_mut(key).is_some_and(|socket| !std::mem::replace(&mut socket.flags.queued, true))
    }

    pub fn is_queued(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.queued)
    }

    pub fn unqueue(&mut self, key: Key) {
        if let Some(socket) = self.slots.get_mut(key) {
            socket.flags.queued = false;
        }
    }

    /// The peer's end was read: nothing is to be expected of reading any more.
    pub fn read_ended(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.read_ended)
    }

    /// All of a socket is over, says the network. Who still reads finds that out by reading; one whose peer had ended its
    /// direction before reads no more, and is broken if the rest did not end well.
    #[cold]
    pub fn over(&mut self, key: Key) {
        let Some(socket) = self.slots.get_mut(key) else { return };
        if !socket.flags.read_ended || socket.flags.broken || socket.flags.closed {
            return;
        }
        if let Ok(Some(error)) | Err(error) = socket.stream.take_error() {
            socket.flags.broken = true;
            self.broken.push((key, error.kind()));
        }
    }

    /// Sends `head` and then `body`, now if possible, later if not.
    #[inline]
    pub fn send(&mut self, key: Key, head: &[u8], body: &[u8]) {
        self.uncork_for(key);
        let Some(socket) = self.slots.get_mut(key) else { return };
        if socket.flags.broken || socket.flags.closed {
            return;
        }
        if socket.outbox.is_some() || socket.flags.connecting {
            let outbox = socket.outbox.get_or_insert_default();
            outbox.bytes.extend_from_slice(head);
            outbox.bytes.extend_from_slice(body);
            return;
        }
        let total = head.len() + body.len();
        if total == 0 {
            return;
        }
        let sent = match socket.write(head, body, &mut self.joined) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                socket.flags.broken = true;
                self.broken.push((key, error.kind()));
                return;
            }
        };
        socket.written += sent as u64;
        socket.note_held_back();
        if sent < total {
            let outbox = socket.outbox.get_or_insert_default();
            let from_body = sent.saturating_sub(head.len());
            outbox.bytes.extend_from_slice(head.get(sent..).unwrap_or_default());
            outbox.bytes.extend_from_slice(body.get(from_body..).unwrap_or_default());
        }
    }

    /// Sends what goes now, for an owner that keeps the rest itself: how much went. Whether there may be more to send is
    /// the owner's to find out when the socket is writable.
    pub fn try_send(&mut self, key: Key, bytes: &[u8]) -> usize {
        self.uncork_for(key);
        let Some(socket) = self.slots.get_mut(key) else { return 0 };
        let flags = socket.flags;
        if flags.broken || flags.closed || flags.connecting || socket.outbox.is_some() || bytes.is_empty() {
            return 0;
        }
        match socket.write(bytes, &[], &mut self.joined) {
            Ok(sent) => {
                socket.written += sent as u64;
                socket.note_held_back();
                sent
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                socket.flags.broken = true;
                self.broken.push((key, error.kind()));
                0
            }
        }
    }

    /// Bytes kept for all sockets together.
    pub fn kept(&self) -> usize {
        self.slots
            .iter()
            .filter_map(|(_, socket)| socket.outbox.as_ref())
            .map(|outbox| outbox.bytes.capacity())
            .sum()
    }

    /// Bytes the system has taken to send so far.
    pub fn written(&self, key: Key) -> u64 {
        self.slots.get(key).map_or(0, |socket| socket.written)
    }

    /// Bytes the peer has acknowledged, and one for the SYN; `None` where nobody knows.
    pub fn acknowledged(&self, key: Key) -> Option<u64> {
        self.slots.get(key).filter(|socket| socket.layered.is_none())?.stream.acknowledged()
    }

    /// Whether nothing has come on a connection from which nothing is expected: neither its end nor bytes nobody asked
    /// for.
    pub fn is_quiet(&mut self, key: Key) -> bool {
        matches!(self.receive(key, &mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Bytes waiting to be written.
    #[inline]
    pub fn backlog(&self, key: Key) -> usize {
        self.slots.get(key).map_or(0, |socket| match &socket.outbox {
            Some(outbox) => outbox.left() + socket.held_back(),
            None => 0,
        })
    }

    /// The network says the socket may be written, or that connecting has ended. `hung_up`: all of it may be over.
    pub fn writable(&mut self, key: Key, hung_up: bool) -> Writable {
        let Some(socket) = self.slots.get_mut(key) else { return Writable::Nothing };
        if socket.flags.broken || socket.flags.closed {
            return Writable::Nothing;
        }
        let mut news = Writable::Nothing;
        if socket.flags.connecting {
            let error = match socket.stream.take_error() {
                // A socket is not writable before its handshake is over, unless it is over altogether.
                Ok(None) if !hung_up => None,
                Ok(None) => socket.stream.peer_address().err(),
                Ok(Some(error)) | Err(error) => Some(error),
            };
            if let Some(error) = error {
                socket.flags.broken = true;
                self.broken.push((key, error.kind()));
                return Writable::Failed;
            }
            if socket.flags.handshaking {
                return Writable::Nothing;
            }
            socket.flags.connecting = false;
            news = Writable::Connected;
        }
        let Some(before) = socket.outbox.as_ref().map(|outbox| outbox.left()) else { return news };
        match socket.write_kept(&mut self.joined) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = socket.outbox.as_ref().map_or(0, |outbox| outbox.left());
                let drained = left <= LOW_WATER && before > LOW_WATER;
                return if drained && news == Writable::Nothing { Writable::Drained } else { news };
            }
            Err(error) => {
                socket.flags.broken = true;
                self.broken.push((key, error.kind()));
                return news;
            }
        }
        if socket.flags.shutdown_after && !socket.end_direction() {
            return news;
        }
        match news {
            Writable::Nothing if socket.flags.close_after => Writable::Finished,
            Writable::Nothing => Writable::Drained,
            news => news,
        }
    }

    /// Nothing shall be read until [`Sockets::resume`].
    pub fn pause(&mut self, key: Key) {
        if let Some(socket) = self.slots.get_mut(key) {
            socket.flags.paused = true;
        }
    }

    /// Reading may go on; says whether there is something to read.
    pub fn resume(&mut self, key: Key) -> bool {
        let Some(socket) = self.slots.get_mut(key) else { return false };
        socket.flags.paused = false;
        (std::mem::take(&mut socket.flags.readable) || socket.flags.hung_up) && !socket.flags.read_ended
    }

    pub fn is_paused(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.paused)
    }

    /// Notes that there is something to read and says whether it may be read now.
    #[inline]
    pub fn may_read(&mut self, key: Key, hung_up: bool) -> bool {
        let Some(socket) = self.slots.get_mut(key) else { return false };
        socket.flags.hung_up |= hung_up;
        if socket.flags.closed || socket.flags.broken || socket.flags.read_ended || socket.flags.offered {
            return false;
        }
        if socket.flags.paused {
            socket.flags.readable = true;
            return false;
        }
        true
    }

    /// Another descriptor of a stream on which all is quiet, for another worker to have. It is not read from now on, until
    /// [`Sockets::not_offered`].
    pub fn offer(&mut self, key: Key) -> Option<Stream> {
        let socket = self.slots.get_mut(key)?;
        let flags = socket.flags;
        let waits = flags.paused || flags.readable || flags.queued || flags.connecting;
        let over = flags.hung_up || flags.broken || flags.closed;
        if waits || over || socket.outbox.is_some() || socket.layered.is_some() {
            return None;
        }
        let stream = socket.stream.duplicate()?;
        socket.flags.offered = true;
        Some(stream)
    }

    pub fn is_offered(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.offered)
    }

    pub fn not_offered(&mut self, key: Key) {
        if let Some(socket) = self.slots.get_mut(key) {
            socket.flags.offered = false;
        }
    }

    /// What a stream had been sent by whoever had it before.
    pub fn set_written(&mut self, key: Key, written: u64) {
        if let Some(socket) = self.slots.get_mut(key) {
            socket.written = written;
        }
    }

    pub fn note_readable(&mut self, key: Key) {
        if let Some(socket) = self.slots.get_mut(key) {
            socket.flags.readable = true;
        }
    }

    pub fn hung_up(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.hung_up)
    }

    pub fn is_connecting(&self, key: Key) -> bool {
        self.slots.get(key).is_some_and(|socket| socket.flags.connecting)
    }

    /// Ends our direction once all is written.
    pub fn shutdown_write(&mut self, key: Key) {
        self.uncork_for(key);
        let Some(socket) = self.slots.get_mut(key) else { return };
        if socket.outbox.is_some() || socket.flags.connecting {
            socket.flags.shutdown_after = true;
        } else {
            socket.end_direction();
        }
    }

    /// Whether some of what was kept could be written since this was last asked, and some is left.
    pub fn has_moved(&mut self, key: Key) -> bool {
        let Some(socket) = self.slots.get_mut(key) else { return false };
        std::mem::take(&mut socket.flags.moved) && socket.outbox.is_some() && !socket.flags.broken
    }

    /// Whether all is written; if not, [`Writable::Finished`] will say when it is.
    pub fn close_when_written(&mut self, key: Key) -> bool {
        self.uncork_for(key);
        let Some(socket) = self.slots.get_mut(key) else { return true };
        if socket.outbox.is_none() || socket.flags.broken {
            return true;
        }
        socket.flags.close_after = true;
        false
    }

    /// Closes when the turn ends: until then the number is not given to another, so that events of this turn can not
    /// reach the wrong one.
    pub fn close(&mut self, key: Key) {
        self.uncork_for(key);
        if let Some(socket) = self.slots.get_mut(key)
            && !socket.flags.closed
        {
            socket.flags.closed = true;
            self.closing.push(key);
        }
    }

    /// As [`Sockets::close`], with a reset to the peer.
    pub fn reset(&mut self, key: Key) {
        if let Some(socket) = self.slots.get(key) {
            socket.stream.reset_when_closed();
        }
        self.close(key);
    }

    pub fn set_deadline(&mut self, key: Key, deadline: Time) {
        if self.slots.get(key).is_some() {
            self.wheel.set(key.index(), deadline);
        }
    }

    pub fn deadline(&self, key: Key) -> Time {
        self.slots.get(key).map_or(Time::NEVER, |_| self.wheel.deadline(key.index()))
    }

    /// The earliest deadline of all, looked for one by one.
    pub fn next_due(&self) -> Option<Time> {
        let all = self.slots.iter().map(|(key, _)| self.wheel.deadline(key.index()));
        all.filter(|due| *due != Time::NEVER).min()
    }

    /// How long the worker may sleep, in nanoseconds.
    pub fn sleep(&self, now: Time) -> Option<u64> {
        self.wheel.sleep(now)
    }

    /// Appends the sockets whose deadline has passed.
    pub fn expired(&mut self, now: Time, into: &mut Vec<Key>) {
        let slots = &self.slots;
        self.wheel.advance(now, |place| {
            let key = slots.key_at(place);
            into.extend(key.filter(|key| slots.get(*key).is_some_and(|socket| !socket.flags.closed)));
        });
    }

    /// Whether a socket broke and nobody was told yet.
    pub fn any_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// One socket that broke while it was written or connected.
    pub fn next_broken(&mut self) -> Option<(Key, io::ErrorKind)> {
        while let Some((key, error)) = self.broken.pop() {
            if self.slots.get(key).is_some_and(|socket| !socket.flags.closed) {
                return Some((key, error));
            }
        }
        None
    }

    /// The turn has ended: the closed sockets' numbers are free again.
    pub fn end_turn(&mut self, mut freed: impl FnMut(Key)) {
        while let Some(key) = self.closing.pop() {
            if let Some(socket) = self.slots.remove(key) {
                self.wheel.set(key.index(), Time::NEVER);
                self.clients -= usize::from(socket.flags.client);
                if socket.flags.offered {
                    // It lives on with another descriptor, and epoll with it.
                    self.network.forget(&socket.stream);
                }
                // Closing its only descriptor takes it out of epoll.
                drop(socket);
                freed(key);
            }
        }
    }
}
