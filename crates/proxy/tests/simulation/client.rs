//! A client that speaks HTTP/1: one connection after the other, requests one by one or ahead of their answers.

use std::collections::VecDeque;

use crate::actor::{Actor, Cx, Next, Outbox, Pace, Read, earlier};
use crate::config::{DIRECT, MAIN, address};
use crate::h1::{Part, Reader, field, frame, frame_end, status};
use crate::net::{EndId, MILLI, Nanos, SECOND};
use crate::plan::{ClientFault, Framing, HostFault, Id, Web, body, differs};
use crate::random::Dice;
use crate::web;

pub struct Client {
    dice: Dice,
    /// What is still to be asked.
    ask: VecDeque<Id>,
    /// Asked and not answered, in order.
    open: VecDeque<Asked>,
    /// Requests on their way at once.
    ahead: usize,
    end: Option<EndId>,
    reader: Reader,
    out: Outbox,
    /// Sending the body of the last of `open`: how much has gone into `out`.
    sending: Option<u64>,
    /// Body is held back until 100 comes, or this time.
    expects: Option<Nanos>,
    /// Reads so much at once, with a pause in between.
    reads: usize,
    read_pause: Nanos,
    next_read: Nanos,
    room: usize,
    begins: Nanos,
    /// Does nothing any more, but keeps its connection.
    stalled: bool,
    half_closed: bool,
    /// An answer said that none follows it on this connection.
    told_close: bool,
    /// Answers that came on this connection.
    served: u32,
    last: bool,
    /// Connections in a row that brought no answer: the next is made later and later.
    refused: u32,
}

struct Asked {
    id: Id,
    /// A final head has come.
    answered: bool,
    got: u64,
    /// The body of an answer that is gRPC-Web, which is understood when it is whole.
    web: Vec<u8>,
}

impl Client {
    pub fn new(dice: &mut Dice, ask: Vec<Id>, begins: Nanos, slow: bool) -> Client {
        let mut dice = dice.fork();
        let slow = dice.one_in(4) || slow;
        Client {
            ahead: if dice.one_in(3) { dice.between(2, 8) as usize } else { 1 },
            reads: if slow { dice.between(500, 4000) as usize } else { 256 * 1024 },
            read_pause: if slow { dice.below(3 * MILLI) } else { 0 },
            room: *dice.pick(&[2_000, 20_000, 256 * 1024]),
            out: Outbox::new(Pace::draw(&mut dice)),
            ask: ask.into(),
            open: VecDeque::new(),
            end: None,
            reader: Reader::new(),
            sending: None,
            expects: None,
            next_read: 0,
            begins,
            stalled: false,
            half_closed: false,
            told_close: false,
            served: 0,
            last: false,
            refused: 0,
            dice,
        }
    }

    fn connect(&mut self, cx: &mut Cx<'_>) {
        let owner = crate::net::Owner::Actor(cx.me);
        let made = cx.net.lock().connect(owner, address(MAIN), None, None, self.room);
        self.end = made.ok().map(|(end, _)| end);
        self.reader = Reader::new();
        self.out = Outbox::new(self.out.pace);
        self.sending = None;
        self.expects = None;
        self.last = false;
    }

    /// Puts what may be asked now into the outbox.
    fn fill(&mut self, cx: &mut Cx<'_>) {
        while self.out.left() < 16 * 1024 {
            if self.sending.is_some() {
                if !self.fill_body(cx) {
                    return;
                }
                continue;
            }
            if self.last || self.open.len() >= self.ahead {
                return;
            }
            let Some(id) = self.ask.pop_front() else { return };
            let plan = cx.plan(id).clone();
            let chunked = plan.request_framing == Framing::Chunked;
            let length = if plan.web == Web::Text { plan.request.div_ceil(3) * 4 } else { plan.request };
            let framing = match plan.post {
                true if chunked => "transfer-encoding: chunked\r\n".to_owned(),
                true => format!("content-length: {length}\r\n"),
                false => String::new(),
            } + web::kind(plan.web);
            let head = format!(
                "{} {} HTTP/1.1\r\nhost: sim.local\r\nx-sim: {id}\r\n{framing}{}\r\n",
                if plan.post { "POST" } else { "GET" },
                plan.path,
                if plan.expect { "expect: 100-continue\r\n" } else { "" },
            );
            cx.fates[id].asked = true;
            if !self.open.is_empty() {
                cx.coverage.met("h1 client asks ahead");
            }
            cx.say(|| format!("h1 client on end {:?} asks {head:?}; {plan:?}", self.end));
            if plan.client == ClientFault::StallInHead || plan.client == ClientFault::ResetInHead {
                let cut = 1 + self.dice.below(head.len() as u64 - 3) as usize;
                self.out.bytes.extend_from_slice(&head.as_bytes()[..cut]);
                cx.fates[id].asked = false;
            } else {
                self.out.bytes.extend_from_slice(head.as_bytes());
            }
            self.open.push_back(Asked { id, answered: false, got: 0, web: vec![] });
            self.last |= plan.client != ClientFault::None;
            if plan.client == ClientFault::StallInHead || plan.client == ClientFault::ResetInHead {
                return;
            }
            if plan.post {
                self.sending = Some(0);
                if plan.expect {
                    self.expects = Some(cx.now + SECOND);
                }
            } else if plan.client == ClientFault::HalfClose {
                self.half_closed = true;
            }
        }
    }

