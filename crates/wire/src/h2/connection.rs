//! A connection: what both halves share, its beginning and its end.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    abuse::Abuse,
    base64url::decode_base64url,
    closed::Closed,
    config::Config,
    error::{ConnectionError, ErrorCode},
    event::By,
    flow::Reception,
    frame::{
        DEFAULT_WINDOW, PREFACE, STREAM_MASK, write_goaway, write_ping, write_reset, write_window_update,
    },
    gather::{HeadLimits, SeenAuthority, memo::Memo},
    hpack::{Decoder, Encoder},
    receive::Reader,
    settings::{self, PeerSettings},
    streams::{Stream, Streams},
};

/// One HTTP/2 connection, either side of it, without its socket.
///
/// Bytes that came go in by [`Connection::next`], which gives one [`super::Event`] after the other; what is to be
/// sent gathers in [`Connection::output`], to be sent once per turn of the owner's loop and acknowledged by
/// [`Connection::sent`]. Time is given as the duration since any fixed moment, and never goes back.
#[derive(Debug)]
pub struct Connection {
    pub(super) role: Role,
    pub(super) config: Arc<Config>,
    pub(super) limits: HeadLimits,
    pub(super) now: Duration,
    pub(super) reader: Reader,
    pub(super) decoder: Decoder,
    pub(super) memo: Option<Box<Memo>>,
    pub(super) authority: SeenAuthority,
    pub(super) encoder: Encoder,
    pub(super) streams: Streams,
    pub(super) peer: PeerSettings,
    pub(super) send_window: i64,
    /// All bytes that the peer ever sent, up to the last event.
    pub(super) received: u64,
    pub(super) reception: Reception,
    /// What new streams may receive: ours once the peer has acknowledged it.
    pub(super) receive_initial: u32,
    /// The highest id of the peer's that was seen (server).
    pub(super) last_peer_id: u32,
    /// The id of the next stream to open (client).
    pub(super) next_id: u32,
    /// What became of the peer's streams (server).
    pub(super) closed: Closed,
    /// Streams with something queued and an open window, whose turn comes.
    pub(super) waiting: VecDeque<u32>,
    pub(super) events: VecDeque<Happened>,
    pub(super) out: Vec<u8>,
    pub(super) out_at: usize,
    /// The earliest [`Connection::flush_by`] of any stream, or earlier: a stream that has ended since is not looked for.
    pub(super) flush_by: Option<Duration>,
    pub(super) unflushed: u64,
    pub(super) abuse: Abuse,
    pub(super) timers: Timers,
    pub(super) settings_seen: bool,
    pub(super) settings_acknowledged: bool,
    pub(super) leaving: Leaving,
    /// The last stream the peer takes.
    pub(super) peer_leaving: Option<u32>,
    pub(super) error: Option<ConnectionError>,
}

/// The payload that tells the ping between two GOAWAYs from the owner's.
pub(super) const DRAIN_PING: [u8; 8] = *b"draining";
pub(super) const KEEPALIVE_PING: [u8; 8] = *b"are you?";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// Events that do not come one by one with the frames.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happened {
    Writable(Stream),
    Reset { stream: Stream, token: u64, code: ErrorCode, by: By },
    GoAway { last: u32, code: ErrorCode },
    Refused { id: u32, reject: crate::Reject },
    Settings,
    Pong,
}

/// How far our own leaving is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Said, without yet saying which stream is the last (RFC 9113 §6.8).
    Announced(Duration),
    /// The last stream is said.
    Final(u32),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    pub created: Duration,
    pub heard: Duration,
    pub pinged: Option<Duration>,
}

impl Connection {
    /// The side that accepted the connection.
    pub fn server(config: Arc<Config>, now: Duration) -> Connection {
        Connection::new(Role::Server, config, now)
    }

    /// The side that made the connection.
    pub fn client(config: Arc<Config>, now: Duration) -> Connection {
        Connection::new(Role::Client, config, now)
    }

