//! A host's end of HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use wire::h2::{Config, Connection, ErrorCode, Scratch, Stream, Trailers};

use super::{Seen, Wire};
use crate::actor::{Actor, Cx, Next, Read, earlier};
use crate::net::{EndId, Nanos};
use crate::plan::{Framing, HostFault, Id, Web, body, differs};
use crate::random::Dice;

struct Serving {
    stream: Stream,
    id: Id,
    got: u64,
    whole: bool,
    answers_at: Option<Nanos>,
    sent: Option<u64>,
    dead: bool,
}

/// The host's end of one connection.
pub struct Served {
    wire: Wire,
    serving: Vec<Serving>,
    dice: Dice,
    done: bool,
}

impl Served {
    pub fn new(mut dice: Dice, end: EndId, now: Nanos) -> Served {
        let config = Config { max_concurrent_streams: *dice.pick(&[1, 3, 100]), ..Config::default() };
        let codec = Connection::server(Arc::new(config), Duration::from_nanos(now));
        let piece = if dice.one_in(3) { dice.between(1, 2_000) as usize } else { usize::MAX };
        Served {
            wire: Wire { end, codec, scratch: Scratch::new(), piece, input: vec![] },
            serving: vec![],
            dice,
            done: false,
        }
    }

    fn see(&mut self, cx: &mut Cx<'_>, seen: Seen) {
        match seen {
            Seen::Request { stream, id, path, end } => {
                let Some(id) = id else {
                    return cx.wrong(format!("an h2 host got what nobody asked: {path}"));
                };
                cx.fates[id].seen += 1;
                cx.say(|| format!("h2 host on end {} is asked {:?}", self.wire.end, cx.plan(id)));
                let fault = cx.plan(id).host;
                let thinks = cx.plan(id).thinks;
                match fault {
                    HostFault::Dead => cx.coverage.met("h2 host is dead"),
                    HostFault::Unavailable => cx.coverage.met("h2 host is unavailable"),
                    _ => {}
                }
                cx.coverage.met("h2 host is asked");
                if fault == HostFault::ResetFirst {
                    cx.coverage.met("h2 host resets first");
                    let code = if self.dice.one_in(2) {
                        ErrorCode::REFUSED_STREAM
                    } else {
                        ErrorCode::INTERNAL_ERROR
                    };
                    return self.wire.codec.reset(stream, code);
                }
                if fault == HostFault::CloseFirst {
                    cx.coverage.met("h2 host closes");
                    cx.net.lock().close(self.wire.end);
                    self.done = true;
                    return;
                }
                self.wire.codec.set_token(stream, id as u64 + 1);
                let now = end || fault == HostFault::Early;
                let answers_at = now.then_some(cx.now + thinks);
                self.serving.push(Serving {
                    stream,
                    id,
                    got: 0,
                    whole: end,
                    answers_at,
                    sent: None,
                    dead: fault == HostFault::Dead,
                });
            }
            Seen::Data { stream, bytes, end, .. } => {
                self.wire.codec.consume(stream, bytes.len());
                let Some(serving) = self.serving.iter_mut().find(|s| s.stream == stream) else { return };
                if let Some(at) = differs(serving.id, false, serving.got, &bytes) {
                    cx.wrong.push(format!("the request of {} differs at {at}", serving.id));
                }
                serving.got += bytes.len() as u64;
                if end {
                    self.whole(cx, stream);
                }
            }
            Seen::Trailers { stream, .. } => self.whole(cx, stream),
            Seen::Reset { stream, .. } => self.serving.retain(|s| s.stream != stream),
            Seen::Response { .. } | Seen::Writable | Seen::GoAway => {}
        }
    }

    fn whole(&mut self, cx: &mut Cx<'_>, stream: Stream) {
        let Some(serving) = self.serving.iter_mut().find(|s| s.stream == stream) else { return };
        serving.whole = true;
        cx.request_ended(serving.id, serving.got);
        serving.answers_at.get_or_insert(cx.now + cx.plans[serving.id].thinks);
    }

