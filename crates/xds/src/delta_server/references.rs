//! Whether one resource refers to another, without decoding it.
//!
//! Whatever message or extension a name stands in, protobuf writes it as its length and its bytes. So a resource that
//! refers to `outbound|80||a` holds these bytes with their length before them. The search may find a text that only
//! looks like a reference, and then something is kept for longer than it had to be; it never misses one.

use memchr::memmem;

/// Finds the names that one encoded message may refer to.
pub(super) fn refers_to(body: &[u8], name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    let mut wanted = Vec::with_capacity(name.len() + 5);
    prost::encoding::encode_varint(name.len() as u64, &mut wanted);
    wanted.extend_from_slice(name.as_bytes());
    memmem::find(body, &wanted).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, listener, route, tcp_proxy};

    /// Each place in which a listener or a route table names a cluster.
    #[test]
    fn a_name_is_found_wherever_it_stands_and_not_as_part_of_another() {
        let tcp = tcp_proxy::TcpProxy {
            stat_prefix: "x".into(),
            cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(
                "outbound|80||a.b".into(),
            )),
            ..Default::default()
        };
        let filter = listener::Filter {
            name: "tcp".into(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(crate::pack(&tcp))),
        };
        let chain = listener::FilterChain { filters: vec![filter], ..Default::default() };
        let listener =
            listener::Listener { filter_chains: vec![chain], ..Default::default() }.encode_to_vec();
        let action =
            |specifier| route::RouteAction { cluster_specifier: Some(specifier), ..Default::default() };
        let weight =
            |name: &str| route::weighted_cluster::ClusterWeight { name: name.into(), ..Default::default() };
        let weighted =
            action(route::route_action::ClusterSpecifier::WeightedClusters(route::WeightedCluster {
                clusters: vec![weight("w1"), weight(&"w".repeat(300))],
                ..Default::default()
            }));
        let routes =
            route::Route { action: Some(route::route::Action::Route(weighted)), ..Default::default() };
        let host = route::VirtualHost { routes: vec![routes], ..Default::default() };
        let table =
            route::RouteConfiguration { virtual_hosts: vec![host], ..Default::default() }.encode_to_vec();
        for (body, name, found) in [
            (&listener, "outbound|80||a.b", true),
            (&listener, "outbound|80||a", false),
            (&listener, "80||a.b", false),
            (&table, "w1", true),
            (&table, &"w".repeat(300), true),
            (&table, &"w".repeat(299), false),
            (&table, "", false),
        ] {
            assert_eq!(refers_to(body, name), found, "{name}");
        }
    }
}
