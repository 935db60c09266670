//! One end of a connection: read, written, shut, closed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::{End, EndId, Later, MICRO, Owner, State};

impl State {
    pub fn watch(&mut self, end: EndId, worker: usize, token: u64) {
        self.ends[end].token = Some(token);
        self.ends[end].owner = Some(Owner::Worker(worker));
        self.watched.insert((worker, token), end);
        if self.event(end).is_some() {
            self.signal(end);
        }
    }

    pub fn owned_by(&mut self, end: EndId, actor: usize) {
        self.ends[end].owner = Some(Owner::Actor(actor));
    }

    fn is_workers(&self, end: EndId) -> bool {
        matches!(self.ends[end].owner, Some(Owner::Worker(_)))
    }

    pub fn read(&mut self, end: EndId, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.readable(end, buffer.len())?;
        self.take(end, length, |at, part| buffer[at..at + part.len()].copy_from_slice(part));
        Ok(length)
    }

    /// As an actor reads: at most so much, nothing for the end.
    pub fn read_some(&mut self, end: EndId, most: usize) -> io::Result<Vec<u8>> {
        let length = self.readable(end, most)?;
        let mut bytes = Vec::with_capacity(length);
        self.take(end, length, |_, part| bytes.extend_from_slice(part));
        Ok(bytes)
    }

