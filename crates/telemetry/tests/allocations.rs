//! Counting and logging a request allocates nothing once its peers have been met.
#![allow(unsafe_code)] // A counting allocator cannot be written without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry::access_log::{Address, AddressField, Format, LogSource, NumberField, TextField, TimeCache};
use telemetry::istio::{IstioMetrics, Peer, Principals, Reporter, Request, RequestProtocol, SeriesKey};
use telemetry::log_sink::{Handover, LogBuffer};
use telemetry::metrics::Limits;
use telemetry::{Flags, Registry};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Exchange(u64);

impl LogSource for Exchange {
    fn start_time(&self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn flags(&self) -> Flags {
        Flags::UPSTREAM_CONNECTION_FAILURE
    }

    fn path(&self) -> Option<&[u8]> {
        Some(b"/with\"quote")
    }

    fn text(&self, _: TextField) -> Option<&[u8]> {
        Some(b"some text")
    }

    fn number(&self, _: NumberField) -> Option<u64> {
        Some(self.0)
    }

    fn address(&self, _: AddressField) -> Option<Address<'_>> {
        Some(Address::Socket(([10, 0, 0, 1], 8080).into()))
    }
}

#[test]
fn a_request_is_counted_and_logged_without_allocating() {
    let registry = Registry::new(Limits::default());
    let peer = Arc::new(Peer::default());
    let series = IstioMetrics::new(&registry, Principals::Spiffe).requests(
        &SeriesKey {
            reporter: Reporter::Source,
            source: peer.clone(),
            destination: peer,
            service_host: String::new(),
            service_name: String::new(),
            mutual_tls: false,
        },
        RequestProtocol::Http,
    );
    let shard = registry.shard();
    let (formats, mut time) =
        ([Format::istio(), Format::istio_legacy(), Format::istio_json()], TimeCache::default());
    let mut lines = Vec::new();
    let mut turn = |round: u64| {
        for code in [200, 503] {
            let duration = Duration::from_micros(round);
            series.record(
                &shard,
                &Request {
                    code,
                    flags: Flags::NONE,
                    grpc_status: None,
                    duration,
                    received_bytes: 1,
                    sent_bytes: 1,
                },
            );
        }
        lines.clear();
        for format in &formats {
            format.render(&Exchange(round * 400), &mut time, &mut lines);
        }
        assert!(!lines.is_empty());
    };
    (0..10).for_each(&mut turn);
    let before = ALLOCATIONS.get();
    (10..1000).for_each(&mut turn);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// The lines of requests leave in buffers that are made once each; one that a full sink gives back is
/// none.
#[test]
fn a_log_buffer_is_one_allocation_however_many_lines_and_refusals() {
    let (mut buffer, now) = (LogBuffer::default(), Instant::now());
    let lines = |buffer: &mut LogBuffer| {
        for _ in 0..400 {
            buffer.line(now, |out| out.extend_from_slice(b"a line that is long enough to be one of many\n"));
            buffer.hand_over(now, Handover::Full);
        }
        buffer.hand_over(now, |_| Handover::Taken);
    };
    lines(&mut buffer);
    let before = ALLOCATIONS.get();
    (0..10).for_each(|_| lines(&mut buffer));
    assert_eq!(ALLOCATIONS.get() - before, 10);
}
