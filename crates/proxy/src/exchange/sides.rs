//! The two sides of an exchange: what each of them speaks, and on which connection. The verbs in which the protocols
//! differ are in `client/side.rs` and `host/side.rs`.

use wire::h2::Stream;

use crate::net::sockets::Key;

/// Who asked, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientSide {
    /// A call of our own has no client: its answer is written to nobody.
    #[default]
    Nobody,
    /// The only exchange of an HTTP/1 connection at this moment.
    H1(Key),
    /// A stream of an HTTP/2 connection.
    H2(Key, Stream),
}

impl ClientSide {
    /// The client's connection; of nobody, a key that finds nothing.
    pub fn key(self) -> Key {
        match self {
            ClientSide::Nobody => Key::NOBODY,
            ClientSide::H1(key) | ClientSide::H2(key, _) => key,
        }
    }

    /// Bodies of this side come and go without framing in their text: the codec frames them.
    pub fn is_h2(self) -> bool {
        matches!(self, ClientSide::H2(..))
    }
}

/// What carries the current attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HostSide {
    /// Nothing: no attempt is under way, or it waits for a connection.
    #[default]
    None,
    /// An HTTP/1 connection, all of it.
    H1(Key),
    /// An HTTP/2 connection on which its stream is not open yet: its host has not said whether it takes upgrades.
    Unopened(Key),
    /// A stream of an HTTP/2 connection.
    H2(Key, Stream),
    /// A connection without any HTTP, for a CONNECT that ends here.
    Raw(Key),
}

impl HostSide {
    pub fn key(self) -> Option<Key> {
        match self {
            HostSide::None => None,
            HostSide::H1(key) | HostSide::Unopened(key) | HostSide::H2(key, _) | HostSide::Raw(key) => {
                Some(key)
            }
        }
    }

    /// The connection, if no other exchange shares it.
    pub fn own(self) -> Option<Key> {
        match self {
            HostSide::H1(key) | HostSide::Raw(key) => Some(key),
            HostSide::None | HostSide::Unopened(_) | HostSide::H2(..) => None,
        }
    }

    /// On a stream: bodies come and go without framing in their text.
    pub fn is_h2(self) -> bool {
        matches!(self, HostSide::H2(..))
    }
}
