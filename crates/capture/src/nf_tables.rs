//! The nf_tables rules a namespace needs, as netlink messages (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a list of expressions that load something into a register, compare the register, or
//! decide. Everything is in a table of family `inet`, so an address is compared only after asking
//! which protocol the packet is of.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::netlink::{Attributes, Message};

/// `NFPROTO_*`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NFNL_SUBSYS_NFTABLES`: the upper byte of its messages' types.
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
/// `NF_INET_LOCAL_OUT`: what processes of the namespace send.
const OUTPUT: u32 = 3;
const ACCEPT: u32 = libc::NF_ACCEPT as u32;
const REGISTER: u32 = libc::NFT_REG_1 as u32;

/// The numbers of attributes, by the message or expression they are of.
mod attribute {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const META_DESTINATION: u16 = 1;
    pub(super) const META_KEY: u16 = 2;
    pub(super) const COMPARE_SOURCE: u16 = 1;
    pub(super) const COMPARE_OPERATION: u16 = 2;
    pub(super) const COMPARE_DATA: u16 = 3;
    pub(super) const PAYLOAD_DESTINATION: u16 = 1;
    pub(super) const PAYLOAD_BASE: u16 = 2;
    pub(super) const PAYLOAD_OFFSET: u16 = 3;
    pub(super) const PAYLOAD_LENGTH: u16 = 4;
    pub(super) const BITWISE_SOURCE: u16 = 1;
    pub(super) const BITWISE_DESTINATION: u16 = 2;
    pub(super) const BITWISE_LENGTH: u16 = 3;
    pub(super) const BITWISE_MASK: u16 = 4;
    pub(super) const BITWISE_XOR: u16 = 5;
    pub(super) const IMMEDIATE_DESTINATION: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const REDIRECT_PORT: u16 = 1;
    pub(super) const REJECT_TYPE: u16 = 1;
    pub(super) const REJECT_CODE: u16 = 2;
}
use attribute as a;

/// Puts `messages` between the marks that make them one transaction: all of them or none.
pub(crate) fn transaction(messages: Vec<Message>) -> Vec<Message> {
    let mark = |kind: i32| Message::new(kind as u16, 0, &header(libc::AF_UNSPEC as u8, SUBSYSTEM));
    let mut all = vec![mark(libc::NFNL_MSG_BATCH_BEGIN)];
    all.extend(messages);
    all.push(mark(libc::NFNL_MSG_BATCH_END));
    all
}

pub(crate) fn table(name: &str) -> Message {
    message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE).text(a::TABLE_NAME, name)
}

/// What a chain does, and so when it is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chain {
    /// Before connection tracking.
    Raw,
    /// Where destinations are rewritten.
    Redirect,
    /// After that.
    Filter,
}

/// A chain that sees what is sent, and lets pass what no rule decides.
pub(crate) fn chain(table: &str, name: &str, chain: Chain) -> Message {
    let (kind, priority) = match chain {
        Chain::Raw => ("filter", libc::NF_IP_PRI_RAW),
        Chain::Redirect => ("nat", libc::NF_IP_PRI_NAT_DST),
        Chain::Filter => ("filter", libc::NF_IP_PRI_FILTER),
    };
    let hook = Attributes::default()
        .number(a::HOOK_NUMBER, OUTPUT)
        .number(a::HOOK_PRIORITY, priority.cast_unsigned());
    message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
        .text(a::CHAIN_TABLE, table)
        .text(a::CHAIN_NAME, name)
        .nested(a::CHAIN_HOOK, &hook)
        .attribute(a::CHAIN_POLICY, &ACCEPT.to_be_bytes())
        .text(a::CHAIN_TYPE, kind)
}

/// A transport protocol, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp = 6,
    Udp = 17,
}

/// A port of a TCP or UDP header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Port {
    Source = 0,
    Destination = 2,
}

/// An IPv4 address of the header.
#[derive(Debug, Clone, Copy)]
enum Address {
    Source = 12,
    Destination = 16,
}

/// The conditions of a rule, all of which must hold; ended by what is done then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    expressions: Attributes,
}

impl Rule {
    pub(crate) fn of(self, transport: Transport) -> Rule {
        self.load_meta(libc::NFT_META_L4PROTO).compare(libc::NFT_CMP_EQ, &[transport as u8])
    }

    /// Behind [`Rule::of`].
    pub(crate) fn port(self, which: Port, port: u16) -> Rule {
        self.load_port(which).compare(libc::NFT_CMP_EQ, &port.to_be_bytes())
    }

    /// Behind [`Rule::of`].
    pub(crate) fn port_other_than(self, which: Port, port: u16) -> Rule {
        self.load_port(which).compare(libc::NFT_CMP_NEQ, &port.to_be_bytes())
    }

    pub(crate) fn source_v4(self, address: Ipv4Addr) -> Rule {
        self.v4(Address::Source, address, 32)
    }

    pub(crate) fn destination_v4(self, network: Ipv4Addr, prefix: u8) -> Rule {
        self.v4(Address::Destination, network, prefix)
    }

