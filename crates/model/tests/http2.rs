//! HTTP/2 settings of listeners and clusters, and which protocol a cluster speaks. What is refused was given to
//! `envoy --mode validate` (1.40), which refuses the same; the defaults were read off its SETTINGS frames.
mod common;

use std::time::Duration;

use common::*;
use model::Config;
use model::cluster::{Hop, UpstreamProtocol};
use model::http_connection::HeaderCase;
use serde_json::{Value, json};
use xds::type_url;

#[test]
fn the_defaults_are_envoys_but_for_windows_and_huffman() {
    let inside = connection(json!({})).unwrap().http2;
    assert_eq!(inside.max_concurrent_streams, 1024);
    assert_eq!(inside.header_table_size, 4096);
    assert_eq!(inside.initial_connection_window, 24 << 20);
    // Not Envoy's 16 MiB: what one stalled reader may hold.
    assert_eq!(inside.initial_stream_window, 256 << 10);
    assert!(!inside.allow_connect && !inside.stream_error_on_invalid_message && !inside.huffman);
    assert_eq!(inside.keepalive.interval, None);
    assert_eq!(inside.keepalive.interval_jitter.per_million, 150_000);
    let floods = inside.floods;
    assert_eq!((floods.outbound_frames, floods.outbound_control_frames), (10_000, 1_000));
    assert_eq!(
        (floods.empty_frames, floods.priorities_per_stream, floods.window_updates_per_data),
        (1, 100, 10)
    );
    assert_eq!(static_cluster(json!({})).unwrap().http2, inside);
    let edge = connection(json!({"useRemoteAddress": true})).unwrap().http2;
    assert_eq!(edge.initial_connection_window, 1 << 20);
}

#[test]
fn configured_http2_options_replace_the_defaults_on_either_side() {
    let options = json!({"hpackTableSize": 8192, "maxConcurrentStreams": 4096, "initialStreamWindowSize": 65536,
        "initialConnectionWindowSize": 1_048_576, "allowConnect": true, "maxOutboundFrames": 1,
        "maxOutboundControlFrames": 2, "maxConsecutiveInboundFramesWithEmptyPayload": 0,
        "maxInboundPriorityFramesPerStream": 4, "maxInboundWindowUpdateFramesPerDataFrameSent": 5,
        "enableHuffmanEncoding": true,
        "connectionKeepalive": {"interval": "30s", "timeout": "5s", "intervalJitter": {"value": 20.0},
            "connectionIdleInterval": "1s"}});
    let read = connection(json!({"http2ProtocolOptions": options})).unwrap().http2;
    assert_eq!((read.header_table_size, read.max_concurrent_streams), (8192, 4096));
    assert_eq!((read.initial_stream_window, read.initial_connection_window), (65536, 1_048_576));
    assert!(read.allow_connect && read.huffman);
    let floods = read.floods;
    assert_eq!((floods.outbound_frames, floods.outbound_control_frames, floods.empty_frames), (1, 2, 0));
    assert_eq!((floods.priorities_per_stream, floods.window_updates_per_data), (4, 5));
    let seconds = Duration::from_secs;
    let keepalive = read.keepalive;
    assert_eq!((keepalive.interval, keepalive.timeout), (Some(seconds(30)), seconds(5)));
    assert_eq!((keepalive.after_idle, keepalive.interval_jitter.per_million), (Some(seconds(1)), 200_000));
    let explicit = with_options(json!({"explicitHttpConfig": {"http2ProtocolOptions": options}}));
    assert_eq!(static_cluster(explicit).unwrap().http2, read);
}

#[test]
fn whether_an_invalid_message_costs_the_connection() {
    // (connection manager, HTTP/1 options, HTTP/2 options) to (HTTP/1, HTTP/2): the narrower counts.
    let table = [
        ((None, None, None), (false, false)),
        ((Some(true), None, None), (true, true)),
        ((Some(true), Some(false), None), (false, true)),
        ((Some(true), None, Some(false)), (true, false)),
        ((Some(false), Some(true), Some(true)), (true, true)),
        ((None, None, Some(true)), (false, true)),
    ];
    for ((manager, http1, http2), expected) in table {
        let read = connection(json!({
            "streamErrorOnInvalidHttpMessage": manager,
            "httpProtocolOptions": {"overrideStreamErrorOnInvalidHttpMessage": http1},
            "http2ProtocolOptions": {"overrideStreamErrorOnInvalidHttpMessage": http2},
        }))
        .unwrap();
        let found = (read.http1.stream_error_on_invalid_message, read.http2.stream_error_on_invalid_message);
        assert_eq!(found, expected, "{manager:?} {http1:?} {http2:?}");
    }
}

