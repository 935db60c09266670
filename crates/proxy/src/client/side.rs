//! The verbs of an exchange towards its client, in which the client's protocols differ.

use wire::h1::{ResponseTo, Version, write_response};
use wire::h2::hop::shape_response;
use wire::h2::{ErrorCode, SendError, Trailers};

use crate::exchange::framing::frame_chunk;
use crate::exchange::sides::ClientSide;
use crate::exchange::{Exchange, Framing};
use crate::worker::Worker;
use crate::worker::connection::Conn;

impl Worker {
    /// Writes a head to the client, interim or final (it lies in `self.response`, over `bytes`, with its edits in
    /// `self.response_edits`). `end`: no body follows. Returns how long it is.
    pub(crate) fn write_head(&mut self, exchange: &mut Exchange, bytes: &[u8], end: bool) -> u64 {
        match exchange.client_side {
            ClientSide::H2(key, stream) => {
                let head = self.response.response(bytes);
                self.shape.clear();
                if exchange.request.hop && (head.is_interim() || exchange.web.is_none()) {
                    let to = ResponseTo::request(&exchange.head_view());
                    shape_response(&head, &self.response_edits, to, &mut self.shape);
                }
                if let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(key) {
                    let edits = &self.response_edits;
                    let _ = conn.codec.respond_with_hop(stream, &head, edits, end, &self.shape);
                }
                let length = head.wire_length() as u64;
                self.flush_later(key);
                length
            }
            ClientSide::H1(_) | ClientSide::Nobody => {
                let mut out = std::mem::take(&mut self.out);
                out.clear();
                self.print_head(exchange, bytes, &mut out);
                self.write_text(exchange, &out, &[]);
                let length = out.len() as u64;
                self.out = out;
                length
            }
        }
    }

    /// Appends a head as an HTTP/1 client gets it.
    pub(crate) fn print_head(&self, exchange: &Exchange, bytes: &[u8], out: &mut Vec<u8>) {
        let head = self.response.response(bytes);
        write_response(&head, &self.response_edits, out);
        if exchange.response.framing == Framing::Unchunk {
            // An HTTP/1.0 client does not know chunks: the body ends with the connection.
            const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n\r\n";
            if let Some(rest) = out.strip_suffix(CHUNKED) {
                out.truncate(rest.len());
                out.extend_from_slice(b"\r\n");
            }
        }
        exchange.name_version(out);
    }

    /// Writes part of a response to an HTTP/1 client: a head if there is one, and body bytes framed for this client.
    pub(crate) fn write_text(&mut self, exchange: &Exchange, head: &[u8], body: &[u8]) {
        let ClientSide::H1(key) = exchange.client_side else { return };
        if exchange.host_side.is_h2() {
            self.sockets.send_soon(key, head, body);
        } else {
            self.sockets.send(key, head, body);
        }
        self.pause_host(exchange, self.sockets.backlog(key));
    }

    /// Writes payload to the client, framed as the client's side frames it. `end`: nothing follows.
    pub(crate) fn write_payload(&mut self, exchange: &Exchange, payload: &[u8], end: bool) {
        match exchange.client_side {
            ClientSide::Nobody => {}
            ClientSide::H1(_) if exchange.response.framing == Framing::Chunk => {
                let mut out = std::mem::take(&mut self.out);
                out.clear();
                frame_chunk(payload, &[], end, &mut out);
                self.write_text(exchange, &out, &[]);
                self.out = out;
            }
            ClientSide::H1(_) => self.write_text(exchange, payload, &[]),
            ClientSide::H2(key, stream) => {
                let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(key) else { return };
                if !payload.is_empty() || end {
                    let queued = match conn.codec.data(stream, payload, end) {
                        Ok(queued) => queued,
                        Err(SendError::Full) => {
                            // Bounded by what is read while the client is slow, so never met; nothing may be lost silently.
                            conn.codec.reset(stream, ErrorCode::ENHANCE_YOUR_CALM);
                            0
                        }
                        Err(_) => 0,
                    };
                    self.pause_host(exchange, queued);
                }
                self.flush_later(key);
            }
        }
    }

