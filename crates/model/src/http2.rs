//! HTTP/2 settings of a connection manager or a cluster, as data with the defaults filled in.
//!
//! Envoy's defaults are those of 1.36 and later, read off the SETTINGS frames of Envoy 1.40: table 4096, 1024 streams,
//! windows of 16 MiB a stream and 24 MiB a connection.
use std::time::Duration;

use serde::Serialize;

use crate::proto;
use crate::refusal::{At, Compiled};

/// `Http2ProtocolOptions`. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Http2Settings {
    /// Downstream: streams a client may have open at once. Upstream: streams opened at once on a connection, if the
    /// host does not say less. 1 to 2^31 - 1; Envoy's default 1024.
    pub max_concurrent_streams: u32,
    /// What may be on the way to us on one stream, unread: what a stalled reader behind us holds. 65 535 to 2^31 - 1.
    /// Our default [`STREAM_WINDOW`].
    pub initial_stream_window: u32,
    /// The same of all streams of a connection together. Our default [`CONNECTION_WINDOW`], and
    /// [`EDGE_CONNECTION_WINDOW`] where the clients are not trusted.
    pub initial_connection_window: u32,
    /// SETTINGS_HEADER_TABLE_SIZE, and the most spent on the peer's table. Default 4096.
    pub header_table_size: u32,
    /// Huffman-code what is sent. Default off: Envoy's is on, which costs CPU on both sides of a short hop.
    pub huffman: bool,
    /// Take extended CONNECT (RFC 8441): WebSocket over HTTP/2. Default off.
    pub allow_connect: bool,
    /// An invalid message costs its stream alone. Off, Envoy's default, it costs the connection.
    pub stream_error_on_invalid_message: bool,
    pub keepalive: Keepalive,
    pub floods: FloodLimits,
}

/// PINGs to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    /// Ping this often; `None` = never, the default.
    pub interval: Option<Duration>,
    /// Up to so much of it more, at random. Envoy's default 15 %.
    pub interval_jitter: crate::Fraction,
    /// Ping before the first stream after the connection was idle for so long.
    pub after_idle: Option<Duration>,
    /// Close the connection when the answer takes longer.
    pub timeout: Duration,
}

/// Frames a peer may make us hold or read; beyond them the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FloodLimits {
    /// Waiting to be written. Envoy's default 10 000.
    pub outbound_frames: u32,
    /// PING, SETTINGS and RST_STREAM among them. Envoy's default 1000.
    pub outbound_control_frames: u32,
    /// HEADERS, CONTINUATION and DATA in a row with no payload and no END_STREAM. Envoy's default 1.
    pub empty_frames: u32,
    /// PRIORITY for each stream opened, and one more. Envoy's default 100.
    pub priorities_per_stream: u32,
    /// WINDOW_UPDATE: 5 and twice (the streams opened, and this for each DATA frame sent). Envoy's default 10.
    pub window_updates_per_data: u32,
}

/// Envoy's 16 MiB would let one upload to a stalled reader hold that much. This is 100 ms of 20 Mbit/s.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// Envoy's 24 MiB: within the mesh one connection carries everything between two proxies, and with less a few stalled
/// streams stop all others.
pub const CONNECTION_WINDOW: u32 = 24 * 1024 * 1024;
/// Of connections whose peer is the client itself (`use_remote_address`): as Envoy's guide for the edge says, so that
/// many hostile connections hold little.
pub const EDGE_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// RFC 9113 §6.9.2; Envoy takes nothing smaller, although the RFC would.
const SMALLEST_WINDOW: u32 = 65_535;
const LARGEST: u32 = 0x7fff_ffff;

impl Http2Settings {
    /// Of connections to hosts, and from clients within the mesh.
    pub fn inside() -> Http2Settings {
        Http2Settings {
            max_concurrent_streams: 1024,
            initial_stream_window: STREAM_WINDOW,
            initial_connection_window: CONNECTION_WINDOW,
            header_table_size: 4096,
            huffman: false,
            allow_connect: false,
            stream_error_on_invalid_message: false,
            keepalive: Keepalive {
                interval: None,
                interval_jitter: crate::Fraction { per_million: 150_000 },
                after_idle: None,
                timeout: Duration::from_secs(10),
            },
            floods: FloodLimits {
                outbound_frames: 10_000,
                outbound_control_frames: 1_000,
                empty_frames: 1,
                priorities_per_stream: 100,
                window_updates_per_data: 10,
            },
        }
    }