    /// After an HTTP/1 request with `Upgrade: h2c` was answered 101 (RFC 7540 §3.2; the client's preface still
    /// follows). `http2_settings`: the value of its HTTP2-Settings field. The request is the stream returned, its
    /// head and body read already. `None` for a value that is no settings.
    pub fn server_upgraded(
        config: Arc<Config>,
        now: Duration,
        http2_settings: &[u8],
        head_request: bool,
    ) -> Option<(Connection, Stream)> {
        let payload = decode_base64url(http2_settings)?;
        let mut connection = Connection::new(Role::Server, config, now);
        connection.peer.apply(&payload, true).ok()?;
        connection.encoder.set_peer_limit(connection.peer.header_table_size as usize);
        connection.last_peer_id = 1;
        let stream = connection.add_stream(1, 0);
        if let Some(entry) = connection.streams.get(stream) {
            entry.remote_ended = true;
            entry.to.head = head_request;
        }
        Some((connection, stream))
    }

    /// After a 101 to an HTTP/1 request with `Upgrade: h2c`: the response comes on the stream returned.
    pub fn client_upgraded(
        config: Arc<Config>,
        now: Duration,
        to: crate::h1::ResponseTo,
        token: u64,
    ) -> (Connection, Stream) {
        let mut connection = Connection::new(Role::Client, config, now);
        connection.next_id = 3;
        let stream = connection.add_stream(1, token);
        if let Some(entry) = connection.streams.get(stream) {
            entry.local_ended = true;
            entry.to = to;
        }
        (connection, stream)
    }

    fn new(role: Role, config: Arc<Config>, now: Duration) -> Connection {
        let config = match config.as_ref().clone().bounded() {
            bounded if bounded == *config => config,
            bounded => Arc::new(bounded),
        };
        let mut out = Vec::new();
        if role == Role::Client {
            out.extend_from_slice(PREFACE);
        }
        settings::write(&config, role == Role::Client, &mut out);
        let wider = config.connection_window - DEFAULT_WINDOW;
        if wider > 0 {
            write_window_update(&mut out, 0, wider);
        }
        Connection {
            role,
            limits: config.head_limits(),
            now,
            reader: Reader::new(role == Role::Server),
            // Until the peer acknowledges less, it may use what everyone begins with.
            decoder: Decoder::new(config.header_table_size.max(4096) as usize),
            memo: None,
            authority: SeenAuthority::default(),
            encoder: Encoder::new(config.encoder_table_size as usize, config.huffman),
            streams: Streams::default(),
            peer: PeerSettings::default(),
            send_window: i64::from(DEFAULT_WINDOW),
            received: 0,
            reception: Reception::new(config.connection_window),
            receive_initial: DEFAULT_WINDOW.max(config.stream_window),
            last_peer_id: 0,
            next_id: 1,
            closed: Closed::default(),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            out,
            out_at: 0,
            flush_by: None,
            unflushed: 0,
            abuse: Abuse::default(),
            timers: Timers { created: now, heard: now, pinged: None },
            settings_seen: false,
            settings_acknowledged: false,
            leaving: Leaving::No,
            peer_leaving: None,
            error: None,
            config,
        }
    }

    /// What is to be sent.
    #[inline]
    pub fn output(&self) -> &[u8] {
        self.out.get(self.out_at..).unwrap_or_default()
    }

    /// So many bytes of the output were sent. Call [`Connection::next`] afterwards, with no bytes if there are
    /// none: room in the output lets queued bodies move, and their streams be writable.
    pub fn sent(&mut self, bytes: usize) {
        self.out_at = (self.out_at + bytes).min(self.out.len());
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
            self.abuse.flushed();
        } else if self.out_at > self.out.len() / 2 {
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
        self.pump();
    }

    /// Streams that are open, on either half.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// The streams that are open, with their tokens: who is concerned when the connection is lost.
    pub fn streams(&self) -> impl Iterator<Item = (Stream, u64)> {
        self.streams.iter().map(|(stream, entry)| (stream, entry.token))
    }

    /// The owner's own number for a stream, given with its events.
    pub fn set_token(&mut self, stream: Stream, token: u64) {
        if let Some(entry) = self.streams.get(stream) {
            entry.token = token;
        }
    }