    /// More of the body being sent; false: not now.
    fn fill_body(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.expects.is_some_and(|until| cx.now < until) {
            return false;
        }
        self.expects = None;
        let (Some(at), Some(asked)) = (self.sending, self.open.back()) else { return false };
        let plan = cx.plan(asked.id).clone();
        let stops = matches!(plan.client, ClientFault::StallInBody | ClientFault::ResetInBody);
        let most = if stops { plan.request / 2 } else { plan.request };
        // Base64 is of all of it at once.
        let text = plan.web == Web::Text;
        let to = if text { plan.request.max(1) } else { most.min(at + self.dice.between(1, 16 * 1024)) };
        let mut bytes = vec![];
        if !text {
            body(plan.id, false, at, to, &mut bytes);
        } else if at == 0 {
            body(plan.id, false, 0, plan.request, &mut bytes);
            bytes = web::encode(&bytes);
            bytes.truncate(if stops { bytes.len() / 2 } else { bytes.len() });
        }
        frame(plan.request_framing, &bytes, &mut self.out.bytes);
        self.sending = Some(to);
        if to < most {
            return true;
        }
        if stops {
            return false;
        }
        frame_end(plan.request_framing, plan.trailers, &mut self.out.bytes);
        self.sending = None;
        self.half_closed |= plan.client == ClientFault::HalfClose;
        true
    }

    fn read(&mut self, cx: &mut Cx<'_>, end: EndId) -> Option<Nanos> {
        for _ in 0..64 {
            if self.next_read > cx.now {
                return Some(self.next_read);
            }
            match cx.read(end, self.reads) {
                Read::Bytes(bytes) => {
                    if self.read_pause > 0 {
                        self.next_read = cx.now + 1 + self.dice.below(self.read_pause);
                    }
                    self.reader.feed(&bytes);
                    self.parts(cx);
                }
                Read::Nothing => return None,
                Read::End => {
                    self.over(cx, true);
                    return None;
                }
                Read::Broken => {
                    self.over(cx, false);
                    return None;
                }
            }
            self.end.as_ref()?;
        }
        Some(cx.now + 1000)
    }