    /// Of connections from clients that nobody vouches for.
    pub fn edge() -> Http2Settings {
        Http2Settings { initial_connection_window: EDGE_CONNECTION_WINDOW, ..Http2Settings::inside() }
    }

    /// What the message says, over these.
    pub(crate) fn with(self, message: Option<&xds::core::Http2ProtocolOptions>) -> Compiled<Http2Settings> {
        let Some(m) = message else { return Ok(self) };
        let floods = self.floods;
        Ok(Http2Settings {
            max_concurrent_streams: number(m.max_concurrent_streams, self.max_concurrent_streams, 1)
                .at("max_concurrent_streams")?,
            initial_stream_window: number(
                m.initial_stream_window_size,
                self.initial_stream_window,
                SMALLEST_WINDOW,
            )
            .at("initial_stream_window_size")?,
            initial_connection_window: number(
                m.initial_connection_window_size,
                self.initial_connection_window,
                SMALLEST_WINDOW,
            )
            .at("initial_connection_window_size")?,
            header_table_size: m.hpack_table_size.unwrap_or(self.header_table_size),
            huffman: m.enable_huffman_encoding.unwrap_or(self.huffman),
            allow_connect: m.allow_connect,
            // The newer field counts before the older, and both before the connection manager's.
            stream_error_on_invalid_message: m
                .override_stream_error_on_invalid_http_message
                .unwrap_or(self.stream_error_on_invalid_message || m.stream_error_on_invalid_http_messaging),
            keepalive: match &m.connection_keepalive {
                None => self.keepalive,
                Some(keepalive) => keepalive_of(keepalive, self.keepalive).at("connection_keepalive")?,
            },
            floods: FloodLimits {
                outbound_frames: number(m.max_outbound_frames, floods.outbound_frames, 1)
                    .at("max_outbound_frames")?,
                outbound_control_frames: number(
                    m.max_outbound_control_frames,
                    floods.outbound_control_frames,
                    1,
                )
                .at("max_outbound_control_frames")?,
                empty_frames: m
                    .max_consecutive_inbound_frames_with_empty_payload
                    .unwrap_or(floods.empty_frames),
                priorities_per_stream: m
                    .max_inbound_priority_frames_per_stream
                    .unwrap_or(floods.priorities_per_stream),
                window_updates_per_data: number(
                    m.max_inbound_window_update_frames_per_data_frame_sent,
                    floods.window_updates_per_data,
                    1,
                )
                .at("max_inbound_window_update_frames_per_data_frame_sent")?,
            },
        })
    }
}

fn number(set: Option<u32>, default: u32, least: u32) -> Compiled<u32> {
    match set {
        None => Ok(default),
        Some(set) if (least..=LARGEST).contains(&set) => Ok(set),
        Some(set) => refuse!("{set} is not between {least} and {LARGEST}"),
    }
}

fn keepalive_of(message: &xds::core::KeepaliveSettings, default: Keepalive) -> Compiled<Keepalive> {
    // Envoy takes no interval below a millisecond, and wants the timeout said.
    let at_least_1ms = |set: Option<&xds::Duration>| match proto::optional_duration(set)? {
        Some(set) if set < Duration::from_millis(1) => refuse!("must be at least 1ms"),
        set => Ok(set),
    };
    let Some(timeout) = at_least_1ms(message.timeout.as_ref()).at("timeout")? else {
        return refuse!("is required").at("timeout");
    };
    Ok(Keepalive {
        interval: at_least_1ms(message.interval.as_ref()).at("interval")?,
        interval_jitter: message
            .interval_jitter
            .as_ref()
            .map_or(default.interval_jitter, |p| proto::percent(p.value)),
        after_idle: at_least_1ms(message.connection_idle_interval.as_ref()).at("connection_idle_interval")?,
        timeout,
    })
}
