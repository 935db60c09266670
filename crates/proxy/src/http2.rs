//! HTTP/2 settings of the configuration in the codec's words.

use model::http2::Http2Settings;
use wire::h2::{AbuseLimits, Config};

/// How much one stream may have queued. What is sent on it is bounded by those who read its other side, which stop long
/// before.
const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// While more than this waits for a client's socket, bodies wait in their streams.
const OUTPUT_MARK: usize = 256 * 1024;
/// While more than this waits for a client's socket, nothing is taken from what the client sends: heads, small answers and
/// acknowledgements have filled what bodies had left, and whatever is taken adds to it.
pub const UNREAD_MARK: usize = OUTPUT_MARK + 64 * 1024;
/// Taking goes on when no more than this waits.
pub const READ_AGAIN_MARK: usize = 64 * 1024;

/// `limits`: what a head may be. All connections share it.
pub fn codec_config(settings: &Http2Settings, limits: &wire::h1::Limits) -> Config {
    let defaults = Config::default();
    let usual = Http2Settings::inside().floods;
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
        output_high_water: OUTPUT_MARK,
        keepalive_interval: settings.keepalive.interval,
        keepalive_timeout: settings.keepalive.timeout,
        abuse: AbuseLimits {
            // Envoy takes one empty frame in a row; a client that ends each message with an empty DATA frame sends two.
            empty_frames: unless_default(settings.floods.empty_frames, usual.empty_frames, 2),
            queued_control_frames: settings.floods.outbound_control_frames,
            priorities_per_stream: settings.floods.priorities_per_stream,
            window_updates_per_data: unless_default(
                settings.floods.window_updates_per_data,
                usual.window_updates_per_data,
                defaults.abuse.window_updates_per_data,
            ),
            ..defaults.abuse
        },
        ..defaults
    }
    .bounded()
}

/// What was asked for; `ours` where that is only what Envoy does unasked.
fn unless_default(asked: u32, envoys: u32, ours: u32) -> u32 {
    if asked == envoys { ours } else { asked }
}

/// What is asked for and not done, to be said by name.
pub fn unheeded(settings: &Http2Settings) -> impl Iterator<Item = &'static str> {
    let usual = Http2Settings::inside();
    let told = [
        (
            settings.keepalive.after_idle.is_some(),
            "connection_idle_interval: only connection_keepalive.interval is honoured",
        ),
        (
            settings.keepalive.interval_jitter != usual.keepalive.interval_jitter,
            "connection_keepalive.interval_jitter: pings go at the interval itself",
        ),
        (
            settings.floods.outbound_frames != usual.floods.outbound_frames,
            "max_outbound_frames: what is queued is limited in bytes; max_outbound_control_frames is honoured",
        ),
    ];
    told.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_asked_for_are_kept_and_what_is_not_done_is_named() {
        let limits = wire::h1::Limits::default();
        let mut settings = Http2Settings::inside();
        let abuse = codec_config(&settings, &limits).abuse;
        assert_eq!((abuse.empty_frames, abuse.window_updates_per_data), (2, 20));
        assert_eq!(unheeded(&settings).count(), 0);
        let shared = std::sync::Arc::new(codec_config(&settings, &limits));
        let _of_one = wire::h2::Connection::server(shared.clone(), std::time::Duration::ZERO);
        assert_eq!(std::sync::Arc::strong_count(&shared), 2, "a connection has no copy of its own");
        settings.floods.empty_frames = 7;
        settings.floods.window_updates_per_data = 3;
        settings.floods.outbound_frames = 5;
        settings.keepalive.interval_jitter = model::Fraction { per_million: 0 };
        let abuse = codec_config(&settings, &limits).abuse;
        assert_eq!((abuse.empty_frames, abuse.window_updates_per_data), (7, 3));
        let named: Vec<&str> = unheeded(&settings).map(|what| what.split(':').next().unwrap()).collect();
        assert_eq!(named, ["connection_keepalive.interval_jitter", "max_outbound_frames"]);
    }
}
