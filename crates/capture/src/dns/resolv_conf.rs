//! The host's resolver settings, resolv.conf(5).

use std::net::{IpAddr, SocketAddr};

/// What of resolv.conf matters for forwarding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most three, as the C library reads (MAXNS).
    pub nameservers: Vec<SocketAddr>,
    /// Lower case, without trailing dots.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads what it understands and skips the rest, as every resolver does.
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if out.nameservers.len() < 3 => {
                    // A zone (fe80::1%eth0) is an interface's name, which SocketAddr cannot hold.
                    if let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) {
                        out.nameservers.push(SocketAddr::new(ip, 53));
                    }
                }
                // `domain` is the old form of a one-entry `search`; the last line wins.
                Some("search" | "domain") => {
                    out.search = words
                        .map(|word| word.trim_end_matches('.').to_ascii_lowercase())
                        .filter(|word| !word.is_empty())
                        .collect();
                }
                _ => {}
            }
        }
        out
    }
}

#[doc(hidden)]
pub fn fuzz_resolv_conf(data: &[u8]) {
    let parsed = ResolvConf::parse(&String::from_utf8_lossy(data));
    assert!(parsed.nameservers.len() <= 3);
    assert!(parsed.search.iter().all(|domain| !domain.is_empty() && !domain.ends_with('.')));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_5() {
        let parsed = ResolvConf::parse(
            "# generated\nnameserver 127.0.0.53\nnameserver  fd00::1 ; second\nnameserver fe80::1%eth0\n\
             nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions edns0 ndots:1\ndomain old.example\nsearch Corp.Example. lab.example\nnameserver\n",
        );
        let servers: Vec<String> = parsed.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.53:53", "[fd00::1]:53", "10.0.0.1:53"]);
        assert_eq!(parsed.search, ["corp.example", "lab.example"]);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }
}
