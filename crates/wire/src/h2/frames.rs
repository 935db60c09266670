//! The frames that carry no message: PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE.

use super::{
    connection::{Connection, DRAIN_PING, Happened, KEEPALIVE_PING, Leaving, Role},
    error::{ConnectionError, ErrorCode},
    event::By,
    frame::{Frame, STREAM_MASK, flag, kind, word, write_ping},
    receive::WIDEST,
    streams::Stream,
};

type Verdict = Result<(), ConnectionError>;

impl Connection {
    /// RFC 9113 §5.3.2: read and forgotten.
    pub(super) fn priority_frame(&mut self, frame: Frame, payload: &[u8]) -> Verdict {
        if frame.stream == 0 {
            return Err(ConnectionError::protocol("PRIORITY on stream 0"));
        }
        self.abuse.priority(&self.config.abuse)?;
        if payload.len() != 5 {
            return self.stream_error(
                frame.stream,
                ErrorCode::FRAME_SIZE_ERROR,
                "PRIORITY of a wrong length",
            );
        }
        if word(payload).is_some_and(|parent| parent & STREAM_MASK == frame.stream) {
            return self.stream_error(frame.stream, ErrorCode::PROTOCOL_ERROR, "stream depends on itself");
        }
        Ok(())
    }

    pub(super) fn reset_frame(&mut self, frame: Frame, payload: &[u8]) -> Verdict {
        if frame.stream == 0 || self.is_idle(frame.stream) {
            return Err(ConnectionError::protocol("RST_STREAM on stream 0 or an idle one"));
        }
        let Some(code) = word(payload).filter(|_| payload.len() == 4) else {
            return Err(ConnectionError::size("RST_STREAM of a wrong length"));
        };
        let Some(stream) = self.streams.find(frame.stream) else {
            // RST_STREAM for what was reset here, or ended: harmless, but not for nothing.
            return self.abuse.control(self.now, &self.config.abuse);
        };
        let Some(entry) = self.streams.peek(stream) else { return Ok(()) };
        let (token, lived) = (entry.token, self.now.saturating_sub(entry.opened));
        self.events.push_back(Happened::Reset { stream, token, code: ErrorCode(code), by: By::Peer });
        self.drop_stream(stream);
        self.remember_ended(stream.id());
        if self.role == Role::Server {
            self.abuse.reset_by_peer(lived, &self.config.abuse)?;
        }
        Ok(())
    }

