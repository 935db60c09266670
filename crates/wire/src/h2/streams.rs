//! The streams of a connection: a slab that keeps its memory, and ids found without hashing.

use std::time::Duration;

use crate::h1::ResponseTo;

use super::trailers::Trailers;

/// A stream of one connection. Stays valid when the stream is gone: whatever it is then used for says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    pub(super) id: u32,
    pub(super) slot: u32,
}

impl Stream {
    pub fn id(self) -> u32 {
        self.id
    }
}

/// One stream, open or half-closed (RFC 9113 §5.1); an idle or closed one has none.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// 0: free.
    pub id: u32,
    /// The owner's.
    pub token: u64,
    /// END_STREAM was written.
    pub local_ended: bool,
    /// END_STREAM was read.
    pub remote_ended: bool,
    /// The final head was written (server) or read (client).
    pub answered: bool,
    pub send_window: i64,
    pub receive_window: i64,
    /// Given to the owner and not consumed.
    pub held: u32,
    /// Consumed, and the peer not yet told.
    pub released: u32,
    /// What content-length leaves of the body to come.
    pub body_left: Option<u64>,
    pub opened: Duration,
    /// What the request's head takes as long as the stream is open (server).
    pub head: u32,
    /// When something of the queue last left, or began to wait.
    pub moved: Duration,
    /// What the windows do not let out yet, from `queue_at` on.
    pub queue: Vec<u8>,
    pub queue_at: usize,
    /// What follows the queue.
    pub after_queue: After,
    /// Waits for its turn in the pump.
    pub waiting: bool,
    /// Nothing more is wanted of the peer: it is told when all that is queued has left.
    pub enough: bool,
    /// The owner's data did not fit: it is told when it does again.
    pub blocked: bool,
    /// When the stream is reset if the peer has not made room for all of the queue.
    pub flush_by: Option<Duration>,
    /// What a response will be to; at a server no more than whether it will be to an upgrade.
    pub to: ResponseTo,
    /// What an extended CONNECT asked for (client).
    pub protocol: Option<Box<[u8]>>,
}

#[derive(Debug, Default)]
pub(super) enum After {
    #[default]
    Nothing,
    End,
    Trailers(Box<[u8]>, bool),
}

impl After {
    pub fn trailers(trailers: &Trailers<'_>) -> After {
        After::Trailers(trailers.section().into(), trailers.is_sensitive())
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, After::Nothing)
    }
}

impl Entry {
    pub fn queued(&self) -> usize {
        self.queue.len() - self.queue_at
    }

    /// Makes it a free one, `spare` bytes of its queue's memory kept. Field by field: what is there to drop is seldom there.
    #[inline]
    fn clear(&mut self, spare: usize) {
        self.id = 0;
        self.token = 0;
        (self.local_ended, self.remote_ended, self.answered) = (false, false, false);
        (self.waiting, self.blocked, self.enough) = (false, false, false);
        (self.held, self.released, self.head) = (0, 0, 0);
        self.body_left = None;
        self.flush_by = None;
        self.queue_at = 0;
        self.to = ResponseTo::default();
        if self.queue.capacity() > 0 {
            self.queue.clear();
            self.queue.shrink_to(spare);
        }
        if !self.after_queue.is_nothing() {
            self.after_queue = After::Nothing;
        }
        if self.protocol.is_some() {
            self.protocol = None;
        }
    }
}

/// What of a queue's memory is kept for the next stream, by the first [`SPARE_QUEUES`] entries.
const SPARE_QUEUE: usize = 4096;
const SPARE_QUEUES: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct Streams {
    entries: Vec<Entry>,
    free: Vec<u32>,
    ids: Ids,
    /// What waits in all queues together.
    pub queued: usize,
    /// What the heads of open streams take.
    pub heads: u64,
}

impl Streams {
    pub fn len(&self) -> usize {
        self.ids.count
    }

