//! The states of an exchange: what it waits for, how much has come, what it has become.

use wire::h1::Edits;

use crate::clock::Time;
use crate::net::sockets::HIGH_WATER;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Request,
    /// Whatever the filter that has it waits for.
    Filters,
    /// The end of a request that says it has no body (`must_end_first`).
    Unended,
    /// A connection of the pool.
    Queued,
    /// The time of the next attempt.
    BackOff,
    /// A connection to be made, or the answer.
    Attempt,
    /// The rest of the answer.
    Response,
}

/// How much of the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Progress {
    #[default]
    Coming,
    Whole,
}

impl Progress {
    pub fn of(whole: bool) -> Progress {
        if whole { Progress::Whole } else { Progress::Coming }
    }

    pub fn is_whole(self) -> bool {
        self == Progress::Whole
    }
}

/// What a trusted client asks of the router by `x-envoy-*` headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Obeyed {
    pub timeout_millis: Option<u64>,
    pub per_try_timeout_millis: Option<u64>,
    pub max_retries: Option<u32>,
    pub timeout_alt_response: bool,
}

/// Whether the two connections (or streams of them) become one byte pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tunnel {
    #[default]
    No,
    /// The request asks for it: what comes behind its head waits for the host's answer. `ends_here`: it is a CONNECT whose
    /// bytes go to the host without any HTTP.
    Asked { client_ended: bool, ends_here: bool },
    /// The host has granted it.
    Open { client_ended: bool, host_ended: bool },
}

impl Tunnel {
    pub fn asked_by(head: &wire::h1::RequestHead<'_>) -> Tunnel {
        match head.is_connect() || head.upgrade().is_some() {
            true => Tunnel::Asked { client_ended: false, ends_here: false },
            false => Tunnel::No,
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, Tunnel::Open { .. })
    }

    pub fn ends_here(self) -> bool {
        matches!(self, Tunnel::Asked { ends_here: true, .. })
    }

    pub fn client_ended(self) -> bool {
        matches!(self, Tunnel::Asked { client_ended: true, .. } | Tunnel::Open { client_ended: true, .. })
    }

    pub fn host_ended(self) -> bool {
        matches!(self, Tunnel::Open { host_ended: true, .. })
    }

    pub fn open(&mut self) {
        *self = Tunnel::Open { client_ended: self.client_ended(), host_ended: false };
    }

    pub fn set_ends_here(&mut self, here: bool) {
        if let Tunnel::Asked { ends_here, .. } = self {
            *ends_here = here;
        }
    }

    pub fn end_client(&mut self) {
        if let Tunnel::Asked { client_ended, .. } | Tunnel::Open { client_ended, .. } = self {
            *client_ended = true;
        }
    }

    pub fn end_host(&mut self) {
        if let Tunnel::Open { host_ended, .. } = self {
            *host_ended = true;
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ending {
    /// Not yet, or with an answer of our own.
    #[default]
    Clean,
    /// All of the host's answer has passed.
    Whole,
    /// The client got a part, or could not be answered: its connection (or stream) is of no further use.
    Broken,
}

/// The canonical path, where it is not the one received.
#[derive(Default)]
pub struct Path {
    text: Vec<u8>,
    is: PathIs,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum PathIs {
    #[default]
    AsReceived,
    Changed,
    /// The client is sent to it instead.
    Redirect,
}

impl Path {
    /// From here on the request has this path, for whoever decides on it and for its host.
    pub fn set(&mut self, path: &[u8], edits: &mut Edits) {
        self.put(path, PathIs::Changed);
        edits.target(path);
    }

    pub fn redirect_to(&mut self, path: &[u8]) {
        self.put(path, PathIs::Redirect);
    }

    fn put(&mut self, path: &[u8], is: PathIs) {
        self.text.clear();
        self.text.extend_from_slice(path);
        self.is = is;
    }

    /// The path, if it is not the one received.
    pub fn changed(&self) -> Option<&[u8]> {
        (self.is == PathIs::Changed).then_some(&self.text)
    }

    pub fn is_redirect(&self) -> bool {
        self.is == PathIs::Redirect
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    pub fn capacity(&self) -> usize {
        self.text.capacity()
    }

    pub fn reset(&mut self) {
        clear(&mut self.text);
        self.is = PathIs::AsReceived;
    }
}

/// A mark of bytes; until configuration says otherwise, the usual one.
#[derive(Clone, Copy, Debug)]
pub struct Bound(pub usize);

impl Default for Bound {
    fn default() -> Bound {
        Bound(HIGH_WATER)
    }
}

/// A time that may not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Time);

impl Default for Deadline {
    fn default() -> Deadline {
        Deadline(Time::NEVER)
    }
}

impl Deadline {
    pub const NEVER: Deadline = Deadline(Time::NEVER);

    pub fn passed(self, now: Time) -> bool {
        self.0 <= now
    }
}

/// Memory a spare exchange may keep in one buffer.
const SPARE_BUFFER: usize = 16 * 1024;

/// Empties a buffer and keeps a little of its memory.
pub fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(SPARE_BUFFER);
}
