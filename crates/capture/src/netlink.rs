//! Netlink: messages made of attributes, and the socket that has the kernel carry them out.
//!
//! Only what [`crate::network`] asks for: requests that are acknowledged, singly (rtnetlink) or as one
//! transaction (nf_tables). Numbers are the kernel's (`linux/netlink.h`, netlink(7)); integers in
//! headers are in the machine's byte order.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
};

/// Length, type, flags, sequence number, port: `struct nlmsghdr`.
const HEADER: usize = 16;
/// An attribute's length and type: `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;
/// Marks an attribute that holds attributes.
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// One request: a header, a fixed struct, attributes.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    kind: u16,
    flags: u16,
    /// Everything behind the header.
    body: Vec<u8>,
}

impl Message {
    /// `fixed` is the struct that messages of this kind begin with. `flags` beside `NLM_F_REQUEST`.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let mut body = fixed.to_vec();
        align(&mut body);
        Message { kind, flags: (libc::NLM_F_REQUEST | flags) as u16, body }
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        put(&mut self.body, kind, value);
        self
    }

    /// A string, which ends with a zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Message {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(crate) fn nested(mut self, kind: u16, attributes: &Attributes) -> Message {
        put(&mut self.body, kind | NESTED, &attributes.0);
        self
    }

    fn asks_for_an_answer(&self) -> bool {
        i32::from(self.flags) & libc::NLM_F_ACK != 0
    }

    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let length = (HEADER + self.body.len()) as u32;
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&self.flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        // The port: 0 is the kernel.
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
        align(out);
    }
}

/// What an attribute holds that holds attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Attributes {
        put(&mut self.0, kind, value);
        self
    }

    /// An integer, which nf_tables wants in network byte order.
    pub(crate) fn number(self, kind: u16, value: u32) -> Attributes {
        self.with(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Attributes {
        self.with(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(crate) fn nested(mut self, kind: u16, attributes: &Attributes) -> Attributes {
        put(&mut self.0, kind | NESTED, &attributes.0);
        self
    }
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (ATTRIBUTE + value.len()) as u16;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    align(out);
}

fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// A netlink socket, connected to the kernel of the network namespace it was made in.
pub(crate) struct Socket {
    fd: OwnedFd,
    /// The number of the last message: answers say which message they are about.
    sequence: u32,
}

impl Socket {
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Socket> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Has the kernel carry out `messages`, sent as one datagram, and waits until every one that asks
    /// for an acknowledgement has it. The first error is the answer.
    pub(crate) fn carry_out(&mut self, messages: &[Message]) -> io::Result<()> {
        let mut request = Vec::new();
        let mut waiting = Vec::new();
        for message in messages {
            self.sequence += 1;
            message.write(self.sequence, &mut request);
            if message.asks_for_an_answer() {
                waiting.push(self.sequence);
            }
        }
        send(self.fd.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answer = vec![0; 32 * 1024];
        while !waiting.is_empty() {
            let length = match recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            for (sequence, errno) in errors(answer.get(..length).unwrap_or_default()) {
                if errno != 0 {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                waiting.retain(|number| *number != sequence);
            }
        }
        Ok(())
    }
}

/// The acknowledgements in what the kernel sent: the number of the message each is about, and the
/// error (0 for none).
fn errors(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (word(bytes, 0), word(bytes, 4)) {
        let length = length as usize;
        if length < HEADER {
            break;
        }
        // The type is the lower half of the second word, wherever the machine puts it.
        let [first, second, ..] = kind.to_ne_bytes();
        if u16::from_ne_bytes([first, second]) == ERROR
            && let (Some(sequence), Some(error)) = (word(bytes, 8), word(bytes, HEADER))
        {
            found.push((sequence, error.cast_signed().wrapping_neg()));
        }
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_say_their_own_length() {
        let inner = Attributes::default().text(1, "lo").number(2, 1);
        let message = Message::new(7, libc::NLM_F_ACK, &[9]).nested(3, &inner);
        let mut bytes = Vec::new();
        message.write(5, &mut bytes);
        assert_eq!(bytes.len() as u32, word(&bytes, 0).unwrap());
        assert_eq!(word(&bytes, 8), Some(5));
        assert_eq!(bytes[16..20], [9, 0, 0, 0], "the fixed struct is padded");
        let attribute = |at: usize| (u16::from_ne_bytes([bytes[at], bytes[at + 1]]), &bytes[at + 2..at + 4]);
        assert_eq!(attribute(20), (20, (3 | NESTED).to_ne_bytes().as_slice()));
        assert_eq!(attribute(24), (7, 1u16.to_ne_bytes().as_slice()), "\"lo\" and its zero: 3 + 4");
        assert_eq!(bytes[28..32], [b'l', b'o', 0, 0]);
        assert_eq!(attribute(32), (8, 2u16.to_ne_bytes().as_slice()));
        assert_eq!(bytes[36..40], [0, 0, 0, 1]);
        assert_eq!(bytes.len(), 40);
    }

    #[test]
    fn acknowledgements_are_read_and_whatever_is_cut_short_is_not() {
        let answer = |length: u32, kind: u16, sequence: u32, error: i32| {
            [
                &length.to_ne_bytes()[..],
                &kind.to_ne_bytes(),
                &0u16.to_ne_bytes(),
                &sequence.to_ne_bytes(),
                &0u32.to_ne_bytes(),
                &error.to_ne_bytes(),
            ]
            .concat()
        };
        let two = [answer(20, ERROR, 1, 0), answer(20, ERROR, 2, -libc::EPERM)].concat();
        assert_eq!(errors(&two), [(1, 0), (2, libc::EPERM)]);
        assert_eq!(errors(&two[..39]), [(1, 0)]);
        assert_eq!(errors(&answer(20, 16, 1, -1)), [], "not an acknowledgement");
        assert_eq!(errors(&answer(0, ERROR, 1, -1)), [], "a length of nothing would be read for ever");
        assert_eq!(errors(&answer(u32::MAX, ERROR, 1, -5)), [(1, 5)]);
    }

    #[test]
    fn the_kernel_answers() {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
        // A link of number 0 does not exist: an error of the kernel's, not of ours.
        let nobody = Message::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &[0; 16]);
        let error = socket.carry_out(&[nobody]).unwrap_err();
        assert!(error.raw_os_error().is_some_and(|errno| errno != 0), "{error}");
    }
}
