//! The mesh's DNS: what is answered, and how others are asked. Semantics are those of Istio's DNS
//! proxy (pkg/dns/client) and of the RFCs named at each case.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use capture::DnsSockets;
use capture::dns::{Answer, Counters, NameTable, ResolvConf, Transport, Upstream, answer, serve};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use tokio::sync::watch;

fn ip(n: u32) -> IpAddr {
    Ipv4Addr::from(0xf0f0_0000 + n).into()
}

fn table() -> NameTable {
    let entry = |name: &str, ips: &[IpAddr]| (name.to_owned(), ips.to_vec());
    NameTable::new(
        "cluster.local",
        [
            entry("reviews.default.svc.cluster.local", &[ip(1)]),
            entry("reviews.default.svc", &[ip(1)]),
            entry("reviews.default", &[ip(1)]),
            entry("reviews", &[ip(1)]),
            entry("both.example", &[ip(2), "2001:2::1".parse().unwrap()]),
            entry("v6.example", &["2001:2::2".parse().unwrap()]),
            entry("*.wild.example", &[ip(3)]),
            entry("pods.example", &[ip(4), ip(5), ip(6)]),
            ("many.example".to_owned(), (0..300).map(ip).collect()),
        ],
    )
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn decide(query: &Message, search: &[&str], turn: usize, transport: Transport) -> Answer {
    let search: Vec<String> = search.iter().map(|s| (*s).to_owned()).collect();
    answer(&query.to_vec().unwrap(), Some(&table()), &search, turn, transport)
}

fn reply(answer: Answer) -> Message {
    match answer {
        Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().map(|record| record.data.ip_addr().unwrap()).collect()
}

#[test]
fn names() {
    use RecordType::{A, AAAA, HTTPS, MX};
    let v6 = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
    for (name, kind, expected) in [
        // Every form the control plane lists, in any case, with or without the final dot.
        ("reviews.", A, Some(vec![ip(1)])),
        ("REVIEWS.Default.", A, Some(vec![ip(1)])),
        ("reviews.default.svc.", A, Some(vec![ip(1)])),
        ("reviews.default.svc.cluster.local.", A, Some(vec![ip(1)])),
        // A search domain of the host appended by the resolver.
        ("reviews.corp.example.", A, Some(vec![ip(1)])),
        ("reviews.default.Corp.Example.", A, Some(vec![ip(1)])),
        ("corp.example.", A, None),
        // The other family: the name exists, so NOERROR without an answer (RFC 2308 §2.2).
        ("reviews.", AAAA, Some(vec![])),
        ("v6.example.", A, Some(vec![])),
        ("v6.example.", AAAA, Some(v6("2001:2::2"))),
        ("both.example.", A, Some(vec![ip(2)])),
        ("both.example.", AAAA, Some(v6("2001:2::1"))),
        // Types we have nothing of are not asked elsewhere: the name is ours.
        ("reviews.", HTTPS, Some(vec![])),
        ("reviews.", MX, Some(vec![])),
        ("a.wild.example.", A, Some(vec![ip(3)])),
        ("a.b.wild.example.", A, Some(vec![ip(3)])),
        ("wild.example.", A, None),
        ("www.example.org.", A, None),
        // RFC 6761 §6.3.
        ("localhost.", A, Some(vec![Ipv4Addr::LOCALHOST.into()])),
        ("app.localhost.", AAAA, Some(v6("::1"))),
    ] {
        let decided = decide(&query(name, kind), &["corp.example"], 0, Transport::Udp);
        let Some(expected) = expected else {
            assert_eq!(decided, Answer::Forward, "{name} {kind}");
            continue;
        };
        let reply = reply(decided);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
        assert_eq!(addresses(&reply), expected, "{name} {kind}");
        assert_eq!(reply.metadata.id, 4711);
        assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
        assert!(reply.metadata.recursion_desired && !reply.metadata.truncation);
        // The question as it was asked, letter case included, and answers under that name.
        assert_eq!(reply.queries[0].name().to_ascii(), Name::from_ascii(name).unwrap().to_ascii());
        assert!(reply.answers.iter().all(|record| record.ttl == 30));
    }
}

#[test]
fn unknown_names_of_the_cluster_do_not_exist() {
    for name in [
        "nobody.default.svc.cluster.local.",
        "cluster.local.",
        "nobody.default.svc.cluster.local.corp.example.",
    ] {
        let reply = reply(decide(&query(name, RecordType::A), &["corp.example"], 0, Transport::Udp));
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
}

#[test]
fn servfail_before_the_first_table() {
    let query = query("reviews.", RecordType::A).to_vec().unwrap();
    let reply = reply(answer(&query, None, &[], 0, Transport::Udp));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn addresses_take_turns() {
    let at =
        |turn| addresses(&reply(decide(&query("pods.example.", RecordType::A), &[], turn, Transport::Udp)));
    assert_eq!(at(0), [ip(4), ip(5), ip(6)]);
    assert_eq!(at(1), [ip(5), ip(6), ip(4)]);
    assert_eq!(at(2), [ip(6), ip(4), ip(5)]);
    assert_eq!(at(3), at(0));
    assert_eq!(at(usize::MAX).len(), 3);
}

#[test]
fn answers_fit_their_transport() {
    let plain = query("many.example.", RecordType::A);
    let mut edns = plain.clone();
    let mut option = Edns::new();
    option.set_max_payload(1232);
    edns.set_edns(option);
    let mut tiny = plain.clone();
    let mut option = Edns::new();
    option.set_max_payload(1);
    tiny.set_edns(option);
    // RFC 1035 §4.2.1, RFC 6891 §6.2.3 (less than 512 means 512).
    for (query, transport, limit, all) in [
        (&plain, Transport::Udp, 512, false),
        (&edns, Transport::Udp, 1232, false),
        (&tiny, Transport::Udp, 512, false),
        (&plain, Transport::Tcp, 65_535, true),
    ] {
        let Answer::Reply(bytes) = decide(query, &[], 0, transport) else { panic!() };
        assert!(bytes.len() <= limit, "{} > {limit}", bytes.len());
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.truncation, !all);
        assert_eq!(message.edns.is_some(), query.edns.is_some());
        if all {
            assert_eq!(message.answers.len(), 300);
        } else {
            // Cut, but no more than necessary: 16 bytes each.
            assert!(bytes.len() + 40 > limit && !message.answers.is_empty(), "{}", bytes.len());
        }
    }
}

#[test]
fn what_is_no_ordinary_query() {
    let bytes = |message: &Message| message.to_vec().unwrap();
    let good = query("reviews.", RecordType::A);

    let mut response = good.clone();
    response.metadata.message_type = MessageType::Response;
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Update;
    let mut two = good.clone();
    two.add_query(Query::query(Name::from_ascii("x.").unwrap(), RecordType::A));
    let mut none = good.clone();
    none.queries.clear();
    let mut chaos = good.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut future = good.clone();
    let mut option = Edns::new();
    option.set_version(1);
    future.set_edns(option);
    let mut cut = bytes(&good);
    cut.truncate(15);
    // A name that points at itself, RFC 1035 §4.1.4.
    let mut looping = bytes(&good)[..12].to_vec();
    looping.extend([0xc0, 12, 0, 1, 0, 1]);

    for (what, input, expected) in [
        ("a response", bytes(&response), None),
        ("nothing", vec![], None),
        ("less than a header", vec![0x12, 0x67, 1, 0, 0, 1, 0, 0, 0, 0, 0], None),
        ("an update", bytes(&update), Some(ResponseCode::NotImp)),
        ("two questions", bytes(&two), Some(ResponseCode::FormErr)),
        ("no question", bytes(&none), Some(ResponseCode::FormErr)),
        ("another class", bytes(&chaos), Some(ResponseCode::Refused)),
        ("a later EDNS", bytes(&future), Some(ResponseCode::BADVERS)),
        ("a cut name", cut, Some(ResponseCode::FormErr)),
        ("a looping name", looping, Some(ResponseCode::FormErr)),
    ] {
        let decided = answer(&input, Some(&table()), &[], 0, Transport::Udp);
        match expected {
            None => assert_eq!(decided, Answer::Ignore, "{what}"),
            Some(code) => {
                let reply = reply(decided);
                // By number: 16 has two names, BADVERS and BADSIG.
                assert_eq!(u16::from(reply.metadata.response_code), u16::from(code), "{what}");
                assert_eq!(reply.metadata.id, 4711, "{what}");
            }
        }
    }
}

// Forwarding.

/// A nameserver that answers each query by `respond`, which sees how many came before.
fn nameserver(respond: impl Fn(usize, &Message) -> Vec<Message> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        for count in 0.. {
            let Ok((length, client)) = socket.recv_from(&mut buffer) else { return };
            for reply in respond(count, &Message::from_vec(&buffer[..length]).unwrap()) {
                socket.send_to(&reply.to_vec().unwrap(), client).unwrap();
            }
        }
    });
    address
}

fn good_reply(query: &Message) -> Message {
    let host = NameTable::new("", [("host.example".to_owned(), vec![ip(99)])]);
    reply(answer(&query.to_vec().unwrap(), Some(&host), &[], 0, Transport::Tcp))
}

fn failing(query: &Message, code: ResponseCode) -> Message {
    let mut reply = good_reply(query);
    reply.answers.clear();
    reply.metadata.response_code = code;
    reply
}

/// A port where nobody listens.
fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ask(servers: &[SocketAddr], transport: Transport) -> (Message, Duration) {
    let upstream = Upstream::fixed(ResolvConf { nameservers: servers.to_vec(), search: Vec::new() });
    ask_of(&upstream, transport)
}

fn ask_of(upstream: &Upstream, transport: Transport) -> (Message, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let query = query("host.example.", RecordType::A).to_vec().unwrap();
    let started = Instant::now();
    let reply = runtime.block_on(upstream.ask(&query, transport)).unwrap();
    (Message::from_vec(&reply).unwrap(), started.elapsed())
}

const SOON: Duration = Duration::from_secs(1);

#[test]
fn without_nameservers_the_answer_is_no_at_once() {
    let (reply, took) = ask(&[], Transport::Udp);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(took < SOON);
    let gone = Upstream::file("/no/such/resolv.conf".into());
    assert_eq!(ask_of(&gone, Transport::Udp).0.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn refusing_nameservers_fail_at_once() {
    let (reply, took) = ask(&[closed(), closed()], Transport::Udp);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(reply.queries[0].name().to_ascii(), "host.example.");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn the_next_server_is_asked() {
    let bad = nameserver(|_, query| vec![failing(query, ResponseCode::ServFail)]);
    let good = nameserver(|_, query| vec![good_reply(query)]);
    for first in [closed(), bad] {
        let (reply, took) = ask(&[first, good], Transport::Udp);
        assert_eq!(addresses(&reply), [ip(99)]);
        assert!(took < SOON, "{took:?}");
    }
    // Nobody knows better: what was said is passed on, not invented.
    let refusing = nameserver(|_, query| vec![failing(query, ResponseCode::Refused)]);
    assert_eq!(ask(&[refusing, closed()], Transport::Udp).0.metadata.response_code, ResponseCode::Refused);
    // NXDOMAIN is an answer.
    let denying = nameserver(|_, query| vec![failing(query, ResponseCode::NXDomain)]);
    assert_eq!(ask(&[denying, good], Transport::Udp).0.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_silent_server_is_tried_twice_and_given_up_within_five_seconds() {
    let lossy = nameserver(|count, query| if count == 0 { vec![] } else { vec![good_reply(query)] });
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap();
    let given_up = std::thread::spawn(move || ask(&[silent_address], Transport::Udp));
    assert_eq!(addresses(&ask(&[lossy], Transport::Udp).0), [ip(99)]);
    let (reply, took) = given_up.join().unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(took > Duration::from_secs(4) && took < Duration::from_millis(5500), "{took:?}");
}

/// RFC 5452 §9.1: what does not match the query is not its answer.
#[test]
fn forged_answers_are_passed_over() {
    let server = nameserver(|_, query| {
        let mut other_id = good_reply(query);
        other_id.metadata.id ^= 1;
        other_id.answers.clear();
        let mut other_question = good_reply(query);
        other_question.queries[0].set_name(Name::from_ascii("h0st.example.").unwrap());
        other_question.answers.clear();
        let mut no_response = query.clone();
        no_response.metadata.id = query.metadata.id;
        vec![other_id, other_question, no_response, good_reply(query)]
    });
    assert_eq!(addresses(&ask(&[server], Transport::Udp).0), [ip(99)]);
}

#[test]
fn cut_answers_are_fetched_over_tcp_for_who_asked_over_tcp() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let mut cut = failing(&Message::from_vec(&buffer[..length]).unwrap(), ResponseCode::NoError);
            cut.metadata.truncation = true;
            udp.send_to(&cut.to_vec().unwrap(), client).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let query = Message::from_vec(&read_framed(&mut stream)).unwrap();
            write_framed(&mut stream, &good_reply(&query).to_vec().unwrap());
        }
    });
    let (over_udp, _) = ask(&[address], Transport::Udp);
    assert!(over_udp.metadata.truncation && over_udp.answers.is_empty());
    assert_eq!(addresses(&ask(&[address], Transport::Tcp).0), [ip(99)]);
}

#[test]
fn a_changed_resolv_conf_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nameserver 192.0.2.1\n").unwrap();
    let upstream = Upstream::file(file.path().to_owned());
    assert_eq!(upstream.settings().nameservers, ["192.0.2.1:53".parse().unwrap()]);
    std::fs::write(file.path(), "nameserver 192.0.2.2\nsearch new.example\n").unwrap();
    file.as_file().set_modified(std::time::SystemTime::now() + Duration::from_secs(1)).unwrap();
    assert_eq!(upstream.settings().nameservers, ["192.0.2.2:53".parse().unwrap()]);
    assert_eq!(upstream.settings().search, ["new.example"]);
}

// The server.

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut body).unwrap();
    body
}