    /// Sends answers on; when to come back.
    fn send(&mut self, cx: &mut Cx<'_>) -> (bool, Option<Nanos>) {
        let mut moved = false;
        let mut wakes: Option<Nanos> = None;
        let mut over = vec![];
        for serving in &mut self.serving {
            let (Some(at), false) = (serving.answers_at, serving.dead) else { continue };
            if at > cx.now {
                wakes = Some(wakes.map_or(at, |wakes| wakes.min(at)));
                continue;
            }
            let plan = &cx.plans[serving.id];
            let unavailable = plan.host == HostFault::Unavailable;
            let codec = &mut self.wire.codec;
            let sent = match serving.sent {
                Some(sent) => sent,
                None => {
                    let length = match plan.response_framing {
                        _ if unavailable => "content-length: 0\r\n".into(),
                        Framing::Length => format!("content-length: {}\r\n", plan.response),
                        _ => String::new(),
                    };
                    let kind = if plan.web == Web::No { "" } else { "content-type: application/grpc\r\n" };
                    let lines = format!("x-sim-id: {}\r\n{kind}{length}", serving.id);
                    moved = true;
                    if codec
                        .respond_parts(
                            serving.stream,
                            if unavailable { 503 } else { 200 },
                            lines.as_bytes(),
                            unavailable,
                        )
                        .is_err()
                        || unavailable
                    {
                        over.push(serving.stream);
                        continue;
                    }
                    0
                }
            };
            let cut = matches!(plan.host, HostFault::ResetWithin | HostFault::CloseWithin);
            let most = if cut { plan.response / 2 } else { plan.response };
            let capacity = codec.send_capacity(serving.stream) as u64;
            let to = most.min(sent + capacity.min(64 * 1024));
            let end = to == plan.response && !cut;
            if to > sent || end {
                let mut bytes = vec![];
                body(serving.id, true, sent, to, &mut bytes);
                moved = true;
                let trailing = end && plan.trailers;
                if codec.data(serving.stream, &bytes, end && !trailing).is_err() {
                    over.push(serving.stream);
                    continue;
                }
                if trailing {
                    let _ = codec.trailers(serving.stream, &Trailers::from_section(b"x-trailer: 1\r\n\r\n"));
                }
            }
            serving.sent = Some(to);
            if end {
                over.push(serving.stream);
            } else if cut && to == most {
                cx.coverage.met("h2 host resets within its answer");
                codec.reset(serving.stream, ErrorCode::INTERNAL_ERROR);
                over.push(serving.stream);
            }
        }
        self.serving.retain(|s| !over.contains(&s.stream));
        (moved, wakes)
    }
}

impl Actor for Served {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if self.done {
            return Next::Done;
        }
        for _ in 0..64 {
            let mut bytes = vec![];
            let mut ended = false;
            match cx.read(self.wire.end, 64 * 1024) {
                Read::Bytes(read) => bytes = read,
                Read::Nothing => {}
                Read::End | Read::Broken => ended = true,
            }
            let (seen, well) = self.wire.take(&bytes, cx.now);
            if !well {
                cx.wrong("an h2 host met an error of its connection".into());
            }
            for seen in seen {
                self.see(cx, seen);
                if self.done {
                    return Next::Done;
                }
            }
            let (moved, wakes) = self.send(cx);
            let broken = !self.wire.flush(cx);
            if ended || broken || (cx.leaving && self.serving.iter().any(|s| s.dead)) {
                cx.net.lock().close(self.wire.end);
                return Next::Done;
            }
            if bytes.is_empty() && !moved {
                return earlier(Next::Wait, wakes);
            }
        }
        Next::At(cx.now + 1000)
    }

    fn describe(&self) -> String {
        let all: Vec<_> = self.serving.iter().map(|s| (s.id, s.got, s.whole, s.sent, s.dead)).collect();
        format!("h2 host: end {} serving {all:?}", self.wire.end)
    }
}
