//! Reaching the application from outside.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use capture::{AppSockets, Family, Holder};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, connect, getsockopt, sockopt};

use crate::harness::{ADDRESS, App, LIMIT, Test, exe, spec, until};

pub const TESTS: &[Test] = &[
    ("sockets_connect_to_the_application", connects),
    ("sockets_connect_to_the_workloads_address", connects_to_the_address),
    ("sockets_connect_to_the_application_v6", connects_v6),
    ("two_hundred_takes_at_once", concurrent),
    ("a_dry_pool_wakes_its_taker", wakes),
    ("sockets_are_ready_soon", timing),
];

/// Connects a socket of the pool and reads what the application says.
fn talk(sockets: &AppSockets, family: Family, to: SocketAddr) -> String {
    let fd = sockets.take_within(family, LIMIT).unwrap();
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => panic!("connect: {errno}"),
    }
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(5000_u16)).unwrap();
    assert_eq!(getsockopt(&fd, sockopt::SocketError).unwrap(), 0);
    assert!(getsockopt(&fd, sockopt::TcpNoDelay).unwrap());
    let mut stream = TcpStream::from(fd);
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

fn connects() {
    let app = App::start(&["serve", "127.0.0.1:9080"]);
    assert_eq!(app.findings(), "listening");
    assert_eq!(
        talk(&app.holder.sockets(), Family::V4, "127.0.0.1:9080".parse().unwrap()),
        "you are 127.0.0.1"
    );
    // The port is open in the namespace alone.
    assert!(TcpStream::connect("127.0.0.1:9080").is_err());
}

/// An application that listens on the address the mesh knows it by, not on 127.0.0.1.
fn connects_to_the_address() {
    let address = SocketAddr::from((ADDRESS, 9080));
    let app = App::start(&["serve", &address.to_string()]);
    assert_eq!(app.findings(), "listening");
    assert_eq!(talk(&app.holder.sockets(), Family::V4, address), format!("you are {ADDRESS}"));
}

fn connects_v6() {
    let app = App::prepare(&["serve", "[::1]:9080"]);
    if app.holder.outbound_v6.is_empty() {
        println!("SKIPPED: sockets_connect_to_the_application_v6 (this machine has no IPv6)");
        return;
    }
    app.holder.start().unwrap();
    assert_eq!(app.findings(), "listening");
    assert_eq!(talk(&app.holder.sockets(), Family::V6, "[::1]:9080".parse().unwrap()), "you are ::1");
}

fn concurrent() {
    let app = App::start(&["serve", "127.0.0.1:9080"]);
    app.findings();
    let barrier = Arc::new(Barrier::new(200));
    let threads: Vec<_> = (0..200)
        .map(|_| {
            let (sockets, barrier) = (app.holder.sockets(), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                talk(&sockets, Family::V4, "127.0.0.1:9080".parse().unwrap())
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "you are 127.0.0.1");
    }
    let sockets = app.holder.sockets();
    until(LIMIT, "the pool is more than half full again", || sockets.ready().unwrap().0 > 32);
}

fn wakes() {
    let app = App::prepare(&["status"]);
    let sockets = app.holder.sockets();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    sockets.wake_when_refilled(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    until(LIMIT, "the first filling", || sockets.ready().unwrap().0 == 64);
    let mut taken: Vec<OwnedFd> = Vec::new();
    while let Some(fd) = sockets.take(Family::V4) {
        taken.push(fd);
        assert!(taken.len() < 100_000, "never dry");
    }
    until(LIMIT, "woken after finding none", || woken.load(Ordering::SeqCst) == 1);
    assert!(sockets.take(Family::V4).is_some());
    drop(app);
    until(LIMIT, "a pool whose holder is gone says so", || {
        sockets
            .take_within(Family::V4, LIMIT)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
}

/// From nothing to sockets in hand. The figure is printed; the bound is loose for busy machines.
fn timing() {
    let mut times: Vec<_> = (0..15)
        .map(|_| {
            let mut spec = spec(&[]);
            spec.exe = exe();
            let started = Instant::now();
            let holder = Holder::spawn(spec).unwrap();
            let spawned = started.elapsed();
            holder.sockets().take_within(Family::V4, LIMIT).unwrap();
            (spawned, started.elapsed())
        })
        .collect();
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "  listeners ready: median {:?}, worst {:?}; first socket: median {:?}",
        median.0, worst.0, median.1
    );
    assert!(median.0.as_millis() < 250, "median {:?}", median.0);
}
