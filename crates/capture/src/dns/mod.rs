//! The mesh's names.
//!
//! The application asks whatever nameserver its `/etc/resolv.conf` names; in its namespace that is
//! always us. Names of the mesh are answered from a table the control plane sends; the rest goes to
//! the host's nameservers, from the host's network. As in Istio's agent: TTL 30, an empty NOERROR for
//! the family a name does not have, SERVFAIL before the first table.
//!
//! [`table`] holds the names, [`answer()`] decides (no I/O), [`resolv_conf`] reads the host's
//! settings, [`forward`] asks the host's nameservers, [`serve()`] is the task that ties them together.

pub mod answer;
pub mod forward;
pub mod resolv_conf;
pub mod serve;
pub mod table;

pub use answer::{Answer, Transport, answer};
pub use forward::Upstream;
pub use resolv_conf::ResolvConf;
pub use serve::{Counters, serve};
pub use table::NameTable;

/// Every input gives an answer, and a reply is always a readable response to the same query.
#[doc(hidden)]
pub fn fuzz_answer(data: &[u8]) {
    use std::net::{IpAddr, Ipv4Addr};

    let many = (0..2000_u32).map(|n| IpAddr::V4(Ipv4Addr::from(0xf0f0_0000 + n))).collect();
    let entries = [("reviews", many), ("*.wild.example", vec![Ipv4Addr::LOCALHOST.into()])];
    let table = NameTable::new("cluster.local", entries.map(|(name, ips)| (name.to_owned(), ips)));
    let search = ["corp.example".to_owned()];
    for transport in [Transport::Udp, Transport::Tcp] {
        for table in [None, Some(&table)] {
            if let Answer::Reply(reply) = answer(data, table, &search, 3, transport) {
                assert_eq!(reply.get(..2), data.get(..2), "another query's id");
                let message = hickory_proto::op::Message::from_vec(&reply).expect("own reply is readable");
                assert_eq!(message.metadata.message_type, hickory_proto::op::MessageType::Response);
                assert!(transport == Transport::Tcp || reply.len() <= 4096);
            }
        }
    }
}