    /// What the peer takes; the defaults until it said so.
    pub fn peer_settings(&self) -> &PeerSettings {
        &self.peer
    }

    /// The peer's SETTINGS have come.
    pub fn is_established(&self) -> bool {
        self.settings_seen
    }

    /// Nothing is left to do: leaving was said by one side and no stream is open.
    pub fn is_drained(&self) -> bool {
        let leaving = matches!(self.leaving, Leaving::Final(_)) || self.peer_leaving.is_some();
        self.error.is_some() || leaving && self.streams.len() == 0
    }

    /// Leaves in peace: no new streams, the open ones go on. The peer is told twice, so that none that is under way
    /// is lost (RFC 9113 §6.8); the second time after a round trip, or [`Config::drain_grace`].
    pub fn shutdown(&mut self) {
        if self.leaving != Leaving::No || self.error.is_some() {
            return;
        }
        if self.role == Role::Client {
            self.leave_now(ErrorCode::NO_ERROR);
            return;
        }
        write_goaway(&mut self.out, STREAM_MASK, ErrorCode::NO_ERROR, "");
        write_ping(&mut self.out, DRAIN_PING, 0);
        self.leaving = Leaving::Announced(self.now);
    }

    /// No stream after those seen is taken; the open ones go on.
    pub fn leave_now(&mut self, code: ErrorCode) {
        if !matches!(self.leaving, Leaving::Final(_)) && self.error.is_none() {
            let last = if self.role == Role::Server { self.last_peer_id } else { 0 };
            write_goaway(&mut self.out, last, code, "");
            self.leaving = Leaving::Final(last);
        }
    }

    /// Checks what time has brought; also sends keepalive pings. An error is as one of [`Connection::next`].
    pub fn poll_timeouts(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.now = self.now.max(now);
        if let Some(error) = self.error {
            return Err(error);
        }
        let now = self.now;
        let since = |then: Duration| now.saturating_sub(then);
        let late = if !self.settings_seen && since(self.timers.created) >= self.config.preface_timeout {
            Some(ConnectionError::new(ErrorCode::SETTINGS_TIMEOUT, "the peer does not begin"))
        } else if !self.settings_acknowledged
            && since(self.timers.created) >= self.config.preface_timeout + self.config.settings_timeout
        {
            Some(ConnectionError::new(ErrorCode::SETTINGS_TIMEOUT, "SETTINGS are not acknowledged"))
        } else if self.timers.pinged.is_some_and(|at| since(at) >= self.config.keepalive_timeout) {
            Some(ConnectionError::new(ErrorCode::NO_ERROR, "keepalive ping is not answered"))
        } else {
            None
        };
        if let Some(error) = late {
            self.fail(error);
            return Err(error);
        }
        if let Leaving::Announced(at) = self.leaving
            && since(at) >= self.config.drain_grace
        {
            self.leave_now(ErrorCode::NO_ERROR);
        }
        self.reset_unflushed();
        if let Some(interval) = self.config.keepalive_interval
            && self.timers.pinged.is_none()
            && since(self.timers.heard) >= interval
        {
            self.timers.pinged = Some(self.now);
            write_ping(&mut self.out, KEEPALIVE_PING, 0);
        }
        Ok(())
    }

    /// A message's head has begun and not ended, for whose rest all else on the connection waits (RFC 9113 §4.3). How
    /// long it may take is the owner's to say.
    pub fn is_mid_head(&self) -> bool {
        self.reader.is_mid_head()
    }

    /// When [`Connection::poll_timeouts`] is to be called next.
    pub fn deadline(&self) -> Option<Duration> {
        let timers = &self.timers;
        let begin = (!self.settings_seen).then_some(timers.created + self.config.preface_timeout);
        let settings = (!self.settings_acknowledged)
            .then_some(timers.created + self.config.preface_timeout + self.config.settings_timeout);
        let pong = timers.pinged.map(|at| at + self.config.keepalive_timeout);
        let ping = self
            .config
            .keepalive_interval
            .filter(|_| timers.pinged.is_none())
            .map(|interval| timers.heard + interval);
        let drain = match self.leaving {
            Leaving::Announced(at) => Some(at + self.config.drain_grace),
            _ => None,
        };
        [begin, settings, pong, ping, drain, self.flush_by].into_iter().flatten().min()
    }

