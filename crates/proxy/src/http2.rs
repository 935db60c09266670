//! HTTP/2 settings of the configuration in the codec's words.

use model::http2::Http2Settings;
use wire::h2::{AbuseLimits, Config};

/// How much one stream may have queued. What is sent on it is bounded by those who read its other side, which stop long
/// before.
const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// `limits`: what a head may be.
pub fn codec_config(settings: &Http2Settings, limits: &wire::h1::Limits) -> Config {
    let defaults = Config::default();
    Config {
        max_concurrent_streams: settings.max_concurrent_streams,
        stream_window: settings.initial_stream_window,
        connection_window: settings.initial_connection_window,
        header_table_size: settings.header_table_size,
        encoder_table_size: settings.header_table_size,
        huffman: settings.huffman,
        max_head: limits.max_head,
        max_headers: limits.max_headers,
        underscores: limits.underscores,
        extended_connect: settings.allow_connect,
        max_queued: MAX_QUEUED,
        keepalive_interval: settings.keepalive.interval,
        keepalive_timeout: settings.keepalive.timeout,
        abuse: AbuseLimits {
            // Envoy takes one empty frame in a row; a client that ends each message with an empty DATA frame sends two.
            empty_frames: settings.floods.empty_frames.max(2),
            queued_control_frames: settings.floods.outbound_control_frames,
            priorities_per_stream: settings.floods.priorities_per_stream,
            window_updates_per_data: settings
                .floods
                .window_updates_per_data
                .max(defaults.abuse.window_updates_per_data),
            ..defaults.abuse
        },
        ..defaults
    }
}
