//! The deciding part: one query in, what to do about it out. No I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::NameTable;

/// As Istio's DNS proxy: long enough to spare repeated queries, short enough to follow changes.
const TTL: u32 = 30;

/// RFC 1035 §2.3.4: what any UDP client takes.
const UDP_PLAIN: u16 = 512;
/// The largest UDP answer sent, whatever the client claims to take (DNS flag day 2020 says 1232 for
/// networks; here there is only loopback).
const UDP_MOST: u16 = 4096;
/// A message cannot exceed 64 KiB, and nobody walks through more addresses than this.
const MOST_ADDRESSES: usize = 1000;
/// A header, RFC 1035 §4.1.1.
const HEADER: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this back (without TCP's length prefix).
    Reply(Vec<u8>),
    /// Not a name of the mesh: ask the host's nameservers.
    Forward,
    /// Not a query at all: to answer it would be to join a loop.
    Ignore,
}

/// Decides about one message. `table` is `None` before the control plane sent the first one.
/// `search` are the host's search domains: a client that appended one of them to a short name still
/// means the mesh's. `turn` rotates the addresses of a name; give a different one each time.
pub fn answer(
    query: &[u8],
    table: Option<&NameTable>,
    search: &[String],
    turn: usize,
    transport: Transport,
) -> Answer {
    let Some((id, op_code)) = query_header(query) else { return Answer::Ignore };
    let Ok(request) = Message::from_vec(query) else {
        return error(id, op_code, ResponseCode::FormErr);
    };
    if request.metadata.op_code != OpCode::Query {
        return error(id, op_code, ResponseCode::NotImp);
    }
    let [question] = request.queries.as_slice() else {
        return error(id, op_code, ResponseCode::FormErr);
    };
    let reply = Reply { request: &request, question, transport };
    if request.version() > 0 {
        return reply.refuse(ResponseCode::BADVERS);
    }
    if question.query_class() != DNSClass::IN {
        return reply.refuse(ResponseCode::Refused);
    }

    let name = question.name().to_lowercase().to_ascii();
    let name = name.strip_suffix('.').unwrap_or(&name);
    // RFC 6761 §6.3: never asked of anyone.
    if name == "localhost" || name.ends_with(".localhost") {
        return reply.addresses(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], 0);
    }
    let Some(table) = table else { return reply.refuse(ResponseCode::ServFail) };

    let as_asked = std::iter::once(name);
    let without_search =
        search.iter().filter_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'));
    for candidate in as_asked.chain(without_search) {
        if let Some(addresses) = table.find(candidate) {
            return reply.addresses(addresses, turn);
        }
        if table.owns(candidate) {
            return reply.refuse(ResponseCode::NXDomain);
        }
    }
    Answer::Forward
}

/// A response without content, for a query that [`answer`] said to forward but nobody answers.
pub fn refusal(query: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let (id, op_code) = query_header(query)?;
    let reply = match Message::from_vec(query) {
        Ok(request) => match request.queries.as_slice() {
            [question] => Reply { request: &request, question, transport: Transport::Tcp }.refuse(code),
            _ => error(id, op_code, code),
        },
        Err(_) => error(id, op_code, code),
    };
    match reply {
        Answer::Reply(bytes) => Some(bytes),
        Answer::Forward | Answer::Ignore => None,
    }
}

/// The id and operation of a message that claims to be a query.
fn query_header(message: &[u8]) -> Option<(u16, OpCode)> {
    let [id_high, id_low, flags, ..] = *message.get(..HEADER)? else { return None };
    let is_response = flags & 0x80 != 0;
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    (!is_response).then_some((u16::from_be_bytes([id_high, id_low]), op_code))
}

fn error(id: u16, op_code: OpCode, code: ResponseCode) -> Answer {
    Message::error_msg(id, op_code, code).to_vec().map_or(Answer::Ignore, Answer::Reply)
}

/// A response being made.
struct Reply<'a> {
    request: &'a Message,
    question: &'a Query,
    transport: Transport,
}

impl Reply<'_> {
    fn refuse(&self, code: ResponseCode) -> Answer {
        self.finish(code, Vec::new())
    }

    /// The addresses of the family asked for; none is an empty NOERROR, "the name exists, but not
    /// so", which is also the answer for every other record type. An NXDOMAIN for AAAA would make
    /// musl and others give up on the A.
    fn addresses(&self, addresses: &[IpAddr], turn: usize) -> Answer {
        let wanted: Vec<RData> = addresses
            .iter()
            .filter_map(|address| match (self.question.query_type(), address) {
                (RecordType::A | RecordType::ANY, IpAddr::V4(ip)) => Some(RData::A(A(*ip))),
                (RecordType::AAAA | RecordType::ANY, IpAddr::V6(ip)) => Some(RData::AAAA(AAAA(*ip))),
                _ => None,
            })
            .collect();
        let start = if wanted.is_empty() { 0 } else { turn % wanted.len() };
        let (before, after) = wanted.split_at(start);
        let records = after
            .iter()
            .chain(before)
            .take(MOST_ADDRESSES)
            .map(|data| Record::from_rdata(self.question.name().clone(), TTL, data.clone()))
            .collect();
        self.finish(ResponseCode::NoError, records)
    }

    fn finish(&self, code: ResponseCode, records: Vec<Record>) -> Answer {
        let limit = match self.transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp if self.request.edns.is_some() => {
                usize::from(self.request.max_payload().clamp(UDP_PLAIN, UDP_MOST))
            }
            Transport::Udp => usize::from(UDP_PLAIN),
        };
        let encode = |count: usize, truncated: bool| {
            let records = records.get(..count).unwrap_or(&records).to_vec();
            self.message(code, records, truncated).to_vec()
        };
        let Ok(whole) = encode(records.len(), false) else {
            return error(self.request.metadata.id, OpCode::Query, ResponseCode::ServFail);
        };
        if whole.len() <= limit {
            return Answer::Reply(whole);
        }
        // As many as fit, marked as cut: a client that cannot ask again over TCP (musl before 1.2.4)
        // still has addresses to work with. Found by halving, because the encoder stops compressing
        // names at some size and so records do not all take the same room.
        let (mut fitting, mut excess) = (0, records.len());
        let mut best = encode(0, true);
        while excess - fitting > 1 {
            let middle = fitting + (excess - fitting) / 2;
            match encode(middle, true) {
                Ok(bytes) if bytes.len() <= limit => (fitting, best) = (middle, Ok(bytes)),
                _ => excess = middle,
            }
        }
        best.map_or(Answer::Ignore, Answer::Reply)
    }

    fn message(&self, code: ResponseCode, records: Vec<Record>, truncated: bool) -> Message {
        let mut message = Message::response(self.request.metadata.id, OpCode::Query);
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_desired = self.request.metadata.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        message.metadata.truncation = truncated;
        message.metadata.response_code = code;
        // As asked, letter case included: some clients mix it on purpose and check.
        message.add_query(self.question.clone());
        message.add_answers(records);
        if self.request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MOST);
            message.set_edns(edns);
        }
        message
    }
}