    pub(crate) fn destination_v6(self, address: Ipv6Addr) -> Rule {
        self.load_meta(libc::NFT_META_NFPROTO)
            .compare(libc::NFT_CMP_EQ, &[IPV6])
            .load_payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 24, 16)
            .compare(libc::NFT_CMP_EQ, &address.octets())
    }

    fn v4(self, which: Address, network: Ipv4Addr, prefix: u8) -> Rule {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let network = u32::from(network) & mask;
        let loaded = self.load_meta(libc::NFT_META_NFPROTO).compare(libc::NFT_CMP_EQ, &[IPV4]).load_payload(
            libc::NFT_PAYLOAD_NETWORK_HEADER,
            which as u32,
            4,
        );
        let masked = if mask == u32::MAX { loaded } else { loaded.mask(mask) };
        masked.compare(libc::NFT_CMP_EQ, &network.to_be_bytes())
    }

    fn load_meta(self, key: i32) -> Rule {
        let data = Attributes::default()
            .number(a::META_DESTINATION, REGISTER)
            .number(a::META_KEY, key.cast_unsigned());
        self.expression("meta", &data)
    }

    fn load_port(self, which: Port) -> Rule {
        self.load_payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, which as u32, 2)
    }

    fn load_payload(self, base: i32, offset: u32, length: u32) -> Rule {
        let data = Attributes::default()
            .number(a::PAYLOAD_DESTINATION, REGISTER)
            .number(a::PAYLOAD_BASE, base.cast_unsigned())
            .number(a::PAYLOAD_OFFSET, offset)
            .number(a::PAYLOAD_LENGTH, length);
        self.expression("payload", &data)
    }

    fn mask(self, mask: u32) -> Rule {
        let value = |word: u32| Attributes::default().number(a::DATA_VALUE, word);
        let data = Attributes::default()
            .number(a::BITWISE_SOURCE, REGISTER)
            .number(a::BITWISE_DESTINATION, REGISTER)
            .number(a::BITWISE_LENGTH, 4)
            .nested(a::BITWISE_MASK, &value(mask))
            .nested(a::BITWISE_XOR, &value(0));
        self.expression("bitwise", &data)
    }

    fn compare(self, operation: i32, value: &[u8]) -> Rule {
        let data = Attributes::default()
            .number(a::COMPARE_SOURCE, REGISTER)
            .number(a::COMPARE_OPERATION, operation.cast_unsigned())
            .nested(a::COMPARE_DATA, &Attributes::default().with(a::DATA_VALUE, value));
        self.expression("cmp", &data)
    }

    fn immediate(self, register: u32, data: &Attributes) -> Rule {
        let data =
            Attributes::default().number(a::IMMEDIATE_DESTINATION, register).nested(a::IMMEDIATE_DATA, data);
        self.expression("immediate", &data)
    }

    fn expression(mut self, name: &str, data: &Attributes) -> Rule {
        let expression =
            Attributes::default().text(a::EXPRESSION_NAME, name).nested(a::EXPRESSION_DATA, data);
        self.expressions = self.expressions.nested(a::LIST_ELEMENT, &expression);
        self
    }

    /// The packet may go on.
    pub(crate) fn accept(self) -> Rule {
        let verdict = Attributes::default().number(a::VERDICT_CODE, ACCEPT);
        let verdict = Attributes::default().nested(a::DATA_VERDICT, &verdict);
        self.immediate(libc::NFT_REG_VERDICT.cast_unsigned(), &verdict)
    }

    /// The connection goes to a port of the namespace's own loopback.
    pub(crate) fn redirect(self, port: u16) -> Rule {
        let port = Attributes::default().with(a::DATA_VALUE, &port.to_be_bytes());
        let data = Attributes::default().number(a::REDIRECT_PORT, REGISTER);
        self.immediate(REGISTER, &port).expression("redir", &data)
    }

    /// The sender is told that it may not, by the ICMP of its packet's family.
    pub(crate) fn reject(self) -> Rule {
        let data = Attributes::default()
            .number(a::REJECT_TYPE, libc::NFT_REJECT_ICMPX_UNREACH.cast_unsigned())
            .with(a::REJECT_CODE, &[libc::NFT_REJECT_ICMPX_ADMIN_PROHIBITED as u8]);
        self.expression("reject", &data)
    }

    /// Connection tracking leaves the packet alone.
    pub(crate) fn notrack(self) -> Rule {
        self.expression("notrack", &Attributes::default())
    }

    /// Adds the rule behind those the chain has.
    pub(crate) fn append_to(self, table: &str, chain: &str) -> Message {
        message(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
            .text(a::RULE_TABLE, table)
            .text(a::RULE_CHAIN, chain)
            .nested(a::RULE_EXPRESSIONS, &self.expressions)
    }
}

fn message(kind: i32, flags: i32) -> Message {
    Message::new(SUBSYSTEM << 8 | kind as u16, flags | libc::NLM_F_ACK, &header(INET, 0))
}

/// Family, version, resource: `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, libc::NFNETLINK_V0 as u8, high, low]
}