    /// How much may be read now; 0: the end.
    fn readable(&mut self, end: EndId, most: usize) -> io::Result<usize> {
        let faulty = self.is_workers(end);
        self.ends[end].asked += 1;
        if faulty && self.dice.one_in(self.faults.would_block) {
            self.signal_later(end);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let have = self.ends[end].inbox.len();
        if have > 0 {
            let mut length = have.min(most);
            if faulty && length > 1 && self.dice.one_in(self.faults.short) {
                length = 1 + self.dice.below(length as u64 - 1) as usize;
                self.signal_later(end);
            }
            return Ok(length);
        }
        let e = &mut self.ends[end];
        if let Some(error) = e.error.take() {
            self.moves += 1;
            self.trace.note("read error", end as u64, error as u64);
            return Err(error.into());
        }
        if e.fin || e.dead {
            self.trace.note("read end", end as u64, 0);
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn take(&mut self, end: EndId, length: usize, mut give: impl FnMut(usize, &[u8])) {
        if length == 0 {
            return;
        }
        let e = &mut self.ends[end];
        let (front, back) = e.inbox.as_slices();
        let first = front.len().min(length);
        give(0, &front[..first]);
        give(first, &back[..length - first]);
        e.inbox.drain(..length);
        e.read += length as u64;
        if let (Some(Owner::Worker(worker)), Some(token)) = (e.owner, e.token) {
            self.read_now[worker].insert(token);
        }
        let peer = e.peer;
        let roomy = e.room - e.inbox.len() >= e.room / 3;
        if roomy && std::mem::take(&mut self.ends[peer].wants_room) {
            self.signal(peer);
        }
        self.moves += 1;
        self.trace.note("read", end as u64, length as u64);
    }

    fn signal_later(&mut self, end: EndId) {
        let after = self.dice.below(100 * MICRO);
        self.later(after, Later::Signal(end));
    }

    pub fn write(&mut self, end: EndId, parts: [&[u8]; 2]) -> io::Result<usize> {
        let faulty = self.is_workers(end);
        let total = parts[0].len() + parts[1].len();
        let e = &mut self.ends[end];
        if let Some(error) = e.error.take() {
            self.moves += 1;
            return Err(error.into());
        }
        if e.dead || e.shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if e.connecting {
            e.wants_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let peer = e.peer;
        if self.ends[peer].closed {
            // Taken, and answered by a reset.
            self.ends[end].written += total as u64;
            self.trace.note("write in vain", end as u64, total as u64);
            self.moves += 1;
            self.break_end(end, io::ErrorKind::ConnectionReset);
            return Ok(total);
        }
        if faulty && self.dice.one_in(self.faults.would_block) {
            // As after any EAGAIN, room is told of when there is some: the later signal finds none if there is none yet.
            self.ends[end].wants_room = true;
            self.signal_later(end);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let free = self.free(end);
        let mut length = total.min(free);
        if faulty && length > 1 && self.dice.one_in(self.faults.short) {
            length = 1 + self.dice.below(length as u64 - 1) as usize;
            self.signal_later(end);
        }
        if length < total && length == free {
            self.ends[end].wants_room = true;
        }
        if length == 0 && total > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let first = parts[0].len().min(length);
        let to = &mut self.ends[peer];
        to.inbox.extend(&parts[0][..first]);
        to.inbox.extend(&parts[1][..length - first]);
        self.ends[end].written += length as u64;
        self.ends[end].acknowledged += length as u64;
        self.moves += 1;
        self.trace.note("write", end as u64, length as u64);
        self.signal(peer);
        Ok(length)
    }

    pub fn shutdown(&mut self, end: EndId) -> io::Result<()> {
        let e = &mut self.ends[end];
        if e.dead || e.connecting {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if std::mem::replace(&mut e.shut, true) {
            return Ok(());
        }
        let peer = e.peer;
        self.ends[peer].fin = true;
        self.moves += 1;
        self.trace.note("shutdown", end as u64, 0);
        self.signal(peer);
        Ok(())
    }

    pub fn take_error(&mut self, end: EndId) -> Option<io::ErrorKind> {
        self.ends[end].error.take()
    }

    pub fn reset_when_closed(&mut self, end: EndId) {
        self.ends[end].reset_when_closed = true;
    }

    pub fn close(&mut self, end: EndId) {
        let e = &mut self.ends[end];
        if std::mem::replace(&mut e.closed, true) {
            return;
        }
        let reset = e.reset_when_closed || !e.inbox.is_empty();
        let (peer, was_connecting) = (e.peer, e.connecting);
        e.inbox = VecDeque::new();
        self.moves += 1;
        self.trace.note("close", end as u64, u64::from(reset));
        if was_connecting || self.ends[end].dead || self.ends[peer].closed {
            return;
        }
        if reset {
            self.break_end(peer, io::ErrorKind::ConnectionReset);
        } else {
            self.ends[peer].fin = true;
            if std::mem::take(&mut self.ends[peer].wants_room) {
                // What did not fit goes nowhere now; writing on is answered by a reset.
            }
            self.signal(peer);
        }
    }

    pub fn acknowledged(&self, end: EndId) -> u64 {
        self.ends[end].acknowledged
    }

    /// Closes with a reset.
    pub fn abort(&mut self, end: EndId) {
        self.reset_when_closed(end);
        self.close(end);
    }

    pub fn is_connecting(&self, end: EndId) -> bool {
        self.ends[end].connecting
    }

    pub fn addresses(&self, end: EndId) -> (SocketAddr, SocketAddr, Option<SocketAddr>) {
        let e = &self.ends[end];
        (e.local, e.remote, e.original)
    }

    pub fn is_dead(&self, end: EndId) -> bool {
        self.ends[end].dead
    }

    /// How often a worker has read of the end with this token, whatever came of it: a read that falsely would have blocked is
    /// the turn of the connection too.
    pub fn asked_of(&self, worker: usize, token: u64) -> Option<u64> {
        let end = &self.ends[*self.watched.get(&(worker, token))?];
        (!end.closed).then_some(end.asked)
    }

    /// Ends a worker holds.
    pub fn open_of(&self, worker: usize) -> Vec<EndId> {
        let holds = |e: &End| !e.closed && e.token.is_some() && e.owner == Some(Owner::Worker(worker));
        self.ends.iter().enumerate().filter(|(_, e)| holds(e)).map(|(id, _)| id).collect()
    }

    pub fn describe(&self, end: EndId) -> String {
        let e = &self.ends[end];
        let peer = &self.ends[e.peer];
        format!(
            "end {end} {} -> {} read {} written {} inbox {} fin {} shut {} dead {} peer(closed {} inbox {}/{} owner {:?})",
            e.local,
            e.remote,
            e.read,
            e.written,
            e.inbox.len(),
            e.fin,
            e.shut,
            e.dead,
            peer.closed,
            peer.inbox.len(),
            peer.room,
            peer.owner
        )
    }
}