    /// Writes the trailer section that ends a response without framing in its text.
    pub(crate) fn write_trailers(&mut self, exchange: &Exchange, section: &[u8]) {
        match exchange.client_side {
            ClientSide::H2(key, stream) => {
                if let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(key) {
                    let _ = conn.codec.trailers(stream, &Trailers::from_section(section));
                }
                self.flush_later(key);
            }
            ClientSide::H1(_) if exchange.response.framing == Framing::Chunk => {
                let mut out = std::mem::take(&mut self.out);
                out.clear();
                frame_chunk(&[], section, true, &mut out);
                self.write_text(exchange, &out, &[]);
                self.out = out;
            }
            // A body of a known length has no room for trailers in HTTP/1.
            ClientSide::H1(_) | ClientSide::Nobody => {}
        }
    }

    /// `100 Continue`, from us.
    pub(crate) fn write_continue(&mut self, side: ClientSide) {
        match side {
            ClientSide::Nobody => {}
            ClientSide::H1(key) => self.sockets.send(key, b"HTTP/1.1 100 Continue\r\n\r\n", b""),
            ClientSide::H2(key, stream) => {
                if let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(key) {
                    let _ = conn.codec.respond_parts(stream, 100, b"", false);
                }
                self.flush_later(key);
            }
        }
    }

    /// Writes a reply of ours: `out` is its head as HTTP/1 has it but for its end, with the fields from `lines` on.
    pub(crate) fn write_reply(
        &mut self,
        exchange: &mut Exchange,
        out: &mut Vec<u8>,
        lines: usize,
        body: &[u8],
    ) {
        match exchange.client_side {
            ClientSide::Nobody => {}
            ClientSide::H2(key, stream) => {
                let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(key) else { return };
                let lines = out.get(lines..).unwrap_or_default();
                exchange.response.sent_head = lines.len() as u64;
                let sent = conn.codec.respond_parts(stream, exchange.response.status, lines, body.is_empty());
                if sent.is_ok() && !body.is_empty() {
                    let _ = conn.codec.data(stream, body, true);
                }
                self.flush_later(key);
            }
            ClientSide::H1(key) => {
                let draining = self.draining;
                let Some(down) = self.downstream(key) else { return };
                let http10 = exchange.has_head() && exchange.head_view().version() == Version::Http10;
                down.client.last |= !exchange.request.progress.is_whole() || draining;
                down.client.last |= http10 && matches!(exchange.response.status, 204 | 304);
                if down.client.last {
                    out.extend_from_slice(b"connection: close\r\n");
                } else if http10 {
                    out.extend_from_slice(b"connection: keep-alive\r\n");
                }
                exchange.name_version(out);
                out.extend_from_slice(b"\r\n");
                exchange.response.sent_head = out.len() as u64;
                self.sockets.send(key, out, body);
            }
        }
    }

    /// Bytes of the response that wait for the client to read.
    fn backlog_to_client(&self, exchange: &Exchange) -> usize {
        match exchange.client_side {
            ClientSide::Nobody => 0,
            ClientSide::H1(key) => self.sockets.backlog(key),
            ClientSide::H2(key, stream) => match self.conns.get(key) {
                Some(Conn::DownstreamH2(conn)) => {
                    conn.codec.send_state(stream).map_or(0, |state| state.queued)
                }
                _ => 0,
            },
        }
    }

    /// Whether the client does not keep up with the response.
    pub(crate) fn client_is_behind(&self, exchange: &Exchange) -> bool {
        self.backlog_to_client(exchange) > self.ration().min(exchange.response.bound.0)
    }

    /// The client may send more of its request.
    pub(crate) fn resume_client(&mut self, exchange: &mut Exchange) {
        match exchange.client_side {
            ClientSide::Nobody => {}
            ClientSide::H1(key) => self.resume(key),
            ClientSide::H2(key, stream) => {
                let held = std::mem::take(&mut exchange.request.held);
                if held > 0
                    && let Some(Conn::DownstreamH2(conn)) = self.conns.get_mut(key)
                {
                    conn.codec.consume(stream, held);
                    self.flush_later(key);
                }
            }
        }
    }
}