    /// Asks the peer for a sign of life: [`super::Event::Pong`].
    pub fn ping(&mut self) {
        write_ping(&mut self.out, *b"filamesh", 0);
    }

    /// Gives back all memory that an idle connection can do without. What the peer's half of the compression
    /// state needs stays, 4 KiB at most by default, if the peer uses it.
    pub fn release_memory(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        self.reader.release();
        if self.streams.len() == 0 {
            self.streams.release();
            self.encoder.release();
            self.memo = None;
            self.waiting = VecDeque::new();
            self.closed.release();
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    /// Bytes owned besides the connection itself.
    pub fn memory(&self) -> usize {
        self.out.capacity()
            + self.reader.memory()
            + self.streams.memory()
            + self.encoder.memory()
            + self.memo.as_ref().map_or(0, |memo| memo.memory())
            + self.decoder.table().memory()
            + self.closed.memory()
            + self.waiting.capacity() * size_of::<u32>()
            + self.events.capacity() * size_of::<Happened>()
    }

    /// The last word: GOAWAY with the error.
    pub(super) fn fail(&mut self, error: ConnectionError) {
        if self.error.is_none() {
            let last = if self.role == Role::Server { self.last_peer_id } else { 0 };
            write_goaway(&mut self.out, last, error.code, error.why);
            self.error = Some(error);
        }
    }

    pub(super) fn add_stream(&mut self, id: u32, token: u64) -> Stream {
        let (send, receive) = (i64::from(self.peer.initial_window), i64::from(self.receive_initial));
        let opened = self.now;
        self.abuse.stream_opened();
        let (stream, entry) = self.streams.insert(id);
        entry.token = token;
        entry.send_window = send;
        entry.receive_window = receive;
        entry.opened = opened;
        stream
    }

    /// Closes a stream whose both halves have ended.
    pub(super) fn close_if_ended(&mut self, stream: Stream) {
        let Some(entry) = self.streams.peek(stream).filter(|entry| entry.local_ended) else { return };
        if !entry.remote_ended && entry.enough {
            self.reset(stream, ErrorCode::NO_ERROR);
        } else if entry.remote_ended {
            self.abuse.ended_well();
            self.remember_ended(stream.id);
            // What the owner still holds it may consume with the stream gone: the connection's window must not
            // wait for it.
            self.drop_stream(stream);
        }
    }

    pub(super) fn remember_ended(&mut self, id: u32) {
        if self.role == Role::Server {
            self.closed.note_ended(id);
        }
    }

    pub(super) fn drop_stream(&mut self, stream: Stream) {
        let held = self.streams.remove(stream);
        self.credit(held);
    }

    /// Gives back so many bytes of the connection's window.
    pub(super) fn credit(&mut self, bytes: u32) {
        if let Some(increment) = self.reception.release(bytes) {
            write_window_update(&mut self.out, 0, increment);
        }
    }

    /// Ends a stream for what the peer did on it (RFC 9113 §5.4.2).
    pub(super) fn stream_error(
        &mut self,
        id: u32,
        code: ErrorCode,
        why: &'static str,
    ) -> Result<(), ConnectionError> {
        write_reset(&mut self.out, id, code);
        self.remember_reset(id);
        if let Some(stream) = self.streams.find(id) {
            let token = self.streams.peek(stream).map_or(0, |entry| entry.token);
            self.drop_stream(stream);
            self.events.push_back(Happened::Reset { stream, token, code, by: By::Here(why) });
        }
        self.abuse.reset_by_us(&self.config.abuse)
    }

    pub(super) fn remember_reset(&mut self, id: u32) {
        if self.role == Role::Server {
            self.closed.note_reset(id);
        }
    }
}