    pub(super) fn settings_frame(&mut self, frame: Frame, payload: &[u8]) -> Verdict {
        if frame.stream != 0 {
            return Err(ConnectionError::protocol("SETTINGS on a stream"));
        }
        self.abuse.control(self.now, &self.config.abuse)?;
        if frame.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(ConnectionError::size("SETTINGS acknowledgement with a payload"));
            }
            if !self.settings_acknowledged {
                self.settings_acknowledged = true;
                self.agreed();
            }
            return Ok(());
        }
        let before = self.peer;
        self.peer.apply(payload, self.role == Role::Server)?;
        if !self.settings_seen {
            self.settings_seen = true;
            if self.role == Role::Client && !says_max_concurrent(payload) {
                // RFC 9113 §6.5.2: no limit, once it is known that there is none.
                self.peer.max_concurrent_streams = u32::MAX;
            }
        }
        // RFC 9113 §6.9.2: what is open moves with it, and may go below zero.
        let change = i64::from(self.peer.initial_window) - i64::from(before.initial_window);
        if change != 0 {
            let mut overflow = false;
            for entry in self.streams.iter_mut() {
                entry.send_window += change;
                overflow |= entry.send_window > WIDEST;
            }
            if overflow {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "INITIAL_WINDOW_SIZE makes a window too wide",
                ));
            }
        }
        if self.peer.header_table_size != before.header_table_size {
            self.encoder.set_peer_limit(self.peer.header_table_size as usize);
        }
        Frame { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(&mut self.out);
        self.events.push_back(Happened::Settings);
        if change > 0 {
            // After the acknowledgement: a peer that counts knows by it which window is meant.
            self.wake_all();
        }
        self.abuse.answered(&self.config.abuse)
    }

    /// Our settings are in force.
    fn agreed(&mut self) {
        self.decoder.allow(self.config.header_table_size as usize);
        let change = i64::from(self.config.stream_window) - i64::from(self.receive_initial);
        if change != 0 {
            self.receive_initial = self.config.stream_window;
            self.streams.iter_mut().for_each(|entry| entry.receive_window += change);
        }
    }

    pub(super) fn ping_frame(&mut self, frame: Frame, payload: &[u8]) -> Verdict {
        if frame.stream != 0 {
            return Err(ConnectionError::protocol("PING on a stream"));
        }
        let Some(payload) = payload.first_chunk::<8>().filter(|_| payload.len() == 8) else {
            return Err(ConnectionError::size("PING of a wrong length"));
        };
        self.abuse.control(self.now, &self.config.abuse)?;
        if !frame.has(flag::ACK) {
            write_ping(&mut self.out, *payload, flag::ACK);
            return self.abuse.answered(&self.config.abuse);
        }
        match *payload {
            DRAIN_PING => {
                if let Leaving::Announced(_) = self.leaving {
                    self.leave_now(ErrorCode::NO_ERROR);
                }
            }
            KEEPALIVE_PING => self.timers.pinged = None,
            _ => self.events.push_back(Happened::Pong),
        }
        Ok(())
    }

    pub(super) fn goaway_frame(&mut self, frame: Frame, payload: &[u8]) -> Verdict {
        if frame.stream != 0 {
            return Err(ConnectionError::protocol("GOAWAY on a stream"));
        }
        let Some([l0, l1, l2, l3, c0, c1, c2, c3]) = payload.first_chunk::<8>() else {
            return Err(ConnectionError::size("GOAWAY of a wrong length"));
        };
        self.abuse.control(self.now, &self.config.abuse)?;
        let last = u32::from_be_bytes([*l0, *l1, *l2, *l3]) & STREAM_MASK;
        let code = ErrorCode(u32::from_be_bytes([*c0, *c1, *c2, *c3]));
        self.peer_leaving = Some(last);
        self.events.push_back(Happened::GoAway { last, code });
        if self.role == Role::Client {
            // RFC 9113 §6.8: never processed, so safe to send elsewhere.
            let left_out: Vec<(Stream, u64)> =
                self.streams().filter(|(stream, _)| stream.id() > last).collect();
            for (stream, token) in left_out {
                self.drop_stream(stream);
                self.remember_reset(stream.id());
                let code = ErrorCode::REFUSED_STREAM;
                self.events.push_back(Happened::Reset { stream, token, code, by: By::GoAway });
            }
        }
        Ok(())
    }

    pub(super) fn window_update_frame(&mut self, frame: Frame, payload: &[u8]) -> Verdict {
        let Some(increment) = word(payload).filter(|_| payload.len() == 4) else {
            return Err(ConnectionError::size("WINDOW_UPDATE of a wrong length"));
        };
        let increment = i64::from(increment & STREAM_MASK);
        self.abuse.window_update(&self.config.abuse)?;
        if frame.stream == 0 {
            if increment == 0 {
                return Err(ConnectionError::protocol("WINDOW_UPDATE of 0"));
            }
            self.send_window += increment;
            if self.send_window > WIDEST {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "the connection's window is too wide",
                ));
            }
            self.pump();
            return Ok(());
        }
        if self.is_idle(frame.stream) {
            return Err(ConnectionError::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(stream) = self.streams.find(frame.stream) else { return Ok(()) };
        if increment == 0 {
            return self.stream_error(frame.stream, ErrorCode::PROTOCOL_ERROR, "WINDOW_UPDATE of 0");
        }
        let Some(entry) = self.streams.get(stream) else { return Ok(()) };
        entry.send_window += increment;
        if entry.send_window > WIDEST {
            let why = "the stream's window is too wide";
            return self.stream_error(frame.stream, ErrorCode::FLOW_CONTROL_ERROR, why);
        }
        self.wake(stream);
        self.pump();
        Ok(())
    }

    /// Lets a stream with something queued take its turns again.
    fn wake(&mut self, stream: Stream) {
        if let Some(entry) = self.streams.get(stream)
            && entry.queued() > 0
            && entry.send_window > 0
            && !entry.waiting
        {
            entry.waiting = true;
            self.waiting.push_back(stream.slot);
        }
    }

    fn wake_all(&mut self) {
        let waiting = &mut self.waiting;
        self.streams.wake_all(|slot| waiting.push_back(slot));
        self.pump();
    }
}

fn says_max_concurrent(payload: &[u8]) -> bool {
    payload.chunks(6).any(|entry| entry.starts_with(&super::settings::MAX_CONCURRENT_STREAMS.to_be_bytes()))
}