    fn parts(&mut self, cx: &mut Cx<'_>) {
        loop {
            let part = match self.reader.next(false) {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(what) => return cx.wrong(format!("a client got what is no HTTP: {what}")),
            };
            let Some(asked) = self.open.front_mut() else {
                if let Part::Head(head) = &part
                    && status(head) == 408
                {
                    return;
                }
                return cx.wrong(format!("a client got an answer it did not ask for: {part:?}"));
            };
            let plan = &cx.plans[asked.id];
            let fate = &mut cx.fates[asked.id];
            match part {
                Part::Head(head) => {
                    cx.net
                        .lock()
                        .trace
                        .say(|| format!("h1 client on end {:?} gets {head:?} for {}", self.end, asked.id));
                    let code = status(&head);
                    if code == 100 {
                        self.expects = None;
                        continue;
                    }
                    asked.answered = true;
                    fate.status = code;
                    fate.from_host = field(&head, "x-sim-id").is_some();
                    if let Some(of) = field(&head, "x-sim-id")
                        && of != asked.id.to_string()
                    {
                        cx.wrong.push(format!("exchange {} got the answer of {of}", asked.id));
                    }
                    if field(&head, "connection").is_some_and(|c| c.eq_ignore_ascii_case("close")) {
                        self.last = true;
                        self.told_close = code >= 200;
                    }
                    self.expects = None;
                    if plan.client == ClientFault::ResetInResponse {
                        cx.coverage.met("h1 client resets in the answer");
                        return self.reset(cx);
                    }
                }
                Part::Body(bytes) if plan.web != Web::No && fate.from_host && fate.status == 200 => {
                    asked.web.extend_from_slice(&bytes);
                }
                Part::Body(bytes) => {
                    if fate.from_host
                        && let Some(at) = differs(asked.id, true, asked.got, &bytes)
                    {
                        cx.wrong.push(format!("the answer of {} differs at {at}", asked.id));
                    }
                    asked.got += bytes.len() as u64;
                }
                Part::End => {
                    if plan.web != Web::No && fate.from_host && fate.status == 200 {
                        match web::understand(plan, &asked.web) {
                            Ok(got) => asked.got = got,
                            Err(what) => {
                                cx.wrong.push(format!("the gRPC-Web answer of {}: {what}", asked.id))
                            }
                        }
                        cx.coverage.met(match plan.web {
                            Web::Text => "h1 client gets gRPC-Web in base64",
                            _ => "h1 client gets gRPC-Web",
                        });
                    }
                    let (id, got) = (asked.id, asked.got);
                    self.open.pop_front();
                    self.ended(cx, id, got);
                }
            }
        }
    }

    /// An answer came to its end.
    fn ended(&mut self, cx: &mut Cx<'_>, id: Id, got: u64) {
        let plan = &cx.plans[id];
        let fate = &mut cx.fates[id];
        fate.whole = true;
        fate.ended = true;
        self.served += 1;
        self.refused = 0;
        if fate.from_host && fate.status == 200 && got != plan.response && !plan.may_be_short() {
            cx.wrong.push(format!("the answer of {id} ended well after {got} of {} bytes", plan.response));
        }
        if plan.path.starts_with("/direct") && fate.status == 200 && got != DIRECT as u64 {
            cx.wrong.push(format!("a direct answer of {got} bytes"));
        }
        // Answered before all of it was sent: nobody needs the rest, and the connection is of no more use.
        if self.sending.is_some() && self.open.is_empty() {
            self.sending = None;
            self.last = true;
            if self.out.left() > 0 || plan.post {
                self.leave(cx);
            }
        }
    }

    /// The connection has ended.
    fn over(&mut self, cx: &mut Cx<'_>, well: bool) {
        let until_close = self.reader.until_close();
        let mut first = true;
        while let Some(asked) = self.open.pop_front() {
            let plan = &cx.plans[asked.id];
            let fate = &mut cx.fates[asked.id];
            fate.ended = true;
            if first && asked.answered {
                fate.whole = until_close && well && asked.got == plan.response;
                fate.cut = !fate.whole;
                if until_close
                    && well
                    && asked.got != plan.response
                    && plan.host == HostFault::None
                    && fate.from_host
                    && fate.status == 200
                {
                    cx.wrong.push(format!("the answer of {} ended well after {} bytes", asked.id, asked.got));
                }
            } else if plan.is_clean()
                && (!first || self.told_close || self.served > 0 && fate.seen == 0 && fate.anew < 3)
            {
                // Sent ahead, or behind an answer that was the last, told so or not, and never looked at: asked again.
                fate.ended = false;
                fate.asked = false;
                fate.anew += 1;
                self.ask.push_front(asked.id);
            }
            first = false;
        }
        self.leave(cx);
    }

    fn leave(&mut self, cx: &mut Cx<'_>) {
        if let Some(end) = self.end.take() {
            cx.net.lock().close(end);
        }
        while let Some(asked) = self.open.pop_back() {
            let clean = cx.plans[asked.id].is_clean() && !asked.answered;
            let fate = &mut cx.fates[asked.id];
            fate.ended = !clean;
            if clean {
                fate.asked = false;
                fate.anew += 1;
                self.ask.push_front(asked.id);
            }
        }
        self.half_closed = false;
        self.told_close = false;
        self.served = 0;
        self.sending = None;
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        if let Some(end) = self.end.take() {
            cx.net.lock().abort(end);
        }
        while let Some(asked) = self.open.pop_back() {
            let clean = cx.plans[asked.id].is_clean();
            cx.fates[asked.id].ended = !clean;
            if clean {
                cx.fates[asked.id].asked = false;
                cx.fates[asked.id].anew += 1;
                self.ask.push_front(asked.id);
            }
        }
        self.sending = None;
    }

