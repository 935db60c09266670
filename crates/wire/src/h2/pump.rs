//! What is written: DATA as far as windows and output allow, HEADERS with their CONTINUATIONs.

use crate::HeaderId;

use super::{
    connection::{Connection, Happened},
    error::ErrorCode,
    frame::{Frame, HEADER, flag, kind, patch_length, write_reset},
    hpack::{Encoder, Indexing},
    streams::After,
    write,
};

impl Connection {
    pub(super) fn output_room(&self) -> usize {
        self.config.output_high_water.saturating_sub(self.out.len() - self.out_at)
    }

    /// Sends what is queued as far as windows and output allow, one frame of each stream in turn.
    pub(super) fn pump(&mut self) {
        while let Some(slot) = self.waiting.front().copied() {
            let (room, connection) = (self.output_room(), self.send_window);
            if room == 0 || connection <= 0 {
                return;
            }
            self.waiting.pop_front();
            let Some(stream) = self.streams.by_slot(slot) else { continue };
            let max_frame = self.peer.max_frame;
            let Some(entry) = self.streams.get(stream).filter(|entry| entry.waiting) else { continue };
            entry.waiting = false;
            let length =
                allowed(entry.send_window, connection, room).min(max_frame as usize).min(entry.queued());
            let bytes = entry.queue.get(entry.queue_at..entry.queue_at + length).unwrap_or_default();
            let last = length == entry.queued();
            let end = last && matches!(entry.after_queue, After::End);
            if length > 0 || end {
                write_data(&mut self.out, stream.id, bytes, end, max_frame);
                self.abuse.data_sent(1);
            }
            self.send_window -= length as i64;
            entry.send_window -= length as i64;
            entry.queue_at += length;
            entry.moved = self.now;
            if !last {
                if entry.send_window > 0 {
                    entry.waiting = true;
                    self.waiting.push_back(slot);
                }
                self.streams.queued -= length;
                continue;
            }
            entry.queue.clear();
            entry.queue_at = 0;
            entry.local_ended |= end;
            let blocked = std::mem::take(&mut entry.blocked);
            let after = std::mem::take(&mut entry.after_queue);
            self.streams.queued -= length;
            match after {
                After::Nothing => {
                    if blocked {
                        self.events.push_back(Happened::Writable(stream));
                    }
                }
                After::End => self.close_if_ended(stream),
                After::Trailers(section, sensitive) => self.end_with_trailers(stream, &section, sensitive),
            }
        }
    }

    /// Appends a HEADERS frame, with CONTINUATION frames if the peer takes no frame so large.
    pub(super) fn write_block(
        &mut self,
        id: u32,
        end: bool,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let start = self.out.len();
        let end_stream = if end { flag::END_STREAM } else { 0 };
        Frame { length: 0, kind: kind::HEADERS, flags: flag::END_HEADERS | end_stream, stream: id }
            .write(&mut self.out);
        encode(&mut self.encoder, &mut self.out);
        let length = self.out.len() - start - HEADER;
        let max_frame = self.peer.max_frame as usize;
        if length <= max_frame {
            return patch_length(&mut self.out, start);
        }
        let block = self.out.split_off(start + HEADER);
        self.out.truncate(start);
        let mut parts = block.chunks(max_frame).peekable();
        let (mut kind, mut flags) = (kind::HEADERS, end_stream);
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                flags |= flag::END_HEADERS;
            }
            Frame { length: part.len() as u32, kind, flags, stream: id }.write(&mut self.out);
            self.out.extend_from_slice(part);
            (kind, flags) = (kind::CONTINUATION, 0);
        }
    }

    /// Answers a request that was refused, and ends its stream if the request has not ended.
    pub(super) fn answer_refused(&mut self, id: u32, status: u16, ended: bool) {
        self.write_block(id, true, |encoder, out| {
            encoder.begin_block(out);
            write::status(encoder, status, out);
            encoder.field(HeaderId::ContentLength, b"content-length", b"0", Indexing::Recurring, out);
        });
        if ended {
            self.remember_ended(id);
        } else {
            write_reset(&mut self.out, id, ErrorCode::NO_ERROR);
            self.remember_reset(id);
        }
    }
}

/// How much body may leave at once.
#[inline]
pub(super) fn allowed(stream: i64, connection: i64, room: usize) -> usize {
    usize::try_from(stream.min(connection)).unwrap_or(0).min(room)
}

/// Appends DATA frames, at least one; how many.
#[inline]
pub(super) fn write_data(out: &mut Vec<u8>, id: u32, bytes: &[u8], end: bool, max_frame: u32) -> u64 {
    let mut rest = bytes;
    let mut frames = 0;
    loop {
        let (part, after) = rest.split_at(rest.len().min(max_frame as usize));
        let flags = if end && after.is_empty() { flag::END_STREAM } else { 0 };
        Frame { length: part.len() as u32, kind: kind::DATA, flags, stream: id }.write(out);
        out.extend_from_slice(part);
        frames += 1;
        if after.is_empty() {
            return frames;
        }
        rest = after;
    }
}
