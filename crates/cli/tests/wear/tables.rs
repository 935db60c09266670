//! Memory that the kernel limits, and clients who spend it where no limit of a connection is met: a thousand of them fill
//! the few KiB of header table that each may have (HAProxy 2026-55204). The program sheds them before it is refused memory,
//! which would end it.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::common::*;
use crate::frames;
use crate::program::until;
use crate::subject::{Subject, bootstrap};

const CLIENTS: usize = 1000;
const ROOM: u64 = 8 << 20;

/// Fields that all go into the table: 64 bytes each as RFC 7541 counts them, 4 KiB of them.
fn filling(stream: u32, number: usize) -> Vec<u8> {
    let mut block = frames::block(frames::GET);
    for field in 0..64 {
        block.push(0x40);
        frames::text(&mut block, format!("x-{field:03}").as_bytes());
        frames::text(&mut block, format!("{number:027}").as_bytes());
    }
    frames::frame(frames::HEADERS, frames::END_STREAM | frames::END_HEADERS, stream, block)
}

fn data_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("the program lives");
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_thousand_full_header_tables_do_not_end_a_program_with_little_memory() {
    let there = Command::new("prlimit").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a limit on the program's data (prlimit is not installed)");
        return;
    }
    let routes = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]);
    let subject = Subject::ours(&bootstrap(&http_listener(http(routes)), &[]), 2);
    let ask = || -> Option<u16> {
        let mut client = std::panic::catch_unwind(|| Client::connect(subject.address)).ok()?;
        client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").ok()?;
        let head = read_head(&mut client.stream, &mut client.buffer)?;
        head.split(' ').nth(1)?.parse().ok()
    };
    assert_eq!(ask(), Some(200));
    // What starting took is given back at the first rest.
    subject.steady("its data stay as they are", |subject| data_of(subject.pid));
    let limit = data_of(subject.pid) + ROOM;
    let limited = Command::new("prlimit")
        .args(["--pid", &subject.pid.to_string(), &format!("--data={limit}:{limit}")])
        .status()
        .unwrap();
    assert!(limited.success());
    let mut served = 0;
    let mut clients = vec![];
    for number in 0..CLIENTS {
        let mut client = frames::Peer::client(subject.address, &[]);
        client.say(filling(1, number));
        client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        served += usize::from(
            client.until(|frame| frame.kind == frames::HEADERS).is_some_and(|frame| frame.status() == 200),
        );
        clients.push(client);
    }
    let most = data_of(subject.pid);
    println!(
        "{served} of {CLIENTS} full tables taken, {} KiB of {} KiB used",
        (most + ROOM - limit) / 1024,
        ROOM / 1024
    );
    assert!(served > 0 && served < CLIENTS, "{served} served");
    drop(clients);
    until("it serves again", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        ask() == Some(200)
    });
}
