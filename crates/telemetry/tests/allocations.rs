//! Counting and logging a request allocates nothing once its peers have been met.
#![allow(unsafe_code)] // A counting allocator cannot be written without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry::access_log::{Address, AddressField, Format, LogSource, NumberField, TextField, TimeCache};
use telemetry::istio::{IstioMetrics, Peer, Principals, Reporter, Request, RequestProtocol, SeriesKey};
use telemetry::log_sink::LogBuffer;
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
    let mut buffer = LogBuffer::default();
    let now = Instant::now();
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
        for format in &formats {
            buffer.line(now, |out| format.render(&Exchange(round * 400), &mut time, out));
        }
        assert!(matches!(buffer.flush(&mut std::io::sink(), now), telemetry::log_sink::Flush::Done));
    };
    (0..10).for_each(&mut turn);
    let before = ALLOCATIONS.get();
    (10..1000).for_each(&mut turn);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