    pub fn insert(&mut self, id: u32) -> (Stream, &mut Entry) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            // Concurrency limits keep these few.
            (self.entries.len() - 1) as u32
        });
        self.ids.insert(id, slot);
        let entry = &mut self.entries[slot as usize];
        entry.id = id;
        (Stream { id, slot }, entry)
    }

    #[inline]
    pub fn find(&self, id: u32) -> Option<Stream> {
        self.ids.find(id).map(|slot| Stream { id, slot })
    }

    #[inline]
    pub fn get(&mut self, stream: Stream) -> Option<&mut Entry> {
        self.entries.get_mut(stream.slot as usize).filter(|entry| entry.id == stream.id)
    }

    #[inline]
    pub fn peek(&self, stream: Stream) -> Option<&Entry> {
        self.entries.get(stream.slot as usize).filter(|entry| entry.id == stream.id)
    }

    pub fn by_slot(&self, slot: u32) -> Option<Stream> {
        self.entries
            .get(slot as usize)
            .filter(|entry| entry.id != 0)
            .map(|entry| Stream { id: entry.id, slot })
    }

    /// Frees a stream's entry; how many bytes of its body the owner still held.
    #[inline]
    pub fn remove(&mut self, stream: Stream) -> u32 {
        let Some(entry) = self.get(stream) else { return 0 };
        let (held, head, queued) = (entry.held, entry.head, entry.queued());
        entry.clear(if stream.slot < SPARE_QUEUES { SPARE_QUEUE } else { 0 });
        self.queued -= queued;
        self.heads -= u64::from(head);
        self.ids.remove(stream.id);
        self.free.push(stream.slot);
        held
    }

    pub fn iter(&self) -> impl Iterator<Item = (Stream, &Entry)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.id != 0)
            .map(|(slot, entry)| (Stream { id: entry.id, slot: slot as u32 }, entry))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter(|entry| entry.id != 0)
    }

    /// Marks the streams that have something to send as waiting for their turn, and names them.
    pub fn wake_all(&mut self, mut wake: impl FnMut(u32)) {
        for (slot, entry) in self.entries.iter_mut().enumerate() {
            if entry.id != 0 && entry.queued() > 0 && entry.send_window > 0 && !entry.waiting {
                entry.waiting = true;
                wake(slot as u32);
            }
        }
    }

    /// Gives back what no stream uses.
    pub fn release(&mut self) {
        if self.len() == 0 {
            *self = Streams::default();
        }
    }

    pub fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.entries.iter().map(|entry| entry.queue.capacity()).sum::<usize>()
            + self.free.capacity() * size_of::<u32>()
            + self.ids.places.capacity() * size_of::<(u32, u32)>()
    }
}

/// Slots by id, open addressing. Ids of one side are consecutive, so halved they are their own hash.
#[derive(Debug, Default)]
struct Ids {
    /// A power of two, at most half full; id 0 is vacant.
    places: Vec<(u32, u32)>,
    count: usize,
    /// How many are not in their first place. Usually none: then nobody has to be looked for to close a gap, which takes
    /// a walk over all neighbours.
    displaced: usize,
}

const FIRST_PLACES: usize = 16;

impl Ids {
    #[inline]
    fn home(&self, id: u32) -> usize {
        (id >> 1) as usize & (self.places.len().wrapping_sub(1))
    }

    #[inline]
    fn place(&self, id: u32) -> Option<usize> {
        let mut at = self.home(id);
        loop {
            match self.places.get(at)? {
                (found, _) if *found == id => return Some(at),
                (0, _) => return None,
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }

    #[inline]
    fn find(&self, id: u32) -> Option<u32> {
        if id == 0 {
            return None;
        }
        self.place(id).map(|at| self.places[at].1)
    }

    fn insert(&mut self, id: u32, slot: u32) {
        if (self.count + 1) * 2 > self.places.len() {
            let size = (self.places.len() * 2).max(FIRST_PLACES);
            let old = std::mem::replace(&mut self.places, vec![(0, 0); size]);
            self.displaced = 0;
            old.into_iter().filter(|(id, _)| *id != 0).for_each(|(id, slot)| self.put(id, slot));
        }
        self.put(id, slot);
        self.count += 1;
    }

    fn put(&mut self, id: u32, slot: u32) {
        let home = self.home(id);
        let mut at = home;
        while self.places[at].0 != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = (id, slot);
        self.displaced += usize::from(at != home);
    }

    fn remove(&mut self, id: u32) {
        let Some(mut hole) = self.place(id) else { return };
        self.count -= 1;
        self.displaced -= usize::from(hole != self.home(id));
        if self.displaced == 0 {
            self.places[hole].0 = 0;
            return;
        }
        let mask = self.places.len() - 1;
        let mut at = hole;
        loop {
            self.places[hole].0 = 0;
            // Whatever can no longer be reached across the hole moves into it.
            loop {
                at = (at + 1) & mask;
                let (id, _) = self.places[at];
                if id == 0 {
                    return;
                }
                let home = self.home(id);
                if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                    break;
                }
            }
            self.places[hole] = self.places[at];
            // It was displaced, or it would have stayed.
            self.displaced -= usize::from(hole == self.home(self.places[at].0));
            hole = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_a_map(steps in prop::collection::vec((0..60u32, any::<bool>()), 0..400)) {
            let mut ids = Ids::default();
            let mut naive = HashMap::new();
            for (at, (id, add)) in steps.into_iter().enumerate() {
                // Ids far apart meet in one place as well as neighbours do.
                let id = 2 * id * (1 + id % 3) + 1;
                if add && !naive.contains_key(&id) {
                    ids.insert(id, at as u32);
                    naive.insert(id, at as u32);
                } else if !add {
                    ids.remove(id);
                    naive.remove(&id);
                }
                prop_assert_eq!(ids.count, naive.len());
                for id in 0..400 {
                    prop_assert_eq!(ids.find(id), naive.get(&id).copied());
                }
            }
        }
    }

    #[test]
    fn a_handle_outlives_its_stream_harmlessly() {
        let mut streams = Streams::default();
        let (first, _) = streams.insert(1);
        streams.remove(first);
        let (second, _) = streams.insert(3);
        assert_eq!(first.slot, second.slot);
        assert!(streams.get(first).is_none() && streams.get(second).is_some());
        streams.remove(first);
        assert_eq!(streams.len(), 1);
    }
}