    /// What the client does to the last it asked, once all before is out.
    fn misbehave(&mut self, cx: &mut Cx<'_>, end: EndId) -> bool {
        if self.out.left() > 0 {
            return false;
        }
        let Some(asked) = self.open.back() else { return false };
        let plan = cx.plan(asked.id);
        let (fault, post) = (plan.client, plan.post);
        match fault {
            ClientFault::ResetInHead => {}
            ClientFault::ResetInBody if post => {}
            ClientFault::ResetWhileWaiting | ClientFault::ResetInBody if self.sending.is_none() => {}
            ClientFault::NeverReads => {
                cx.coverage.met("h1 client never reads");
                self.stalled = true;
                // What it asked before is not read either.
                for asked in &self.open {
                    cx.fates[asked.id].ended = true;
                    cx.fates[asked.id].withheld += 1;
                }
                return true;
            }
            ClientFault::StallInHead | ClientFault::StallInBody
                if self.sending.is_some() || fault == ClientFault::StallInHead =>
            {
                cx.coverage.met(if post { "h1 client stalls in body" } else { "h1 client stalls in head" });
                return false;
            }
            ClientFault::HalfClose if self.half_closed => {
                cx.coverage.met("h1 client half-closes");
                self.half_closed = false;
                // As Envoy, a proxy may take it for the end of what was asked before, too.
                for asked in &self.open {
                    cx.fates[asked.id].withheld += 1;
                }
                let _ = cx.net.lock().shutdown(end);
                return false;
            }
            _ => return false,
        }
        cx.coverage.met(match fault {
            ClientFault::ResetInHead => "h1 client resets in head",
            ClientFault::ResetInBody => "h1 client resets in body",
            _ => "h1 client resets while waiting",
        });
        self.reset(cx);
        true
    }
}

impl Actor for Client {
    fn step(&mut self, cx: &mut Cx<'_>) -> Next {
        if self.stalled {
            if cx.leaving {
                self.reset(cx);
                return Next::Done;
            }
            return Next::Wait;
        }
        if cx.now < self.begins {
            return Next::At(self.begins);
        }
        loop {
            let Some(end) = self.end else {
                if self.ask.is_empty() {
                    return Next::Done;
                }
                if cx.leaving {
                    return Next::Done;
                }
                self.connect(cx);
                continue;
            };
            if cx.net.lock().is_connecting(end) {
                return Next::Wait;
            }
            let again = self.read(cx, end);
            if self.end.is_none() {
                // Not at once: a connection that is refused would be tried for ever within one moment.
                self.begins = cx.now + (self.dice.between(MILLI, 20 * MILLI) << self.refused.min(10));
                self.refused += 1;
                return if self.ask.is_empty() { Next::Done } else { Next::At(self.begins) };
            }
            self.fill(cx);
            let mut dice = self.dice.fork();
            let Some(paced) = self.out.flush(cx, &mut dice, end) else {
                // What it answered before it broke is still there to be read.
                let again = self.read(cx, end);
                if let (Some(at), true) = (again, self.end.is_some()) {
                    // A slow reader comes to it later.
                    return Next::At(at);
                }
                if self.end.is_some() {
                    self.over(cx, false);
                }
                continue;
            };
            if self.misbehave(cx, end) {
                return self.step(cx);
            }
            if self.open.is_empty() && (self.ask.is_empty() || self.last) {
                self.leave(cx);
                continue;
            }
            if self.out.left() == 0
                && paced.is_none()
                && self.sending.is_some()
                && self.expects.is_none()
                && !self.stops(cx)
            {
                continue;
            }
            return earlier(earlier(earlier(Next::Wait, again), paced), self.expects);
        }
    }

    fn describe(&self) -> String {
        let open: Vec<Id> = self.open.iter().map(|asked| asked.id).collect();
        format!(
            "h1 client: open {open:?} ask {:?} end {:?} sending {:?} out {}",
            self.ask,
            self.end,
            self.sending,
            self.out.left()
        )
    }
}

impl Client {
    fn stops(&self, cx: &Cx<'_>) -> bool {
        let fault = self.open.back().map(|asked| cx.plan(asked.id).client);
        matches!(fault, Some(ClientFault::StallInBody | ClientFault::ResetInBody))
    }
}