fn write_framed(stream: &mut TcpStream, body: &[u8]) {
    let mut framed = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(body);
    stream.write_all(&framed).unwrap();
}

#[test]
fn served_over_udp_and_tcp_with_tables_that_change() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let host = nameserver(|_, query| vec![good_reply(query)]);
    let upstream = Upstream::fixed(ResolvConf { nameservers: vec![host], search: Vec::new() });
    let (sender, receiver) = watch::channel(None);
    let counters = Arc::new(Counters::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(serve(
        DnsSockets { udp: vec![udp], tcp: vec![tcp] },
        receiver,
        upstream,
        Arc::clone(&counters),
    ));

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.connect(udp_address).unwrap();
    let over_udp = |query: &Message| {
        client.send(&query.to_vec().unwrap()).unwrap();
        let mut buffer = [0; 4096];
        let length = client.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    };
    let reviews = query("reviews.", RecordType::A);
    assert_eq!(over_udp(&reviews).metadata.response_code, ResponseCode::ServFail);
    sender.send(Some(Arc::new(table()))).unwrap();
    assert_eq!(addresses(&over_udp(&reviews)), [ip(1)]);
    assert_eq!(addresses(&over_udp(&query("host.example.", RecordType::A))), [ip(99)]);

    // Several queries over one connection, pipelined, a large answer among them.
    let mut stream = TcpStream::connect(tcp_address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for name in ["many.example.", "reviews.", "host.example."] {
        write_framed(&mut stream, &query(name, RecordType::A).to_vec().unwrap());
    }
    let counts: Vec<usize> =
        (0..3).map(|_| Message::from_vec(&read_framed(&mut stream)).unwrap().answers.len()).collect();
    assert_eq!(counts, [300, 1, 1]);
    // Garbage closes the connection, and the server goes on.
    write_framed(&mut stream, b"xx");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(addresses(&over_udp(&reviews)), [ip(1)]);

    assert_eq!(counters.requests.load(Ordering::Relaxed), 8);
    assert_eq!(counters.upstream_requests.load(Ordering::Relaxed), 2);
    assert_eq!(counters.upstream_failures.load(Ordering::Relaxed), 0);
}