#[test]
fn which_protocol_a_cluster_speaks() {
    let preserve = json!({"headerKeyFormat": {"statefulFormatter": {"name": "preserve_case", "typedConfig":
        {"@type": "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"}}}});
    let proper = json!({"headerKeyFormat": {"properCaseWords": {}}});
    let tls = json!({"name": "envoy.transport_sockets.tls", "typedConfig":
        {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}});
    use HeaderCase::*;
    use UpstreamProtocol::*;
    let streams = |n: u32| json!({"maxConcurrentStreams": n});
    let table = [
        (json!({}), Http1, Lower, 1024),
        (json!({"httpProtocolOptions": proper}), Http1, Proper, 1024),
        (json!({"http2ProtocolOptions": streams(5)}), Http2, Lower, 5),
        (
            json!({"protocolSelection": "USE_DOWNSTREAM_PROTOCOL", "httpProtocolOptions": preserve,
                "http2ProtocolOptions": streams(6)}),
            SameAsDownstream,
            Preserve,
            6,
        ),
        (
            with_options(json!({"explicitHttpConfig": {"httpProtocolOptions": preserve}})),
            Http1,
            Preserve,
            1024,
        ),
        (with_options(json!({"explicitHttpConfig": {"http2ProtocolOptions": {}}})), Http2, Lower, 1024),
        (with_options(json!({"useDownstreamProtocolConfig": {}})), SameAsDownstream, Lower, 1024),
        (
            with_options(json!({"useDownstreamProtocolConfig":
                {"httpProtocolOptions": proper, "http2ProtocolOptions": streams(7)}})),
            SameAsDownstream,
            Proper,
            7,
        ),
        (
            merged(
                with_options(json!({"autoConfig": {"http2ProtocolOptions": streams(8)}})),
                json!({"transportSocket": tls}),
            ),
            Auto,
            Lower,
            8,
        ),
    ];
    for (value, protocol, case, streams) in table {
        let read = static_cluster(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"));
        assert_eq!(
            (read.protocol, read.http1.header_case, read.http2.max_concurrent_streams),
            (protocol, case, streams),
            "{value}"
        );
    }
}

#[test]
fn what_envoy_refuses_is_refused_by_name() {
    let explicit =
        |options: Value| with_options(json!({"explicitHttpConfig": {"http2ProtocolOptions": options}}));
    let clusters = [
        (with_options(json!({"autoConfig": {}})), "auto_config: needs ALPN"),
        (with_options(json!({})), "upstream_protocol_options is required"),
        (with_options(json!({"explicitHttpConfig": {}})), "explicit_http_config: is empty"),
        (
            json!({"httpProtocolOptions": {}, "http2ProtocolOptions": {}}),
            "http2_protocol_options: not beside",
        ),
        (
            explicit(json!({"initialStreamWindowSize": 1000})),
            "explicit_http_config.http2_protocol_options.initial_stream_window_size: 1000 is not between 65535",
        ),
        (
            explicit(json!({"connectionKeepalive": {"interval": "1s"}})),
            "connection_keepalive.timeout: is required",
        ),
    ];
    for (value, reason) in clusters {
        let refused = static_cluster(value.clone()).expect_err(&value.to_string());
        assert!(refused.contains(reason), "{refused}");
    }
    let listeners = [
        (json!({"http2ProtocolOptions": {"maxConcurrentStreams": 0}}), "max_concurrent_streams: 0 is not"),
        (
            json!({"http2ProtocolOptions": {"connectionKeepalive": {"timeout": "0s"}}}),
            "connection_keepalive.timeout: must be at least 1ms",
        ),
        (json!({"codecType": "HTTP3"}), "codec_type: HTTP3 is not supported"),
    ];
    for (value, reason) in listeners {
        let refused = connection(value.clone()).expect_err(&value.to_string());
        assert!(refused.contains(reason), "{refused}");
    }
}

/// Istio's meaning of `connectionPool` is HTTP/1's: what limits connections must find connections to limit.
#[test]
fn which_requests_share_connections_to_a_filamesh_proxy() {
    let breakers = |threshold: Value| json!({"circuitBreakers": {"thresholds": [threshold]}});
    let common =
        |more: Value| with_options(merged(json!({"explicitHttpConfig": {"httpProtocolOptions": {}}}), more));
    let tls = json!({"transportSocket": {"name": "envoy.transport_sockets.tls", "typedConfig":
        {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}}});
    let unlimited = u32::MAX;
    let table = [
        ("h2", json!({}), Hop::Multiplexed),
        ("", json!({}), Hop::OtherPeer),
        ("h9", json!({}), Hop::OtherPeer),
        ("h2", common(json!({})), Hop::Multiplexed),
        ("h2", common(json!({"commonHttpProtocolOptions": {"idleTimeout": "1s"}})), Hop::Multiplexed),
        // What Istio sends when nobody set anything.
        (
            "h2",
            breakers(json!({"maxConnections": unlimited, "maxPendingRequests": unlimited,
                "maxRequests": unlimited, "maxRetries": unlimited})),
            Hop::Multiplexed,
        ),
        // A limit on requests is the same on either kind of connection.
        ("h2", breakers(json!({"maxRequests": 1, "maxRetries": 1})), Hop::Multiplexed),
        ("h2", breakers(json!({"maxConnections": 100})), Hop::ConnectionsCounted),
        ("h2", breakers(json!({"maxPendingRequests": 1})), Hop::ConnectionsCounted),
        ("h2", json!({"maxRequestsPerConnection": 1}), Hop::ConnectionsCounted),
        (
            "h2",
            common(json!({"commonHttpProtocolOptions": {"maxRequestsPerConnection": 10}})),
            Hop::ConnectionsCounted,
        ),
        ("h2", tls, Hop::Tls),
    ];
    for (announced, more, expected) in table {
        let endpoint = json!({"endpoint": {"address": address("10.0.0.1", 80)},
            "metadata": {"filterMetadata": {"filamesh": {"hop": announced}}}});
        let assignment = json!({"clusterName": "c", "endpoints": [{"lbEndpoints": [endpoint]}]});
        let cluster =
            merged(more.clone(), json!({"name": "c", "type": "STATIC", "loadAssignment": assignment}));
        let mut config = Config::new();
        let refused = config.apply(
            type_url::CLUSTER,
            &[resource("c", &message::<xds::cluster::Cluster>(cluster))],
            &[],
        );
        assert!(refused.is_empty(), "{refused:?}");
        let snapshot = config.snapshot();
        let entry = snapshot.cluster(snapshot.cluster_id("c").unwrap()).unwrap();
        let host = &entry.endpoints.hosts[0];
        assert_eq!(entry.cluster.hop(host), expected, "{announced} {more}");
        assert_eq!(entry.cluster.multiplexes(host), expected == Hop::Multiplexed);
    }
}
