//! What a connection may do and must bear.

use std::time::Duration;

use crate::h1::Underscores;

use super::{
    frame::{DEFAULT_MAX_FRAME, DEFAULT_WINDOW, LARGEST_MAX_FRAME, LARGEST_WINDOW},
    gather::HeadLimits,
    hpack::table::ENTRY_OVERHEAD,
};

/// How many bytes of heads a byte that was sent pays for. Real requests take five to ten: their names, and values that
/// do not change.
pub(super) const HEAD_PER_BYTE: u64 = 8;
/// The table both sides begin with.
const INITIAL_TABLE: u32 = 4096;

/// Settings of one connection, shared by all of a listener or cluster. Sizes in bytes. The defaults are safe towards
/// the whole internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams the peer may have open at once; more are refused one by one.
    pub max_concurrent_streams: u32,
    /// What a stream's sender may have on the way, unconsumed: the bound on what a slow reader holds.
    pub stream_window: u32,
    /// The same for all streams of a connection together; at least 65 535.
    pub connection_window: u32,
    /// The largest frame taken, 16 KiB to 16 MiB.
    pub max_frame: u32,
    /// The peer's compression table, which this side holds.
    pub header_table_size: u32,
    /// The most this side spends on the other table.
    pub encoder_table_size: u32,
    /// Send shorter strings for more CPU: for far peers.
    pub huffman: bool,
    /// Names and values of one head; 431 above, as Envoy's 60 KiB. The connection is closed at four times this.
    pub max_head: usize,
    /// What the heads of open streams may take here beyond [`HEAD_PER_BYTE`] times all the bytes that the peer sent
    /// (server). A head of a few references may decode to kilobytes, and is held as long as its stream is open; a
    /// request above this is refused with REFUSED_STREAM, which says that it was not processed and may come again.
    pub head_credit: usize,
    /// Fields in a head. Envoy: 100.
    pub max_headers: usize,
    pub underscores: Underscores,
    /// Take extended CONNECT: WebSocket over HTTP/2.
    pub extended_connect: bool,
    /// What one stream may queue when its windows are used up; [`super::SendError::Full`] above.
    pub max_queued: usize,
    /// Output not yet taken by the socket above which bodies are queued by stream.
    pub output_high_water: usize,
    /// How long the peer may take to begin, from the making of the connection to its SETTINGS.
    pub preface_timeout: Duration,
    /// How long it may take to acknowledge ours.
    pub settings_timeout: Duration,
    /// Ping a peer unheard of for so long; never if `None`.
    pub keepalive_interval: Option<Duration>,
    /// And how long it may take to answer.
    pub keepalive_timeout: Duration,
    /// Between the two GOAWAYs of a graceful close, if the peer does not answer the ping between them.
    pub drain_grace: Duration,
    pub abuse: AbuseLimits,
}

/// What a peer may do that costs more than it brings. Each is answered by closing the connection with
/// ENHANCE_YOUR_CALM. Resets and PRIORITY as Envoy counts them, CONTINUATION as nghttp2, empty frames as the crate h2;
/// the rates of control frames and the slack in WINDOW_UPDATE are our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbuseLimits {
    /// Rapid reset (CVE-2023-44487): streams the peer resets within [`AbuseLimits::premature_lifetime`] before a
    /// response was complete. Closed at half of this many, once they are half of all streams closed.
    pub premature_resets: u32,
    pub premature_lifetime: Duration,
    /// MadeYouReset (CVE-2025-8671): errors that make *us* reset or refuse a stream, less one for each that ends well.
    pub local_resets: u32,
    /// CONTINUATION frames in one field block (CVE-2024-27919).
    pub continuations: u32,
    /// DATA, HEADERS or CONTINUATION frames in a row that carry nothing (CVE-2019-9518).
    pub empty_frames: u32,
    /// Frames sent in answer (acknowledgements, resets) that the peer does not read.
    pub queued_control_frames: u32,
    /// PING, SETTINGS and unknown frames: so many at once, a tenth of it per second in the long run.
    pub control_frames: u32,
    /// PRIORITY frames for each stream ever opened, and one more.
    pub priorities_per_stream: u32,
    /// WINDOW_UPDATE frames for each DATA frame sent; besides two per stream, and 100.
    pub window_updates_per_data: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_concurrent_streams: 100,
            stream_window: 64 * 1024,
            connection_window: 1024 * 1024,
            max_frame: DEFAULT_MAX_FRAME,
            header_table_size: 4096,
            encoder_table_size: 4096,
            huffman: false,
            max_head: 60 * 1024,
            head_credit: 64 * 1024,
            max_headers: 100,
            underscores: Underscores::Allow,
            extended_connect: true,
            max_queued: 1024 * 1024,
            output_high_water: 256 * 1024,
            preface_timeout: Duration::from_secs(10),
            settings_timeout: Duration::from_secs(10),
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(10),
            drain_grace: Duration::from_secs(1),
            abuse: AbuseLimits::default(),
        }
    }
}

impl Default for AbuseLimits {
    fn default() -> AbuseLimits {
        AbuseLimits {
            premature_resets: 500,
            premature_lifetime: Duration::from_secs(1),
            local_resets: 500,
            continuations: 512,
            empty_frames: 100,
            queued_control_frames: 1_000,
            control_frames: 1_000,
            priorities_per_stream: 100,
            window_updates_per_data: 20,
        }
    }
}

impl Config {
    /// The same with every number within what the protocol can say. Connections share one that is so; of any other each makes
    /// its own.
    pub fn bounded(mut self) -> Config {
        self.max_frame = self.max_frame.clamp(DEFAULT_MAX_FRAME, LARGEST_MAX_FRAME);
        self.stream_window = self.stream_window.min(LARGEST_WINDOW);
        self.connection_window = self.connection_window.clamp(DEFAULT_WINDOW, LARGEST_WINDOW);
        // One head alone is always welcome.
        self.head_credit = self.head_credit.max(self.max_head + 8 * 1024);
        self
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            max_size: self.max_head,
            max_fields: self.max_headers,
            // Every entry of a full table twice: more than any head says that is not made to be large.
            max_referred: 2 * self.header_table_size.max(INITIAL_TABLE) as usize,
            underscores: self.underscores,
        }
    }

    /// SETTINGS_MAX_HEADER_LIST_SIZE counts what each field costs besides its text; we do not.
    pub(super) fn advertised_head(&self) -> u32 {
        u32::try_from(self.max_head + self.max_headers * ENTRY_OVERHEAD).unwrap_or(u32::MAX)
    }

    /// What a coded field block may be at most. Beyond it no head can be acceptable.
    pub(super) fn max_block(&self) -> usize {
        self.max_head.saturating_mul(2)
    }
}
