//! SETTINGS (RFC 9113 §6.5, RFC 8441 §3).

use super::{
    config::Config,
    error::{ConnectionError, ErrorCode},
    frame::{DEFAULT_MAX_FRAME, DEFAULT_WINDOW, Frame, LARGEST_MAX_FRAME, LARGEST_WINDOW, kind},
};

pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

const ENTRY: usize = 6;

/// What the other side said it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    pub header_table_size: u32,
    pub max_concurrent_streams: u32,
    pub initial_window: u32,
    pub max_frame: u32,
    pub max_header_list: u32,
    /// It takes extended CONNECT.
    pub connect_protocol: bool,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            header_table_size: 4096,
            // The RFC has no limit here; a server not yet heard of is spared (§5.1.2 recommends no less than 100).
            max_concurrent_streams: 100,
            initial_window: DEFAULT_WINDOW,
            max_frame: DEFAULT_MAX_FRAME,
            max_header_list: u32::MAX,
            connect_protocol: false,
        }
    }
}

impl PeerSettings {
    /// Takes over the entries of a frame in order. `from_client`: who sent them.
    pub(super) fn apply(&mut self, payload: &[u8], from_client: bool) -> Result<(), ConnectionError> {
        let (entries, rest) = payload.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(ConnectionError::size("SETTINGS of a length that is no multiple of 6"));
        }
        for [i0, i1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
            match u16::from_be_bytes([*i0, *i1]) {
                HEADER_TABLE_SIZE => self.header_table_size = value,
                // RFC 9113 §6.5.2: a server may say no more than that it does not take pushes.
                ENABLE_PUSH if value > 1 || value == 1 && !from_client => {
                    return Err(ConnectionError::protocol("ENABLE_PUSH that can not be"));
                }
                MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = value,
                INITIAL_WINDOW_SIZE if value > LARGEST_WINDOW => {
                    return Err(ConnectionError::new(
                        ErrorCode::FLOW_CONTROL_ERROR,
                        "INITIAL_WINDOW_SIZE above 2^31-1",
                    ));
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE if !(DEFAULT_MAX_FRAME..=LARGEST_MAX_FRAME).contains(&value) => {
                    return Err(ConnectionError::protocol("MAX_FRAME_SIZE out of range"));
                }
                MAX_FRAME_SIZE => self.max_frame = value,
                MAX_HEADER_LIST_SIZE => self.max_header_list = value,
                // RFC 8441 §3: 0 or 1, and never back to 0.
                ENABLE_CONNECT_PROTOCOL if value > 1 || value == 0 && self.connect_protocol => {
                    return Err(ConnectionError::protocol("ENABLE_CONNECT_PROTOCOL that can not be"));
                }
                ENABLE_CONNECT_PROTOCOL => self.connect_protocol = value == 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends our SETTINGS.
pub(super) fn write(config: &Config, client: bool, out: &mut Vec<u8>) {
    let mut entries = [[0u8; ENTRY]; 7];
    let mut count = 0;
    let mut put = |id: u16, value: u32| {
        let ([i0, i1], [v0, v1, v2, v3]) = (id.to_be_bytes(), value.to_be_bytes());
        if let Some(entry) = entries.get_mut(count) {
            *entry = [i0, i1, v0, v1, v2, v3];
            count += 1;
        }
    };
    if config.header_table_size != 4096 {
        put(HEADER_TABLE_SIZE, config.header_table_size);
    }
    if client {
        put(ENABLE_PUSH, 0);
    } else {
        put(MAX_CONCURRENT_STREAMS, config.max_concurrent_streams);
    }
    if config.stream_window != DEFAULT_WINDOW {
        put(INITIAL_WINDOW_SIZE, config.stream_window);
    }
    if config.max_frame != DEFAULT_MAX_FRAME {
        put(MAX_FRAME_SIZE, config.max_frame);
    }
    put(MAX_HEADER_LIST_SIZE, config.advertised_head());
    if config.extended_connect && !client {
        put(ENABLE_CONNECT_PROTOCOL, 1);
    }
    let entries = entries.get(..count).unwrap_or_default().as_flattened();
    Frame { length: entries.len() as u32, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(entries);
}
