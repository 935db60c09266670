//! The inside of the namespace: `lo`, its routes and the nf_tables rules, over netlink.
//!
//! There is one interface, `lo`, so nothing can leave by itself; what decides is where each kind of
//! traffic ends:
//!
//! | destination | TCP | UDP and the rest |
//! |---|---|---|
//! | port 53, any address | `dns_port` | `dns_port` |
//! | the workload's own address | the application | the application |
//! | another workload's address | `outbound_port` | refused |
//! | the rest of 127.0.0.0/8, ::1 | the application | the application |
//! | everything else | `outbound_port` | refused |

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockProtocol;

use crate::netlink::{Message, Socket};
use crate::nf_tables::{Chain, Port, Rule, Transport, chain, table, transaction};
use crate::spec::Namespace;
use crate::why_not::{SetupFailure, Stage};

const TABLE: &str = "filamesh";
const UNTRACKED: &str = "untracked";
const REDIRECT: &str = "redirect";
const REFUSE: &str = "refuse";
const LOOPBACK_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);
const DNS: u16 = 53;

/// Brings the namespace this process is in to life. Whether IPv6 works in it is the answer.
pub(crate) fn set_up(spec: &Namespace) -> Result<bool, SetupFailure> {
    let v6 = links(spec).map_err(|error| failure(Stage::Links, &error))?;
    let installed = Socket::open(SockProtocol::NetlinkNetFilter)
        .and_then(|mut socket| socket.carry_out(&transaction(rules(spec))));
    installed.map_err(|error| failure(Stage::Rules, &error))?;
    Ok(v6)
}

fn failure(stage: Stage, error: &io::Error) -> SetupFailure {
    SetupFailure { stage, errno: error.raw_os_error(), message: error.to_string() }
}

fn links(spec: &Namespace) -> io::Result<bool> {
    let mut route = Socket::open(SockProtocol::NetlinkRoute)?;
    let lo = if_nametoindex("lo")?;
    route.carry_out(&[link_up(lo), address(lo, spec.address), default_route_v4(lo, spec.address)])?;
    // A kernel or a namespace without IPv6 is no reason to give up: its applications have none
    // either. ::1 is there exactly when IPv6 is.
    match route.carry_out(&[default_route_v6(lo)]) {
        Ok(()) => Ok(std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()),
        Err(_) => Ok(false),
    }
}

const NEW: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const V4: u8 = libc::AF_INET as u8;
const V6: u8 = libc::AF_INET6 as u8;

/// `struct ifinfomsg`: family, type, number, flags, and which of the flags are meant.
fn link_up(link: u32) -> Message {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let fixed = [[0; 4], link.to_ne_bytes(), up, up].concat();
    Message::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &fixed)
}

/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, link. Universal scope makes it an
/// address an application believes to be reachable by others.
fn address(link: u32, address: Ipv4Addr) -> Message {
    let fixed = [[V4, 32, 0, libc::RT_SCOPE_UNIVERSE], link.to_ne_bytes()].concat();
    Message::new(libc::RTM_NEWADDR, NEW, &fixed)
        .attribute(libc::IFA_LOCAL, &address.octets())
        .attribute(libc::IFA_ADDRESS, &address.octets())
}

/// `struct rtmsg`: family, lengths of the prefixes (0: every destination), type of service; table,
/// protocol, scope, type; flags.
fn default_route(family: u8, scope: u8, link: u32) -> Message {
    let to_all = [family, 0, 0, 0];
    let unicast = [libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, scope, libc::RTN_UNICAST];
    let fixed = [to_all, unicast, [0; 4]].concat();
    Message::new(libc::RTM_NEWROUTE, NEW, &fixed).attribute(libc::RTA_OIF, &link.to_ne_bytes())
}

fn default_route_v4(link: u32, source: Ipv4Addr) -> Message {
    default_route(V4, libc::RT_SCOPE_LINK, link).attribute(libc::RTA_PREFSRC, &source.octets())
}

fn default_route_v6(link: u32) -> Message {
    default_route(V6, libc::RT_SCOPE_UNIVERSE, link)
}

fn rules(spec: &Namespace) -> Vec<Message> {
    use Transport::{Tcp, Udp};
    let (range, prefix) = spec.workload_range;
    let rule = Rule::default;
    let to = |address: Ipv4Addr| rule().destination_v4(address, 32);
    let to_loopback = || rule().destination_v4(LOOPBACK_V4.0, LOOPBACK_V4.1);
    let to_dns = |transport| rule().of(transport).port(Port::Destination, DNS);

    let mut messages = vec![
        table(TABLE),
        chain(TABLE, UNTRACKED, Chain::Raw),
        chain(TABLE, REDIRECT, Chain::Redirect),
        // Here redirected traffic is already bound for loopback.
        chain(TABLE, REFUSE, Chain::Filter),
    ];
    // What the sidecar's sockets and the application say to each other on 127.0.0.1 needs no tracking
    // (0.4 us less per round trip and side, and no table entry for an inbound connection). The ports
    // of redirected connections are left out: their answers must be found again.
    let redirected = [DNS, spec.dns_port, spec.outbound_port];
    let between_ourselves = to(Ipv4Addr::LOCALHOST).source_v4(Ipv4Addr::LOCALHOST).of(Tcp);
    let between_ourselves = redirected.into_iter().fold(between_ourselves, |rule, port| {
        rule.port_other_than(Port::Destination, port).port_other_than(Port::Source, port)
    });
    let rules = [
        (UNTRACKED, between_ourselves.notrack()),
        (REDIRECT, to_dns(Udp).redirect(spec.dns_port)),
        (REDIRECT, to_dns(Tcp).redirect(spec.dns_port)),
        (REDIRECT, to(spec.address).accept()),
        (REDIRECT, rule().destination_v4(range, prefix).of(Tcp).redirect(spec.outbound_port)),
        (REDIRECT, to_loopback().accept()),
        (REDIRECT, rule().destination_v6(Ipv6Addr::LOCALHOST).accept()),
        (REDIRECT, rule().of(Tcp).redirect(spec.outbound_port)),
        // First what nearly every packet is.
        (REFUSE, to(Ipv4Addr::LOCALHOST).accept()),
        (REFUSE, to(spec.address).accept()),
        (REFUSE, rule().destination_v4(range, prefix).reject()),
        (REFUSE, to_loopback().accept()),
        (REFUSE, rule().destination_v6(Ipv6Addr::LOCALHOST).accept()),
        // An answer instead of silence: a QUIC client falls back to TCP at once.
        (REFUSE, rule().reject()),
    ];
    messages.extend(rules.into_iter().map(|(chain, rule)| rule.append_to(TABLE, chain)));
    messages
}
